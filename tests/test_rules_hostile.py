"""Ten thousand hostile files: whatever stands in a user's folder, the answer is a value or one line with the file, never half a folder.

The cases are drawn from one seed, so that a failure comes again. Each starts from a sound file of some kind and is damaged: bytes
changed, cut or doubled; keys renamed, doubled or dropped; values replaced by what a careless or malicious hand would write.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from rules.knowledge import load
from rules.problems import Problem
from rules.tables import read_toml
from tests.test_rules_overlay import BOARD, EVIDENCE, HOUSE, SOURCE
from tests.test_rules_schemas import READERS, samples

CASES = 10_000
FOLDERS = 25
VALUES = (
    *(
        "-1",
        "0",
        "1e999",
        "nan",
        "-inf",
        "9" * 400,
        "0x7fffffffffffffffffff",
        "true",
        '""',
        "''",
        '"\\u0000"',
        '"\\ud83d"',
        "[]",
        "{}",
        "[[]]",
    ),
    *("1979-05-27T07:32:00Z", "{a = {b = {c = 1}}}", '"' + "x" * 70_000 + '"', '"../../etc/passwd"', "\"__import__('os').system('true')\""),
    *(
        '"{{ 7 * 7 }}"',
        '"$(touch /tmp/x)"',
        '"a\\nb"',
        '"\\u202e"',
        '["", ""]',
        '[1, "a"]',
        '"built"',
        '"reference"',
        "07",
        "1_",
        "+.5",
        '"""',
        "'''",
    ),
)
KEYS = ("name", "id", "source", "kind", "value", "when", "then", "__class__", "a.b.c", '""', "builds", "status", "includes", "x" * 300)
Damage = Callable[[str, random.Random], str]


def bytes_changed(text: str, dice: random.Random) -> str:
    place = dice.randrange(len(text))
    return (
        text[:place]
        + chr(dice.choice((0, 9, 10, 34, 39, 61, 91, 93, 127, 0xFEFF, 0x202E, 0x1F600, dice.randrange(32, 127))))
        + text[place + 1 :]
    )


def cut(text: str, dice: random.Random) -> str:
    low, high = sorted((dice.randrange(len(text) + 1), dice.randrange(len(text) + 1)))
    return text[:low] + text[high:] if dice.random() < 0.5 else text[:low]


def value_replaced(text: str, dice: random.Random) -> str:
    lines = text.split("\n")
    places = [place for place, line in enumerate(lines) if " = " in line]
    if places:
        place = dice.choice(places)
        lines[place] = f"{lines[place].partition(' = ')[0]} = {dice.choice(VALUES)}"
    return "\n".join(lines)


def key_replaced(text: str, dice: random.Random) -> str:
    lines = text.split("\n")
    places = [place for place, line in enumerate(lines) if " = " in line]
    if places:
        place = dice.choice(places)
        lines[place] = f"{dice.choice(KEYS)} = {lines[place].partition(' = ')[2]}"
    return "\n".join(lines)


def line_moved(text: str, dice: random.Random) -> str:
    lines = text.split("\n")
    line = lines[dice.randrange(len(lines))]
    if dice.random() < 0.5:
        lines.remove(line)
    lines.insert(dice.randrange(len(lines) + 1), line)
    return "\n".join(lines)


def nested(text: str, dice: random.Random) -> str:
    depth = dice.choice((3, 50, 5_000))
    return text + dice.choice(
        ("x = " + "[" * depth + "]" * depth, "[" + ".".join(["a"] * depth) + "]", "y = " + "{a = " * depth + "1" + "}" * depth)
    )


DAMAGES: tuple[Damage, ...] = (bytes_changed, cut, value_replaced, value_replaced, key_replaced, line_moved, nested)


def damaged(text: str, dice: random.Random) -> str:
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        text = dice.choice(DAMAGES)(text, dice) or text
    return text


def as_toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key if key.isidentifier() else repr(key)} = {as_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else repr(value)


def sound_files() -> dict[str, str]:
    """A sound file of every kind of TOML, a key or a table a line."""
    found = {}
    for kind, tables in samples().items():
        if kind != "costs":
            found[kind] = "\n".join(f"{key} = {as_toml(value)}" for key, value in tables.items()) + "\n"
    return found


def test_ten_thousand_damaged_files_each_give_a_value_or_one_line_that_names_the_file(tmp_path: Path) -> None:
    dice, files = random.Random(4), sound_files()
    path, refused = tmp_path / "theirs.toml", 0
    for number in range(CASES):
        kind = sorted(files)[number % len(files)]
        path.write_bytes(damaged(files[kind], dice).encode("utf-8", "surrogatepass"))
        try:
            READERS[kind](read_toml(path))
        except Problem as problem:
            said = str(problem)
            assert str(path) in said and len(said) < 2_000 and said.isprintable(), (number, kind, said)
            refused += 1
    assert 0.6 * CASES < refused < CASES, "most damage is refused, and some does not matter"


def test_a_sound_file_of_every_kind_is_read(tmp_path: Path) -> None:
    for kind, text in sound_files().items():
        (tmp_path / "ours.toml").write_text(text, encoding="utf-8")
        READERS[kind](read_toml(tmp_path / "ours.toml"))


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    return {"sources.toml": SOURCE, "devices/our-board.toml": BOARD, "rules.toml": HOUSE, "evidence/lab.toml": EVIDENCE}


def test_a_damaged_folder_is_taken_whole_or_refused_whole_in_one_line(tmp_path: Path, places: dict[str, str]) -> None:
    dice, ours, refused = random.Random(5), load(), 0
    for number in range(FOLDERS):
        folder = tmp_path / str(number)
        victim = dice.choice(sorted(places))
        for place, text in places.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes((damaged(text, dice) if place == victim else text).encode("utf-8", "surrogatepass"))
        try:
            known = load(folder)
        except Problem as problem:
            said = str(problem)
            assert said.isprintable() and str(folder) in said and int(problem.code) == 2, (number, said)
            refused += 1
            continue
        assert known.everything() == []
        assert set(ours.tasks) <= set(known.tasks) and set(ours.cards) <= set(known.cards)
    assert refused > FOLDERS / 2
