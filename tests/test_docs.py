"""The pages say what the code does: commands parse, plans read, links lead somewhere, and what is marked to be run is run.

In a page, ```console holds a session: lines after `$ ` are commands. ```console run is run, and what is shown is compared, `...` standing
for anything. A fence with a name behind its language (```python digits_task.py) is a file that the page's sessions find.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

import cli
from advisor.tasks import names as task_names
from tests import generated_pages

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
STANDS_FOR_ANY = {"x.toml"}  # file names that are examples


@dataclass(frozen=True)
class Fence:
    """A code block: what is said behind its three ticks, its text, the line it begins on."""

    page: str
    info: str
    text: str
    line: int

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def fences(page: str) -> list[Fence]:
    """Fenced blocks, and indented ones as fences without a language."""
    found, text = [], read(page)
    for match in re.finditer(r"^```([^\n`]*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        found.append(Fence(page, match[1].strip(), match[2], text.count("\n", 0, match.start()) + 1))
    prose = re.sub(r"^```.*?^```$", lambda match: "\n" * match[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    indented = [(number, line[4:]) for number, line in enumerate(prose.splitlines(), 1) if line.startswith("    ")]
    return found + [Fence(page, "", line, number) for number, line in indented]


def inline(page: str) -> list[str]:
    """What stands between single ticks."""
    prose = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", prose)


def commands(fence: Fence) -> Iterator[list[str]]:
    """The arguments of every `advisor …` in a block, without what the shell takes away."""
    for line in fence.text.splitlines():
        match = re.match(r"\s*(?:\$ |- run: |- )?advisor (.+)$", line)
        if match:
            yield shlex.split(re.split(r"\s(?:[>|#]|&&|;)", match[1])[0])


def command_of(arguments: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these arguments reach, and what is left for it."""
    found: click.Command = cli.advisor
    rest = list(arguments)
    while isinstance(found, click.Group) and rest and not rest[0].startswith("-"):
        inside = found.commands.get(rest[0])
        assert inside is not None, f"there is no command {rest[0]!r}"
        found, rest = inside, rest[1:]
    return found, rest


def flags(command: click.Command) -> set[str]:
    return {"-h", "--help", "--version", *(name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts))}


def all_flags() -> set[str]:
    waiting: list[click.Command] = [cli.advisor]
    found: set[str] = set()
    while waiting:
        command = waiting.pop()
        found |= flags(command)
        waiting += command.commands.values() if isinstance(command, click.Group) else []
    return found


def reader_flags() -> set[str]:
    return set(re.findall(r'"(--[a-z-]+)"', read("compress/reader/reader.py")))


# -- commands ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", NAMES)
def test_every_command_in_a_block_is_one_the_command_line_takes(page: str) -> None:
    for fence in fences(page):
        for arguments in commands(fence):
            command, rest = command_of(arguments)
            try:
                command.make_context("advisor", list(rest))
            except click.exceptions.Exit:
                pass  # --help
            except click.ClickException as error:
                raise AssertionError(f"{fence.place}: advisor {' '.join(arguments)}: {error.format_message()}") from error


@pytest.mark.parametrize("page", NAMES)
def test_every_command_and_flag_in_a_sentence_exists(page: str) -> None:
    known = all_flags() | reader_flags()
    for said in inline(page):
        if said.startswith("advisor "):
            words = [word for word in re.split(r"\s+", said)[1:] if not re.search(r"[…\[\]]", word)]
            command, rest = command_of(words)
            unknown = {word.partition("=")[0] for word in rest if word.startswith("-")} - flags(command)
            assert not unknown, f"{page}: `{said}`: {unknown}"
        elif said.startswith("--"):
            assert re.split(r"[ =]", said)[0] in known, f"{page}: `{said}`"


@pytest.mark.parametrize("page", NAMES)
def test_every_flag_of_a_bundles_reader_exists(page: str) -> None:
    texts = [line for fence in fences(page) for line in fence.text.splitlines()] + inline(page)
    for line in texts:
        if "reader.py " in line and "advisor " not in line:
            used = set(re.findall(r"(?<=\s)--[a-z-]+", line.partition("#")[0]))
            assert used <= reader_flags(), f"{page}: {line.strip()}: {used - reader_flags()}"


