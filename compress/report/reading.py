"""A reading beside the truth: what is equal, what is wrong, what is missing, as spans a page can mark."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any

from rules.examples import Answers

OF = {"float": "the float net, which the shipped file was made from", "shipped": "the answers of the shipped file"}  # made of what
KINDS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif", b"BM": "image/bmp"}


def spans(truth: str, reading: str) -> list[tuple[str, str]]:
    """`(kind, text)` pieces of `reading`: "same", "wrong" where it differs, "missing" (no text of its own) where truth has more."""
    pieces = []
    for kind, start, end, low, high in SequenceMatcher(None, truth, reading, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(("same", reading[low:high]))
            continue
        if high > low:
            pieces.append(("wrong", reading[low:high]))
        if end - start > high - low:
            pieces.append(("missing", truth[start:end][high - low :]))
    return pieces


def image(encoded: str) -> str | None:
    """A data address for a base64 picture whose kind its first bytes tell; None for anything else."""
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError, TypeError):
        return None
    kind = next((kind for start, kind in KINDS.items() if raw.startswith(start)), None)
    return f"data:{kind};base64,{base64.b64encode(raw).decode('ascii')}" if kind else None


def answers(record: Mapping[str, Any]) -> Answers:
    """How a reading stands to the truth: letter by letter unless the record says otherwise."""
    said = record.get("answers")
    return said if said in ("class", "figures") else "text"


def lines(samples: Sequence[Mapping[str, Any]], kind: Answers = "text") -> list[dict[str, Any]]:
    """The sample lines, worst disagreements between float and shipped first. Figures stand beside the truth and are not judged by it."""
    rows = [_line(sample, kind) for sample in samples]
    return sorted(rows, key=lambda row: (-row["apart"], row["state"] != "wrong"))


def _line(sample: Mapping[str, Any], kind: Answers) -> dict[str, Any]:
    truth, before, after = (str(sample.get(key, "")) for key in ("truth", "float", "int8"))
    judged = kind != "figures"
    return {
        "name": str(sample.get("name", "")),
        "image": image(str(sample.get("png_base64", ""))),
        "truth": truth,
        "float": _marked(truth, before, kind),
        "int8": _marked(truth, after, kind),
        "state": ("right" if after == truth else "wrong") if judged else "",
        "quiet": before == after and (after == truth or not judged),
        "apart": 0 if before == after else 1 + _edits(before, after),
        "verdict": _verdict(truth, before, after) if judged else "the same answer" if before == after else "the answers differ",
    }


def _marked(truth: str, reading: str, kind: Answers) -> list[tuple[str, str]]:
    """What of a reading is marked: the letters that differ of a text, the whole of a wrong class, nothing of a figure."""
    if kind == "text":
        return spans(truth, reading)
    return [("same" if kind == "figures" or reading == truth else "wrong", reading)]


def _edits(one: str, other: str) -> int:
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_opcodes()
    return sum(max(end - start, high - low) for kind, start, end, low, high in blocks if kind != "equal")


def _verdict(truth: str, before: str, after: str) -> str:
    if before == after:
        return "both right" if after == truth else "same error"
    if after == truth:
        return "shipped is right, float is wrong"
    return "lost by compression" if before == truth else "different errors"


def explained(explanations: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The explanations, their pictures as data addresses; one with nothing to see is left out."""
    found = []
    for one in explanations:
        seen = [{**each, "image": image(str(each.get("png_base64", "")))} for each in one.get("seen") or []]
        seen = [each for each in seen if each["image"]]
        lines, rules = (list(one.get(key) or []) for key in ("lines", "rules"))
        if seen or lines or rules:
            found.append({**one, "seen": seen, "lines": lines, "rules": rules, "of": OF.get(str(one.get("of")), OF["float"])})
    return found
