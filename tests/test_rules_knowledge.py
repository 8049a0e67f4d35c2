"""The loader: whatever a file holds, the answer is a value or one line that names file and key."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rules.facts import Card, Device, TaskRow
from rules.knowledge import HERE, Knowledge, load
from rules.problems import Problem
from rules.reading import card, costs, device, rules, sources, task
from rules.tables import LARGEST_FILE, Table, read_json, read_toml
from tests import rules_for_tests  # noqa: F401  (no deadlines)

SOURCES = """
[[source]]
id = "paper"
title = "A paper"
url = "https://example.org"
year = 2020
kind = "paper"
"""
CARD = """
name = "net"
title = "A net"
family = "cnn"
year = 2020
status = "built"
reason = ""
source = "paper"
licence_code = "MIT"
licence_weights = "MIT"
builds = "package.module:build"

[traits]
causal = false
int8 = "static"

[[variant]]
name = "small"
params = 1000
macs = 2_000
shape = "1x1x32x128"
kind = "measured"
source = "paper"

[variant.settings]
channels = [1, 2]

[[evidence]]
what = "error"
value = 3.5
unit = "%"
on = "a data set"
source = "paper"
"""
TASK = """
name = "task"
title = "A task"
metric = "error"
better = "lower"
status = "built"
aliases = ["job"]

[defaults]
examples = 500

[article]
recommended = "net"
verdict = "still true"
source = "paper"

[[cell]]
architecture = "net"
role = "pick"
fit = 80
because = "it is known"
source = "paper"

[[rule]]
id = "task.few"
when.all = [{fact = "request.examples", op = "<", value = 1000}]
then.warn = "few examples"
because = "nets need examples"
source = "paper"
"""
DEVICE = """
name = "board"
title = "A board"
kind = "cpu"
isa = ["aarch64"]
cores = 4
ram_bytes = 1_000_000
runtimes = ["onnxruntime-cpu"]
precisions = ["fp32", "int8"]
source = "paper"

