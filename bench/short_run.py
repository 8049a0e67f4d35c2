"""A short run of every stage on a few digit lines, latencies from a table; prints the SHA-256 of the model that ships.

python -m bench short_run FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

SIZES = {"train": 256, "val": 48, "test": 32}
STAGES = {
    "train": {"epochs": 2},
    "distil": {"epochs": 2},
    "prune": {"recovery_epochs": 1},
    "export": {},
    "quantize": {"samples": 32},
    "equalize": {},
    "adaround": {"samples": 32, "iterations": 10},
    "qat": {"steps": 8, "when": "always"},
}
TEACHER = {"channels": [8, 16, 16, 32, 32], "hidden": 32, "layers": 1}
STUDENT = {"channels": [8, 16, 16, 16, 32], "hidden": 16, "layers": 1}


def main(arguments: list[str]) -> int:
    """Run or resume in the folder given."""
    from advisor.tasks.ocr import TASK
    from compress.files import owned, sha256
    from compress.pipeline import Job, Run
    from compress.plan import Plan, Step, make_settings
    from compress.profile import Recorded, by_operators
    from compress.weights import ModelSpec

    data = TASK.open(None, seed=0, settings=SIZES)
    builds = "advisor.architectures.crnn:build"
    steps = tuple(Step(name, make_settings(name, values, where=name)) for name, values in STAGES.items())
    job = Job(
        plan=Plan(task="ocr", max_drop=1.0, steps=steps),
        task=TASK,
        data=data,
        student=ModelSpec(builds, {**STUDENT, "classes": data.classes}),
        teacher=ModelSpec(builds, {**TEACHER, "classes": data.classes}),
        threads=1,
    )
    folder = Path(arguments[0])
    with owned(folder):
        run = Run(job, folder, latencies=Recorded(by_operators))
        run.through()
        print(sha256(run.shipped()[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
