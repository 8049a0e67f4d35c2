"""docs/tasks.md says what a task reads: every setting stands there, what is said to be accepted is, what is said to be refused names its line."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import advisor.tasks
from advisor.data.pictures import png
from rules.problems import Exit, Problem

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "tasks.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## Data for (\S+)\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL))
TASKS = sorted(module.name for module in pkgutil.iter_modules(advisor.tasks.__path__))


def task(name: str) -> Any:
    return importlib.import_module(f"advisor.tasks.{name.replace('-', '_')}").TASK


@pytest.mark.parametrize("name", [name.replace("_", "-") for name in TASKS])
def test_every_task_has_its_section_and_every_setting_stands_in_it(name: str) -> None:
    assert name in SECTIONS
    known = importlib.import_module(f"advisor.tasks.{name.replace('-', '_')}").DEFAULTS
    assert [key for key in known if f"`{key}`" not in SECTIONS[name]] == []


@pytest.mark.parametrize(
    "name", ["face-recognition", "few-shot", "image-text-matching", "recommendation", "time-series-forecasting", "anomaly-detection"]
)
def test_a_default_that_is_said_is_the_default(name: str) -> None:
    known = importlib.import_module(f"advisor.tasks.{name.replace('-', '_')}").DEFAULTS
    for keys, said in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([^|]+) \|", SECTIONS[name], re.MULTILINE):
        names, values = re.findall(r"`(\w+)`", keys), re.split(r", (?![^\[]*\])", said.strip())
        if len(names) == len(values):
            for key, value in zip(names, values, strict=True):
                if known[key] is not None and re.fullmatch(r"`?[\d\"\[tf].*", value):
                    assert json.loads(value.strip("`")) == (list(known[key]) if isinstance(known[key], tuple) else known[key]), (key, value)


# -- tables --------------------------------------------------------------------------------------------------------------------------

ROWS = [f"{20 + k % 40},{('Ulm', 'Bonn')[k % 2]},{('no', 'yes')[k % 3 == 0]}" for k in range(60)]


def written(folder: Path, files: Mapping[str, str | list[str]]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text if isinstance(text, str) else "\n".join(text) + "\n", encoding="utf-8")
    return folder


def refused(name: str, source: Path, **settings: Any) -> str:
    with pytest.raises(Problem) as found:
        task(name).open(source, settings=settings)
    assert found.value.code == Exit.INPUT
    return str(found.value)


@pytest.mark.parametrize(
    "files", [["all.csv"], ["train.csv", "val.csv", "test.csv"], ["training/a.csv", "dev/a.csv", "test/a.csv"], ["train.csv"]]
)
def test_a_table_is_read_with_its_splits_where_they_are_said(files: list[str], tmp_path: Path) -> None:
    data = task("recommendation").open(written(tmp_path, {name: ["age,town,label", *ROWS] for name in files}))
    counts = {split: data.count(split) for split in ("train", "val", "test")}
    assert sum(counts.values()) == 60 * len(files) and all(counts.values())
    assert (counts["val"] == 60) == (len(files) == 3) and data.labels == ["no", "yes"]
    assert data.given["numeric"] == 1 and data.given["categorical"] == 2


def test_a_table_in_parquet_reads_like_the_same_in_csv(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    cells = [row.split(",") for row in ROWS]
    columns = {"age": [int(row[0]) for row in cells], "town": [row[1] for row in cells], "label": [row[2] for row in cells]}
    written(
        tmp_path / "csv",
        {"train.csv": ["age,town,label", *ROWS], "val.csv": ["age,town,label", *ROWS], "test.csv": ["age,town,label", *ROWS]},
    )
    (tmp_path / "parquet").mkdir()
    for split in ("train", "val", "test"):
        parquet.write_table(pyarrow.table(columns), tmp_path / "parquet" / f"{split}.parquet")
    one, other = (task("recommendation").open(tmp_path / kind) for kind in ("csv", "parquet"))
    assert one.provenance["sha256"] == other.provenance["sha256"] and one.step == other.step


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["age,town,label", *ROWS, "51,Bonn"], "table.csv:62: 2 columns, 3 are named"),
        (["age,town,label", *ROWS, "51,Bonn,maybe"], "label has 3 different values"),
        (["age,town,label", *ROWS, "old,Bonn,yes"], "table.csv:62: age is 'old', where"),
        (["age,town,label", *(row.replace("yes", "no") for row in ROWS)], "label has 1 different values"),
        (["age,town,label", *(f",{row.partition(',')[2]}" for row in ROWS)], "age is missing on every training row"),
        (["age,town,outcome", *ROWS], "no columns called"),
        (["age,age,label", *ROWS], "a column has no name or another's"),
        (["age,town,label"], "has no rows"),
    ],
)
def test_a_table_in_the_wrong_shape_is_refused(lines: list[str], says: str, tmp_path: Path) -> None:
    assert says in refused("recommendation", written(tmp_path, {"table.csv": lines}) / "table.csv")


def test_tables_of_different_columns_and_files_that_say_no_split_beside_some_that_do_are_refused(tmp_path: Path) -> None:
    other = written(tmp_path / "a", {"train.csv": ["age,town,label", *ROWS], "test.csv": ["age,city,label", *ROWS]})
    assert "have not the same columns: city, town" in refused("recommendation", other)
    beside = written(tmp_path / "b", {"train.csv": ["age,town,label", *ROWS], "more.csv": ["age,town,label", *ROWS]})
    assert "more.csv says no split in its name" in refused("recommendation", beside)


# -- series --------------------------------------------------------------------------------------------------------------------------

HOURS = [f"2024-01-{1 + k // 24:02d} {k % 24:02d}:00" for k in range(200)]
SIZES = {"length": 8, "horizon": 4}


def test_wide_and_long_tables_of_the_same_values_are_the_same_series(tmp_path: Path) -> None:
    wide = written(tmp_path / "wide", {"a.csv": ["date,load,warmth", *(f"{hour},{k},{-k}" for k, hour in enumerate(HOURS))]})
    rows = [f"{hour},{name},{sign * k}" for name, sign in (("load", 1), ("warmth", -1)) for k, hour in enumerate(HOURS)]
    long = written(tmp_path / "long", {"a.csv": ["ds,unique_id,value", *rows]})
    one, other = (task("time-series-forecasting").open(place / "a.csv", settings=SIZES) for place in (wide, long))
    assert one.labels == other.labels == ["load", "warmth"] and one.provenance["sha256"] == other.provenance["sha256"]


def test_months_are_even_and_uneven_times_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    months = [f"{1990 + k // 12}-{1 + k % 12:02d}-01,{k % 7}" for k in range(200)]
    assert task("time-series-forecasting").open(written(tmp_path, {"m.csv": ["time,y", *months]}) / "m.csv", settings=SIZES).count("test")
    gap = written(tmp_path, {"g.csv": ["time,y", *(f"{hour},1" for k, hour in enumerate(HOURS) if k != 50)]}) / "g.csv"
    assert "g.csv:52" in refused("time-series-forecasting", gap, **SIZES)
    assert task("time-series-forecasting").open(gap, settings={**SIZES, "irregular": "keep"}).count("test")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({3: "2024-01-01 03:00,"}, "s.csv:5: load is '', which is no number"),
        ({3: "2024-01-01 03:00,high"}, "s.csv:5: load is 'high', which is no number"),
        ({3: "2024-01-01 02:00,3"}, "is there twice"),
        ({3: "2023-01-01 03:00,3"}, "comes after"),
        ({3: "soon,3"}, "s.csv:5: 'soon' is no time"),
    ],
)
def test_a_series_in_the_wrong_shape_is_refused_with_its_line(change: Mapping[int, str], says: str, tmp_path: Path) -> None:
    lines = [change.get(k, f"{hour},{k}") for k, hour in enumerate(HOURS)]
    assert says in refused("time-series-forecasting", written(tmp_path, {"s.csv": ["date,load", *lines]}) / "s.csv", **SIZES)


def test_a_series_too_short_for_its_windows_is_refused_with_its_numbers(tmp_path: Path) -> None:
    short = written(tmp_path, {"s.csv": ["date,load", *(f"{hour},1" for hour in HOURS)]}) / "s.csv"
    assert "a window takes" in refused("time-series-forecasting", short)


# -- anomalies -----------------------------------------------------------------------------------------------------------------------

ODD = {*range(110, 118), *range(170, 178)}
WATCHED = {"length": 8, "stride": 2}


def test_labels_in_a_column_and_intervals_beside_the_files_say_the_same(tmp_path: Path) -> None:
    column = written(
        tmp_path / "a", {"pump.csv": ["time,y,is_anomaly", *(f"{hour},{k % 5},{int(k in ODD)}" for k, hour in enumerate(HOURS))]}
    )
    spans = {"pump.csv": [[HOURS[110], HOURS[117]], [HOURS[170], HOURS[177]]]}
    beside = {"pump.csv": ["time,y", *(f"{hour},{k % 5}" for k, hour in enumerate(HOURS))]}
    plainly = written(tmp_path / "b", {**beside, "labels.json": json.dumps(spans)})
    numenta = written(tmp_path / "c", {**beside, "labels/combined_windows.json": json.dumps(spans)})
    sums = {task("anomaly-detection").open(place, settings=WATCHED).provenance["sha256"] for place in (column, plainly, numenta)}
    assert len(sums) == 1


@pytest.mark.parametrize(
    ("spans", "says"),
    [
        (None, "has no column of labels, and there is no labels.json"),
        ({"other.csv": []}, "has labels of 'other', which is none of the series"),
        ({"pump.csv": []}, "windows none has a labelled step"),
        ({"pump.csv": [[HOURS[9], HOURS[2]]]}, "is after"),
    ],
)
def test_series_without_labels_that_tell_anything_are_refused(spans: Any, says: str, tmp_path: Path) -> None:
    files: dict[str, Any] = {"pump.csv": ["time,y", *(f"{hour},{k % 5}" for k, hour in enumerate(HOURS))]}
    files |= {} if spans is None else {"labels.json": json.dumps(spans)}
    assert says in refused("anomaly-detection", written(tmp_path, files), **WATCHED)


# -- pictures ------------------------------------------------------------------------------------------------------------------------


def drawn(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(np.random.default_rng(number).integers(0, 256, (16, 16, 3)).astype(np.uint8)))
    return folder


@pytest.mark.parametrize(("name", "column"), [("face-recognition", "person"), ("few-shot", "label"), ("few-shot", "class")])
def test_kinds_by_folders_and_by_lists_are_the_same_and_nobody_is_in_two_splits(name: str, column: str, tmp_path: Path) -> None:
    found = [f"{who}/{k}.png" for who in "abcdefgh" for k in range(3)]
    folders = drawn(tmp_path / "folders", found)
    lists = written(drawn(tmp_path / "lists", found), {"labels.csv": [f"image,{column}", *(f"{one},{one[0]}" for one in found)]})
    one, other = (task(name).open(place) for place in (folders, lists))
    key = "people" if name == "face-recognition" else "kinds"
    assert one.provenance["splits"] == other.provenance["splits"]
    assert [one.provenance["splits"][split][key] for split in ("train", "val", "test")] == [4, 2, 2]


@pytest.mark.parametrize("name", ["face-recognition", "few-shot"])
def test_one_who_is_in_two_splits_or_alone_is_refused(name: str, tmp_path: Path) -> None:
    shared = drawn(
        tmp_path / "a", [f"{place}/{k}.png" for place in ("train/a", "train/b", "val/c", "val/d", "test/a", "test/e") for k in (0, 1)]
    )
    assert "'a' is in two splits: train/a/0.png, test/a/0.png" in refused(name, shared)
    alone = drawn(tmp_path / "b", [f"{place}/{k}.png" for place in ("train/a", "train/b", "val/c", "val/d", "test/e") for k in (0, 1)])
    assert "fewer than two of them with two pictures" in refused(name, alone)


def test_captions_are_read_from_lists_and_refused_with_their_line(tmp_path: Path) -> None:
    found = [f"{k}.png" for k in range(30)]
    said = [f"{name},a red star" for name in found]
    good = written(drawn(tmp_path / "a", found), {"labels.csv": ["image,caption", *said]})
    data = task("image-text-matching").open(good)
    assert data.words == ["a", "red", "star"] and sum(data.count(split) for split in ("train", "val", "test")) == 30
    mute = written(drawn(tmp_path / "b", found), {"labels.csv": ["image,caption", *said[:-1], "29.png,..."]})
    assert "labels.csv:31" in refused("image-text-matching", mute)
    twice = written(drawn(tmp_path / "c", found), {"labels.csv": ["image,caption", *said, "3.png,a ring"]})
    assert "labels.csv:32" in refused("image-text-matching", twice)
