"""A row of a table as a small picture for the report: a line a column, its name and its cell."""

from __future__ import annotations

import io
from collections.abc import Mapping

LINE, LEFT, MIDDLE, WIDTH, MOST = 14, 6, 150, 320, 24
PAPER, TINT, INK, PALE = (255, 255, 255), (243, 246, 250), (20, 24, 32), (90, 98, 112)


def picture(row: Mapping[str, str]) -> bytes:
    """A PNG of the first columns of a row. Letters that the built-in font lacks show as question marks."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default_imagefont() if hasattr(ImageFont, "load_default_imagefont") else ImageFont.load_default()
    shown = list(row.items())[:MOST]
    if len(row) > MOST:
        shown[-1] = ("…", f"{len(row) - MOST + 1} more columns")
    image = Image.new("RGB", (WIDTH, LINE * len(shown) + 4), PAPER)
    draw = ImageDraw.Draw(image)
    for place, (name, cell) in enumerate(shown):
        top = 2 + LINE * place
        if place % 2:
            draw.rectangle((0, top, WIDTH, top + LINE - 1), fill=TINT)
        draw.text((LEFT, top + 1), _plain(name, 22), fill=PALE, font=font)
        draw.text((MIDDLE, top + 1), _plain(cell, 26), fill=INK, font=font)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _plain(text: str, most: int) -> str:
    said = text.replace("…", "...").encode("latin-1", "replace").decode("latin-1")
    return "".join(c if c.isprintable() else "?" for c in said)[:most]
