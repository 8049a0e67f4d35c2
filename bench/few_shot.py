"""Few examples on Omniglot: pixels, a prototypical network and MAML on the same one-shot runs, each given the same minutes of one processor.

    python -m bench few_shot FOLDER --minutes 8      FOLDER holds images_background*.zip and all_runs.zip as published

Training: every character of the background zips, also turned by quarter turns as characters of their own; a character that stands in
two zips counts once. Scored: the twenty published runs, each twenty pictures asked against twenty shown, 400 trials; chance is 5 %.
Nothing is unpacked; pictures are read from the zips at 28 pixels. One JSON line a method.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from advisor import few_shot  # noqa: E402
from advisor.architectures.prototypical import build  # noqa: E402
from advisor.data import pictures  # noqa: E402
from advisor.metric_losses import prototypical  # noqa: E402
from advisor.picture_augment import varied  # noqa: E402
from advisor.tasks.few_shot import LOOK  # noqa: E402

SIDE, RUNS, WAYS = 28, 20, 20
Trial = tuple[np.ndarray, np.ndarray, np.ndarray]  # shown (20, s, s, 3), asked (20, s, s, 3), which shown one is right (20,)


def background(folder: Path) -> list[np.ndarray]:
    """The drawings of every character, (20, s, s, 3) each, and each of its quarter turns."""
    found: dict[str, list[np.ndarray]] = {}
    seen: set[tuple[str, str]] = set()
    for path in sorted(folder.glob("images_background*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                parts = name.split("/")
                if name.endswith(".png") and not name.startswith("__MACOSX") and (parts[-2], parts[-1]) not in seen:
                    seen.add((parts[-2], parts[-1]))
                    found.setdefault("/".join(parts[-3:-1]), []).append(_read(archive, name))
    upright = [np.stack(drawings) for _, drawings in sorted(found.items())]
    return [np.rot90(drawings, turn, axes=(1, 2)).copy() for drawings in upright for turn in range(4)]


def trials(folder: Path) -> Iterator[Trial]:
    """The twenty published runs."""
    with zipfile.ZipFile(folder / "all_runs.zip") as archive:
        for run in range(1, RUNS + 1):
            rows = archive.read(f"run{run:02d}/class_labels.txt").decode().split()
            asked, wanted = rows[::2], rows[1::2]
            shown = sorted(wanted)
            yield (
                np.stack([_read(archive, name) for name in shown]),
                np.stack([_read(archive, name) for name in asked]),
                np.array([shown.index(name) for name in wanted]),
            )


def _read(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    return pictures.square(pictures.decode(archive.read(name), name=name), SIDE)


def batch(kinds: list[np.ndarray], rng: np.random.Generator, *, ways: int, each: int) -> Any:
    """`ways` kinds of `each` drawings, varied: (ways, each, 3, s, s)."""
    import torch

    chosen = rng.choice(len(kinds), ways, replace=False)
    rows = [varied(kinds[kind][place], rng, LOOK) for kind in chosen for place in rng.choice(len(kinds[kind]), each, replace=False)]
    return torch.from_numpy(pictures.stack(rows)).reshape(ways, each, 3, SIDE, SIDE)


def train(model: Any, loss_of: Callable[[Any], Any], kinds: list[np.ndarray], *, minutes: float, ways: int, each: int, seed: int) -> int:
    """Adam, its rate falling to nothing over the minutes; returns the steps that fitted in."""
    import torch

    torch.manual_seed(seed)
    rng, optimizer = np.random.default_rng(seed), torch.optim.Adam(model.parameters(), 1e-3)
    start, steps = time.process_time(), 0
    model.train()
    while (passed := (time.process_time() - start) / (60 * minutes)) < 1:
        optimizer.param_groups[0]["lr"] = 1e-3 * 0.5 * (1 + np.cos(np.pi * passed))
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(batch(kinds, rng, ways=ways, each=each))
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        steps += 1
    return steps


def by_place(place: Callable[[np.ndarray], np.ndarray], runs: list[Trial]) -> float:
    """The share that the nearest place tells right."""
    right = []
    for shown, asked, wanted in runs:
        one, other = (place(side) for side in (shown, asked))
        one, other = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (one, other))
        right.append((other @ one.T).argmax(1) == wanted)
    return float(np.mean(right))


def pixels(side: np.ndarray) -> np.ndarray:
    """Blurred ink as a place."""
    ink = 255.0 - side.mean(-1)
    blurred = sum(np.roll(ink, (down, right), (1, 2)) for down in (-1, 0, 1) for right in (-1, 0, 1))
    return np.asarray(blurred.reshape(len(side), -1))


def protonet(kinds: list[np.ndarray], runs: list[Trial], *, minutes: float, seed: int) -> dict[str, Any]:
    import torch

    torch.manual_seed(seed)
    model = build(people=0, side=SIDE, embedding=64)

    def loss_of(drawn: Any) -> Any:
        ways, each = drawn.shape[:2]
        return prototypical(model(drawn.flatten(0, 1)), torch.arange(ways).repeat_interleave(each), scale=16.0)

    steps = train(model, loss_of, kinds, minutes=minutes, ways=40, each=3, seed=seed)
    model.eval()

    def place(side: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return np.asarray(model(torch.from_numpy(pictures.stack(list(side)))).numpy())

    return {"method": "prototypical network", "steps": steps, "accuracy": by_place(place, runs)}


def maml(kinds: list[np.ndarray], runs: list[Trial], *, minutes: float, seed: int) -> dict[str, Any]:
    import torch

    torch.manual_seed(seed)
    model = few_shot.adaptable(WAYS, side=SIDE)
    steps = train(
        model, lambda drawn: few_shot.maml_loss(model, drawn[:, :1], drawn[:, 1:]), kinds, minutes=minutes, ways=WAYS, each=3, seed=seed
    )
    right = []
    for shown, asked, wanted in runs:
        one, other = (torch.from_numpy(pictures.stack(list(side))) for side in (shown, asked))
        right.append(few_shot.maml_answers(model, one[:, None], other).numpy() == wanted)
    return {"method": "MAML", "steps": steps, "accuracy": float(np.mean(right))}


def main(arguments: list[str]) -> int:
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0, help="of processor time to train in, for each method")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", nargs="*", default=["pixels", "protonet", "maml"])
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    runs, kinds = list(trials(chosen.folder)), background(chosen.folder)
    facts = {"trials": RUNS * WAYS, "kinds": len(kinds), "minutes": chosen.minutes, "threads": chosen.threads, "seed": chosen.seed}
    for method in chosen.methods:
        how = {"minutes": chosen.minutes, "seed": chosen.seed}
        if method == "pixels":
            found: dict[str, Any] = {"method": "blurred pixels", "accuracy": by_place(pixels, runs)}
        else:
            found = (protonet if method == "protonet" else maml)(kinds, runs, **how)
        print(json.dumps({**found, **facts}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
