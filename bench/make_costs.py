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
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from advisor.instantiate import builder, task_of  # noqa: E402
from advisor.stand_in import StandIn  # noqa: E402
from advisor.tasks import task  # noqa: E402
from compress.context import Target  # noqa: E402
from compress.export import export, fused  # noqa: E402
from compress.measuring import awake, quantized  # noqa: E402
from compress.operators import operators_of  # noqa: E402
from rules.examples import Feeds  # noqa: E402
from rules.facts import Cost  # noqa: E402

KNOWLEDGE = ROOT / "rules" / "knowledge"


def built(folder: Path = KNOWLEDGE / "architectures") -> Iterator[dict[str, Any]]:
    """The tables of the cards that can be built, by name."""
    for path in sorted(folder.glob("*.toml")):
        card = tomllib.loads(path.read_text(encoding="utf-8"))
        if card["status"] == "built":
            yield card


class Matrix:
    """As much of the knowledge as tells which task's data a card is counted with: read plainly, for the loader wants the costs."""

    class Row:
        def __init__(self, path: Path) -> None:
            self.cells = [Named(cell["architecture"], cell["fit"]) for cell in tomllib.loads(path.read_text(encoding="utf-8"))["cell"]]

    cards: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.tasks = {path.stem: self.Row(path) for path in (KNOWLEDGE / "tasks").glob("*.toml")}


@dataclass(frozen=True)
class Named:
    """A cell, as far as it is asked for here."""

    architecture: str
    fit: float


def stand_in(architecture: str, size: Mapping[str, Any] = MappingProxyType({})) -> tuple[Mapping[str, Any], StandIn]:
    """What a builder of this architecture is given where its card is counted, and random data that fits.

    `size` is the variant's table, which may name the task whose data that is, and what of it is not the task's usual: small pictures.
    """
    subject, own = task(size.get("task") or task_of(Matrix(), architecture)), size.get("given", {})  # type: ignore[arg-type]
    if strange := set(own) - set(subject.counted) - set(getattr(subject, "asked", ())):
        raise SystemExit(f"{architecture}: the data of {subject.name} gives {', '.join(subject.counted)}, not {', '.join(strange)}")
    given = {**subject.counted, **own}
    return given, subject.stand_in(given)


def count(card: Mapping[str, Any], variant: str) -> list[Cost]:
    """The costs of one variant: float and int8, at every probe of its task."""
    import torch

    size = next(size for size in card["variant"] if size["name"] == variant)
    given, data = stand_in(card["name"], size)
    torch.manual_seed(0)
    module = fused(awake(builder(card["builds"])(**given, **size.get("settings", {})).eval()))
    params = sum(parameter.numel() for parameter in module.parameters())
    costs = []
    with TemporaryDirectory() as folder:
        graph = export(module, data, Path(folder) / "model.onnx", target=Target())  # type: ignore[arg-type]  # it has all that is asked
        for precision, path in (("fp32", graph), ("int8", quantized(graph, card["traits"]["int8"], data, target=Target()))):
            for feeds in data.probes().values() if path else ():
                operators = tuple(operators_of(path, feeds))
                costs.append(Cost(card["name"], variant, precision, shape_of(feeds), path.stat().st_size, params, operators))
    return costs


def shape_of(feeds: Feeds) -> str:
    """`1x1x32x128`; of several inputs joined by "+"."""
    return "+".join("x".join(map(str, array.shape)) for array in feeds.values())


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
