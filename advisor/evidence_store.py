"""The evidence store: what was measured on this machine, in one SQLite file that many may write to and a kill does not harm.

Facts are added in one transaction and never changed; the newest of a kind counts. The journal is a rollback journal, not a write-ahead
log, on purpose: writes are a few rows now and then, the file stays one file that can be copied and lies well on a network folder, its
time stamp moves with every change, and somebody who may only read it can. `synchronous = EXTRA`: what `add` returned from is on the disk.
Source: SQLite documentation, "Atomic Commit In SQLite" and "Pragma statements". `sqlite3` is imported when a store is opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.home import STORE, home
from rules.problems import Exit, Problem, bad_environment

if TYPE_CHECKING:
    import sqlite3

APPLICATION = 0x45644156  # "EdAV" in the header says whose SQLite file it is
VERSION = 1
PATIENCE = 30.0  # seconds to wait for another writer
LONGEST = 2000  # characters of a text
MINE_TO_MEND = {"BUSY": 5, "LOCKED": 6, "READONLY": 8, "IOERR": 10, "FULL": 13, "CANTOPEN": 14, "PERM": 3}  # SQLite's primary result codes
SCHEMA = """
CREATE TABLE facts (
  id INTEGER PRIMARY KEY AUTOINCREMENT, what TEXT NOT NULL, architecture TEXT NOT NULL, variant TEXT NOT NULL, precision TEXT NOT NULL,
  shape TEXT NOT NULL, threads INTEGER NOT NULL, cpu TEXT NOT NULL, isa TEXT NOT NULL, runtime TEXT NOT NULL, at TEXT NOT NULL,
  command TEXT NOT NULL, value REAL NOT NULL, low REAL NOT NULL, high REAL NOT NULL, unit TEXT NOT NULL, built TEXT NOT NULL,
  details TEXT NOT NULL
)
"""
_changes = 0  # made by this process; a file's time stamp is too coarse for two of them


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that was measured: `value` in `unit`, between `low` and `high`, of what, where, when and by which command.

    `built` says what was built (`advisor.measured.built`), so that a card that changes since loses the fact. `details` is JSON.
    """

    what: str  # "latency"
    architecture: str
    variant: str
    precision: str
    shape: str
    threads: int
    cpu: str
    isa: str
    runtime: str  # onnxruntime's version
    at: str  # UTC, ISO 8601, seconds
    command: str
    value: float
    low: float
    high: float
    unit: str
    built: str
    details: Mapping[str, Any] = field(default_factory=dict)
    id: int = 0


COLUMNS = tuple(item.name for item in fields(Fact))
DAY = re.compile(r"20\d\d-\d\d-\d\dT")
TEXTS = ("what", "architecture", "variant", "precision", "shape", "cpu", "isa", "runtime", "at", "command", "unit", "built")


def file() -> Path:
    """Where the store is, whether it is there or not."""
    return home() / STORE


def stamp() -> tuple[int, ...]:
    """Another one after every change; empty where there is no store. Costs one look at the folder."""
    try:
        state = file().stat()
    except OSError:
        return ()
    return (state.st_ino, state.st_mtime_ns, state.st_size, _changes)


def add(facts: Sequence[Fact]) -> list[int]:
    """Store the facts, all or none, and return their ids; they are on the disk then.

    Raises Problem: exit 2 for a file that is no store of ours or of a newer advisor, exit 5 where it cannot be written.
    """
    names = COLUMNS[:-1]
    insert = f"INSERT INTO facts ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    with _writing() as store:
        return [int(store.execute(insert, _row(fact)).lastrowid or 0) for fact in facts]


def _row(fact: Fact) -> tuple[Any, ...]:
    _check(fact, "a new fact")
    return (*(getattr(fact, name) for name in COLUMNS[:-2]), json.dumps(dict(fact.details), sort_keys=True))


def read(where: Mapping[str, str | int] | None = None, *, ids: Iterable[int] = ()) -> list[Fact]:
    """The facts whose columns have these values, and of these ids where ids are given; oldest first. Without a store there are none.

    Raises Problem: exit 2 for a file that is no store of ours, is damaged, or was written by a newer advisor.
    """
    if not file().exists():
        return []
    asked, wanted = where or {}, set(ids)
    clauses = [f"{name} = ?" for name in COLUMNS if name in asked]
    values = [asked[name] for name in COLUMNS if name in asked]
    with _open("rw") as store:
        if not _ours(store):
            return []
        chosen = f" WHERE {' AND '.join(clauses)}" if clauses else ""
        rows = store.execute(f"SELECT {', '.join(COLUMNS)} FROM facts{chosen} ORDER BY id", values).fetchall()
    found = [_fact(row) for row in rows]
    return [fact for fact in found if fact.id in wanted] if wanted else found


