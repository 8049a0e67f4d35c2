"""What keeping what was read saves a model that writes: a bundle asked whole and cut into steps, processor time of the same answers.

    python -m bench writing BUNDLE [--signs N] [--rounds N]

A bundle of text generation goes on for N signs after its first golden text; one of translation translates its golden texts, greedily and
with a beam of 5. Both ways in turn, one thread; the fastest of the rounds counts.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Way = Callable[[Any], str]  # what the model is asked through → what it wrote


def main(arguments: list[str]) -> int:
    from compress.reader import reader

    parser = argparse.ArgumentParser(prog="python -m bench writing", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--signs", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args(arguments)
    manifest = reader.read_manifest(chosen.bundle)
    session = reader.open_model(chosen.bundle / "model.onnx")
    asks = {"whole": lambda feeds: reader.run(session, feeds), "cut": reader.asking(chosen.bundle, session, manifest)}
    print("| | whole, s | cut, s | cut of whole | same answer |\n|---|---|---|---|---|")
    for name, way in ways(chosen.bundle, session, manifest, chosen.signs).items():
        found = timed(way, asks, chosen.rounds)
        (whole, said), (cut, told) = found["whole"], found["cut"]
        print(f"| {name} | {whole:.3f} | {cut:.3f} | {cut / whole:.2f} | {'yes' if said == told else 'no'} |", flush=True)
    return 0


def ways(bundle: Path, session: Any, manifest: dict[str, Any], signs: int) -> dict[str, Way]:
    from compress.reader import reader

    texts = [path.read_bytes() for path in sorted((bundle / "golden" / "raw").iterdir())]
    if manifest["task"] == "text-generation":
        return {f"{signs} signs": lambda ask: reader.write_on(session, manifest, texts[0], signs, ask=ask)[0]}

    def translated(beam: int) -> Way:
        return lambda ask: "\n".join(reader.read_file(session, manifest, raw, beam, ask)[0] for raw in texts)

    return {f"{len(texts)} sentences, greedy": translated(0), f"{len(texts)} sentences, beam of 5": translated(5)}


def timed(way: Way, asks: dict[str, Any], rounds: int) -> dict[str, tuple[float, str]]:
    """Of each way of asking the fewest processor seconds, and what was written."""
    best: dict[str, tuple[float, str]] = {}
    for _ in range(rounds):
        for name, ask in asks.items():
            began = time.process_time()
            text = way(ask)
            spent = time.process_time() - began
            best[name] = min(best.get(name, (spent, text)), (spent, text))
    return best
