"""Keywords beside their honest baseline, and what 8 bits would do to the spectrogram inside the graph.

    python -m bench keywords FOLDER                    cepstra and a support vector machine on the same splits
    python -m bench keywords FOLDER --graph X.onnx     a float graph of `advisor run`, quantized with its spectrogram left float and not

The baseline knows no time order but thirds: means and deviations of 20 cepstra over each third of the clip, standardised, RBF kernel.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

import compress.quantization as quantization  # noqa: E402
from advisor.tasks.keyword_spotting import TASK  # noqa: E402
from compress.context import Target  # noqa: E402
from compress.runtime import predictor, session  # noqa: E402

THIRDS = 3
COEFFICIENTS = 20


def described(data: Any, split: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """What the baseline sees of each clip, (n, 6 · 20), and its labels (n,)."""
    import torch

    from advisor.architectures.log_mel import LogMel

    front = LogMel(data.rate, hop=0.01, overlap=3, coefficients=COEFFICIENTS)
    rows, labels = [], []
    for batch in data.batches(split, batch_size=64):
        with torch.no_grad():
            cepstra = front(torch.from_numpy(batch.inputs["waveform"])).numpy()
        parts = np.array_split(cepstra, THIRDS, axis=1)
        rows.append(np.concatenate([stat(part, axis=1) for part in parts for stat in (np.mean, np.std)], axis=1))
        labels.append(batch.targets["label"])
    return np.concatenate(rows), np.concatenate(labels)


def baseline(data: Any) -> None:
    """A support vector machine; its penalty is chosen on the validation split."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    started = time.process_time()
    sets = {split: described(data, split) for split in ("train", "val", "test")}
    machines = [make_pipeline(StandardScaler(), SVC(C=penalty)).fit(*sets["train"]) for penalty in (1.0, 10.0, 100.0)]
    best = max(machines, key=lambda machine: machine.score(*sets["val"]))
    print(
        f"baseline: cepstra and RBF SVM (C {best[-1].C:g}): test accuracy {best.score(*sets['test']):.2%}, {time.process_time() - started:.0f} s of CPU"
    )


def front_in_integers(data: Any, graph: Path) -> None:
    """The same graph quantized twice: as shipped, and with everything before the logarithm in integers too."""
    leaves, reference = vars(quantization)["front"], predictor(graph)
    print(f"float: test accuracy {data.score(reference, 'test').value:.2%}")
    with TemporaryDirectory() as folder:
        base = quantization.prepare(graph, Path(folder) / "float.onnx")
        for name, front in (("spectrogram in float", leaves), ("spectrogram in int8", lambda graph: ())):
            vars(quantization)["front"] = front
            samples = quantization.Samples(data, 256, seed=0)
            target = Path(folder) / f"{name}.onnx"
            quantization.quantize_static(base, target, samples, recipe="static", method="minmax", percentile=100.0, format=Target())
            shipped = quantization.finish(target, Path(folder) / f"{name} shipped.onnx", recipe="static", format=Target())
            score = data.score(predictor(shipped), "test").value
            noise = distance(reference, predictor(shipped), data)
            print(f"{name}: test accuracy {score:.2%}, {noise:.1f} dB, {fastest(shipped, data):.3f} ms, {shipped.stat().st_size} bytes")
    vars(quantization)["front"] = leaves


def distance(one: Any, other: Any, data: Any) -> float:
    """Signal over noise of the test answers, in decibels."""
    pairs = [(one(batch.inputs)["logits"], other(batch.inputs)["logits"]) for batch in data.batches("test", batch_size=64)]
    signal, noise = sum(float((a**2).sum()) for a, _ in pairs), sum(float(((a - b) ** 2).sum()) for a, b in pairs)
    return 10 * float(np.log10(signal / noise))


def fastest(graph: Path, data: Any) -> float:
    """The shortest of 300 calls, milliseconds, one thread."""
    opened, feeds = session(graph), dict(next(iter(data.probes().values())))
    times = []
    for _ in range(300):
        started = time.perf_counter()
        opened.run(None, feeds)
        times.append(time.perf_counter() - started)
    return 1e3 * min(times)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--graph", type=Path)
    chosen = parser.parse_args(arguments)
    data = TASK.open(chosen.folder)
    front_in_integers(data, chosen.graph) if chosen.graph else baseline(data)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
