"""The knowledge as typed values: TOML files read strictly, each when it is first asked for.

A folder of knowledge holds `tasks/`, `architectures/`, `devices/`, `costs/`, `evidence/`, `remedies.toml`, `rules.toml` and
`sources.toml`. A user's own folder of the same layout lies over ours: its tasks, architectures and devices add to ours or take
their place by name; its rules (for any task), sources and evidence (for cards there are) add. Nothing in it is executed.
Whatever is wrong in a file is a `Problem` of one line naming file and key, and a folder in which anything is wrong is refused whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from rules.facts import Card, Challenge, Claim, Cost, Device, Evidence, Rule, Source, TaskRow
from rules.problems import Problem, unknown
from rules.reading import card, costs, device, evidence, rules, sources, task
from rules.tables import Table, read_json, read_toml

HERE = Path(__file__).parent / "knowledge"
HERE_DEVICE = "this-machine"
FOR_EVERY_TASK = ("remedies.toml", "rules.toml")  # the shipped rules, and where house rules are looked for beside them
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

    def where(self, name: str) -> str:
        """The file behind a name, as messages call it."""
        return _label(self._paths[name])

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
        self.folders = tuple(folders)
        self.tasks: Files[TaskRow] = Files([folder / "tasks" for folder in folders], ".toml", self._task)
        self.cards: Files[Card] = Files([folder / "architectures" for folder in folders], ".toml", self._card)
        self.devices: Files[Device] = Files([folder / "devices" for folder in folders], ".toml", self._device)
        self.costs: Files[tuple[Cost, ...]] = Files([folder / "costs" for folder in folders], ".json", costs)
        self.evidence: Files[Mapping[str, list[Evidence]]] = Files([folder / "evidence" for folder in folders], ".toml", self._evidence)
        self.prepared: dict[Any, Any] = {}  # what was worked out from this knowledge once, for whoever works it out
        self.source_files: dict[str, str] = {}  # the file of each source, once `sources` was asked for
        self._sources: Mapping[str, Source] | None = None
        self._rules: tuple[Rule, ...] | None = None
        self._claims: Mapping[str, Claim] | None = None
        self._challenges: Mapping[str, Challenge] | None = None
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
                    self.source_files[source.id] = table.where
            self._sources = found
        return self._sources

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that hold for every task."""
        if self._rules is None:
            found: dict[str, Rule] = {}
            for table in (table for name in FOR_EVERY_TASK for table in self._tables(name)):
                for rule in rules(table, origin=table.where):
                    _once(rule.id, found, f"{table.where}: rule")
                    found[rule.id] = rule
                table.done()
            for rule in found.values():
                self._cited(rule.origin, rule.source)
            self._rules = tuple(found.values())
        return self._rules

    @property
    def claims(self) -> Mapping[str, Claim]:
        """What the source article claims, with today's verdicts, by id; read only when something is explained."""
        if self._claims is None:
            from rules.claims import claims

            found: dict[str, Claim] = {}
            for table in self._tables("claims.toml"):
                for claim in claims(table):
                    _once(claim.id, found, f"{table.where}: claim")
                    found[claim.id] = claim
                    for cited in claim.sources:
                        self._cited(f"{table.where}: claim {claim.id}", cited)
            self._claims = found
        return self._claims

    @property
    def challenges(self) -> Mapping[str, Challenge]:
        """The challenges the article names, with what is done about each, by id."""
        if self._challenges is None:
            from rules.claims import challenges

            found: dict[str, Challenge] = {}
            for table in self._tables("challenges.toml"):
                for row in challenges(table):
                    _once(row.id, found, f"{table.where}: challenge")
                    found[row.id] = row
                    for remedy in row.remedies:
                        self._cited(f"{table.where}: challenge {row.id}", remedy.source)
            self._challenges = found
        return self._challenges

    def _tables(self, name: str) -> list[Table]:
        paths = [folder / name for folder in self.folders]
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
        kinds: tuple[Mapping[str, Any], ...] = (self.tasks, self.cards, self.devices, self.costs, self.evidence)
        for kind in kinds:
            for name in kind:
                _collect(found, partial(kind.__getitem__, name))
        _collect(found, lambda: self.sources)
        _collect(found, lambda: self.rules)
        _collect(found, lambda: self.claims)
        _collect(found, lambda: self.challenges)
        if not found:
            _collect(found, self._check_rule_ids)
        return list({str(problem): problem for problem in found}.values())  # a broken card is met again in each task that lists it

    def _check_rule_ids(self) -> None:
        """Ours first, so that the user's file is the one that is named."""
        known: dict[str, Rule] = {}
        every = (*self.rules, *(rule for row in self.tasks.values() for rule in row.rules))
        for rule in sorted(every, key=lambda rule: any(Path(rule.origin).is_relative_to(folder) for folder in self.folders[1:])):
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
        added = tuple(item for file in self.evidence.values() for item in file.get(name, ()))
        for cited in (found.source, *(item.source for item in found.evidence), *(item.source for item in found.variants if item.source)):
            self._cited(table.where, cited)
        return replace(found, evidence=found.evidence + added) if added else found

    def _evidence(self, table: Table, name: str) -> Mapping[str, list[Evidence]]:
        found = evidence(table, name)
        for architecture, items in found.items():
            if architecture not in self.cards:
                raise unknown(f"architecture in {table.where}: evidence:", architecture, self.cards)
            for item in items:
                self._cited(f"{table.where}: evidence {item.what!r}", item.source)
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
    """The shipped knowledge, with the user's own folder over it. The same call gives the same object.

    The user's folder is checked whole before anything is answered from it. Raises Problem (exit 2), the first of what is wrong.
    """
    if overlay is None:
        return Knowledge([HERE])
    from rules.overlay import refusals

    known = over(overlay)
    found = refusals(known)
    if not found:
        return known
    more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
    raise Problem(f"{found[0]}{more}", remedy=f"advisor lint {overlay} lists all" if more else None)


def over(overlay: Path) -> Knowledge:
    """The user's folder over ours, unchecked: files are read as they are asked for. Raises Problem (exit 2) when there is no such folder."""
    if not overlay.is_dir():
        raise Problem(
            f"no folder of knowledge at {overlay}",
            remedy="it holds tasks/, architectures/, devices/, evidence/, rules.toml, sources.toml",
        )
    return Knowledge([HERE, overlay])
