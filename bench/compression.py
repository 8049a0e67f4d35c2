"""Every way to integers on the same float nets: ours step by step, the controls, and the peers as they come.

    python -m bench compression OUT RUN [RUN ...] [--data NAME=FOLDER ...] [--steps N] [--seeds N]

A RUN is the folder of a finished `advisor run`; its exported float file and its teacher are what is compressed. Formats: int8 with a
scale a channel, int8 with a scale a tensor, and 4-bit weights inside an int8 file (a stress test: neither smaller nor faster).
The float nets were trained once; fine-tuning arms run under several seeds. Every figure is taken on the test split by onnxruntime on
the written file. Resumable: what is measured is in OUT/journal.jsonl, and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from compress.context import Context, Data, Skipped, Target, Task
from compress.files import write_text
from compress.journal import Journal
from compress.points import paired, ratio, score
from compress.profile import Measured
from compress.progress import Lines

FORMATS = {
    "int8 per channel": Target(),
    "int8 per tensor": Target(per_channel=False),
    "4-bit weights (stress)": Target(weight_levels=16),
}


@dataclass(frozen=True, slots=True)
class Net:
    """One trained float net with its data."""

    name: str
    task: Task
    data: Data
    graph: Path
    teacher: Path | None
    module: Path


def main(arguments: list[str]) -> int:
    """Measure what is missing, then print the tables as Markdown and write them to OUT/table.md."""
    parser = argparse.ArgumentParser(prog="python -m bench compression", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--data", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args(arguments)
    folders = dict(item.partition("=")[::2] for item in options.data)
    tables = []
    for run in options.runs:
        net = _net(run, folders.get(run.name))
        bench = Bench(net, options.out / run.name, Journal(options.out / run.name / "journal.jsonl"), options)
        bench.measure()
        tables.append(bench.table())
    write_text(options.out / "table.md", "\n\n".join(tables) + "\n")
    print("\n\n".join(tables))
    return 0


def _net(run: Path, folder: str | None) -> Net:
    """What a finished run left: its export stage, its teacher's file, its data opened as it was."""
    from advisor.tasks.ocr import TASK

    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    plan = record["plan"]
    data = TASK.open(Path(folder) if folder else None, seed=plan.get("seed", 0), settings=plan.get("settings", {}))
    stages = {entry["name"]: entry for entry in record["stages"]}
    trained = stages.get("prune", stages["distil"])
    if trained["status"] != "kept":
        trained = stages["distil"]
    return Net(
        name=run.name,
        task=TASK,
        data=data,
        graph=run / stages["export"]["after"]["file"],
        teacher=run / stages["train"]["after"]["file"] if record["teacher"] else None,
        module=(run / trained["after"]["file"]).parent,
    )


