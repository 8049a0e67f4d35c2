"""Several processes on one training: which of them this one is, and what the first tells the others. Importing it costs no torch.

Idea: the first process runs the plan as if it were alone; it owns the folder, measures, decides, writes. The others go through the
same plan beside it, take part where a module is trained, and wait for the first where it works alone. What it found they hear
through the key-value store that the launcher provides, so nobody waits in a collective for a stage that takes an hour.
The variables are torchrun's (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT).
Source: torch documentation, "torchrun (Elastic Launch)" and "Distributed communication package".
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from compress.journal import Journal
from rules.problems import Problem, bad_environment

PATIENCE = timedelta(minutes=10)  # with the others in one step of a training; waiting for the first process has no end
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
GONE = "gone"
AGAIN = "the same command continues"
SOURCE_LINE = re.compile(r"^\[\S+:\d+\] ")  # of gloo's own code, in front of what it says


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among `size`; `local` among the `local_size` of its machine. The first, number 0, leads."""

    rank: int = 0
    size: int = 1
    local: int = 0
    local_size: int = 1
    store: Any = None  # torch.distributed.Store

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def same(self, key: str, compute: Callable[[], Any]) -> Any:
        """What the first process computes, on all of them; as it came through JSON where there are others."""
        if self.size == 1:
            return compute()
        if not self.leads:
            return self.hear(key)
        value = compute()
        self.tell(key, value)
        return value

    def tell(self, key: str, value: Any) -> None:
        """Let the others hear a JSON value."""
        if self.size > 1:
            with reached():
                self.store.set(key, json.dumps(value))

    def hear(self, key: str) -> Any:
        """Wait until the first process tells it. Raises Problem (exit 5) when one of the others is gone."""
        pause = 0.002
        with reached():
            while not self.store.check([key]):
                if self.store.check([GONE]):
                    raise lost()
                time.sleep(pause)
                pause = min(2 * pause, 0.25)
            return json.loads(self.store.get(key))


ALONE = Ranks()


def launched(environment: Mapping[str, str] = os.environ) -> Ranks:
    """Where this process stands among those that a launcher started, not yet connected; alone without a launcher."""
    if not all(environment.get(name) for name in NEEDED) or int(environment["WORLD_SIZE"]) < 2:
        return ALONE
    rank, size = int(environment["RANK"]), int(environment["WORLD_SIZE"])
    return Ranks(rank, size, int(environment.get("LOCAL_RANK", rank)), int(environment.get("LOCAL_WORLD_SIZE", size)))


@contextmanager
def joined(device: str, here: Ranks | None = None) -> Iterator[Ranks]:
    """This process connected with the others for the length of the block, to train on `device`; alone without a launcher.

    Raises Problem (exit 5) where the others cannot be reached. Who leaves by an error says so, and the others end too.
    """
    here = launched() if here is None else here
    if here.size == 1:
        yield here
        return
    import torch.distributed as dist
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    with reached():
        store, _, _ = next(iter(rendezvous("env://", here.rank, here.size, timeout=PATIENCE)))
        if device.startswith("cuda"):
            import torch

            torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl" if device.startswith("cuda") else "gloo"
        dist.init_process_group(backend, store=store, rank=here.rank, world_size=here.size, timeout=PATIENCE)
    mine = Ranks(here.rank, here.size, here.local, here.local_size, PrefixStore("advisor", store))
    try:
        yield mine
    except BaseException:
        with reached_or_not():
            mine.store.set(GONE, "1")
        raise
    dist.destroy_process_group()


@contextmanager
def reached() -> Iterator[None]:
    """What the others did not answer is no bug of ours: Problem (exit 5)."""
    try:
        yield
    except (RuntimeError, OSError) as error:  # torch's errors of sockets, stores and process groups are RuntimeErrors
        raise lost(error) from error


@contextmanager
def reached_or_not() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, OSError):
        return


def lost(error: BaseException | None = None) -> Problem:
    """The line for a process whose fellows do not answer any more."""
    said = f": {SOURCE_LINE.sub('', ' '.join(str(error).split()))[:100]}" if error else ""
    return bad_environment(f"another process of this run is gone{said}", remedy=AGAIN)


class SharedJournal(Journal):
    """A journal that the first process keeps and the others hear: each of them sees the same decisions."""

    def __init__(self, path: Path, ranks: Ranks) -> None:
        if ranks.leads:
            super().__init__(path)
        self.path = path
        self._ranks = ranks
        self._values = ranks.same("journal", lambda: self._values)

    def decide(self, key: str, compute: Callable[[], Any]) -> Any:
        if self._ranks.leads:
            return super().decide(key, compute)
        if key not in self._values:
            self._values[key] = self._ranks.hear(f"journal/{key}")
        return self._values[key]

    def record(self, key: str, value: Any) -> None:
        super().record(key, value)
        self._ranks.tell(f"journal/{key}", self._values[key])
