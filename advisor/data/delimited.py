"""The lines of CSV, TSV and Parquet files as texts, each with the place to look when something is wrong with it.

Nothing is interpreted here: a cell is a text, an empty cell an empty one. What cannot be read at all is refused with the file and,
where there is one, the line, exit 3.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from advisor.data.text_files import text_of
from rules.problems import bad_environment, bad_input

SUFFIXES = (".csv", ".tsv", ".parquet")
Cells = Sequence[str]


def lines(file: Path, shown: str) -> Iterator[tuple[str, Cells]]:
    """(where, cells) of every line that is not empty, the column names of Parquet first. `shown` names the file in messages."""
    return _parquet(file, shown) if file.suffix.lower() == ".parquet" else _delimited(file, shown)


def _delimited(file: Path, shown: str) -> Iterator[tuple[str, Cells]]:
    """(file and line, cells) of a CSV or TSV file, empty lines left out."""
    text = text_of(file, shown)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield f"{shown}:{reader.line_num}", cells
    except csv.Error as error:
        raise bad_input(f"{shown}:{reader.line_num}: {error}", remedy="is a quote left open?") from None


def _parquet(file: Path, shown: str) -> Iterator[tuple[str, Cells]]:
    """(file and row, cells) of a Parquet file, the column names first; an empty cell is an empty text."""
    try:
        from pyarrow import parquet
        from pyarrow.lib import ArrowException
    except ImportError:
        raise bad_environment(f"{shown} needs pyarrow, which is not installed", remedy="pip install 'edge-advisor[tabular]'") from None
    try:
        held: Any = parquet.ParquetFile(file)
        yield f"{shown}, column names", [str(name) for name in held.schema_arrow.names]
        count = 0
        for part in held.iter_batches():
            for values in zip(*(column.to_pylist() for column in part.columns), strict=True):
                count += 1
                yield f"{shown}, row {count}", ["" if value is None else str(value) for value in values]
    except (ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:160]
        raise bad_input(f"{shown} is no Parquet file that can be read: {said}", remedy="write it anew, or save it as CSV") from None