class Bench:
    """All arms on one net; a finished arm is not measured again."""

    def __init__(self, net: Net, folder: Path, journal: Journal, options: argparse.Namespace) -> None:
        self.net, self.folder, self.journal, self.options = net, folder, journal, options

    def measure(self) -> None:
        """Every arm that is not in the journal yet."""
        self._arm("float", "", 0, lambda _: self.net.graph)
        for name, target in FORMATS.items():
            self._format(name, target)
        if not self.options.no_peers:
            for name, make in PEERS.items():
                self._arm(name, "int8 per channel", 0, make)

    def _format(self, name: str, target: Target) -> None:
        from compress.stages.adaround import AdaRound
        from compress.stages.equalize import Equalize
        from compress.stages.qat import FloatControl, Qat
        from compress.stages.quantize import Quantize

        quantized = self._arm("post-training", name, 0, lambda context: Quantize().apply(self.net.graph, context), target)
        self._arm("equalized", name, 0, lambda context: Equalize().apply(_made(quantized), context), target)
        self._arm("AdaRound", name, 0, lambda context: AdaRound().apply(_made(quantized), context), target)
        qat = Qat(steps=self.options.steps, when="always", control=False)
        for seed in range(self.options.seeds):
            self._arm("qat + distillation", name, seed, lambda context: qat.apply(_made(quantized), context), target)
            self._arm(
                "float fine-tuning, then post-training (control)",
                name,
                seed,
                lambda context: FloatControl.like(qat).apply(self.net.graph, context),
                target,
            )

    def _arm(self, arm: str, form: str, seed: int, make: Callable[[Context], Path], target: Target | None = None) -> Path | None:
        key = f"{form or 'float'}/{arm}/{seed}"
        folder = self.folder / "arms" / key.replace(" ", "-").replace(",", "").replace("(", "").replace(")", "")
        found = self.journal.decide(key, lambda: self._run(arm, folder, seed, make, target or Target()))
        return self.folder / found["file"] if found.get("file") else None

    def _run(self, arm: str, folder: Path, seed: int, make: Callable[[Context], Path], target: Target) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        context = self._context(folder, seed, target)
        context.progress.say(f"{self.net.name}: {folder.relative_to(self.folder)}")
        try:
            graph = make(context)
        except (Skipped, Unusable) as reason:
            return {"skipped": str(reason)}
        found = score(graph, self.net.data, "test", threads=self.options.threads)
        times = paired({"float": self.net.graph, "this": graph}, self.net.data, Measured(), threads=1)
        inside = graph if graph.is_relative_to(self.folder) else folder / "float.onnx"
        if inside != graph:
            inside.write_bytes(graph.read_bytes())
        return {
            "file": str(inside.relative_to(self.folder)),
            "metric": found.value,
            "errors": found.errors.astype(int).tolist(),
            "samples": len(found.errors),
            "bytes": inside.stat().st_size,
            "latency": ratio(times["this"], times["float"]),
        }

    def _context(self, folder: Path, seed: int, target: Target) -> Context:
        return Context(
            task=self.net.task,
            data=self.net.data,
            folder=folder,
            journal=Journal(folder / "journal.jsonl"),
            latencies=Measured(),
            target=target,
            progress=Lines(),
            seed=seed,
            threads=self.options.threads,
            float_graph=self.net.graph,
            teacher_graph=self.net.teacher,
        )

    # -- the table -----------------------------------------------------------------------------------------------------

    def table(self) -> str:
        """One Markdown table: mean and range over seeds, size, latency against float, share of the loss that was closed."""
        groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for key, value in self.journal.items():
            form, arm, _ = key.rsplit("/", 2)
            groups.setdefault((form, arm), []).append(value)
        base = groups[("float", "float")][0]
        metric = self.net.task.metric.name
        lines = [
            f"**{self.net.name}**: float {metric} {100 * base['metric']:.2f} % on {base['samples']} test examples, {base['bytes'] / 1000:.0f} kB",
            "",
        ]
        lines += [
            f"| format | arm | {metric} %, mean (range over seeds) | loss against float, points | its noise (s.e.) | closed | kB | latency ÷ float |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for (form, arm), values in groups.items():
            if form != "float":
                lines.append(self._row(form, arm, values, base, groups.get((form, "post-training"), [{}])[0]))
        return "\n".join(lines)

    def _row(self, form: str, arm: str, values: list[Mapping[str, Any]], base: Mapping[str, Any], start: Mapping[str, Any]) -> str:
        done = [value for value in values if "metric" in value]
        if not done:
            return f"| {form} | {arm} | not run: {values[0]['skipped']} | | | | | |"
        scores = [100 * value["metric"] for value in done]
        mean = float(np.mean(scores))
        spread = f" ({min(scores):.2f}-{max(scores):.2f})" if len(done) > 1 else ""
        lost = mean - 100 * base["metric"]
        return f"| {form} | {arm} | {mean:.2f}{spread} | {lost:+.2f} | {_noise(done[0], base, mean, lost):.2f} | {_closed(arm, start, base, mean)} | {done[0]['bytes'] / 1000:.0f} | {np.median([value['latency'] for value in done]):.2f} |"


def _noise(value: Mapping[str, Any], base: Mapping[str, Any], mean: float, lost: float) -> float:
    """Standard error of the difference to float in points, paired over the examples."""
    difference = np.asarray(value["errors"], dtype=float) - np.asarray(base["errors"], dtype=float)
    weight = sum(base["errors"]) / base["metric"] if base["metric"] else float(len(difference))
    return float(100 * difference.std() * np.sqrt(len(difference)) / weight)


def _closed(arm: str, start: Mapping[str, Any], base: Mapping[str, Any], mean: float) -> str:
    """Share of what post-training lost that this arm brought back; blank where it lost less than twice its noise."""
    if "metric" not in start or arm == "post-training":
        return ""
    lost = 100 * (start["metric"] - base["metric"])
    if lost <= 2 * _noise(start, base, 0.0, 0.0):
        return "nothing to close"
    return f"{100 * (100 * start['metric'] - mean) / lost:.0f} %"


def _made(graph: Path | None) -> Path:
    if graph is None:
        raise Skipped("post-training quantization made no file")
    return graph


# -- peers, as they come -------------------------------------------------------------------------------------------------


class Unusable(Exception):
    """A peer that did not deliver a file onnxruntime runs, with its own words."""


def _ort_defaults(context: Context) -> Path:
    """onnxruntime's `quantize_static` with its defaults: the sample feeds, nothing else set."""
    from onnxruntime.quantization import quantize_static

    from compress.quantization import Samples, quiet

    assert context.float_graph is not None
    out = context.folder / "model.onnx"
    with quiet():
        quantize_static(str(context.float_graph), str(out), Samples(context.data, 256, seed=0))
    return out


def _neural_compressor(context: Context) -> Path:
    """neural-compressor's PT2E static int8 path, exported by torch's own exporter: with open batch and width, else at one size."""
    from torch.export import Dim

    refusals = []
    for name, shapes in (("open", ({0: Dim.AUTO, 3: Dim.AUTO},)), ("fixed", None)):
        out = context.folder / f"{name}.onnx"
        try:
            _captured(context, out, shapes)
            return _any_width(out, context)
        except Exception as error:
            refusals.append(f"{name} shapes: {type(error).__name__}: {' '.join(str(error).split())[:120]}")
    raise Unusable("; ".join(refusals))


def _captured(context: Context, out: Path, shapes: Any) -> None:
    """Capture, calibrate on 64 lines (of the example's width where shapes are fixed), convert and export."""
    import torch
    from neural_compressor.torch.export import export as nc_export
    from neural_compressor.torch.quantization import convert, get_default_static_config, prepare

    from compress.weights import load

    module = load(_module_of(context), "module")[0]
    line = torch.from_numpy(next(iter(context.data.probes().values()))["image"])
    example = torch.cat([line, line]) if shapes else line  # a batch of one would be taken for a fixed one
    traced = nc_export(module.eval(), example_inputs=(example,), dynamic_shapes=shapes)
    ready = prepare(traced, get_default_static_config())
    for batch in context.data.batches("train", batch_size=1, limit=64, shuffle=True):
        image = torch.from_numpy(batch.inputs["image"])
        if shapes or image.shape == example.shape:
            ready(image)
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"]}
    torch.onnx.export(convert(ready), (example,), str(out), dynamo=True, external_data=False, dynamic_shapes=shapes, **names)


def _any_width(out: Path, context: Context) -> Path:
    """The file, when it runs at every width the task has; else its refusal."""
    from compress.runtime import predictor

    try:
        for feeds in context.data.probes().values():
            predictor(out)(feeds)
    except Exception as error:
        raise Unusable(f"runs at one width only: {' '.join(str(error).split())[:120]}") from error
    return out


def _torch_pruning(context: Context) -> Path:
    """Torch-Pruning at 30 % with its defaults (LSTMs left alone: its own pruner for them fails), one epoch of fine-tuning, ORT int8."""
    import torch
    import torch_pruning as tp

    from compress.export import export
    from compress.stages.quantize import Quantize
    from compress.stages.train import Train
    from compress.weights import load

    module = load(_module_of(context), "module")[0]
    example = torch.from_numpy(next(iter(context.data.probes().values()))["image"])
    ignored = [layer for layer in module.modules() if isinstance(layer, torch.nn.LSTM | torch.nn.Linear)]
    try:
        tp.pruner.MagnitudePruner(
            module, example, importance=tp.importance.MagnitudeImportance(), pruning_ratio=0.3, ignored_layers=ignored
        ).step()
        Train(epochs=1, lr=1e-3, evaluations=1).apply(module, context)
        graph = export(module, context.data, context.folder / "pruned.onnx", target=context.target)
        return Quantize(method="minmax").apply(graph, replace_folder(context, "int8"))
    except Exception as error:
        raise Unusable(f"{type(error).__name__}: {' '.join(str(error).split())[:160]}") from error


def replace_folder(context: Context, name: str) -> Context:
    """The same context with a folder inside its own."""
    folder = context.folder / name
    folder.mkdir(exist_ok=True)
    return replace(context, folder=folder)


def _module_of(context: Context) -> Path:
    """The folder of the trained module: the stage before `export` that was kept."""
    assert context.float_graph is not None
    stages = context.float_graph.parent.parent
    record = json.loads((stages.parent / "record.json").read_text(encoding="utf-8"))
    kept = [entry for entry in record["stages"] if entry["name"] in ("train", "distil", "prune") and entry["status"] == "kept"]
    return (stages.parent / kept[-1]["after"]["file"]).parent


PEERS: dict[str, Callable[[Context], Path]] = {
    "peer: onnxruntime quantize_static, defaults": _ort_defaults,
    "peer: neural-compressor PT2E": _neural_compressor,
    "peer: Torch-Pruning 30 % + onnxruntime int8": _torch_pruning,
}
