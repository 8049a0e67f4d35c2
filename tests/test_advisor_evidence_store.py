"""The evidence store: nothing that was stored is lost, whoever writes beside it or is killed; what is no store is left alone."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from advisor import evidence_store
from advisor.evidence_store import APPLICATION, Fact, add, file, forget, read, stamp
from rules.problems import Exit, Problem

ROOT = Path(__file__).parent.parent
FACT = Fact(
    what="latency",
    architecture="crnn",
    variant="small",
    precision="int8",
    shape="1x1x32x128",
    threads=1,
    cpu="A processor",
    isa="x86-64 avx2",
    runtime="1.32.0",
    at="2026-05-01T10:00:00+00:00",
    command="advisor recommend --task ocr --measure",
    value=0.5,
    low=0.4,
    high=0.9,
    unit="ms",
    built="0123456789abcdef",
    details={"calls": 360, "spread": 0.01},
)
WRITER = """
import sys
from dataclasses import replace
from advisor.evidence_store import add
from tests.test_advisor_evidence_store import FACT
for number in range(int(sys.argv[2])):
    add([replace(FACT, variant=f"{sys.argv[1]}-{number}")])
    print(number, flush=True)  # it is on the disk now
"""
STUCK = """
import sys
from advisor.evidence_store import _writing
from tests.test_advisor_evidence_store import FACT
with _writing() as store:
    store.execute("PRAGMA cache_size = 1")  # so that half of it reaches the file before the end
    store.execute("DELETE FROM facts")
    for number in range(400):
        store.execute("INSERT INTO facts (what, architecture, variant, precision, shape, threads, cpu, isa, runtime, at, command, value, low, "
                      "high, unit, built, details) VALUES ('latency', ?, '', '', '', 1, '', '', '', '', '', 1, 1, 1, 'ms', '', '{}')",
                      (str(number) * 900,))
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADVISOR_HOME", str(tmp_path / "a home?#%"))
    return tmp_path


