"""The knowledge as typed values: TOML files read strictly, each when it is first asked for.

A folder of knowledge holds `tasks/`, `architectures/`, `devices/`, `costs/`, `remedies.toml` and `sources.toml`. A user's own
folder of the same layout lies over ours: its tasks, architectures and devices add to ours or take their place by name, its
remedies (rules for any task) and sources add. Whatever is wrong in a file is a `Problem` of one line naming file and key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from rules.facts import Card, Cost, Device, Rule, Source, TaskRow
from rules.problems import Problem, unknown
from rules.reading import card, costs, device, rules, sources, task
from rules.tables import Table, read_json, read_toml

HERE = Path(__file__).parent / "knowledge"
HERE_DEVICE = "this-machine"
T = TypeVar("T")


class Files(Mapping[str, T], Generic[T]):
    """The files of one kind by name. Iterating lists names; only asking for a value reads its file, once."""

    def __init__(self, folders: list[Path], suffix: str, read: Callable[[Table, str], T]) -> None:
        self._paths: dict[str, Path] = {}
        for folder in folders:
            self._paths |= {path.stem: path for path in sorted(folder.glob(f"*{suffix}"))}
        self._read = read
        self._values: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._values:
            path = self._paths[name]
            table = read_json(path, name=_label(path)) if path.suffix == ".json" else read_toml(path, name=_label(path))
            self._values[name] = self._read(table, name)
        return self._values[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._paths))

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, name: object) -> bool:
        return name in self._paths


def _label(path: Path) -> str:
    """A shipped file by its place in our tree, another by its whole path."""
    return f"rules/{path.relative_to(HERE.parent)}" if path.is_relative_to(HERE) else str(path)


class Knowledge:
    """What is known. Mappings by name, read as they are asked for; the functions refuse an unknown name with the nearest one."""

    def __init__(self, folders: list[Path]) -> None:
        self._folders = folders
        self.tasks: Mapping[str, TaskRow] = Files([folder / "tasks" for folder in folders], ".toml", self._task)
        self.cards: Mapping[str, Card] = Files([folder / "architectures" for folder in folders], ".toml", self._card)
        self.devices: Mapping[str, Device] = Files([folder / "devices" for folder in folders], ".toml", self._device)
        self.costs: Mapping[str, tuple[Cost, ...]] = Files([folder / "costs" for folder in folders], ".json", costs)
        self.prepared: dict[Any, Any] = {}  # what was worked out from this knowledge once, for whoever works it out
        self._sources: Mapping[str, Source] | None = None
        self._rules: tuple[Rule, ...] | None = None
        self._names: dict[str, str] | None = None

    @property
    def sources(self) -> Mapping[str, Source]:
        """Every citation by id."""
        if self._sources is None:
            found: dict[str, Source] = {}
            for table in self._tables("sources.toml"):
                for source in sources(table):
                    _once(source.id, found, f"{table.where}: source")
                    found[source.id] = source
            self._sources = found
        return self._sources

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that hold for every task."""
        if self._rules is None:
            found: dict[str, Rule] = {}
            for table in self._tables("remedies.toml"):
                for rule in rules(table, origin=table.where):
                    _once(rule.id, found, f"{table.where}: rule")
                    found[rule.id] = rule
                table.done()
            for rule in found.values():
                self._cited(rule.origin, rule.source)
            self._rules = tuple(found.values())
        return self._rules

    def _tables(self, name: str) -> list[Table]:
        paths = [folder / name for folder in self._folders]
        return [read_toml(path, name=_label(path)) for path in paths if path.exists()]

    def task(self, name: str) -> TaskRow:
        """A task by its name or an alias."""
        if name not in self.tasks:
            if self._names is None:
                self._names = {alias: row.name for row in self.tasks.values() for alias in row.aliases}
            if name not in self._names:
                raise unknown("task", name, [*self.tasks, *self._names], remedy="advisor matrix lists all")
            name = self._names[name]
        return self.tasks[name]

    def device(self, name: str) -> Device:
        """A device by name; "this-machine" only where a file describes it (`advisor.recommend.device` detects it)."""
        if name not in self.devices:
            raise unknown("device", name, [*self.devices, HERE_DEVICE], remedy="advisor devices lists all")
        return self.devices[name]

    def card(self, name: str) -> Card:
        """An architecture by name."""
        if name not in self.cards:
            raise unknown("architecture", name, self.cards, remedy="advisor matrix lists all")
        return self.cards[name]

    def rules_for(self, row: TaskRow) -> tuple[Rule, ...]:
        """The task's own rules and those that hold for every task."""
        known = {rule.id: rule for rule in self.rules}
        for rule in row.rules:
            _once(rule.id, known, f"{rule.origin}: rule")
        return (*row.rules, *self.rules)

    def everything(self) -> list[Problem]:
        """Read and check every file. Returns the problems, one a file at most; empty when all is well."""
        found: list[Problem] = []
        kinds: tuple[Mapping[str, Any], ...] = (self.tasks, self.cards, self.devices, self.costs)
        for kind in kinds:
            for name in kind:
                _collect(found, partial(kind.__getitem__, name))
        _collect(found, lambda: self.sources)
        _collect(found, lambda: self.rules)
        if not found:
            _collect(found, self._check_rule_ids)
        return found

    def _check_rule_ids(self) -> None:
        known: dict[str, Rule] = {}
        for rule in (*self.rules, *(rule for row in self.tasks.values() for rule in row.rules)):
            _once(rule.id, known, f"{rule.origin}: rule")
            known[rule.id] = rule

    def _task(self, table: Table, name: str) -> TaskRow:
        row = task(table, name)
        for cell in row.cells:
            where = f"{table.where}: cell {cell.architecture}"
            self._cited(where, cell.source)
            if cell.architecture not in self.cards:
                raise unknown(f"architecture in {where}:", cell.architecture, self.cards)
            variants = [variant.name for variant in self.cards[cell.architecture].variants]
            for key, wanted in (("variant", cell.variant), ("teacher", cell.teacher)):
                if wanted and wanted not in variants:
                    raise unknown(f"{key} in {where}:", wanted, variants)
        for cited in (*(rule.source for rule in row.rules), *([row.article.source] if row.article else [])):
            self._cited(table.where, cited)
        return row

    def _card(self, table: Table, name: str) -> Card:
        found = card(table, name)
        for cited in (found.source, *(item.source for item in found.evidence), *(item.source for item in found.variants if item.source)):
            self._cited(table.where, cited)
        return found

    def _device(self, table: Table, name: str) -> Device:
        found = device(table, name)
        for cited in (found.source, *(rate.source for rate in found.rates.values())):
            self._cited(table.where, cited)
        return found

    def _cited(self, where: str, source: str) -> None:
        if source not in self.sources:
            raise unknown(f"source in {where}:", source, self.sources, remedy="sources.toml lists every citation once")


def _once(name: str, known: Mapping[str, Any], where: str) -> None:
    if name in known:
        raise Problem(f"{where} {name!r} is there twice", remedy="ids are unique over all files")


def _collect(found: list[Problem], read: Callable[[], object]) -> None:
    try:
        read()
    except Problem as problem:
        found.append(problem)


@lru_cache(maxsize=8)
def load(overlay: Path | None = None) -> Knowledge:
    """The shipped knowledge, with the user's own folder over it. The same call gives the same object. Raises Problem (exit 2)."""
    if overlay is not None and not overlay.is_dir():
        raise Problem(
            f"no folder of knowledge at {overlay}", remedy="it holds tasks/, architectures/, devices/, remedies.toml, sources.toml"
        )
    return Knowledge([HERE] if overlay is None else [HERE, overlay])
