"""What handing channels on between frames is worth: ResNet-8 on the built-in clips, with the shift and without.

    python -m bench motion OUT [SHARE | ARCHITECTURE/VARIANT ...]

All are trained as the recommended plan trains (12 rounds, the same seed, one thread) and scored on all test clips. SHARE 4 hands a
quarter of the channels on each way, 0 none: then what is thought of each frame is averaged. A variant of a card (cnn-lstm/small) may
stand beside them. Resumable: OUT holds the checkpoints.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RECIPE = {"epochs": 12, "lr": 0.003, "evaluations": 0}  # video.small-nets-take-more-rounds


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__)
        return 2
    print("| net | parameters | test accuracy | processor seconds |\n|---|---|---|---|")
    for said in arguments[1:] or ["4", "0"]:
        print(row(Path(arguments[0]), said), flush=True)
    return 0


def net(said: str, given: Mapping[str, Any]) -> Any:
    """The net of a share, or of "architecture/variant", for the data's own sizes."""
    from advisor.architectures.tsm import RESNET_8, build
    from advisor.instantiate import builder
    from bench.make_costs import built

    architecture, named, variant = said.partition("/")
    if not named:
        return build(**given, net=RESNET_8, share=int(said))
    card = next(card for card in built() if card["name"] == architecture)
    size = next(size for size in card["variant"] if size["name"] == variant)
    return builder(card["builds"])(**given, **size.get("settings", {}))


def row(out: Path, said: str) -> str:
    """One net, trained and scored."""
    import torch

    from advisor.tasks.video_action_recognition import TASK
    from compress.context import Context
    from compress.forward import predictor
    from compress.journal import Journal
    from compress.profile import Measured
    from compress.progress import Lines
    from compress.stages.train import Train

    folder = out / (said.replace("/", "-") if "/" in said else f"share-{said}")
    folder.mkdir(parents=True, exist_ok=True)
    data = TASK.open(None)
    torch.manual_seed(0)
    model = net(said, data.given)
    began = time.process_time()
    journal = Journal(folder / "journal.jsonl")
    context = Context(task=TASK, data=data, folder=folder, journal=journal, latencies=Measured(), progress=Lines(), threads=1)
    Train(**RECIPE).apply(model, context)  # type: ignore[arg-type]
    seconds = time.process_time() - began
    found = data.score(predictor(model, data), "test")
    return f"| {said} | {sum(each.numel() for each in model.parameters()):,} | {found.value:.1%} | {seconds:.0f} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