def started(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def sound() -> None:
    with sqlite3.connect(file()) as store:
        assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_fact_comes_back_as_it_was_stored_and_without_a_store_there_is_none():
    assert (read(), stamp(), forget([1])) == ([], (), 0) and not file().parent.exists()  # asking creates nothing
    assert add([FACT, replace(FACT, variant="tiny")]) == [1, 2]
    assert read() == [replace(FACT, id=1), replace(FACT, variant="tiny", id=2)]
    assert read({"variant": "tiny", "cpu": "A processor"}, ids=[1, 2]) == [replace(FACT, variant="tiny", id=2)]
    assert read({"cpu": "another"}) == []


def test_every_change_is_seen_and_an_id_is_never_used_again():
    seen = {stamp()}
    assert add([FACT]) == [1] and not (seen & {stamp()})
    seen.add(stamp())
    assert forget([1, 7]) == 1 and not (seen & {stamp()})
    assert add([FACT]) == [2] and len(read()) == 1


def test_a_change_is_seen_though_the_clock_of_the_file_system_stood_still():
    add([FACT])
    before, state = stamp(), file().stat()
    forget([1])
    os.utime(file(), ns=(state.st_atime_ns, state.st_mtime_ns))
    assert file().stat().st_mtime_ns == state.st_mtime_ns and stamp() != before


def test_facts_are_stored_together_or_not_at_all():
    add([FACT])
    with pytest.raises(Problem):
        add([FACT, replace(FACT, low=2.0)])
    assert len(read()) == 1


def test_writers_at_once_lose_nothing_though_some_are_killed():
    counts = {"calm-a": "12", "calm-b": "12", "killed-a": "100000", "killed-b": "100000"}
    writers = {name: started(WRITER, name, count) for name, count in counts.items()}
    told = dict.fromkeys(writers, 0)
    for name in ("killed-a", "killed-b"):
        for _ in range(5):
            told[name] += bool(writers[name].stdout.readline())
        writers[name].send_signal(signal.SIGKILL)
    for name, writer in writers.items():
        told[name] += len(writer.stdout.read().splitlines())
        err = writer.stderr.read()
        assert writer.wait() == (-signal.SIGKILL if name.startswith("killed") else 0), err
    stored = [fact.variant for fact in read()]
    for name, number in told.items():
        mine = [variant for variant in stored if variant.startswith(name)]
        assert mine == [f"{name}-{index}" for index in range(len(mine))] and number <= len(mine) <= number + 1
    assert told["calm-a"] == told["calm-b"] == 12 and min(told["killed-a"], told["killed-b"]) >= 5
    sound()


def test_a_writer_killed_in_the_middle_leaves_the_store_as_it_was():
    add([FACT])
    before = read()
    writer = started(STUCK)
    assert writer.stdout is not None and writer.stdout.readline() == "in\n"
    writer.kill()
    writer.communicate()
    assert file().with_name(file().name + "-journal").stat().st_size > 0  # what it had half done is there to be rolled back
    assert read() == before
    add([FACT])
    assert len(read()) == 2
    sound()


def test_the_first_two_writers_make_one_store():
    writers = [started(WRITER, name, "3") for name in ("one", "two", "three", "four")]
    assert [writer.communicate()[1] for writer in writers] == [""] * 4
    assert len(read()) == 12


def test_a_reader_beside_an_open_transaction_sees_what_was_there_before():
    add([FACT])
    writer = started(STUCK.replace("PRAGMA cache_size = 1", "PRAGMA cache_size = -8000"))  # nothing spills, so readers are let in
    assert writer.stdout is not None and writer.stdout.readline() == "in\n"
    assert len(read()) == 1
    writer.kill()
    writer.communicate()


def test_a_store_that_stays_in_use_is_one_line_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    add([FACT])
    monkeypatch.setattr(evidence_store, "PATIENCE", 0.01)
    other = sqlite3.connect(file(), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(Problem, match="in use by another process") as refused:
        add([FACT])
    assert refused.value.code == Exit.ENVIRONMENT and len(read()) == 1
    other.close()
    assert len(add([FACT])) == 1


def test_a_store_of_a_newer_advisor_is_refused_and_left_alone():
    add([FACT])
    with sqlite3.connect(file()) as store:
        store.execute("PRAGMA user_version = 2")
    store.close()
    held = file().read_bytes()
    for act in (read, lambda: add([FACT]), lambda: forget([1])):
        with pytest.raises(Problem, match="schema version 2, and this advisor reads 1") as refused:
            act()
        assert refused.value.code == Exit.USAGE
    assert file().read_bytes() == held


def foreign(kind: str) -> None:
    file().parent.mkdir(parents=True)
    if kind == "text":
        file().write_text("what = 1\n" * 400)
    elif kind == "a torn store":
        add([FACT] * 200)
        file().write_bytes(file().read_bytes()[:9000])
    else:
        with sqlite3.connect(file()) as store:
            store.execute("CREATE TABLE songs (title)" if kind == "another's SQLite file" else "CREATE VIEW facts AS SELECT 1 AS id")
            if kind == "a view in its place":
                store.execute(f"PRAGMA application_id = {APPLICATION}")
                store.execute("PRAGMA user_version = 1")
        store.close()


@pytest.mark.parametrize("kind", ["text", "a torn store", "another's SQLite file", "a view in its place"])
def test_what_is_no_store_is_one_line_and_is_never_deleted(kind: str):
    foreign(kind)
    held = file().read_bytes()
    for act in (read, lambda: add([FACT])):
        with pytest.raises(Problem) as refused:
            act()
        assert refused.value.code == Exit.USAGE and str(file()) in str(refused.value) and "\n" not in str(refused.value)
    assert file().read_bytes() == held


def test_an_empty_file_is_a_store_that_nothing_was_written_to():
    file().parent.mkdir(parents=True)
    file().touch()
    assert read() == []
    assert add([FACT]) == [1]


@pytest.mark.parametrize(
    "column, value",
    [
        ("value", "quick"),
        ("low", 9e99),
        ("high", None),
        ("cpu", b"\xff"),
        ("details", "{"),
        ("details", "[]"),
        ("variant", "a\x1b[2J"),
        ("at", 7),
    ],
)
def test_a_row_that_says_nonsense_is_refused_with_its_number(column: str, value: object):
    add([FACT, FACT])
    store = sqlite3.connect(file())
    sql = str(store.execute("SELECT sql FROM sqlite_master WHERE name = 'facts'").fetchone()[0])
    store.execute("ALTER TABLE facts RENAME TO old")
    store.execute(sql.replace("NOT NULL", "").replace("REAL", "").replace("TEXT", ""))
    store.execute("INSERT INTO facts SELECT * FROM old")
    store.execute("DROP TABLE old")
    store.execute(f"UPDATE facts SET {column} = ? WHERE id = 2", (value,))
    store.commit()
    store.close()
    with pytest.raises(Problem, match="fact 2") as refused:
        read()
    assert refused.value.code == Exit.USAGE


@example([(3811, 128)], 10_000)  # a text that is no UTF-8
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=8), st.integers(0, 20_000))
def test_a_damaged_store_is_read_or_refused_in_one_line(damage: list[tuple[int, int]], cut: int):
    file().unlink(missing_ok=True)
    add([FACT] * 20)
    content = bytearray(file().read_bytes())
    for place, byte in damage:
        content[place % len(content)] = byte
    file().write_bytes(bytes(content[:cut] if cut < 10_000 else content))
    try:
        read()
    except Problem as problem:
        assert problem.code in (Exit.USAGE, Exit.ENVIRONMENT) and "\n" not in str(problem)


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_one_line_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "shut").mkdir(mode=0o500)
    monkeypatch.setenv("ADVISOR_HOME", str(tmp_path / "shut" / "home"))
    with pytest.raises(Problem) as refused:
        add([FACT])
    assert refused.value.code == Exit.ENVIRONMENT


def test_a_home_that_is_a_file_is_one_line_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("ADVISOR_HOME", str(tmp_path / "home"))
    assert read() == []
    with pytest.raises(Problem) as refused:
        add([FACT])
    assert refused.value.code == Exit.ENVIRONMENT