[rates.fp32]
value = 1e9
unit = "macs/s"
source = "paper"
kind = "published"
"""
COSTS = {
    "schema_version": 1,
    "architecture": "net",
    "costs": [
        {
            "variant": "small",
            "precision": "fp32",
            "shape": "1x1x32x128",
            "size_bytes": 4000,
            "params": 1000,
            "operators": [{"op": "Conv", "name": "/conv", "macs": 2000, "weight_bytes": 4000, "in_bytes": 10, "out_bytes": 20}],
        }
    ],
}
FILES = {
    "sources.toml": SOURCES,
    "remedies.toml": "",
    "architectures/net.toml": CARD,
    "tasks/task.toml": TASK,
    "devices/board.toml": DEVICE,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in {**FILES, "costs/net.json": json.dumps(COSTS)}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def change(folder: Path, name: str, old: str, new: str) -> Knowledge:
    text = (folder / name).read_text()
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1))
    return Knowledge([folder])


def test_a_sound_folder_reads_as_what_it_says(folder):
    known = Knowledge([folder])
    assert known.everything() == []
    row, net, board = known.task("job"), known.card("net"), known.device("board")
    assert isinstance(row, TaskRow) and isinstance(net, Card) and isinstance(board, Device)
    assert row.cells[0].fit == 80 and row.defaults == {"examples": 500} and row.rules[0].then.warn == "few examples"
    assert row.rules[0].origin.endswith("tasks/task.toml")
    assert net.traits == {"causal": False, "int8": "static"} and net.variants[0].settings == {"channels": [1, 2]}
    assert board.rates["fp32"].value == 1e9 and board.integer_format == "u8s8"
    assert known.costs["net"][0].operators[0].macs == 2000


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("devices/board.toml", "cores = 4", 'cores = "four"', "devices/board.toml: cores is 'four', expected a whole number"),
        ("devices/board.toml", "cores = 4", "cores = 0", "cores is 0, expected a whole number from 1"),
        ("devices/board.toml", "cores = 4", "cores = true", "cores is True, expected a whole number"),
        ("devices/board.toml", "cores = 4", "kores = 4", "cores is missing (there is 'kores')"),
        ("devices/board.toml", "cores = 4", "cores = 4\nalign_ = 8", "unknown key 'align_'; did you mean 'align'?"),
        ("devices/board.toml", 'unit = "macs/s"', 'unit = "flops"', "rates: fp32: unit is 'flops', expected one of macs/s"),
        ("devices/board.toml", "[rates.fp32]", "[rates.fp33]", "'fp33'; did you mean 'fp32'?"),
        ("devices/board.toml", "value = 1e9", "value = nan", "value is nan, expected a number"),
        ("devices/board.toml", "value = 1e9", "value = -1", "value is -1, expected a number"),
        ("devices/board.toml", 'source = "paper"', 'source = "papre"', "'papre'; did you mean 'paper'?"),
        ("devices/board.toml", 'name = "board"', 'name = "bored"', "name is 'bored', but the file is called 'board'"),
        ("devices/board.toml", "[rates.fp32]", "[rates.fp32", "is not TOML"),
        ("architectures/net.toml", 'status = "built"', 'status = "reference"', "a reference builds nothing"),
        ("architectures/net.toml", 'builds = "package.module:build"', "", "a built architecture needs variants and builds"),
        ("architectures/net.toml", "causal = false", "causal = 2020-01-01", "causal is datetime.date(2020, 1, 1), expected a flag"),
        ("architectures/net.toml", 'title = "A net"', 'title = "A\\u001b[31m net"', "expected a text on one line"),
        ("architectures/net.toml", "year = 2020", "year = 20", "year is 20, expected a whole number from 1900"),
        ("architectures/net.toml", 'unit = "%"', "", "evidence 'error': unit is missing"),
        ("architectures/net.toml", "channels = [1, 2]", "channels = [inf]", "channels is [inf], expected flags, numbers"),
        ("tasks/task.toml", 'architecture = "net"', 'architecture = "nett"', "'nett'; did you mean 'net'?"),
        ("tasks/task.toml", "fit = 80", "fit = 101", "fit is 101, expected a number from 0 to 100"),
        ("tasks/task.toml", "fit = 80", 'fit = 80\nvariant = "smal"', "'smal'; did you mean 'small'?"),
        ("tasks/task.toml", 'op = "<"', 'op = "below"', "op is 'below', expected one of is, is-not, <"),
        ("tasks/task.toml", "value = 1000", 'value = "1000"', "value of '<' is '1000', expected a number"),
        ("tasks/task.toml", "request.examples", "request.exampels", "'request.exampels'; did you mean 'request.examples'?"),
        ("tasks/task.toml", "request.examples", "reqest.examples", "unknown fact"),
        ("tasks/task.toml", 'then.warn = "few examples"', "then.forbid = true\nthen.prefer = 2", "cannot forbid and prefer at once"),
        ("tasks/task.toml", 'then.warn = "few examples"', "then.forbid = false", "the rule concludes nothing"),
        ("tasks/task.toml", 'then.warn = "few examples"', 'then.stage = "prunes"', "stage is 'prunes', expected one of train"),
        ("tasks/task.toml", 'then.warn = "few examples"', 'then.facts = {"small" = true}', "'small' is no derived fact"),
        ("tasks/task.toml", 'then.warn = "few examples"', 'then.set = {"align" = 16}', "'align' is no setting"),
        ("tasks/task.toml", "examples = 500", "exampels = 500", "'exampels'; did you mean 'examples'?"),
        ("tasks/task.toml", "[[cell]]", "[cell]", "cell is {"),
        ("sources.toml", "year = 2020", "year = 2020\npages = 3", "source 'paper': unknown key 'pages'"),
        ("costs/net.json", '"macs": 2000', '"macs": -1', "macs is -1, expected a whole number"),
        ("costs/net.json", '"op": "Conv", ', "", "op is missing"),
        ("costs/net.json", '"schema_version": 1', '"schema_version": 2', "this advisor reads schema_version 1"),
        ("costs/net.json", "{", "[", "is not JSON"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_file_and_key(folder, name, old, new, said):
    problems = change(folder, name, old, new).everything()
    assert problems, "nothing was found"
    assert any(said in str(problem) for problem in problems), str(problems[0])
    assert all("\n" not in str(problem) and len(str(problem)) < 600 for problem in problems)


def test_a_task_is_refused_with_its_file_when_its_card_is(folder):
    with pytest.raises(Problem, match=r"architectures/net.toml: year is 1"):
        change(folder, "architectures/net.toml", "year = 2020", "year = 1").task("task")


def test_duplicate_ids_are_refused_within_and_across_files(folder):
    twice = TASK[TASK.index("[[rule]]") :]
    (folder / "remedies.toml").write_text(twice)
    known = Knowledge([folder])
    with pytest.raises(Problem, match=r"rule .task\.few. is there twice"):
        known.rules_for(known.task("task"))
    assert any("there twice" in str(problem) for problem in known.everything())
    (folder / "remedies.toml").write_text(twice + twice)
    with pytest.raises(Problem, match=r"rule .task\.few. is there twice"):
        _ = Knowledge([folder]).rules
    (folder / "sources.toml").write_text(SOURCES * 2)
    with pytest.raises(Problem, match="source 'paper' is there twice"):
        _ = Knowledge([folder]).sources


def test_a_file_is_read_only_when_it_is_asked_for(folder):
    (folder / "devices/broken.toml").write_text("= nonsense")
    known = Knowledge([folder])
    assert "broken" in known.devices and list(known.devices) == ["board", "broken"]
    assert known.task("task") and known.device("board")
    with pytest.raises(Problem, match=r"broken\.toml is not TOML"):
        known.device("broken")


def test_a_misspelt_name_gets_the_nearest(folder):
    known = Knowledge([folder])
    with pytest.raises(Problem, match="unknown task 'tusk'; did you mean 'task'"):
        known.task("tusk")
    with pytest.raises(Problem, match="unknown device 'bord'; did you mean 'board'"):
        known.device("bord")
    with pytest.raises(Problem, match="unknown architecture 'nett'; did you mean 'net'"):
        known.card("nett")


def test_a_users_folder_lies_over_ours(tmp_path):
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices/board.toml").write_text(DEVICE)
    (tmp_path / "sources.toml").write_text(SOURCES)
    (tmp_path / "remedies.toml").write_text(
        '[[rule]]\nid = "mine.no-crnn"\nwhen.all = [{fact = "card.name", op = "is", value = "crnn"}]\nthen.forbid = true\nbecause = "we say so"\nsource = "paper"\n'
    )
    known = load(tmp_path)
    assert known.device("board").cores == 4 and known.device("raspberry-pi-5").cores == 4
    assert "mine.no-crnn" in {rule.id for rule in known.rules} and "paper" in known.sources
    assert "mine.no-crnn" not in {rule.id for rule in load().rules}
    with pytest.raises(Problem, match="no folder of knowledge"):
        load(tmp_path / "missing")


def test_the_same_knowledge_is_read_once():
    assert load() is load()


# -- hostile files -------------------------------------------------------------------------------------------------------

HOSTILE = {
    "huge": b"a = 1\n" * (LARGEST_FILE // 6 + 2),
    "deep arrays": b"a = " + b"[" * 50_000 + b"]" * 50_000,
    "endless key": b"a." * 2_000_000 + b"b = 1",
    "deep tables": b"a." * 190 + b"b = 1",
    "deep inline tables": b"a = " + b"{a = " * 20_000,
    "invalid utf-8": b'name = "\xff"',
    "endless integer": b"year = " + b"1" * 10_000,
    "endless hexadecimal": b"year = 0x" + b"f" * 100_000,
    "empty": b"",
    "control characters": b"name = \x00",
    "long key": b"k" * 100_000 + b" = 1",
    "newline in key": b'"a\\nb" = 1',
    "wrong kinds": b"name = {}\nvariant = 3\ntraits = []\nrates = 2020-01-01\nsource = [[]]\n",
}
READERS = {"architectures": card, "tasks": task, "devices": device}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("kind", READERS)
def test_a_hostile_file_is_refused_in_one_line(tmp_path, content, kind):
    path = tmp_path / "net.toml"
    path.write_bytes(content)
    with pytest.raises(Problem) as found:
        READERS[kind](read_toml(path), "net")
    assert "\n" not in str(found.value) and len(str(found.value)) < 900


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a": ' * 50_000, b"\xff", b"[]", b"nul", b"1" * 10_000, b'{"costs": [{"operators": [1]}]}']
)
def test_a_hostile_cost_table_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "net.json"
    path.write_bytes(content)
    with pytest.raises(Problem) as found:
        costs(read_json(path), "net")
    assert "\n" not in str(found.value)


def test_a_folder_or_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing.toml"):
        with pytest.raises(Problem, match="cannot read"):
            read_toml(path)


def read_any(text: str) -> None:
    """Every reader over one text: a value or a Problem of one line."""
    import tomllib

    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError):
        return
    for read in (
        sources,
        lambda table: rules(table, origin="x"),
        *(lambda table, r=reader: r(table, "net") for reader in READERS.values()),
    ):
        try:
            read(Table(values, "x.toml"))
        except Problem as problem:
            assert "\n" not in str(problem)


@given(st.sampled_from(sorted(FILES)), st.data())
@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])
def test_a_mutated_file_gives_a_value_or_a_problem(name, data):
    text = FILES[name].replace('"task"', '"net"').replace('"board"', '"net"')
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text)))
        length = data.draw(st.integers(0, 12))
        insert = data.draw(
            st.sampled_from(["", "=", '"', "[", "]", "true", "-1", "1e999", "nan", "[[rule]]\n", "\n", "{}", "x = 1\n", "2020-01-01"])
            | st.text(max_size=4)
        )
        text = text[:place] + insert + text[place + length :]
    read_any(text)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["paper", "net", "built", "is", "request.examples"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "name", "when", "then", "all", "fact", "op", "value", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)
KEYS = [
    "name",
    "title",
    "metric",
    "better",
    "status",
    "cell",
    "rule",
    "variant",
    "evidence",
    "traits",
    "rates",
    "source",
    "isa",
    "cores",
    "defaults",
    "article",
    "kind",
    "costs",
]


@given(st.dictionaries(st.sampled_from(KEYS), plain, max_size=8))
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_any_table_at_all_gives_a_value_or_a_problem(values):
    for read in (
        sources,
        lambda table: rules(table, origin="x"),
        *(lambda table, r=reader: r(table, "net") for reader in (*READERS.values(), costs)),
    ):
        try:
            read(Table(values, "x.toml"))
        except Problem as problem:
            assert "\n" not in str(problem)


@given(st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_a_shipped_file_with_a_byte_changed_gives_a_value_or_a_problem(data):
    path = data.draw(st.sampled_from(sorted(HERE.rglob("*.toml"))))
    raw = bytearray(path.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        read_any(raw.decode("utf-8"))
    except UnicodeDecodeError:
        return


def test_a_whole_copy_of_our_knowledge_reads_like_ours(tmp_path):
    shutil.copytree(HERE, tmp_path / "copy")
    assert Knowledge([tmp_path / "copy"]).everything() == []


@pytest.mark.parametrize("get", ["text", "whole", "number", "flag", "texts", "value", "plain", "table", "tables", "identifier"])
def test_a_number_without_end_is_refused_by_every_getter_in_one_line(get):
    with pytest.raises(Problem, match=r"x\.toml: year is something endless, expected"):
        getattr(Table({"year": 16**100_000}, "x.toml"), get)("year")
