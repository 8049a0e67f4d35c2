"""Reading a plain table strictly: every key asked for is checked, every key left over is refused with the nearest name.

    table = Table(tomllib.loads(text), "devices/x.toml")
    cores = table.whole("cores", low=1, high=4096)
    table.done()

Messages name the file and the key and fit on one line, whatever the file holds. Raises `Problem` and nothing else.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from rules.problems import Problem

LARGEST_FILE = 4_000_000  # bytes; the whole shipped knowledge is a tenth of it
LARGEST_NUMBER = 10**18
MOST_DOTS = 200  # in a line: the parser takes quadratic time over a dotted key, and no honest line comes near
SHOWN = 60  # characters of a foreign value that a message repeats
IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9._-]*")
_REQUIRED: Any = object()
T = TypeVar("T")


def shown(value: object) -> str:
    """A foreign value as one short, printable line."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # integers of thousands of digits, dotted keys of thousands of parts
        return "something endless"
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"


def read_toml(path: Path, *, name: str = "") -> Table:
    """A TOML file as a `Table`. Refuses what is no file, too large, no UTF-8, no TOML or nested without end."""
    where = name or str(path)
    text = _text(path, where)
    if any(line.count(".") > MOST_DOTS for line in text.splitlines()):
        raise Problem(f"{where} has a line with more than {MOST_DOTS} dots")
    try:
        return Table(tomllib.loads(text), where)
    except RecursionError as error:
        raise Problem(f"{where} is nested too deeply") from error
    except ValueError as error:  # TOMLDecodeError, and Python's own refusal of endless integers
        raise Problem(f"{where} is not TOML: {_one_line(error)}") from error


def read_json(path: Path, *, name: str = "") -> Table:
    """A JSON object as a `Table`, under the same limits as `read_toml`."""
    import json

    where = name or str(path)
    text = _text(path, where)
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise Problem(f"{where} is nested too deeply") from error
    except ValueError as error:
        raise Problem(f"{where} is not JSON: {_one_line(error)}") from error
    if not isinstance(found, dict):
        raise Problem(f"{where} holds {_kind(found)}, expected an object")
    return Table(found, where)


def _text(path: Path, where: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(LARGEST_FILE + 1)
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Problem(f"{where} is not UTF-8 at byte {error.start}") from error
    except (OSError, ValueError) as error:
        raise Problem(f"cannot read {where}: {_one_line(error)}") from error
    if len(raw) > LARGEST_FILE:
        raise Problem(f"{where} is larger than {LARGEST_FILE:,} bytes")
    return text


def _one_line(error: Exception) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in str(error)).split())
    return text if len(text) <= 3 * SHOWN else text[: 3 * SHOWN] + "…"


