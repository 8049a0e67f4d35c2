"""Which format of bytes pays on this processor: float beside U8S8, U8U8 and U8S8 of seven bits, times and what is left of the answer.

    python -m bench byte_formats [ARCHITECTURE/VARIANT ...] [--seconds 8]

Untrained nets of the catalogue, quantized as the pipeline does it, all files of a net interleaved with a copy of its float file; times are
low quantiles of the thread's own processor time, as ratios to float. Beside each its signal to noise against float, in dB, on random
inputs: where it falls for U8S8 alone the processor clips its sums (x86 without VNNI). One table on standard output.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from advisor.instantiate import builder  # noqa: E402
from bench.make_costs import built, stand_in  # noqa: E402
from compress.context import Target  # noqa: E402
from compress.export import export  # noqa: E402
from compress.measuring import awake, quantized  # noqa: E402
from compress.runtime import environment, predictor  # noqa: E402
from compress.target import FORMATS  # noqa: E402
from compress.timing import interleaved, low, noise  # noqa: E402

NETS = [
    "resnet-8/default",
    "resnet-50/small-image",
    "mobilefacenet/relu",
    "mobilenetv3-large/small-image",
    "ds-cnn/s",
    "crnn/small",
    "vitstr/tiny",
    "minilm-encoder/l6-h384",
]
CHOSEN = ("u8s8", "u8u8", "u8s8-reduced")
EXAMPLES = 8  # random inputs that answers are compared on
BOUND = 0.05  # two copies further apart: noisy


def main(arguments: list[str]) -> int:
    """Measure and print a row a net."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m bench byte_formats", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("net", nargs="*", default=NETS)
    parser.add_argument("--seconds", type=float, default=8.0)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    where = environment()
    print(f"{where['cpu']}, {' '.join(where.get('isa', []))}; onnxruntime {where['onnxruntime']}, 1 thread\n")
    print("| net |", " | ".join(f"{name} × float, dB" for name in CHOSEN), "| two copies of float |")
    print("|---|" + "---|" * (len(CHOSEN) + 1))
    for name in chosen.net:
        print(row(name, seconds=chosen.seconds), flush=True)
    return 0


def row(name: str, *, seconds: float) -> str:
    """One net's row."""
    with TemporaryDirectory() as folder:
        files, feeds = made(name, Path(folder))
        calls: dict[str, Callable[[], object]] = {key: partial(predictor(path), feeds[0]) for key, path in files.items()}
        times = interleaved({**calls, "copy": partial(predictor(files["fp32"]), feeds[0])}, seconds=seconds)
        base = low(times["fp32"].cpu_ms)
        apart = noise(times["fp32"].cpu_ms, times["copy"].cpu_ms, bound=BOUND)["spread"]
        cells = [f"{low(times[key].cpu_ms) / base:.2f}, {decibels(files['fp32'], files[key], feeds):.1f}" for key in CHOSEN]
    return f"| {name} | " + " | ".join(cells) + f" | within {100 * apart:.1f} %{' (noisy)' if apart > BOUND else ''} |"


def made(name: str, folder: Path) -> tuple[dict[str, Path], list[dict[str, Any]]]:
    """The float file of a variant and its file in each format, and inputs of its first size."""
    import torch

    architecture, _, variant = name.partition("/")
    card = next(card for card in built() if card["name"] == architecture)
    size = next(size for size in card["variant"] if variant in (size["name"], ""))
    given, data = stand_in(architecture, size)
    torch.manual_seed(0)
    module = awake(builder(card["builds"])(**given, **size.get("settings", {}))).eval()
    files = {"fp32": export(module, data, folder / "fp32.onnx", target=Target())}  # type: ignore[arg-type]
    for key in CHOSEN:
        (folder / key).mkdir()
        graph = folder / key / "model.onnx"
        graph.write_bytes(files["fp32"].read_bytes())
        path = quantized(graph, card["traits"]["int8"], data, target=Target(**FORMATS[key]))
        assert path is not None, f"{name} has no form of 8 bits"
        files[key] = path
    first = next(iter(data.sizes.values()))
    return files, [dict(data.feeds(first, batch=1, seed=100 + number)) for number in range(EXAMPLES)]


def decibels(reference: Path, other: Path, feeds: list[dict[str, Any]]) -> float:
    """Signal to noise of every answer of `other` against those of `reference`, over all `feeds`."""
    wanted, found = (
        [np.concatenate([np.ravel(array) for array in predictor(path)(feed).values()]) for feed in feeds] for path in (reference, other)
    )
    signal, error = np.stack(wanted).astype(np.float64), np.stack(found).astype(np.float64)
    return float(10 * np.log10(np.square(signal).sum() / max(np.square(error - signal).sum(), 1e-30)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
