"""Weights of a language model in four bits: rounded, by our GPTQ and by neural-compressor's, beside float and dynamic int8, on the same text.

    python -m bench four_bit FOLDER RUN      RUN: what `python -m bench language_models FOLDER --out RUN` left

Each file is scored on the whole held-out text and timed in turns, one thread, reading a passage and a single character. Symmetric blocks
have a zero point of 8. neural-compressor's numbers are packed as they are, not rounded again, so its file says what its torch model says.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from advisor.data.passages import PassageData  # noqa: E402
from advisor.tasks.text_generation import TASK  # noqa: E402
from bench.language_models import HELD_OUT, call  # noqa: E402
from compress.context import Target  # noqa: E402
from compress.graph.compact import compact  # noqa: E402
from compress.graph.reading import read  # noqa: E402
from compress.nbits import Blocks, gptq, rounded  # noqa: E402
from compress.quantization import Samples, finish, prepare  # noqa: E402
from compress.runtime import predictor  # noqa: E402
from compress.stages.four_bit import hessians, products, replaced  # noqa: E402
from compress.timing import interleaved, low  # noqa: E402
from compress.weights import load  # noqa: E402

BLOCK, SAMPLES = 32, 128


def files(run: Path, data: PassageData, folder: Path) -> dict[str, Path]:
    """Every form of the run's GPT, by name."""
    source = run / "gpt" / "model.onnx"
    base = prepare(source, folder / "prepared.onnx")
    graph = read(base)
    chosen = products(graph)
    seen = hessians(base, chosen, Samples(data, SAMPLES, seed=0))
    ways: dict[str, Callable[[np.ndarray, str], Blocks]] = {
        "rounded": lambda weights, _: rounded(weights, size=BLOCK),
        "gptq": lambda weights, name: gptq(weights, seen[name], size=BLOCK),
        "rounded, blocks of 128": lambda weights, _: rounded(weights, size=128),
        "gptq, blocks of 128": lambda weights, name: gptq(weights, seen[name], size=128),
    }
    found = {"float": source, "dynamic int8": finish(base, folder / "int8.onnx", recipe="dynamic", format=Target())}
    for name, way in ways.items():
        blocks = {node.outputs[0]: way(graph.initializers[node.inputs[1]], node.inputs[0]) for node in chosen}
        found[name] = _written(base, blocks, folder / f"{name}.onnx")
    passages = [batch.inputs["ids"] for batch in data.batches("train", batch_size=1, shuffle=True, limit=SAMPLES)]
    _, theirs = peer(load(run / "gpt", "module")[0], passages, run)
    inside = matched(chosen, graph, theirs)
    found["neural-compressor gptq, symmetric, head float"] = _written(base, inside, folder / "inc.onnx")
    blocks = {
        node.outputs[0]: ways["gptq"](graph.initializers[node.inputs[1]], node.inputs[0]) for node in chosen if node.outputs[0] in inside
    }
    found["gptq, head float"] = _written(base, blocks, folder / "gptq head float.onnx")
    return found


def _written(base: Path, blocks: dict[str, Blocks], path: Path) -> Path:
    onnx.save(compact(replaced(onnx.load(str(base)), blocks)), str(path))
    return path


def peer(model: Any, passages: list[np.ndarray], folder: Path) -> tuple[Any, list[tuple[np.ndarray, Blocks]]]:
    """neural-compressor's GPTQ of a GPT: its torch model, and weight by weight what it was, (inputs, outputs), and its blocks."""
    import torch
    from neural_compressor.torch.quantization import GPTQConfig, convert
    from neural_compressor.torch.quantization import prepare as ready

    class Plain(torch.nn.Module):
        """A `Sequential` as a module of its own: theirs takes any Sequential inside a block for the list of blocks."""

        def __init__(self, parts: Any) -> None:
            super().__init__()
            self.up, self.bend, self.down = parts

        def forward(self, x: Any) -> Any:
            return self.down(self.bend(self.up(x)))

    for layer in model.layers:
        layer.feed = Plain(layer.feed)
    linear = {name: part.weight.detach().numpy().T.copy() for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    net: Any = ready(model, GPTQConfig(bits=4, group_size=BLOCK, use_sym=True, model_path=str(folder)))
    for ids in passages:
        net(torch.from_numpy(ids))
    net = convert(net)
    found = []
    for name, part in net.named_modules():
        if hasattr(part, "recover"):
            values, scales = part.recover().detach().float().numpy(), part.scales.detach().float().numpy().T
            numbers = np.rint(values / np.repeat(scales, BLOCK, 1)[:, : values.shape[1]]) + 8
            assert numbers.min() >= 0 and numbers.max() <= 15
            zeros = np.full(scales.shape, 8, np.uint8)
            found.append((linear[name.strip(".")], Blocks(numbers.astype(np.uint8), scales.astype(np.float32), zeros, BLOCK)))
    return net, found


def matched(nodes: list[Any], graph: Any, theirs: list[tuple[np.ndarray, Blocks]]) -> dict[str, Blocks]:
    """Their blocks by the output of the product whose weights they were made from; a product they left float is left out."""
    found = {}
    for node in nodes:
        weights = graph.initializers[node.inputs[1]]
        blocks = [blocks for was, blocks in theirs if was.shape == weights.shape and np.array_equal(was, weights)]
        found |= {node.outputs[0]: blocks[0]} if blocks else {}
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", type=Path)
    chosen = parser.parse_args(arguments)
    data = TASK.open(chosen.folder, settings={"held_out": HELD_OUT})
    folder = chosen.run / "four_bit"
    folder.mkdir(exist_ok=True)
    made = files(chosen.run, data, folder)
    times = {}
    for probe, feeds in data.probes().items():
        calls = {name: call(path, feeds) for name, path in made.items()}
        times[probe] = {name: low(found.cpu_ms) for name, found in interleaved(calls, seconds=10.0).items()}
    for name, path in made.items():
        scores = {split: data.score(predictor(path), split).value for split in ("val", "test")}  # type: ignore[arg-type]
        ratios = {probe: round(found[name] / found["float"], 3) for probe, found in times.items()}
        print(json.dumps({"file": name, "kB": path.stat().st_size // 1000, **{k: round(v, 4) for k, v in scores.items()}, "time": ratios}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
