"""Memory, descriptors and threads of every process, as Linux counts them (proc(5)), and how they grow in a life."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event

EVERY = 0.5  # seconds between two looks
SETTLED = 15.0  # seconds of a life until what a process holds is what it needs
LONG_ENOUGH = 30.0  # seconds that a life must last for its growth to say anything

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds: resident memory in MiB, open file descriptors, threads."""

    mib: float
    descriptors: int
    threads: int


@dataclass(slots=True)
class Life:
    """One process from its start to its end."""

    name: str
    began: float
    seen: float = 0.0
    settled: Held | None = None
    last: Held | None = None


class Watch:
    """Looks at the processes; `pids` says which there are, by name."""

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self._pids = pids
        self._lives: dict[int, Life] = {}

    def work(self, over: Event) -> None:
        """Look until it is over."""
        while not over.wait(EVERY):
            self.look()

    def look(self) -> None:
        """Once."""
        now = time.monotonic()
        for name, pid in self._pids().items():
            with suppress(OSError, ValueError, StopIteration):  # it has just ended
                held = _held(pid)
                life = self._lives.setdefault(pid, Life(name, now))
                life.seen, life.last = now, held
                if life.settled is None and now - life.began >= SETTLED:
                    life.settled = held

    def most(self) -> dict[str, dict[str, float]]:
        """By process name, the most that any life of it held at its end."""
        found: dict[str, dict[str, float]] = {}
        for life in self._lives.values():
            if life.last is not None:
                most = found.setdefault(life.name, dict.fromkeys(("mib", "descriptors", "threads"), 0.0))
                for what, value in asdict(life.last).items():
                    most[what] = max(most[what], round(value, 1))
        return found

    def growth(self) -> list[tuple[str, Held]]:
        """Of every life that lasted long enough: how much more it held at its end than when it had settled."""
        return [
            (life.name, Held(last.mib - was.mib, last.descriptors - was.descriptors, last.threads - was.threads))
            for life in self._lives.values()
            if (was := life.settled) and (last := life.last) and life.seen - life.began >= LONG_ENOUGH
        ]


def _held(pid: int) -> Held:
    folder = Path(f"/proc/{pid}")
    resident = int((folder / "statm").read_text().split()[1]) * PAGE
    descriptors = len(os.listdir(folder / "fd"))
    status = (folder / "status").read_text().splitlines()
    threads = next(int(line.split()[1]) for line in status if line.startswith("Threads:"))
    return Held(resident / 2**20, descriptors, threads)
