"""The LMDB layout of the recognition benchmarks: read as it is, refused where it is damaged."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advisor.data.lines import png
from advisor.data.lmdb import _open
from advisor.tasks.ocr import TASK
from rules.problems import Exit, Problem

lmdb = pytest.importorskip("lmdb")


def image(seed: int) -> bytes:
    return png(np.random.default_rng(seed).integers(0, 256, (24, 60 + seed), dtype=np.uint8))


def write(folder: Path, count: int, *, says: bytes | None = None, without: str = "", change: dict[str, bytes] | None = None) -> Path:
    """A database of `count` lines, as create_lmdb_dataset.py writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = {"num-samples": str(count).encode() if says is None else says}
    for number in range(1, count + 1):
        entries |= {f"image-{number:09d}": image(number), f"label-{number:09d}": f"NO {number}".encode()}
    entries |= change or {}
    entries.pop(without, None)
    with lmdb.open(str(folder), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for key, value in entries.items():
            transaction.put(key.encode(), value)
    return folder


def test_one_database_is_read_and_split(tmp_path: Path) -> None:
    data = TASK.open(write(tmp_path / "all", 60))
    assert data.count("train") + data.count("val") + data.count("test") == 60
    assert data.provenance["split"].startswith("sha256")
    sample = data.samples("train", 1)[0]
    assert sample.truth == f"NO {int(sample.name.removeprefix('image-'))}"


def test_a_database_a_split_is_read_as_given(tmp_path: Path) -> None:
    for name, count in (("train", 5), ("validation", 3), ("evaluation", 2)):
        write(tmp_path / name, count)
    data = TASK.open(tmp_path)
    assert [data.count(split) for split in ("train", "val", "test")] == [5, 3, 2]
    assert data.provenance["split"] == "as given"
    assert [sample.truth for sample in data.samples("val", 3)] == ["NO 1", "NO 2", "NO 3"]


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "no count": ({"without": "num-samples"}, "num-samples is missing"),
    "a count of words": ({"says": b"many"}, "num-samples is b'many'"),
    "an absurd count": ({"says": b"9" * 30}, "num-samples is b'9999"),
    "a count too high": ({"says": b"61"}, "label-000000061 is missing"),
    "no label": ({"without": "label-000000007"}, "label-000000007 is missing"),
    "a label in another encoding": ({"change": {"label-000000007": b"CAF\xc9"}}, "label-000000007 is not UTF-8"),
    "no image": ({"without": "image-000000007"}, "image-000000007 is missing"),
    "a broken image": ({"change": {"image-000000007": b"\xff\xd8 no"}}, "image-000000007 cannot be read"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_database_is_refused_by_its_key(tmp_path: Path, case: str) -> None:
    settings, reason = DAMAGED[case]
    with pytest.raises(Problem, match=reason) as refused:
        TASK.open(write(tmp_path / "all", 60, **settings)).provenance  # noqa: B018
    assert refused.value.code == Exit.INPUT and "\n" not in str(refused.value)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"no database" * 500)
    with pytest.raises(Problem, match="cannot be opened as an LMDB") as refused:
        TASK.open(tmp_path)
    assert refused.value.code == Exit.INPUT


def test_without_the_package_the_install_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "all", 3)
    _open.cache_clear()
    real = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name == "lmdb":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(Problem, match=r"pip install 'edge-advisor\[train\]'") as refused:
        TASK.open(folder)
    assert refused.value.code == Exit.ENVIRONMENT
