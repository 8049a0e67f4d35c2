"""What a run shipped, beside the plain recipe: the fp32 file of the 1.28 M-parameter CRNN, timed interleaved in one run.

    python -m bench plain_crnn RUN [ROUNDS]

The plain net is built with random weights: what it reads does not matter here, how long it takes does not depend on them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from advisor.instantiate import spec_settings
from advisor.tasks.ocr import TASK
from compress.context import Target
from compress.export import export
from compress.points import paired, ratio
from compress.profile import Measured
from compress.weights import ModelSpec
from rules.knowledge import load


def main(arguments: list[str]) -> int:
    """Print size, test scores and the latency ratio on every probe, several times over."""
    run, rounds = Path(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 3
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    shipped = run / record["final"]["file"]
    data = TASK.open(None, settings={"train": 64, "val": 16, "test": 16})
    classes = record["model"]["settings"]["classes"]
    builds, settings = spec_settings(load(), "crnn", "base", classes=classes)
    with tempfile.TemporaryDirectory() as folder:
        plain = export(ModelSpec(builds, settings).build(), _Wide(data, classes), Path(folder) / "plain.onnx", target=Target())
        print(
            f"plain CRNN fp32 {plain.stat().st_size / 1000:.0f} kB; shipped {record['final']['stage']} {shipped.stat().st_size / 1000:.1f} kB"
        )
        for name in ("teacher_test", "float_test", "test"):
            found = record["final"][name]
            print(
                f"{name:<13} {record['metric']['name']} {100 * found['metric']:.2f} %, exact {100 * found['also']['exact']:.1f} %, {found['samples']} examples"
            )
        for number in range(rounds):
            times = paired({"plain": plain, "shipped": shipped}, data, Measured(), threads=1)
            each = ", ".join(
                f"{probe} {times['plain'][probe]:.2f} / {times['shipped'][probe]:.3f} ms = {times['plain'][probe] / times['shipped'][probe]:.2f}x"
                for probe in times["plain"]
            )
            print(f"round {number + 1}: {each}; in all {1 / ratio(times['shipped'], times['plain']):.2f}x")
    return 0


class _Wide:
    """The data with another number of classes in its signature, for exporting."""

    def __init__(self, data: object, classes: int) -> None:
        from dataclasses import replace

        self._data = data
        held = data.signature  # type: ignore[attr-defined]
        output = replace(held.outputs[0], shape=(*held.outputs[0].shape[:-1], classes))
        self.signature = replace(held, outputs=(output,))

    def __getattr__(self, name: str) -> object:
        return getattr(self._data, name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
