"""From a card and the name of a variant to an `nn.Module`.

A card names its builder ("advisor.architectures.crnn:build") and each variant its settings; the data gives the rest, by keyword:
classes, columns, a vocabulary, whatever its task says a builder is given. Importing this costs no torch: a recommendation may name a module that this machine could not build.
Only builders that the shipped cards name are ever imported: a user's own folder of knowledge is data, and nothing in it is executed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from rules.facts import Card, TaskRow
from rules.knowledge import load
from rules.problems import Problem, bad_environment, unknown

if TYPE_CHECKING:
    from torch import nn

LIST = "advisor matrix lists all"


class Known(Protocol):
    """The part of `rules.knowledge` that is needed here."""

    @property
    def cards(self) -> Mapping[str, Card]: ...

    @property
    def tasks(self) -> Mapping[str, TaskRow]: ...


def spec_settings(known: Known, architecture: str, variant: str, **given: Any) -> tuple[str, dict[str, Any]]:
    """The builder's name and its settings: all that a stored model needs to be built again.

    Raises Problem (exit 2) for an unknown architecture or variant, and for one that is only a reference, naming the nearest that is built.
    """
    if architecture not in known.cards:
        raise unknown("architecture", architecture, known.cards, remedy=LIST)
    card = known.cards[architecture]
    if card.status != "built":
        raise reference(known, card)
    check_builder(card)
    return card.builds, settings_for(card, variant, **given)


def settings_for(card: Card, variant: str, **given: Any) -> dict[str, Any]:
    """The keyword arguments of the card's builder for one variant. Raises Problem (exit 2) for an unknown variant."""
    settings = {size.name: size.settings for size in card.variants}
    if variant not in settings:
        raise unknown(f"variant of {card.name}", variant, settings, remedy=f"advisor explain {card.name} lists them")
    return {**given, **settings[variant]}


def module(card: Card, variant: str, **given: Any) -> nn.Module:
    """A freshly initialised module. Seed torch before, if it is to be the same one.

    Raises Problem: exit 2 for a reference card or an unknown variant, exit 5 without torch.
    """
    if card.status != "built":
        raise reference(None, card)
    check_builder(card)
    settings = settings_for(card, variant, **given)
    built: nn.Module = builder(card.builds)(**settings)
    return built


def task_of(known: Known, architecture: str) -> str:
    """The built-in task whose data an architecture is counted and checked with: the one it fits best, of those that have it."""
    from advisor.tasks import names

    cells = [
        (cell.fit, name) for name in names() if name in known.tasks for cell in known.tasks[name].cells if cell.architecture == architecture
    ]
    if not cells:
        raise Problem(f"no built-in task has {architecture} in its row", remedy=LIST)
    return min(cells, key=lambda cell: (-cell[0], cell[1]))[1]


def check_builder(card: Card) -> None:
    """Refuse a card whose builder is none that a shipped card names, before anything is imported. Raises Problem (exit 2)."""
    if card.builds not in {shipped.builds for shipped in load().cards.values() if shipped.builds}:
        raise Problem(
            f"{card.name} builds {card.builds!r}, which is none of the builders shipped here, and nothing else that a card names is imported",
            remedy="advisor compress package.module:function takes a module of your own",
        )


def builder(name: str) -> Callable[..., nn.Module]:
    """The function behind "package.module:function". Raises Problem (exit 5) when it needs torch and there is none."""
    place, _, function = name.partition(":")
    try:
        found: Callable[..., nn.Module] = getattr(import_module(place), function)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "torch":
            raise
        raise bad_environment(f"{name} needs torch, which is not installed", remedy="pip install 'edge-advisor[train]'") from None
    return found


def reference(known: Known | None, card: Card) -> Problem:
    """The refusal of a card that is not built, with the best built architecture of a task it serves."""
    nearest = _nearest(known, card.name) if known else ""
    remedy = f"advisor builds {nearest}" if nearest else LIST
    if card.status == "planned":
        return Problem(f"{card.name} is not built here yet", remedy=remedy)
    why = card.reason.rstrip(".") or "it is here for comparison"
    return Problem(f"{card.name} is a reference and is not built: {why}", remedy=remedy)


def _nearest(known: Known, architecture: str) -> str:
    """The best fitting built architecture beside this one in a task's row; without such a task, none."""
    cells = [cell for row in known.tasks.values() if architecture in {cell.architecture for cell in row.cells} for cell in row.cells]
    built = [cell for cell in cells if cell.architecture in known.cards and known.cards[cell.architecture].status == "built"]
    return min(built, key=lambda cell: (-cell.fit, cell.architecture)).architecture if built else ""
