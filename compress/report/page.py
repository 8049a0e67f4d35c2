"""Renders the report: one HTML page that loads nothing, whose style and script are pinned by hash in its own policy.

The same record gives the same bytes. Everything from the record passes Jinja's escaping or `svg.tag`; the record itself is
embedded as JSON with `<`, `>` and `&` written as escapes, so that no string in it can end the element it lies in.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from compress.files import write_text
from compress.report import figures, svg
from compress.report.view import view

HERE = Path(__file__).parent


def render(record: Mapping[str, Any]) -> str:
    """The page for a run record."""
    style, script = _asset("report.css"), _asset("report.js")
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    return (
        _templates()
        .get_template("report.html.j2")
        .render(policy=policy, style=Markup(style), script=Markup(script), embedded=_data(record), **view(record))
    )


def write(record: Mapping[str, Any], path: Path) -> Path:
    """Publish the page at `path` atomically."""
    return write_text(path, render(record))


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("compress.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        figure=figures.figure, plain=figures.plain, count=figures.count, number=svg.number, size=svg.size, joined=figures.joined
    )
    return environment


def _asset(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


def _data(record: Mapping[str, Any]) -> Markup:
    """The record without its pictures, safe inside a script element."""
    slim = {**record, "samples": _slim(record.get("samples"))}
    if record.get("explanations"):
        slim["explanations"] = [{**one, "seen": _slim(one.get("seen"))} for one in record["explanations"]]
    text = json.dumps(slim, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _slim(rows: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "png_base64"} for row in rows or []]