@pytest.mark.parametrize("page", NAMES)
def test_every_make_target_exists(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    used = {
        match for text in [*inline(page), *(fence.text for fence in fences(page))] for match in re.findall(r"^\s*make ([a-z]+)", text, re.M)
    }
    assert used <= targets, f"{page}: {used - targets}"


# -- files and links -----------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower().replace("`", "")).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", NAMES)
def test_every_link_leads_somewhere(page: str) -> None:
    prose = re.sub(r"^```.*?^```$", "", read(page), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (ROOT / page).parent / file if file else ROOT / page
        assert place.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors(place), f"{page}: {target}: no such heading"


@pytest.mark.parametrize("page", NAMES)
def test_every_file_that_is_named_exists(page: str) -> None:
    for said in inline(page):
        if re.fullmatch(r"(?:advisor|compress|rules|tests|docs|bench|plans|\.ci)/[\w./-]*", said) and Path(said).name not in STANDS_FOR_ANY:
            assert (ROOT / said).exists(), f"{page}: `{said}`"


def test_the_index_names_every_page() -> None:
    index = read("docs/README.md")
    missing = [page.name for page in (ROOT / "docs").glob("*.md") if page.name != "README.md" and f"]({page.name})" not in index]
    assert not missing


def test_the_readme_names_every_task_that_runs_and_no_other() -> None:
    table = re.search(r"\| \| tasks \|\n\|---\|---\|\n((?:\|.*\n)+)", read("README.md"))
    assert table
    named = [name.strip() for row in table[1].splitlines() for name in row.split("|")[2].split(",")]
    assert sorted(named) == task_names()


@pytest.mark.parametrize("page", NAMES)
def test_a_page_opens_with_a_sentence(page: str) -> None:
    lines = read(page).splitlines()
    assert lines[0].startswith("# ") and lines[1] == ""
    opening = " ".join(lines[2 : lines.index("", 2)]) if "" in lines[2:] else lines[2]
    assert re.match(r"[A-Z`*]", opening) or page == "CONTRIBUTING.md", opening
    assert "." in opening or page == "CONTRIBUTING.md", opening


# -- blocks of code ------------------------------------------------------------------------------------------------------


def blocks(language: str) -> list[Fence]:
    return [fence for page in NAMES for fence in fences(page) if fence.info.split(" ")[0] == language]


@pytest.mark.parametrize("fence", blocks("toml"), ids=lambda fence: fence.place)
def test_every_toml_block_is_what_it_is_shown_as(fence: Fence, tmp_path: Path) -> None:
    from compress.limits import read_config
    from compress.plan import parse

    table = tomllib.loads(fence.text)
    if "schema_version" in table or table.get("stage"):
        parse(table, fence.place)
    elif "gate" in table:
        (tmp_path / "gate.toml").write_text(fence.text)
        read_config(tmp_path / "gate.toml")


def test_there_are_plans_on_the_pages() -> None:
    plans = [fence for fence in blocks("toml") if "schema_version" in tomllib.loads(fence.text)]
    assert len(plans) >= 2


@pytest.mark.parametrize("fence", blocks("python"), ids=lambda fence: fence.place)
def test_every_python_block_compiles(fence: Fence) -> None:
    compile(fence.text, fence.place, "exec")


# -- sessions that are run -----------------------------------------------------------------------------------------------


SESSIONS = [fence for fence in blocks("console") if "run" in fence.info.split(" ")[1:]]


def steps(text: str) -> list[tuple[str, str]]:
    """A session's commands with what is shown after each."""
    parts = re.split(r"^\$ (.+)\n", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def pattern(shown: str) -> str:
    """What is shown as an expression: a line `...` is any lines, `...` within a line anything to its end."""
    lines = []
    for line in shown.splitlines():
        lines.append(r"(?:.*\n)*?" if line.strip() == "..." else r".*".join(map(re.escape, line.split("..."))) + r"\n")
    return "".join(lines)


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    words = shlex.split(command)
    programs = {"advisor": [sys.executable, str(ROOT / "cli.py")], "python": [sys.executable]}
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "COLUMNS": "100", "NO_COLOR": "1"}
    return subprocess.run(
        [*programs[words[0]], *words[1:]],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )


def play(fence: Fence, folder: Path) -> None:
    code = 0
    session = steps(fence.text)
    for number, (command, shown) in enumerate(session):
        if command == "echo $?":
            assert shown.strip() == str(code), f"{fence.place}: exit code {code}, shown {shown.strip()}"
            continue
        done = shell(command, folder)
        code = done.returncode
        asked = number + 1 < len(session) and session[number + 1][0] == "echo $?"
        assert code == 0 or asked, f"{fence.place}: {command}: exit {code}\n{done.stdout}"
        actual = re.sub(r"[ \t]+$", "", done.stdout, flags=re.MULTILINE)
        assert not shown or re.fullmatch(pattern(shown), actual), f"{fence.place}: {command}: it says\n{actual}"


@pytest.mark.parametrize("fence", SESSIONS, ids=lambda fence: fence.place)
def test_what_is_marked_to_be_run_runs_and_says_what_is_shown(fence: Fence, tmp_path: Path) -> None:
    for file in fences(fence.page):
        words = file.info.split(" ")
        if words[0] != "console" and len(words) == 2:
            (tmp_path / words[1]).write_text(file.text, encoding="utf-8")
    play(fence, tmp_path)


def test_there_are_sessions_to_run_and_one_brings_its_own_task() -> None:
    assert len(SESSIONS) >= 5
    assert any("--task digits_task:TASK" in fence.text for fence in SESSIONS)


@pytest.mark.parametrize(
    ("shown", "code"),
    [("no such line\n", 0), ("...\nunknown\n", 2), ("advisor, version ...\nand more\n", 0), ("advisor, version 9.9.9\n", 0)],
)
def test_a_session_that_shows_something_else_is_noticed(shown: str, code: int, tmp_path: Path) -> None:
    fence = Fence("here", "console run", f"$ advisor --version\n{shown}$ echo $?\n{code}\n", 1)
    with pytest.raises(AssertionError):
        play(fence, tmp_path)


# -- pages made from the code --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", generated_pages.PAGES)
def test_a_page_made_from_the_code_is_what_the_code_makes(place: str) -> None:
    assert read(place) == generated_pages.PAGES[place](), f"{place} is out of date: {generated_pages.AGAIN}"


def test_every_setting_of_every_stage_is_said_what_it_is() -> None:
    page = read("docs/stages.md")
    assert not re.findall(r"^\| `\w+` \| `[^|]*` \|\s*\|$", page, re.MULTILINE)


def test_every_promise_names_a_test_that_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", read("docs/promise.md"))
    assert len(named) > 50
    for file, name in named:
        tree = ast.parse(read(file))
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file} has no {name}"


def test_every_promise_has_a_test() -> None:
    lines = [line for line in read("docs/promise.md").splitlines() if line.startswith("- ")]
    assert all(re.search(r"`tests/[\w/]+\.py::test_\w+`$", line) for line in lines)
