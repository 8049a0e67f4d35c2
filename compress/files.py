"""Files that are either the old or the new version, and folders that one run owns.

A write goes to a `.part` file beside its target, is flushed to the disk, and is renamed over it.
Leftover `.part` files of a killed process are swept when the folder is next taken.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from rules.problems import Exit, Problem, bad_environment


def write_bytes(path: Path, data: bytes) -> Path:
    """Publish `data` at `path` atomically. Raises Problem (exit 5) when the disk is full."""
    return publish(path, lambda part: part.write_bytes(data))


def write_text(path: Path, text: str) -> Path:
    """Publish `text` (UTF-8) at `path` atomically."""
    return write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Publish `value` as indented, key-sorted JSON."""
    return write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def publish(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a `.part` file, then move it over `path`. For libraries that insist on writing themselves."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(part)
        with part.open("rb+") as handle:
            os.fsync(handle.fileno())
        part.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise explain(error, path) from error
    return path


def explain(error: OSError, path: Path) -> Problem:
    """The line for a failed write: a full disk and a read-only folder are the user's to mend."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        folder = path.parent if path.parent.exists() else Path()
        free = shutil.disk_usage(folder).free // 2**20
        return bad_environment(f"no space left to write {path} ({free} MB free)", remedy="free some space and run again: it continues")
    return bad_environment(f"cannot write {path}: {error.strerror}", remedy="check the folder's permissions")


def sha256(path: Path) -> str:
    """The SHA-256 of a file, hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sweep(folder: Path) -> int:
    """Remove `.part` files that a killed process left. Returns how many."""
    stale = list(folder.rglob("*.part"))
    for part in stale:
        part.unlink(missing_ok=True)
    return len(stale)


@contextmanager
def owned(folder: Path) -> Iterator[Path]:
    """Own `folder` for the length of the block. A second run gets a Problem (exit 2) that names the holder.

    The kernel frees the lock when the holder dies, however it dies.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / "lock").open("a+")
    except OSError as error:
        raise explain(error, folder / "lock") from error
    with handle:
        _take(handle, folder)
        sweep(folder)
        yield folder


def _take(handle: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        holder = handle.read().strip() or "another process"
        raise Problem(f"{folder} is in use by process {holder}", remedy="wait for it, or choose another folder", code=Exit.USAGE) from None
    handle.seek(0)
    handle.truncate()
    handle.write(str(os.getpid()))
    handle.flush()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
