"""Drawn training lines: beside the real ones, never in validation or test, the same for the same seed, only in fonts that have the letters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from advisor.data import rendered
from advisor.tasks import task
from rules.problems import Exit, Problem

OCR = task("ocr")


def folder(place: Path, texts: Sequence[str] = ("TOTAL 12", "CASH 7", "GST 0.6"), splits: Sequence[str] = ("train", "val", "test")) -> Path:
    """Pictures without ink, and what is said to be on them."""
    place.mkdir(parents=True, exist_ok=True)
    for split in splits:
        rows = []
        for number, text in enumerate(texts):
            Image.new("L", (60, 32), 240).save(place / f"{split}{number}.png")
            rows.append(f"{split}{number}.png\t{text}")
        (place / f"{split}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return place


def written(place: Path, *texts: str) -> str:
    place.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return str(place)


def drawn(data: object) -> list[tuple[str, bytes]]:
    corpus = data._corpus  # type: ignore[attr-defined]
    return [(line.text, corpus.read(line)) for line in corpus.splits["train"] if line.id.startswith("rendered/")]


def test_drawn_lines_stand_behind_the_real_ones_and_in_no_other_split(tmp_path: Path) -> None:
    data = OCR.open(folder(tmp_path), settings={"rendered": 20})
    plain = OCR.open(tmp_path)
    assert (data.count("train"), data.count("val"), data.count("test")) == (
        plain.count("train") + 20,
        plain.count("val"),
        plain.count("test"),
    )
    facts = data.provenance
    assert facts["rendered"]["lines"] == 20 and facts["rendered"]["texts"] == "words of the training lines"
    assert all(facts["splits"][split]["sha256"] == plain.provenance["splits"][split]["sha256"] for split in ("val", "test"))


def test_the_same_seed_draws_the_same_lines_and_another_seed_others(tmp_path: Path) -> None:
    folder(tmp_path)
    first, again, other = (drawn(OCR.open(tmp_path, seed=seed, settings={"rendered": 12})) for seed in (0, 0, 1))
    assert first == again != other


def test_fewer_drawn_lines_are_the_first_of_more(tmp_path: Path) -> None:
    folder(tmp_path)
    assert drawn(OCR.open(tmp_path, settings={"rendered": 5})) == drawn(OCR.open(tmp_path, settings={"rendered": 9}))[:5]


def test_words_of_the_training_lines_stand_in_other_company_with_other_digits(tmp_path: Path) -> None:
    texts = [text for text, _ in drawn(OCR.open(folder(tmp_path), settings={"rendered": 60}))]
    shapes = {"".join("0" if letter.isdigit() else letter for letter in word) for text in texts for word in text.split()}
    assert shapes == {"TOTAL", "00", "CASH", "0", "GST", "0.0"}
    assert len(set(texts)) > 30


def test_texts_of_a_file_are_drawn_as_they_stand_and_bring_their_letters(tmp_path: Path) -> None:
    given = written(tmp_path / "texts.txt", "wholly new", "", "  other   words ")
    data = OCR.open(folder(tmp_path / "lines"), settings={"rendered": 12, "texts": given})
    assert {text for text, _ in drawn(data)} == {"wholly new", "other words"}
    assert set("wholynetrds") <= set(data.labels)


def test_with_texts_a_folder_may_hold_only_lines_to_score(tmp_path: Path) -> None:
    given = written(tmp_path / "texts.txt", "TOTAL 1234567890 CASH GST .")
    data = OCR.open(folder(tmp_path / "lines", splits=("val", "test")), settings={"rendered": 8, "texts": given})
    assert (data.count("train"), data.count("val"), data.count("test")) == (8, 3, 3)


def test_a_long_text_gives_a_stretch_of_its_words(tmp_path: Path) -> None:
    given = written(tmp_path / "texts.txt", " ".join(f"word{number}" for number in range(200)), "x" * 300)
    texts = [text for text, _ in drawn(OCR.open(folder(tmp_path / "lines"), settings={"rendered": 30, "texts": given}))]
    assert max(map(len, texts)) <= rendered.LONGEST and any(text.startswith("word") and " " in text for text in texts)


def test_a_picture_shows_its_text_dark_on_light_and_another_text_another_picture() -> None:
    font = rendered.Font(None)
    wide, narrow = (rendered.draw(text, font, np.random.default_rng(3)) for text in ("WWWWWWWW", "i"))
    assert wide.shape[1] > 2 * narrow.shape[1] and wide.dtype == np.uint8
    assert wide.min() < 120 < 190 < np.median(wide[:2])


def test_a_font_is_not_asked_for_letters_it_has_not_nor_for_scripts_that_join_theirs() -> None:
    font = rendered.Font(None)
    assert font.has("Total: 12.50 #&@") and font.has("")
    assert not any(font.has(text) for text in ("中", "ب", "क", "e\u0301", "a\nb", "\uffff"))


@given(st.text(max_size=40))
def test_whatever_a_font_has_can_be_drawn(text: str) -> None:
    font = rendered.Font(None)
    if font.has(text):
        picture = rendered.draw(text, font, np.random.default_rng(0))
        assert picture.ndim == 2 and picture.size


def test_texts_that_no_font_can_draw_are_refused_with_their_place(tmp_path: Path) -> None:
    given = written(tmp_path / "texts.txt", "日本語")
    with pytest.raises(Problem, match=r"texts\.txt:1") as refused:
        OCR.open(folder(tmp_path / "lines"), settings={"rendered": 3, "texts": given})
    assert refused.value.code == Exit.INPUT and "\n" not in str(refused.value)


def test_a_charset_is_held_against_the_texts_too(tmp_path: Path) -> None:
    given = written(tmp_path / "texts.txt", "CASH ?")
    settings = {"rendered": 3, "texts": given, "charset": "TOALCSHG0123456789. "}
    with pytest.raises(Problem, match=r"texts\.txt:1.*'\?'"):
        OCR.open(folder(tmp_path / "lines"), settings=settings)


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"rendered": 0}, Exit.USAGE, "rendered is 0"),
        ({"rendered": True}, Exit.USAGE, "rendered is True"),
        ({"fonts": "here"}, Exit.USAGE, "nothing is to be rendered"),
        ({"rendered": 2, "texts": 3}, Exit.USAGE, "texts is 3"),
        ({"rendered": 2, "fonts": "nowhere"}, Exit.INPUT, "no fonts nowhere"),
        ({"rendered": 2, "texts": "nowhere"}, Exit.INPUT, "no texts nowhere"),
    ],
)
def test_a_wrong_setting_is_refused_in_one_line(tmp_path: Path, settings: dict[str, object], code: Exit, said: str) -> None:
    with pytest.raises(Problem, match=said) as refused:
        OCR.open(folder(tmp_path), settings=settings)
    assert refused.value.code == code


def test_a_file_that_is_no_font_a_folder_without_any_and_texts_that_are_no_utf8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ttf").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts.txt").write_bytes(b"\xff\xfe\xfa")
    (tmp_path / "blank.txt").write_text("\n \n")
    for place, said in ((tmp_path / "a.ttf", "is no font"), (tmp_path / "empty", "holds no fonts")):
        with pytest.raises(Problem, match=said):
            rendered.fonts(place)
    for name, said in (("texts.txt", r"texts\.txt:1: not UTF-8"), ("blank.txt", "has no text")):
        with pytest.raises(Problem, match=said):
            rendered.texts(tmp_path / name)


def test_built_in_handwriting_has_no_drawn_lines_beside_it() -> None:
    with pytest.raises(Problem, match="beside those of a folder"):
        OCR.open(None, settings={"rendered": 5})
