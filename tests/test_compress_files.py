"""Published files are the old or the new version; a folder has one owner; the journal survives a kill."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.files import owned, publish, sweep, write_bytes, write_json
from compress.journal import Journal
from rules.problems import Exit, Problem


def test_a_failed_write_leaves_the_old_version(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "file", b"old")

    def half(part: Path) -> None:
        part.write_bytes(b"ne")
        raise OSError(errno.ENOSPC, "full")

    with pytest.raises(Problem) as caught:
        publish(path, half)
    assert caught.value.code == Exit.ENVIRONMENT
    assert "no space left" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_real_full_disk_is_one_line_and_exit_5() -> None:
    with pytest.raises(Problem) as caught:
        publish(Path("/dev/full"), lambda part: Path("/dev/full").write_bytes(b"x"))
    assert caught.value.code == Exit.ENVIRONMENT


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES])
def test_a_write_fails_at_every_system_call_without_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    path = write_bytes(tmp_path / "file", b"old")
    for name in ("fsync",):
        monkeypatch.setattr(os, name, _raiser(code))
        with pytest.raises(Problem):
            write_bytes(path, b"new")
        monkeypatch.undo()
        assert path.read_bytes() == b"old"
    monkeypatch.setattr(Path, "replace", _raiser(code))
    with pytest.raises(Problem):
        write_bytes(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["file"]


def _raiser(code: int):
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_leftovers_of_a_killed_write_are_swept(tmp_path: Path) -> None:
    write_bytes(tmp_path / "deep" / "file", b"kept")
    (tmp_path / "deep" / "file.part").write_bytes(b"torn")
    assert sweep(tmp_path) == 1
    assert (tmp_path / "deep" / "file").read_bytes() == b"kept"


def test_a_second_run_in_a_folder_is_refused_and_names_the_holder(tmp_path: Path) -> None:
    holder = "import sys, pathlib; from compress.files import owned\nwith owned(pathlib.Path(sys.argv[1])):\n    print('in', flush=True); sys.stdin.readline()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        with pytest.raises(Problem) as caught, owned(tmp_path):
            pass
        assert caught.value.code == Exit.USAGE
        assert str(process.pid) in str(caught.value)
        process.kill()
        process.wait()
    with owned(tmp_path):  # the kernel freed it
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(decisions=st.dictionaries(st.text(min_size=1), JSON, max_size=6))
def test_a_resumed_journal_takes_the_same_decisions(tmp_path_factory: pytest.TempPathFactory, decisions: dict[str, object]) -> None:
    path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    first = Journal(path)
    taken = {key: first.decide(key, lambda value=value: value) for key, value in decisions.items()}
    second = Journal(path)
    assert {key: second.decide(key, lambda: pytest.fail("computed again")) for key in decisions} == taken


def test_a_line_torn_by_a_kill_is_dropped_and_the_rest_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.record("a", 1)
    journal.record("b", 2)
    whole = path.read_bytes()
    for cut in range(1, len(whole) + 1):
        path.write_bytes(whole[:cut])
        resumed = Journal(path)
        assert resumed.items() == [("a", 1), ("b", 2)][: whole[:cut].count(b"\n")]
        resumed.record("c", 3)
        assert Journal(path)["c"] == 3


def test_a_decision_is_on_disk_before_it_is_returned(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    journal.decide("width", lambda: {"channels": 32})
    assert json.loads(path.read_text())["value"] == {"channels": 32}


def test_json_is_written_sorted_so_that_equal_values_are_equal_bytes(tmp_path: Path) -> None:
    one = write_json(tmp_path / "one", {"b": 1, "a": 2}).read_bytes()
    assert one == write_json(tmp_path / "two", {"a": 2, "b": 1}).read_bytes()
