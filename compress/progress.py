"""What long work shows: bars on a terminal, one line a finished unit anywhere else. Always on stderr."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from compress.context import Progress, Silent

if TYPE_CHECKING:
    from rich.progress import TaskID


HEARTBEAT = 60.0  # seconds between signs of life where there is no bar


def choose(*, quiet: bool = False) -> Progress:
    """Bars when stderr is a terminal that can draw them, lines otherwise, silence when asked."""
    if quiet:
        return Silent()
    plain = not sys.stderr.isatty() or os.environ.get("CI") or os.environ.get("TERM") == "dumb"
    return Lines() if plain else Bars()


class Lines:
    """One line when a unit of work ends: what it was, how long it took, what came of it; a sign of life each minute before that."""

    def __init__(self) -> None:
        self._what, self._total = "", 0
        self._since = self._said = 0.0

    def start(self, what: str, total: int) -> None:
        self._what, self._total = what, total
        self._since = self._said = time.monotonic()

    def step(self, done: int, note: str = "") -> None:
        now = time.monotonic()
        if now - self._said < HEARTBEAT:
            return
        self._said = now
        left = (now - self._since) / max(1, done) * (self._total - done)
        self.say(f"  {self._what} {done}/{self._total}, about {left / 60:.0f} min left{', ' + note if note else ''}")

    def finish(self, note: str = "") -> None:
        self.say(f"{self._what}: {time.monotonic() - self._since:.0f} s{', ' + note if note else ''}")

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class Bars:
    """A rich progress bar for the unit under way; finished units leave one line."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns: list[Any] = [
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        ]
        self._console = Console(stderr=True)
        self._bars = Progress(*columns, console=self._console, transient=True)
        self._task: TaskID | None = None
        self._what = ""
        self._since = 0.0

    def start(self, what: str, total: int) -> None:
        self._close()
        self._what, self._since = what, time.monotonic()
        self._bars.start()
        self._task = self._bars.add_task(what, total=total, note="")

    def step(self, done: int, note: str = "") -> None:
        if self._task is not None:
            self._bars.update(self._task, completed=done, note=note)

    def finish(self, note: str = "") -> None:
        self._close()
        self.say(f"{self._what}: {time.monotonic() - self._since:.0f} s{', ' + note if note else ''}")

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)

    def _close(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._bars.stop()
            self._task = None
