"""Rounds, figures, ratios, and the machine they were measured on."""

from __future__ import annotations

import gc
import logging
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

Round = Mapping[str, float]  # what one side measured in one round, by the figure's name


class CannotMeasure(Exception):
    """A service is missing, or the sides did not do the same"""


@dataclass(frozen=True, slots=True)
class Side:
    """One way of doing it: `measure` runs it once, from a fresh start, and returns its figures."""

    name: str
    measure: Callable[[], Round]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What the sides gave, round by round. The first side is ours; `rate` is the figure whose ratio counts.

    What has a bound and no peer has one side, and no ratio.
    """

    name: str
    rate: str
    rounds: Mapping[str, Sequence[Round]]
    facts: Mapping[str, Any]  # how much was done, and that both sides did the same
    grows: bool = False  # the sides are sizes of one thing, and no two of them stand against each other

    def ratios(self) -> dict[str, float] | None:
        """Our rate through the other side's, in each round; its median and its bounds."""
        if self.grows or len(self.rounds) == 1:
            return None
        ours, theirs = self.rounds.values()
        return _spread([one[self.rate] / other[self.rate] for one, other in zip(ours, theirs, strict=True)])

    def figures(self) -> dict[str, dict[str, dict[str, float]]]:
        """Of each side, each figure's median and bounds over the rounds."""
        return {
            side: {figure: _spread([one[figure] for one in rounds]) for figure in rounds[0]}
            for side, rounds in self.rounds.items()
        }

    def document(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "rate": self.rate,
            "ratio": self.ratios(),
            "sides": self.figures(),
            "rounds": {side: [dict(one) for one in rounds] for side, rounds in self.rounds.items()},
            "facts": dict(self.facts),
        }


def interleaved(sides: Sequence[Side], rounds: int, tell: Callable[[str], None]) -> dict[str, list[Round]]:
    """Measure A B, A B, ...: what drifts on the machine drifts for both.

    What exists before a round is no longer looked at by the garbage collector, as a process does after its start.
    """
    measured: dict[str, list[Round]] = {side.name: [] for side in sides}
    for number in range(1, rounds + 1):
        for side in sides:
            gc.collect()
            gc.freeze()
            found = side.measure()
            gc.unfreeze()
            measured[side.name].append(found)
            tell(f"  round {number}/{rounds}  {side.name:10}  {shown(found)}")
    return measured


def timed(rate: str, count: int, work: Callable[[], object]) -> Round:
    """Do it once: how many things a second, and the processor time of this process for one of them."""
    wall, used = time.perf_counter(), time.process_time()
    work()
    wall, used = time.perf_counter() - wall, time.process_time() - used
    return {rate: count / wall, "cpu us": used / count * 1e6}


def shown(figures: Round) -> str:
    """Figures on one line."""
    return "  ".join(f"{name} {value:,.{0 if value >= 100 else 2}f}" for name, value in figures.items())


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def quiet() -> None:
    """Keep the product's own lines out of ours, in each process."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


# --- the machine ------------------------------------------------------------------------------------------------------


def machine(folder: Path) -> dict[str, Any]:
    """What the figures depend on: processor, memory, load at the start, and how long `folder`'s disk takes to sync."""
    return {
        "processor": _line_of("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_at_start": round(os.getloadavg()[0], 2),
        "fdatasync_ms": round(_sync_ms(folder), 3),
    }


def cpu_seconds(pid: int) -> float:
    """What a process has used of the processors so far, all its threads together (Linux: proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _sync_ms(folder: Path) -> float:
    """Median time of writing 8 kB and making it durable."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(50):
            started = time.perf_counter()
            os.pwrite(file.fileno(), bytes(8192), 0)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1e3


def _line_of(file: str, name: str) -> str | None:
    try:
        lines = Path(file).read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)
