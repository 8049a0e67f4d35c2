"""Faces beside their honest baselines on the same pairs: pixels, and eigenfaces of the training people.

    python -m bench faces FOLDER [GRAPH.onnx …]      FOLDER has people in train/, val/ and test/; graphs are those of `advisor run`

Every pair of test pictures is a trial, compared by cosine. Pixels: grey, as large as they are, the mean of the training pictures taken
out. Eigenfaces (Turk & Pentland 1991, doi:10.1162/jocn.1991.3.1.71): coordinates along the main directions of the training pictures,
whitened; Fisherfaces (Belhumeur et al. 1997, doi:10.1109/34.598228): the directions that tell the training people apart. How many is
chosen on the validation people. Intervals: bootstrap over people, 95 %; the differences are paired.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from advisor import verification  # noqa: E402
from advisor.data import classfolders, pictures  # noqa: E402
from advisor.data.corpus import Corpus, Split  # noqa: E402

COMPONENTS = (20, 40, 60, 80, 100)
ROUNDS = 1000
Places = NDArray[np.float64]
Seen = Callable[[Places], Places]


def grey(corpus: Corpus, split: Split) -> tuple[Places, NDArray[Any]]:
    """Pictures as rows of grey, and whose they are."""
    rows = [np.asarray(pictures.decode(corpus.read(line), name=line.id).convert("L"), float).ravel() for line in corpus.splits[split]]
    return np.stack(rows), np.unique([line.text for line in corpus.splits[split]], return_inverse=True)[1]


def error(places: Places, people: NDArray[Any]) -> float:
    """The equal error rate over all pairs."""
    places = places / np.linalg.norm(places, axis=1, keepdims=True)
    return verification.equal_error(*verification.pairs(places, people).rates()[:2])


def drawn_errors(places: Places, people: NDArray[Any]) -> NDArray[Any]:
    """The equal error rate over people drawn anew, the same draws for every method; a picture is never compared with itself."""
    places = places / np.linalg.norm(places, axis=1, keepdims=True)
    found = verification.pairs(places, people)
    rng, names, errors = np.random.default_rng(0), np.unique(people), []
    for _ in range(ROUNDS):
        times = np.bincount(rng.choice(len(names), len(names)), minlength=len(names))
        errors.append(verification.equal_error(*found.weighed(times[np.searchsorted(names, people)])))
    return np.array(errors)


def between(errors: NDArray[Any]) -> str:
    """The middle 95 %."""
    return "{:.2%} to {:.2%}".format(*np.nanpercentile(errors, (2.5, 97.5)))


def eigenfaces(train: Places, people: NDArray[Any], count: int) -> Seen:
    """Coordinates along the first `count` main directions of `train`, each scaled to a deviation of one."""
    from sklearn.decomposition import PCA

    return PCA(count, whiten=True, random_state=0).fit(train).transform  # type: ignore[no-any-return]


def fisherfaces(train: Places, people: NDArray[Any], count: int) -> Seen:
    """Coordinates along the directions that tell `people` apart, after `count` main ones."""
    from sklearn.decomposition import PCA
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    return make_pipeline(PCA(count, random_state=0), LinearDiscriminantAnalysis()).fit(train, people).transform  # type: ignore[no-any-return]


def answered(graph: Path, folder: Path) -> tuple[Places, NDArray[Any]]:
    """The places an exported net gives the test pictures."""
    from advisor.tasks.face_recognition import TASK
    from compress.runtime import predictor, session

    side = int(session(graph).get_inputs()[0].shape[2])
    data, predict = TASK.open(folder, settings={"side": side, "fit": "stretch"}), predictor(graph)
    batches = list(data.batches("test", batch_size=64))
    places = np.concatenate([predict(batch.inputs)["embedding"] for batch in batches]).astype(float)
    return places, np.concatenate([batch.targets["label"] for batch in batches])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("graphs", type=Path, nargs="*")
    chosen = parser.parse_args(arguments)
    corpus = classfolders.strangers(chosen.folder, seed=0)
    held: dict[Split, Any] = {split: grey(corpus, split) for split in ("train", "val", "test")}
    tested, people = held["test"]
    methods = {"pixels": (tested - held["train"][0].mean(0), people)}
    for made in (eigenfaces, fisherfaces):
        seen = {count: made(*held["train"], count) for count in COMPONENTS}
        best = min(COMPONENTS, key=lambda count: error(seen[count](held["val"][0]), held["val"][1]))
        methods[f"{made.__name__} ({best})"] = seen[best](tested), people
    methods |= {str(graph): answered(graph, chosen.folder) for graph in chosen.graphs}
    same = int(sum(n * (n - 1) // 2 for n in np.bincount(people)))
    print(
        f"{len(np.unique(people))} people, {len(people)} pictures, {same} pairs of one person, {len(people) * (len(people) - 1) // 2 - same} of two"
    )
    first: NDArray[Any] | None = None
    for name, (places, of) in methods.items():
        errors = drawn_errors(places, of)
        first = errors if first is None else first
        print(f"{name}: equal error rate {error(places, of):.2%} ({between(errors)}), against pixels {between(errors - first)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
