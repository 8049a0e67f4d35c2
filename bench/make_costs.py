"""Counts what every built variant costs, operator by operator, and writes rules/knowledge/costs/<architecture>.json (`make costs`).

The graph is exported as the pipeline exports it, in float and in the int8 form its card names, and its operators are counted as
onnxruntime will run them (`compress/operators.py`, which calibration and the latency bench use as well). Weights are random and
change no figure. The cards are read as plain TOML, because the loader of the knowledge wants these files.

    python bench/make_costs.py            writes all
    python bench/make_costs.py crnn       writes one
"""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from advisor.instantiate import CARD_CLASSES, builder  # noqa: E402
from compress.context import Target  # noqa: E402
from compress.export import export  # noqa: E402
from compress.operators import operators_of  # noqa: E402
from compress.quantization import Recipe, Samples, finish, prepare, quantize_static  # noqa: E402
from rules.examples import Batch, Feeds, Port, Signature  # noqa: E402
from rules.facts import Cost  # noqa: E402

KNOWLEDGE = ROOT / "rules" / "knowledge"
WIDTHS = (128, 320)
RECIPES: dict[str, Recipe] = {"static": "static", "hybrid": "static", "dynamic": "dynamic", "mixed": "mixed"}  # by a card's `int8`


class Lines:
    """Random text lines: as much of a task's data as export and calibration ask for."""

    signature = Signature(
        (Port("image", "float32", ("batch", 1, 32, "width"), {"width": (16, 4096, 16)}),),
        (Port("logits", "float32", ("batch", "time", CARD_CLASSES)),),
    )

    def probes(self) -> Mapping[str, Feeds]:
        return {f"w{width}": line(width) for width in WIDTHS}

    def count(self, split: str) -> int:
        return len(WIDTHS)

    def batches(self, split: str, **_: Any) -> Iterator[Batch]:
        return (Batch(line(width), {}, (f"w{width}",)) for width in WIDTHS)


def line(width: int) -> dict[str, np.ndarray]:
    """One random line, (1, 1, 32, width)."""
    return {"image": np.random.default_rng(width).random((1, 1, 32, width), dtype=np.float32)}


def built(folder: Path = KNOWLEDGE / "architectures") -> Iterator[dict[str, Any]]:
    """The tables of the cards that can be built, by name."""
    for path in sorted(folder.glob("*.toml")):
        card = tomllib.loads(path.read_text(encoding="utf-8"))
        if card["status"] == "built":
            yield card


def count(card: Mapping[str, Any], variant: str) -> list[Cost]:
    """The costs of one variant: float and int8, at every width."""
    import torch

    settings = next(size.get("settings", {}) for size in card["variant"] if size["name"] == variant)
    torch.manual_seed(0)
    module = builder(card["builds"])(classes=CARD_CLASSES, **settings)
    params = sum(parameter.numel() for parameter in module.parameters())
    costs = []
    with TemporaryDirectory() as folder:
        graph = export(module, Lines(), Path(folder) / "model.onnx", target=Target())
        for precision, path in (("fp32", graph), ("int8", quantized(graph, card["traits"]["int8"]))):
            for width in WIDTHS:
                operators = tuple(operators_of(path, line(width)))
                shape, size = f"1x1x32x{width}", path.stat().st_size
                costs.append(Cost(card["name"], variant, precision, shape, size, params, operators))
    return costs


def quantized(graph: Path, form: str) -> Path:
    """The int8 file beside `graph`, as the pipeline makes it for this machine in the form the card names (calibrated on noise)."""
    recipe = RECIPES[form]
    ready, static, int8 = (graph.with_name(f"{name}.onnx") for name in ("float", "static", "int8"))
    prepare(graph, ready)
    if recipe == "dynamic":
        return finish(ready, int8, recipe=recipe, format=Target())
    samples = Samples(Lines(), 2, seed=0)
    quantize_static(ready, static, samples, recipe=recipe, method="minmax", percentile=100.0, format=Target())
    return finish(static, int8, recipe=recipe, format=Target())


def text(architecture: str, costs: list[Cost]) -> str:
    """The file of one architecture: JSON, one operator a line, the same bytes for the same graphs."""
    body = ",\n".join(_cost(cost) for cost in costs)
    return f'{{"schema_version": 1, "architecture": {json.dumps(architecture)}, "costs": [\n{body}\n]}}\n'


def _cost(cost: Cost) -> str:
    head = {name: value for name, value in asdict(cost).items() if name not in ("architecture", "operators")}
    rows = ",\n  ".join(json.dumps(asdict(operator), separators=(",", ":")) for operator in cost.operators)
    return f'{json.dumps(head)[:-1]}, "operators": [\n  {rows}]}}'


def main(arguments: list[str]) -> int:
    for card in built():
        if not arguments or card["name"] in arguments:
            costs = [cost for size in card["variant"] for cost in count(card, size["name"])]
            path = KNOWLEDGE / "costs" / f"{card['name']}.json"
            path.write_text(text(card["name"], costs), encoding="utf-8")
            print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
