"""Make a small sound bundle at the folder given: an untrained recogniser through the whole path, in seconds."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from advisor.tasks.ocr import TASK
from compress.bundle import write
from compress.files import owned
from compress.pipeline import Job, Run
from compress.plan import Plan, Step, make_settings
from compress.profile import Measured
from compress.record import finish
from compress.weights import ModelSpec

SIZES = {"train": 64, "val": 16, "test": 16}


def main(bundle: Path) -> None:
    """Export and quantize an untrained CRNN on a handful of digit lines; write its bundle."""
    data = TASK.open(None, seed=0, settings=SIZES)
    spec = ModelSpec(
        "advisor.architectures.crnn:build", {"classes": data.classes, "channels": [8, 16, 16, 16, 16], "hidden": 16, "layers": 1}
    )
    names = ("export", "quantize")
    plan = Plan(task="ocr", max_drop=1.0, steps=tuple(Step(name, make_settings(name, {}, where=name)) for name in names))
    job = Job(plan=plan, task=TASK, data=data, student=spec, trained=spec.build(), threads=1)
    with tempfile.TemporaryDirectory() as folder, owned(Path(folder)):
        run = Run(job, Path(folder), latencies=Measured())
        run.through()
        record = finish(run)
        write(bundle, record=record, graph=Path(folder) / record["final"]["file"], data=data, task=TASK)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
