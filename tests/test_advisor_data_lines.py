"""From an image file to an input: the declared steps, what they refuse, and that batches are made of the same numbers."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from advisor.data import lines
from rules.problems import Exit, Problem


def file(pixels: np.ndarray, form: str = "PNG") -> bytes:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, form)
    return held.getvalue()


def noise(high: int, wide: int, *channels: int) -> np.ndarray:
    return np.random.default_rng(high * 1000 + wide).integers(0, 256, (high, wide, *channels), dtype=np.uint8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 400))
def test_a_line_is_32_high_keeps_its_ratio_and_is_padded_to_16(high: int, wide: int) -> None:
    raw = file(noise(high, wide))
    found = lines.apply(lines.STEPS, raw)
    kept = min(1024, max(1, round(wide * 32 / high)))
    assert found.dtype == np.float32 and found.shape == (1, 1, 32, max(32, -(-kept // 16) * 16))
    assert (found[..., kept:] == 1).all() and found.min() >= -1 and found.max() <= 1


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(8, 50), st.integers(8, 90)), min_size=1, max_size=4))
def test_a_batch_holds_bit_for_bit_what_the_steps_make_of_each_file(sizes: list[tuple[int, int]]) -> None:
    files = [file(noise(*size)) for size in sizes]
    alone = [lines.apply(lines.STEPS, raw) for raw in files]
    width = max(one.shape[-1] for one in alone)
    together = lines.stack([lines.pixels(raw) for raw in files], width=width)
    for row, one in zip(together, alone, strict=True):
        assert np.array_equal(row[..., : one.shape[-1]], one[0])
        assert (row[..., one.shape[-1] :] == 1).all()


def test_a_line_wider_than_the_widest_is_squeezed() -> None:
    assert lines.apply(lines.STEPS, file(noise(4, 4000))).shape == (1, 1, 32, 1024)


def test_colour_and_palette_become_grey_and_transparency_becomes_paper() -> None:
    ink = np.zeros((32, 40, 4), np.uint8)
    ink[:, :20, 3] = 255  # black on nothing
    found = lines.apply(lines.STEPS, file(ink))[0, 0]
    assert (found[:, :20] == -1).all() and (found[:, 20:] == 1).all()
    grey = Image.fromarray(noise(32, 40))
    held = io.BytesIO()
    grey.convert("RGB").save(held, "PNG")
    assert np.array_equal(lines.apply(lines.STEPS, held.getvalue()), lines.apply(lines.STEPS, file(noise(32, 40))))


def bomb(side: int, rows: int) -> bytes:
    """A PNG that says it is side × side pixels and holds `rows` of them, in a few kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packed = zlib.compress(b"\0" * ((side // 8 + 1) * rows), 9)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        + chunk(b"IDAT", packed)
        + chunk(b"IEND", b"")
    )


GOOD = file(noise(20, 60))
REFUSED = {
    "empty": (b"", "no image of a known format"),
    "text": (b"train/1.jpg\tTEXT\n" * 9, "no image of a known format"),
    "half a PNG": (GOOD[: len(GOOD) // 2], "cannot be read"),
    "half a JPEG": (file(noise(20, 60), "JPEG")[:300], "cannot be read"),
    "a damaged PNG": (GOOD[:60] + bytes(40) + GOOD[100:], "cannot be read"),
    "8,000 pixels square": (bomb(8_000, 1), "more than 50,000,000 pixels"),
    "2,000,000 pixels square": (bomb(2_000_000, 1), "more than 50,000,000 pixels"),
    "an EPS, which would start another program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image of a known format"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_line_is_refused_by_its_name(case: str) -> None:
    raw, reason = REFUSED[case]
    with pytest.raises(Problem, match=reason) as refused:
        lines.apply(lines.STEPS, raw, name="train/7.png")
    assert refused.value.code == Exit.INPUT and str(refused.value).startswith("train/7.png ") and "\n" not in str(refused.value)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([GOOD, file(noise(20, 60), "JPEG"), file(noise(9, 9), "BMP"), file(noise(9, 9, 3), "TIFF")]), st.data())
def test_a_damaged_file_is_read_or_refused_and_nothing_else(good: bytes, data: st.DataObject) -> None:
    raw = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = lines.apply(lines.STEPS, bytes(raw), name="x")
    except Problem as problem:
        assert problem.code == Exit.INPUT
    else:
        assert found.shape[:3] == (1, 1, 32) and np.isfinite(found).all()


def test_steps_that_do_not_begin_with_a_file_are_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="an image file needs 'decode'"):
        lines.apply(lines.STEPS[1:], GOOD)
