"""Memory, descriptors and threads of every process, as Linux counts them (proc(5)), and how they grow in a life."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event

EVERY = 0.5  # seconds between two looks
LONG_ENOUGH = 60.0  # seconds that a life must last for its growth to say anything
LISTEN = "0A"  # a socket's state

PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Held:
    """What a process holds: resident memory in MiB, open file descriptors, threads."""

    mib: float
    descriptors: int
    threads: int


@dataclass(slots=True)
class Life:
    """One process from when it serves to its end: when (monotonic seconds) it held what.

    A process that is starting holds next to nothing, and on a busy machine that lasts half a minute: what it takes then
    is no growth.
    """

    name: str
    serves: bool = False
    looks: list[tuple[float, Held]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return self.looks[-1][0] - self.looks[0][0]

    @property
    def growth(self) -> Held:
        """How much more it held at its end than at any time in the first half of its life.

        In the first half a process takes what it needs: connections, threads, code that is loaded at the first use.
        """
        half = self.looks[0][0] + self.seconds / 2
        early = [held for at, held in self.looks if at <= half]
        last = self.looks[-1][1]
        return Held(
            last.mib - max(held.mib for held in early),
            last.descriptors - max(held.descriptors for held in early),
            last.threads - max(held.threads for held in early),
        )


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
                life = self._lives.setdefault(pid, Life(name))
                life.serves = life.serves or _listens(pid)
                if life.serves:
                    life.looks.append((now, _held(pid)))

    def most(self) -> dict[str, dict[str, float]]:
        """By process name, the most that any life of it held at its end."""
        found: dict[str, dict[str, float]] = {}
        for life in self._served():
            most = found.setdefault(life.name, dict.fromkeys(("mib", "descriptors", "threads"), 0.0))
            for what, value in asdict(life.looks[-1][1]).items():
                most[what] = max(most[what], round(value, 1))
        return found

    def growth(self) -> list[tuple[str, Held]]:
        """Of every life that lasted long enough."""
        return [(life.name, life.growth) for life in self._served() if life.seconds >= LONG_ENOUGH]

    def _served(self) -> list[Life]:
        return [life for life in self._lives.values() if life.looks]


def _listens(pid: int) -> bool:
    """Whether it has opened its port: that of its metrics, if it has no other."""
    tables = [Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    listening = {f"socket:[{inode}]" for table in tables for inode in map(_listener, table) if inode}
    return any(_link(each) in listening for each in Path(f"/proc/{pid}/fd").iterdir())


def _listener(line: str) -> str | None:
    """The inode of a line's socket, if that listens."""
    columns = line.split()
    return columns[9] if columns[3] == LISTEN else None


def _link(descriptor: Path) -> str:
    try:
        return os.readlink(descriptor)
    except FileNotFoundError:  # closed meanwhile
        return ""


def _held(pid: int) -> Held:
    folder = Path(f"/proc/{pid}")
    resident = int((folder / "statm").read_text().split()[1]) * PAGE
    descriptors = len(os.listdir(folder / "fd"))
    status = (folder / "status").read_text().splitlines()
    threads = next(int(line.split()[1]) for line in status if line.startswith("Threads:"))
    return Held(resident / 2**20, descriptors, threads)
