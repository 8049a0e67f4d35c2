"""The report: one page that loads nothing, says the same for the same record, and takes a hostile record for what it is."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import bundle_for_tests as small
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compress.report import charts
from compress.report.charts import Bar, Curve, Mark, front
from compress.report.page import render, write
from compress.report.reading import image, lines, spans
from compress.report.svg import Scale, number, round_steps, size, tag

HOSTILE = "<script>alert(1)</script>\"'><img src=https://evil.example/x onerror=alert(1)>]]>--><!--{{ 7 * 7 }}"


class Page(HTMLParser):
    """Every element with its attributes, and the text outside script and style."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.raw, self._inside = "", {"script": [], "style": []}, ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in self.raw else ""
        if self._inside:
            self.raw[tag].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[self._inside][-1] += data
        else:
            self.text += data

    def of(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


@pytest.fixture(scope="module")
def html() -> str:
    return render(small.record())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def poisoned(value: Any) -> Any:
    """The record with every string of meaning replaced by a hostile one."""
    if isinstance(value, dict):
        kept = {"status", "better", "unit", "effect", "kind", "split", "against", "file", "png_base64", "sha256", "url"}
        return {key: item if key in kept else poisoned(item) for key, item in value.items()}
    if isinstance(value, list):
        return [poisoned(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


# -- what it says ----------------------------------------------------------------------------------------------------------------


def test_the_headline_says_what_ships_and_what_it_costs_in_one_sentence(page: Page) -> None:
    assert (
        "The int8 file from qat ships: 9.0× as fast as the teacher in fp32, 1/20 of its size, CER 2.34\u00a0% on 1,200 test examples."
        in page.text
    )


def test_honest_labels_are_on_the_page(page: Page) -> None:
    assert "not measured on the target (raspberry-pi-4)" in page.text
    assert "is not settled by 1,200 examples" in page.text  # the interval straddles the limit
    assert "FIXTURE" in page.text and "(estimate)" in page.text


@pytest.mark.parametrize(("interval", "said"), [([0.0, 0.004], "within the 0.50 points"), ([0.006, 0.009], "exceeds the 0.50 points")])
def test_the_label_of_the_loss_follows_its_interval(interval: list[float], said: str) -> None:
    record = small.record()
    record["final"]["test"]["interval"] = interval
    assert said in Page(render(record)).text


def test_every_stage_has_its_row_with_outcome_and_reason(page: Page) -> None:
    for stage in small.record()["stages"]:
        assert stage["reason"] in page.text
    assert len([attributes for attributes in page.of("tr") if "rolled" in (attributes.get("class") or "")]) == 1
    assert "decided by measurement" in page.text and "Controls never ship" in page.text


def test_every_chart_has_a_title_a_caption_and_marks_that_say_their_numbers(html: str, page: Page) -> None:
    charts_ = page.of("svg")
    assert len(charts_) == 7 and all(attributes.get("role") == "img" and attributes.get("aria-labelledby") for attributes in charts_)
    assert html.count("<figcaption") == 7
    assert "qat (kept): CER on validation 2.26 %, 0.401 ms, 263 kB" in html and "QLinearConv /features/conv4: 0.061 ms (int8)" in html


def test_bars_link_to_their_rows(page: Page) -> None:
    rows = {attributes.get("id") for attributes in page.of("tr")}
    targets = [attributes["data-row"] for attributes in page.of("a") if "data-row" in attributes]
    assert len(targets) == len(small.record()["final"]["profile"]["nodes"]) and set(targets) <= rows


def test_the_worst_disagreements_come_first_and_are_marked(page: Page, html: str) -> None:
    assert page.text.index("lost by compression") < page.text.index("same error") < page.text.index("both right")
    assert '<mark class="gap" title="missing: 4">' in html


def test_figures_are_not_judged_by_the_truth_and_a_wrong_class_is_marked_whole() -> None:
    record = small.record()
    rows = [{"truth": "normal", "float": "0.1069", "int8": "0.1069"}, {"truth": "anomaly", "float": "0.3", "int8": "0.4"}]
    figures = Page(render({**record, "answers": "figures", "samples": rows})).text
    assert figures.index("the answers differ") < figures.index("the same answer")
    assert "same error" not in figures and "lost by compression" not in figures
    assert not any(piece[0] != "same" for row in lines(rows, "figures") for piece in (*row["float"], *row["int8"]))
    classes = lines([{"truth": "star", "float": "star", "int8": "square"}], "class")
    assert classes[0]["int8"] == [("wrong", "square")] and classes[0]["verdict"] == "lost by compression"


def test_each_number_says_where_it_comes_from(page: Page) -> None:
    for words in (
        "paired bootstrap over examples",
        "measured, interleaved, 1 thread, onnxruntime 1.32.0",
        "estimate from rates, never measured",
    ):
        assert words in page.text
    assert "test, 1,200" in page.text and "val, 1,000" in page.text


@pytest.mark.parametrize("how", ["null", "absent"])
@pytest.mark.parametrize(
    "missing", ["recommendation", "teacher", "controls", "curves", "samples", "environment", "data", "note", "plan", "target"]
)
def test_a_record_without_a_part_still_makes_a_page(missing: str, how: str) -> None:
    record = small.record()
    record.pop(missing) if how == "absent" else record.update({missing: None})
    assert "ships" in Page(render(record)).text


@pytest.mark.parametrize("how", ["null", "absent"])
@pytest.mark.parametrize("missing", ["test", "float_test", "teacher_test", "profile", "fusion", "latency_ratio", "verify", "reason"])
def test_a_final_without_a_part_still_makes_a_page(missing: str, how: str) -> None:
    record = small.record()
    record["final"].pop(missing) if how == "absent" else record["final"].update({missing: None})
    assert "ships" in Page(render(record)).text


def test_the_float_file_alone_is_not_compared_with_itself() -> None:
    record = small.record()
    record["final"] |= {"stage": "export", "latency_ratio": {}, "teacher_test": None}
    record["final"]["test"] |= {"against": "float", "difference": 0.0, "interval": [0.0, 0.0]}
    record["stages"], record["controls"], record["teacher"] = record["stages"][3:4], [], None
    page = Page(render(record))
    assert "The float file ships: CER 2.34\u00a0% on 1,200 test examples." in page.text
    assert "points against" not in page.text and "no measured file is both" not in page.text


def test_a_higher_is_better_metric_is_read_the_other_way_round() -> None:
    record = small.record()
    record["metric"] = {"name": "accuracy", "better": "higher", "unit": "%"}
    record["final"]["test"] |= {"difference": -0.002, "interval": [-0.003, -0.001]}
    assert "within the 0.50 points" in Page(render(record)).text


# -- how it says it --------------------------------------------------------------------------------------------------------------


def test_nothing_is_loaded_from_anywhere(html: str, page: Page) -> None:
    for name, attributes in page.elements:
        for key in ("src", "href", "srcset", "data", "action", "poster", "xlink:href"):
            value = attributes.get(key)
            if value and not value.startswith(("#", "data:image/")):
                assert name == "a" and key == "href", f"<{name} {key}={value}>"
    assert not page.of("link") and not page.of("iframe") and not page.of("object")
    assert "url(" not in "".join(page.raw["style"]) and "@import" not in "".join(page.raw["style"])
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|WebSocket|sendBeacon", "".join(page.raw["script"]))


def test_the_policy_allows_its_own_style_and_script_by_hash_and_nothing_else(page: Page) -> None:
    policy = next(attributes["content"] for attributes in page.of("meta") if attributes.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    for kind, text in (("style", page.raw["style"][0]), ("script", page.raw["script"][1])):
        assert f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
    assert not any("style" in attributes or any(key.startswith("on") for key in attributes) for _, attributes in page.elements)


def test_the_same_record_gives_the_same_bytes(html: str) -> None:
    assert render(small.record()) == html


def test_the_page_is_small_and_its_script_smaller(html: str, page: Page) -> None:
    assert len(html.encode()) < 2_000_000 and len(page.raw["script"][1]) <= 10_000


def test_the_numbers_are_in_the_page_for_other_programs(page: Page) -> None:
    value = json.loads(page.raw["script"][0])
    assert not set("<>&") & set(page.raw["script"][0])
    assert value["final"]["test"]["metric"] == 0.0234 and "png_base64" not in value["samples"][0]


def test_a_hostile_record_is_shown_and_not_obeyed() -> None:
    record = poisoned(small.record())
    for sample in record["samples"][:3]:
        sample["png_base64"] = HOSTILE
    record["samples"][3]["png_base64"] = base64.b64encode(b"<svg onload=alert(1)>").decode()
    record["recommendation"]["sources"][0] |= {"id": "evil", "url": "javascript:alert(1)"}
    record["recommendation"]["kept"][0]["source"] = "evil"
    text = render(record)
    found = Page(text)
    clean = Page(render(small.record()))
    assert [name for name, _ in found.elements if name in ("script", "style", "meta", "iframe")] == [
        name for name, _ in clean.elements if name in ("script", "style", "meta", "iframe")
    ]
    assert not any(key.startswith("on") for _, attributes in found.elements for key in attributes)
    assert all((attributes.get("src") or "").startswith("data:image/") for attributes in found.of("img"))
    assert not any((attributes.get("href") or "").startswith("javascript:") for attributes in found.of("a"))
    assert "alert(1)</script>" in found.text and "{{ 7 * 7 }}" in found.text
    assert json.loads(found.raw["script"][0])["task"] == HOSTILE and not set("<>&") & set(found.raw["script"][0])


def test_it_is_published_atomically(tmp_path: Path) -> None:
    path = write(small.record(), tmp_path / "report.html")
    assert path.read_text(encoding="utf-8").endswith("</html>\n") and [item.name for item in tmp_path.iterdir()] == ["report.html"]


# -- the parts -------------------------------------------------------------------------------------------------------------------


@given(st.text(max_size=20), st.text(max_size=20))
def test_marked_pieces_spell_the_reading(truth: str, reading: str) -> None:
    pieces = spans(truth, reading)
    assert "".join(text for kind, text in pieces if kind != "missing") == reading
    assert ([kind for kind, _ in pieces] in ([], ["same"])) == (truth == reading)


@given(st.text(max_size=60))
def test_only_pictures_become_pictures(text: str) -> None:
    found = image(text)
    assert found is None or found.startswith("data:image/")


def test_lines_are_sorted_by_how_far_float_and_shipped_are_apart() -> None:
    rows = [{"name": str(index), "truth": "abcd", "float": "abcd", "int8": said} for index, said in enumerate(["abcd", "abxd", "xxxx"])]
    assert [row["name"] for row in lines(rows)] == ["2", "1", "0"]


def mark(latency: float, value: float, status: str = "kept") -> Mark:
    return Mark("m", status, latency, value, 1)


@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(0, 1)), min_size=1, max_size=12), st.sampled_from(["lower", "higher"]))
def test_the_front_holds_exactly_what_nothing_beats(places: list[tuple[float, float]], better: str) -> None:
    marks = [mark(latency, value) for latency, value in dict.fromkeys(places)]
    sign = 1 if better == "lower" else -1

    def beaten(one: Mark) -> bool:
        return any(
            other.latency_ms <= one.latency_ms
            and sign * other.value <= sign * one.value
            and (other.latency_ms, other.value) != (one.latency_ms, one.value)
            for other in marks
        )

    assert set(front(marks, better)) == {one for one in marks if not beaten(one)}


def test_a_control_is_never_on_the_front() -> None:
    assert front([mark(0.1, 0.0, "control"), mark(1.0, 1.0)], "lower") == [mark(1.0, 1.0)]


@given(st.floats(1e-6, 1e6), st.floats(1.001, 1e4), st.booleans())
def test_ticks_are_few_round_and_inside(low: float, factor: float, log: bool) -> None:
    scale = Scale(low, low * factor, 0, 100, log)
    ticks = scale.ticks()
    assert len(ticks) <= 13 and all(low * 0.99 <= tick <= low * factor * 1.01 for tick in ticks)


def test_steps_are_one_two_two_and_a_half_or_five() -> None:
    assert round_steps(0, 10, 5) == [0, 2, 4, 6, 8, 10] and round_steps(0, 1, 4) == [0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.402, "0.402"), (5312440.0, "5312440"), (3.4, "3.4"), (100.0, "100"), (1200.0, "1200"), (0, "0"), (1.3e-5, "1.3e-05")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_sizes_have_a_unit() -> None:
    assert (size(263110), size(5312440), size(12)) == ("263 kB", "5.31 MB", "12 B")


@given(st.text(st.sampled_from("ab\"'<>&;/ =é"), max_size=40))
def test_any_text_in_a_chart_stays_text(text: str) -> None:
    found = Page(str(tag("text", text, data_name=text)))
    assert found.elements == [("text", {"data-name": text})] and found.text == text


def test_charts_stand_extreme_values() -> None:
    assert charts.pareto([mark(1.0, 1.0)], metric="cer", unit="%", better="lower", probe="p")
    assert charts.pareto([mark(0.001, 0.0), mark(1e5, 100.0)], metric="cer", unit="%", better="higher", probe="p")
    assert charts.operators([Bar("Conv", "a", 1e-9, "int8")] * 300)
    assert charts.curve(Curve("s", ((0.0, 0.0), (1.0, 0.0)), ((0.5, 1.0),), ((0.0, 0.0),)), metric="cer", unit="%", id="c")
    assert charts.interval(0.0, 0.0, 0.0, limit=None, text="t", id="i")
