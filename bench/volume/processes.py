"""Memory and processor time of processes, as Linux counts them (proc(5))."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.5  # seconds between two looks

_TICKS = os.sysconf("SC_CLK_TCK")
_LISTEN = "0A"


@dataclass(slots=True)
class Usage:
    """What a process with its children has used: seconds of processor time, and the most memory at a time (bytes)."""

    cpu_seconds: float = 0.0
    peak_bytes: int = 0


class Watch:
    """Looks at processes until closed. `pids` says which there are, by name; a process started again counts on."""

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self._pids = pids
        self._usage: dict[tuple[str, int], Usage] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")
        self._thread.start()

    def look(self) -> dict[str, Usage]:
        """What each has used until now."""
        for name, pid in self._pids().items():
            with suppress(OSError, ValueError):  # it has just ended
                usage = self._usage.setdefault((name, pid), Usage())
                usage.cpu_seconds = cpu_seconds(pid)
                usage.peak_bytes = max(usage.peak_bytes, peak_bytes(pid))
        total: dict[str, Usage] = {}
        for (name, _), usage in list(self._usage.items()):
            sum_ = total.setdefault(name, Usage())
            sum_.cpu_seconds += usage.cpu_seconds
            sum_.peak_bytes = max(sum_.peak_bytes, usage.peak_bytes)
        return total

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(EVERY):
            self.look()


def cpu_seconds(pid: int) -> float:
    """Processor time so far, of all threads and all children, those that have ended too."""
    root, *children = [_times(each) for each in family(pid)]
    return (sum(root) + sum(sum(child[:2]) for child in children)) / _TICKS


def peak_bytes(pid: int) -> int:
    """The most memory resident at one time; of a process with children what all hold now, shared pages once."""
    members = family(pid)
    if len(members) == 1:
        return _kib(Path(f"/proc/{pid}/status"), "VmHWM:")
    return sum(map(proportional_bytes, members))


def proportional_bytes(pid: int) -> int:
    """What is resident now, a page that several processes share counted as a part (PSS)."""
    return _kib(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def listener(port: int) -> int | None:
    """The process that listens on a port of the loopback, if this user may see it."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    lines += [line.split() for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
    wanted = {f"socket:[{line[9]}]" for line in lines if line[3] == _LISTEN and line[1].endswith(f":{port:04X}")}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(os.readlink(handle) in wanted for handle in (entry / "fd").iterdir()):
                return int(entry.name)
    return None


def family(pid: int) -> list[int]:
    """A process and its children."""
    found = [pid]
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def _times(pid: int) -> list[int]:
    """utime, stime, cutime, cstime."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:  # a child that has just ended
        return [0, 0, 0, 0]
    return [int(field) for field in fields[11:15]]


def _kib(file: Path, name: str) -> int:
    line = next(line for line in file.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024
