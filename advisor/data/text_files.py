"""Text files as people keep them: UTF-8, with a byte order mark or without. What is none is refused with its name and line, exit 3."""

from __future__ import annotations

from pathlib import Path

from rules.problems import bad_input

MOST_BYTES = 2**30


def text_of(file: Path, shown: str) -> str:
    """The file as text. Raises Problem (exit 3), naming it `shown`, where it cannot be read, is too large, or is no text in UTF-8."""
    try:
        if file.stat().st_size > MOST_BYTES:
            raise bad_input(f"{shown} is larger than {MOST_BYTES >> 30} GB", remedy="split it, or give less of it")
        raw = file.read_bytes()
    except OSError as error:
        raise bad_input(f"{shown} cannot be read: {error.strerror}", remedy="check its name and permissions") from None
    return decoded(raw, shown)


def decoded(raw: bytes, shown: str) -> str:
    """Bytes as text. Raises Problem (exit 3) naming the first line that is none."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad_input(f"{shown}:{raw.count(10, 0, error.start) + 1}: not UTF-8", remedy="save it as UTF-8") from None
    if "\0" in text:
        raise bad_input(f"{shown}:{text.count(chr(10), 0, text.index(chr(0))) + 1}: a NUL byte", remedy="is this a text file?")
    return text
