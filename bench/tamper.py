"""Damage a bundle in 200 ways, one at a time, and see whether `verify` finds each: `python -m bench tamper BUNDLE [COUNT] [SEED]`.

Single-bit flips over all files by size, removals, additions, truncations, renames and links.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from pathlib import Path

from compress.bundle import verify


def main(arguments: list[str]) -> int:
    """Print what was missed; exit 1 when anything was."""
    bundle = Path(arguments[0])
    count, seed = (int(value) for value in [*arguments[1:], "200", "0"][:2]) if len(arguments) < 3 else map(int, arguments[1:3])
    generator, missed = random.Random(seed), []
    assert not verify(bundle), "the bundle is not sound to begin with"
    for _ in range(count):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "bundle"
            shutil.copytree(bundle, copy)
            what = _damage(copy, generator)
            if not verify(copy):
                missed.append(what)
    print(f"{count} damages, {count - len(missed)} found, {len(missed)} missed")
    for what in missed:
        print(f"  missed: {what}")
    return int(bool(missed))


def _damage(bundle: Path, generator: random.Random) -> str:
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    path = generator.choice(files)
    kind = generator.choice(["flip", "flip", "flip", "flip", "remove", "add", "truncate", "rename", "link"])
    if kind == "flip":
        data = bytearray(path.read_bytes())
        place = generator.randrange(len(data))
        data[place] ^= 1 << generator.randrange(8)
        path.write_bytes(bytes(data))
        return f"bit flip in {path.relative_to(bundle)} at byte {place}"
    if kind == "remove":
        path.unlink()
    elif kind == "add":
        path.with_name("extra.bin").write_bytes(b"extra")
    elif kind == "truncate":
        path.write_bytes(path.read_bytes()[:-1])
    elif kind == "rename":
        path.rename(path.with_name(path.name + "x"))
    else:
        target = bundle.parent / path.name
        shutil.move(path, target)
        path.symlink_to(target)
    return f"{kind} {path.relative_to(bundle)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