class Table:
    """One table with the place it came from. Each getter takes a key once; `done` refuses what nobody asked for."""

    __slots__ = ("_asked", "_values", "where")

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values = dict(values)
        self._asked: list[str] = []
        self.where = where

    def __bool__(self) -> bool:
        """Whether anything is left in it."""
        return bool(self._values)

    def _take(self, key: str, default: Any) -> Any:
        self._asked.append(key)
        value = self._values.pop(key, default)
        if value is _REQUIRED:
            raise Problem(f"{self.where}: {key} is missing{self._hint(key)}")
        return value

    def _hint(self, key: str) -> str:
        near = get_close_matches(key, [str(name) for name in self._values], n=1, cutoff=0.7)
        return f" (there is {shown(near[0])})" if near else ""

    def _refuse(self, key: str, value: object, expected: str) -> Problem:
        return Problem(f"{self.where}: {key} is {shown(value)}, expected {expected}")

    def text(self, key: str, default: str = _REQUIRED, *, empty: bool = False) -> str:
        """A text on one line; empty only where `empty` says so or a default is given."""
        value = self._take(key, default)
        if not isinstance(value, str) or not value.isprintable() or not (value.strip() or empty or default is not _REQUIRED):
            raise self._refuse(key, value, "a text on one line")
        return value

    def identifier(self, key: str) -> str:
        """A text of lower-case letters, digits and `. _ -`."""
        value = self._take(key, _REQUIRED)
        if not isinstance(value, str) or not IDENTIFIER.fullmatch(value):
            raise self._refuse(key, value, "a name of lower-case letters, digits and '.', '_', '-'")
        return value

    def choice(self, key: str, allowed: tuple[str, ...], default: str = _REQUIRED) -> Any:
        """One of the allowed texts."""
        value = self._take(key, default)
        if not isinstance(value, str) or value not in allowed:
            raise self._refuse(key, value, f"one of {', '.join(allowed)}")
        return value

    def number(self, key: str, default: float = _REQUIRED, *, low: float = -LARGEST_NUMBER, high: float = LARGEST_NUMBER) -> float:
        """A finite number in [low, high]."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high or not isfinite(value):
            raise self._refuse(key, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def whole(self, key: str, default: int = _REQUIRED, *, low: int = 0, high: int = LARGEST_NUMBER) -> int:
        """A whole number in [low, high]."""
        value = self._take(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self._refuse(key, value, f"a whole number from {low:g} to {high:g}")
        return value

    def flag(self, key: str, default: bool = _REQUIRED) -> bool:
        """true or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            raise self._refuse(key, value, "true or false")
        return value

    def texts(self, key: str, default: tuple[str, ...] = _REQUIRED) -> tuple[str, ...]:
        """A list of texts."""
        value = self._take(key, default)
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise self._refuse(key, value, "a list of texts")
        return tuple(value)

    def value(self, key: str, default: Any = _REQUIRED) -> Any:
        """A fact's value: a flag, a finite number, a text, or a list of texts (as a tuple)."""
        value = self._take(key, default)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        if value is None or isinstance(value, bool | str):
            return value
        if isinstance(value, int | float) and -LARGEST_NUMBER <= value <= LARGEST_NUMBER:
            return value
        raise self._refuse(key, value, "a flag, a number, a text or a list of texts")

    def plain(self, key: str) -> Any:
        """Whatever plain data stands there: settings of a builder. Numbers are finite; dates are refused."""
        value = self._take(key, _REQUIRED)
        if not _is_plain(value, depth=8):
            raise self._refuse(key, value, "flags, numbers, texts, lists or tables of them")
        return value

    def table(self, key: str, *, required: bool = False) -> Table:
        """A sub-table, empty where there is none."""
        value = self._take(key, _REQUIRED if required else {})
        if not isinstance(value, dict):
            raise self._refuse(key, value, "a table")
        return Table(value, f"{self.where}: {key}")

    def tables(self, key: str) -> list[Table]:
        """A list of sub-tables, each named by its id, name or number in messages."""
        value = self._take(key, [])
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._refuse(key, value, "a list of tables")
        return [Table(item, f"{self.where}: {key} {_label(item, number)}") for number, item in enumerate(value, 1)]

    def rows(self, key: str, kinds: Mapping[str, type]) -> list[dict[str, Any]] | None:
        """A long list of tables with exactly these keys and kinds, whole numbers from 0, texts on one line; None if one is not like that."""
        rows = self._values.get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) and _sound(row, kinds) for row in rows):
            return None
        self._take(key, _REQUIRED)
        return rows

    def has(self, key: str) -> bool:
        """Whether the key is there, without taking it."""
        return key in self._values

    def names(self) -> list[str]:
        """The keys not yet taken."""
        return list(self._values)

    def each(self, read: Callable[[Table, str], T]) -> dict[str, T]:
        """All remaining keys through one reader, for tables whose keys are free."""
        return {key: read(self, key) for key in self.names()}

    def values(self) -> Mapping[str, Any]:
        """All that is not yet taken, as it was read."""
        return self._values

    def done(self) -> None:
        """Refuse the keys nobody asked for."""
        for key in self._values:
            near = get_close_matches(str(key)[:SHOWN], self._asked, n=1, cutoff=0.4)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(self._asked))}"
            raise Problem(f"{self.where}: unknown key {shown(key)}; {hint}")


def _sound(row: Mapping[str, Any], kinds: Mapping[str, type]) -> bool:
    if len(row) != len(kinds):
        return False
    for key, kind in kinds.items():
        value = row.get(key)
        if type(value) is not kind:
            return False
        if isinstance(value, str) and not value.isprintable():
            return False
        if isinstance(value, int) and not 0 <= value <= LARGEST_NUMBER:
            return False
    return True


def _label(item: Mapping[str, Any], number: int) -> str:
    for key in ("id", "name", "architecture", "what", "variant"):
        if isinstance(item.get(key), str):
            return shown(item[key])
    return str(number)


def _kind(value: object) -> str:
    names = {list: "a list", str: "a text", bool: "a flag", int: "a number", float: "a number"}
    return names.get(type(value), "nothing usable")


def _is_plain(value: object, *, depth: int) -> bool:
    if depth == 0:
        return False
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item, depth=depth - 1) for key, item in value.items())
    if isinstance(value, list):
        return all(_is_plain(item, depth=depth - 1) for item in value)
    if isinstance(value, bool | str):
        return True
    return isinstance(value, int | float) and -LARGEST_NUMBER <= value <= LARGEST_NUMBER
