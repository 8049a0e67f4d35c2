"""The article's table of generators measured anew: RNN, GRU and LSTM beside a small GPT of as many weights, and counted n-grams.

    python -m bench language_models FOLDER [--out runs/language_models] [--epochs 5] [--weights 465000]

FOLDER holds texts as for `--task text-generation` (tiny Shakespeare: one file, its last tenth held out, half of that to choose by). Every
net gets the same passages as often, one processor, and the best of three learning rates by validation after a tenth of the steps. Told:
nats a character on the held-out text, weights, and how many characters a second each reads and writes in onnxruntime, one thread, timed
in turns. Stopped and started again it goes on where it was. A bidirectional LSTM, which the article lists too, cannot write at all.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from math import log
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from advisor.architectures import char_rnn, gpt  # noqa: E402
from advisor.data.passages import PassageData  # noqa: E402
from advisor.tasks.text_generation import TASK  # noqa: E402
from advisor.writing_steps import beginning, stand_in  # noqa: E402
from compress.context import Context, Target  # noqa: E402
from compress.export import export  # noqa: E402
from compress.journal import Journal  # noqa: E402
from compress.profile import Measured  # noqa: E402
from compress.progress import choose  # noqa: E402
from compress.runtime import predictor, session  # noqa: E402
from compress.stages.train import Train  # noqa: E402
from compress.timing import interleaved, low  # noqa: E402
from compress.weights import ModelSpec, load, save  # noqa: E402

HELD_OUT = [0.05, 0.05]
RATES = (1e-3, 2e-3, 4e-3)
BATCH = 16
ORDERS = (4, 5, 6, 7)
KINDS = ("rnn", "gru", "lstm")


def specs(given: Mapping[str, int], weights: int) -> dict[str, ModelSpec]:
    """The nets, two recurrent layers or four of attention, each as wide as `weights` allow."""
    found = {}
    for kind in KINDS:
        builds, settings = "advisor.architectures.char_rnn:build", {**given, "kind": kind, "layers": 2, "dropout": 0.0}
        width = widest(lambda width, settings=settings: char_rnn.build(**settings, width=width, hidden=width), weights, step=1)
        found[kind] = ModelSpec(builds, {**settings, "width": width, "hidden": width})
    settings = {**given, "layers": 4, "heads": 4}
    width = widest(lambda width: gpt.build(**settings, width=width), weights, step=4)
    found["gpt"] = ModelSpec("advisor.architectures.gpt:build", {**settings, "width": width})
    return found


def widest(build: Callable[[int], Any], weights: int, *, step: int) -> int:
    """The width whose net comes nearest to `weights`."""
    counts = {width: size(build(width)) for width in range(2 * step, 640, step) if width < 16 or size(build(width)) < 2 * weights}
    return min(counts, key=lambda width: abs(counts[width] - weights))


def size(model: Any) -> int:
    return sum(weight.numel() for weight in model.parameters())


# -- nets ----------------------------------------------------------------------------------------------------------------


def trained(name: str, spec: ModelSpec, data: PassageData, out: Path, *, epochs: int) -> dict[str, Any]:
    """Learning rate chosen, net trained, scored and stored under `out`; taken from the journal where it is done."""
    journal = Journal(out / "journal.jsonl")
    steps = epochs * -(-data.count("train") // BATCH)

    def fit(rate: float, steps: int, where: str) -> tuple[Any, float]:
        import torch

        folder = out / name / where
        folder.mkdir(parents=True, exist_ok=True)
        context = Context(TASK, data, folder, journal, Measured(), progress=choose(quiet=False), threads=1)
        torch.manual_seed(0)
        started = time.process_time()
        stage = Train(steps=steps, batch_size=BATCH, lr=rate, warmup=0.1, clip=1.0, evaluations=1, val_limit=10**6)
        model = stage.apply(spec.build(), context)
        print(f"{name}: {steps} steps at {rate:g} in {time.process_time() - started:.0f} s of CPU", flush=True)
        return model, float(context.curves[-1]["val"])

    tried = {rate: journal.decide(f"{name}/rate/{rate}", lambda rate=rate: fit(rate, steps // 10, f"rate-{rate}")[1]) for rate in RATES}
    best = min(tried, key=lambda rate: tried[rate])

    def whole() -> dict[str, Any]:
        started = time.process_time()
        model, val = fit(best, steps, "whole")
        seconds = time.process_time() - started
        save(model, spec, out / name, "module")
        graph = export(model, data, out / name / "model.onnx", target=Target())
        step = stand_in(model, vocabulary=data.given["vocabulary"], length=data.given["length"])
        export(model.step(), step, out / name / "step.onnx", target=Target())  # type: ignore[arg-type]
        found = data.score(predictor(graph), "test")
        return {
            "weights": size(model),
            "rate": best,
            "val": val,
            "test": found.value,
            "likeliest": found.also["likeliest"],
            "cpu_s": seconds,
        }

    return dict(journal.decide(f"{name}/whole", whole))


def speeds(names: list[str], data: PassageData, out: Path) -> dict[str, dict[str, float]]:
    """Characters a second of each net: reading passages, and writing with its state or half a passage in its cache; in turns."""
    length = data.given["length"]
    reads = {f"read {name}": call(out / name / "model.onnx", {"ids": next(iter(data.probes().values()))["ids"]}) for name in names}
    writes = {}
    for name in names:
        past = beginning(load(out / name, "module")[0])  # type: ignore[arg-type]
        if past.ndim == 6:
            past = np.zeros((*past.shape[:4], length // 2, past.shape[5]), np.float32)
        writes[f"write {name}"] = call(out / name / "step.onnx", {"ids": np.zeros((1, 1), np.int64), "past": past})
    times = {**interleaved(reads, seconds=8.0), **interleaved(writes, seconds=8.0)}
    rate = {key: 1e3 / low(value.cpu_ms) for key, value in times.items()}
    return {name: {"reads": length * rate[f"read {name}"], "writes": rate[f"write {name}"]} for name in names}


def call(graph: Path, feeds: Mapping[str, np.ndarray]) -> Callable[[], object]:
    opened = session(graph, threads=1)
    return lambda: opened.run(None, dict(feeds))


# -- the baseline --------------------------------------------------------------------------------------------------------

Table = dict[str, tuple[Counter[str], int]]  # after these characters: how often which came, and how many in all


def counted(text: str, order: int) -> list[Table]:
    """For every number of characters before, up to `order`: what came after each."""
    tables: list[dict[str, Counter[str]]] = [defaultdict(Counter) for _ in range(order + 1)]
    for place, sign in enumerate(text):
        for few in range(min(order, place) + 1):
            tables[few][text[place - few : place]][sign] += 1
    return [{before: (came, came.total()) for before, came in table.items()} for table in tables]


def surprise(tables: list[Table], text: str, start: int, *, vocabulary: int) -> float:
    """Nats a character of `text` from `start` on: each order mixed with the one below (Witten & Bell 1991)."""
    nats = 0.0
    for place in range(start, len(text)):
        chance = 1 / vocabulary
        for few, table in enumerate(tables):
            if (held := table.get(text[place - few : place])) is None:
                break
            came, total = held
            chance = (came[text[place]] + len(came) * chance) / (total + len(came))
        nats -= log(chance)
    return nats / (len(text) - start)


def ngrams(data: PassageData) -> dict[str, Any]:
    """The baseline, which sees all that was before and not its passage alone; its order is chosen on the validation text."""
    train, val, test = (data.signs_of(split) for split in ("train", "val", "test"))
    tables = counted(train, max(ORDERS))
    scores = {order: surprise(tables[: order + 1], train[-order:] + val, order, vocabulary=len(data.labels)) for order in ORDERS}
    best = min(scores, key=lambda order: scores[order])
    kept = sum(len(came) for table in tables[: best + 1] for came, _ in table.values())
    value = surprise(tables[: best + 1], val[-best:] + test, best, vocabulary=len(data.labels))
    return {"weights": kept, "order": best, "val": scores[best], "test": value}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/language_models"))
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--weights", type=int, default=465_000)
    chosen = parser.parse_args(arguments)
    data = TASK.open(chosen.folder, settings={"held_out": HELD_OUT})
    rows = {"ngrams": Journal(chosen.out / "journal.jsonl").decide("ngrams", lambda: ngrams(data))}
    nets = specs(data.given, chosen.weights)
    for name, spec in nets.items():
        rows[name] = trained(name, spec, data, chosen.out, epochs=chosen.epochs)
    for name, found in speeds(list(nets), data, chosen.out).items():
        rows[name] |= found
    print(json.dumps({"given": data.given, "splits": data.provenance["splits"]}))
    print("model   nats a char.  val     weights   reads /s (of rnn)  writes /s (of rnn)  rate    CPU s")
    for name, row in rows.items():
        beside = [f"{row[key]:>9.0f} ({row[key] / rows['rnn'][key]:.2f})" if key in row else f"{'-':>16}" for key in ("reads", "writes")]
        print(
            f"{name:<7} {row['test']:>8.4f}  {row['val']:>10.4f} {row['weights']:>9,}  {beside[0]}  {beside[1]}  {row.get('rate', 0):<6g} {row.get('cpu_s', 0):>6.0f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
