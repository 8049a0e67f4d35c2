"""The matrix in every form says all that is known of each cell; its page loads nothing and believes no text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from advisor.matrix import entries, matrix
from rules.knowledge import load

KNOWN = load()
PAGE = matrix(KNOWN, "html")
VOID = {"meta", "link", "br", "input", "img", "hr"}


class Reader(HTMLParser):
    """The page's text, anchors, links and attributes; refuses tags that do not close in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.rows: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.attributes |= set(found)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if "href" in found else []
        self.rows += [found["data-status"] or ""] if "data-status" in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    return reader


def said(text: str) -> str:
    """The text without markup and wrapping."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", text)).split())


@pytest.mark.parametrize("form", ["md", "json", "html"])
def test_every_cell_comes_with_status_reason_licences_evidence_and_source(form: str) -> None:
    text = PAGE if form == "html" else matrix(KNOWN, form)
    plain = said(text) if form == "html" else " ".join(text.split()) if form == "md" else text
    for row in KNOWN.tasks.values():
        for entry in entries(row, KNOWN):
            card, cell = entry.card, entry.cell
            wanted = [card.name, card.status, card.reason, card.licence_code, card.licence_weights, cell.because, cell.source, card.source]
            wanted += [part for item in card.evidence for part in (item.what, f"{item.value:g}", item.on, item.note, item.source)]
            wanted += [rule.because for rule in row.rules] + ([row.article.verdict, row.article.recommended] if row.article else [])
            for words in wanted:
                assert _there(words, plain, form), (row.name, card.name, words)


def _there(words: str, text: str, form: str) -> bool:
    if form == "json":
        return json.dumps(words, ensure_ascii=False)[1:-1] in text or re.fullmatch(r"[\d.e+-]+", words) is not None
    return " ".join(words.replace("|", "\\|" if form == "md" else "|").split()) in text


def test_every_source_is_listed_once_and_every_citation_leads_to_it() -> None:
    reader = read(PAGE)
    assert len(reader.ids) == len(set(reader.ids))
    inside = {link[1:] for link in reader.links if link.startswith("#")}
    assert inside <= set(reader.ids)
    listed = {name for name in reader.ids if name.startswith("source-")}
    assert listed >= {link for link in inside if link.startswith("source-")} and len(listed) > 30
    found = json.loads(matrix(KNOWN, "json"))
    assert {f"source-{name}" for name in found["sources"]} == listed
    assert set(found["architectures"]) == {cell.architecture for row in KNOWN.tasks.values() for cell in row.cells}


def test_the_page_loads_nothing_and_runs_only_what_its_policy_pins() -> None:
    reader = read(PAGE)
    assert not reader.attributes & {"src", "style", "onclick", "onload", "srcset", "action"}
    assert not re.search(r"@import|url\(", PAGE)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', PAGE)
    assert policy is not None
    allowed = unescape(policy[1])
    for tag in ("style", "script"):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", PAGE, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in allowed
    assert allowed.startswith("default-src 'none'") and "unsafe" not in allowed


def test_the_same_knowledge_gives_the_same_bytes() -> None:
    assert matrix(KNOWN, "html") == PAGE


def test_each_cell_is_a_row_that_can_be_filtered_by_its_status() -> None:
    assert read(PAGE).rows == [entry.card.status for row in KNOWN.tasks.values() for entry in entries(row, KNOWN)]


def test_markup_in_a_users_folder_stays_text_and_only_web_addresses_become_links(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>"
    (tmp_path / "sources.toml").write_text(
        f'[[source]]\nid = "evil"\ntitle = "{evil}"\nurl = "javascript:alert(3)"\nyear = 2020\nkind = "article"\n', encoding="utf-8"
    )
    (tmp_path / "tasks" / "mine.toml").write_text(
        f'name = "mine"\ntitle = "{evil}"\nmetric = "{evil}"\nbetter = "higher"\nstatus = "reference"\n'
        f'[[cell]]\narchitecture = "crnn"\nrole = "pick"\nfit = 50\nvariant = "small"\nbecause = "{evil}"\nsource = "evil"\n',
        encoding="utf-8",
    )
    page = matrix(load(tmp_path), "html")
    reader = read(page)
    assert evil not in page and "&lt;script&gt;alert(1)" in page
    assert not reader.attributes & {"src", "onerror"} and page.count("<script>") == 1
    assert not any(link.startswith("javascript") for link in reader.links)


@pytest.mark.parametrize("form", ["table", "md", "json", "html"])
def test_a_file_holds_what_is_printed(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from cli import advisor

    monkeypatch.setenv("COLUMNS", "100")
    path = tmp_path / "matrix.out"
    advisor.main(["matrix", "--format", form, "-o", str(path)], standalone_mode=False)
    shown = capsys.readouterr()
    assert shown.out == "" and str(path) in shown.err
    assert path.read_text(encoding="utf-8").rstrip("\n") == matrix(KNOWN, form).rstrip("\n")