def forget(ids: Iterable[int]) -> int:
    """Take these facts out; ids are never used again. Returns how many there were. Raises Problem as `add` does."""
    if not file().exists():
        return 0
    with _writing() as store:
        return sum(store.execute("DELETE FROM facts WHERE id = ?", (number,)).rowcount for number in set(ids))


# -- opening ---------------------------------------------------------------------------------------------------------


@contextmanager
def _open(mode: str) -> Iterator[sqlite3.Connection]:
    """An open store ("rw", or "rwc" to make one). Whatever SQLite has to say becomes one line.

    Reading is done in "rw" too: what a killed writer left half done has to be rolled back. SQLite falls back to reading alone itself.
    """
    import sqlite3

    path = file().absolute()
    try:
        if mode == "rwc":
            path.parent.mkdir(parents=True, exist_ok=True)
        store = sqlite3.connect(f"{path.as_uri()}?mode={mode}", uri=True, timeout=PATIENCE, isolation_level=None)
    except (OSError, sqlite3.Error) as error:
        raise bad_environment(
            f"cannot open the evidence store {path}: {_said(error)}", remedy="ADVISOR_HOME names another folder"
        ) from error
    try:
        store.execute("PRAGMA trusted_schema = OFF")
        yield store
    except sqlite3.Error as error:
        raise _problem(error, path) from error
    except UnicodeError as error:
        raise _broken("a text is no UTF-8") from error
    finally:
        store.close()


@contextmanager
def _writing() -> Iterator[sqlite3.Connection]:
    """A store in one transaction that no other writer is in: committed when the block ends, as before when it fails or is killed."""
    global _changes
    with _open("rwc") as store:
        store.execute("PRAGMA synchronous = EXTRA")
        store.execute("BEGIN IMMEDIATE")
        try:
            if not _ours(store):
                store.execute(SCHEMA)
                store.execute(f"PRAGMA application_id = {APPLICATION}")
                store.execute(f"PRAGMA user_version = {VERSION}")
            yield store
            store.execute("COMMIT")
        except BaseException:
            if store.in_transaction:
                store.execute("ROLLBACK")
            raise
        _changes += 1


def _ours(store: sqlite3.Connection) -> bool:
    """Whether the file is a store; False where it is still empty. Raises Problem (exit 2) where it is another's or a newer one's."""
    ((owner,), (version,)) = (store.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version"))
    if (owner, version) == (APPLICATION, VERSION):
        return True
    if owner == APPLICATION and version > VERSION:
        what = f"the evidence store {file()} has schema version {version}, and this advisor reads {VERSION}"
        raise Problem(what, remedy="a newer advisor wrote it")
    if (owner, version) == (0, 0) and not store.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return False
    raise Problem(f"{file()} is an SQLite file, and no evidence store", remedy="it is left as it is; move it away to begin a new one")


def _problem(error: sqlite3.Error, path: Path) -> Problem:
    code = getattr(error, "sqlite_errorcode", 1) & 0xFF
    if code in (MINE_TO_MEND["BUSY"], MINE_TO_MEND["LOCKED"]):
        return bad_environment(f"the evidence store {path} is in use by another process: {_said(error)}", remedy="the same command again")
    if code in MINE_TO_MEND.values():
        return bad_environment(f"cannot use the evidence store {path}: {_said(error)}", remedy="check the folder's permissions and room")
    return _broken(_said(error))


def _broken(why: str) -> Problem:
    remedy = "it is left as it is; move it away to begin a new one"
    return Problem(f"the evidence store {file()} is broken: {why}", remedy=remedy, code=Exit.USAGE)


def _said(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


# -- believing -------------------------------------------------------------------------------------------------------


def _fact(row: Sequence[Any]) -> Fact:
    """A row as a fact; the file may hold anything. Raises Problem (exit 2)."""
    values = dict(zip(COLUMNS, row, strict=True))
    name = f"fact {str(values['id'])[:20]}"
    try:
        values["details"] = json.loads(values["details"])
        fact = Fact(**values)
    except (TypeError, ValueError, RecursionError) as error:
        raise _broken(f"{name}: details are no JSON") from error
    _check(fact, name)
    return fact


def _check(fact: Fact, name: str) -> None:
    for column in TEXTS:
        text = getattr(fact, column)
        if not isinstance(text, str) or len(text) > LONGEST or not text.isprintable():
            raise _broken(f"{name}: {column} is no text on one line")
    if not DAY.match(fact.at):
        raise _broken(f"{name}: at is no time")
    if type(fact.threads) is not int or type(fact.id) is not int or not isinstance(fact.details, Mapping):
        raise _broken(f"{name}: threads, id or details are not what they should be")
    numbers = (fact.low, fact.value, fact.high)
    if not all(isinstance(number, int | float) and isfinite(number) for number in numbers) or not fact.low <= fact.value <= fact.high:
        raise _broken(f"{name}: low, value and high are no numbers in that order")
