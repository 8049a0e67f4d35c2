"""What drawn text lines are worth where few real ones are labelled: a CRNN with and without them, equal steps of training.

    python -m bench few_lines FOLDER [--lines N] [--rendered N] [--fonts PLACE] [--texts FILE] [--steps N] [--case CASE] [--out OUT]

FOLDER is data of the task ocr, of which N training lines are used. Three ways, the same seed and steps, one thread: the real lines
alone; drawn lines beside them; drawn lines alone first and the real ones after that, half of the steps each. Scored on all test
lines, which are real. Resumable: OUT holds the checkpoints.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

LR, FINE = 0.002, 0.0005  # of a net that knows nothing, and of one that is fine-tuned


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench few_lines", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lines", type=int, default=500)
    parser.add_argument("--rendered", type=int, default=10_000)
    parser.add_argument("--fonts")
    parser.add_argument("--texts")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--case", default="keep")
    parser.add_argument("--out", type=Path, required=True)
    said = parser.parse_args(arguments)
    print("| trained on | character errors | whole lines right | processor seconds |\n|---|---|---|---|")
    for name, way in (("real", alone), ("real and drawn", together), ("drawn, then real", in_turn)):
        began = time.process_time()
        score = way(said)
        spent = time.process_time() - began
        print(f"| {name} | {score.value:.2%} | {score.also['exact']:.1%} | {spent:.0f} |", flush=True)
    return 0


def settings(said: argparse.Namespace, **others: Any) -> dict[str, Any]:
    """The characters are those of all training lines for every way, so that the ways differ by what they were shown alone."""
    from advisor.tasks import task

    labels = task("ocr").open(said.folder, settings={"case": said.case}).labels
    return {"case": said.case, "charset": list(labels), "outside": "count", "val": 500, **others}


def drawn(said: argparse.Namespace) -> dict[str, Any]:
    return {"rendered": said.rendered} | {key: getattr(said, key) for key in ("fonts", "texts") if getattr(said, key)}


def alone(said: argparse.Namespace) -> Any:
    return scored(said, "real", fresh(said), [(settings(said, train=said.lines), said.steps, LR)])


def together(said: argparse.Namespace) -> Any:
    return scored(said, "together", fresh(said), [(settings(said, train=said.lines, **drawn(said)), said.steps, LR)])


def in_turn(said: argparse.Namespace) -> Any:
    first = settings(said, train=said.lines, **drawn(said))
    second = settings(said, train=said.lines)
    return scored(said, "in-turn", fresh(said), [(first, said.steps // 2, LR), (second, said.steps - said.steps // 2, FINE)])


def fresh(said: argparse.Namespace) -> Any:
    """The small CRNN for these characters, from the one seed."""
    import torch

    from advisor.instantiate import module
    from rules.knowledge import load

    torch.manual_seed(0)
    return module(load().cards["crnn"], "small", classes=len(settings(said)["charset"]) + 1)


def scored(said: argparse.Namespace, name: str, model: Any, rounds: list[tuple[dict[str, Any], int, float]]) -> Any:
    """The model after the rounds of training, on all test lines."""
    from advisor.tasks import task
    from compress.context import Context
    from compress.forward import predictor
    from compress.journal import Journal
    from compress.profile import Measured
    from compress.progress import Lines
    from compress.stages.train import Train

    subject = task("ocr")
    for number, (chosen, steps, lr) in enumerate(rounds):
        folder = said.out / f"{name}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        data = subject.open(said.folder, settings=chosen)
        journal = Journal(folder / "journal.jsonl")
        context = Context(task=subject, data=data, folder=folder, journal=journal, latencies=Measured(), progress=Lines(), threads=1)
        model = Train(steps=steps, lr=lr, evaluations=3).apply(model, context)  # type: ignore[arg-type]
    return data.score(predictor(model, data), "test")
