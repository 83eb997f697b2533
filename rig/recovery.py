"""How long it took until a killed process served again: measured on what it serves, not on its being there.

A gateway serves when it says that it is ready; a connector when a message of its source is in the topic; materialise
when each contract has had an effect again (two share the topics, so one goes on). Where another fault struck before
that, the time says nothing about the first one and is not counted.
"""

from __future__ import annotations

import itertools
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Event

import httpx2

from rig.checkers import Evidence
from rig.faults import Strike
from rig.meddling import mark
from rig.offices import CONTRACTS, REGISTER, TABLE
from rig.servers import KAFKA, POSTGRES

EVERY = 0.05
CALM = 10.0  # seconds until a fault that was no kill of a process is felt no more
SERVERS = (KAFKA, POSTGRES)
PARTS = dict.fromkeys(("gateway-1", "gateway-2", "materialise-1", "materialise-2"))
SOURCES = {"connector-register": REGISTER, "connector-penalties": TABLE}


class Probe:
    """Asks each gateway whether it is ready, all the time."""

    def __init__(self, gateways: Mapping[str, str]) -> None:
        """`gateways`: URL by name."""
        self._gateways = gateways
        self.ready: dict[str, list[float]] = {name: [] for name in gateways}

    def work(self, over: Event) -> None:
        """Until it is over."""
        with httpx2.Client(timeout=2) as http:
            while not over.wait(EVERY):
                for name, url in self._gateways.items():
                    asked = time.time()
                    try:
                        answer = http.get(f"{url}/readyz")
                    except httpx2.TransportError:
                        continue
                    if answer.status_code == 200:
                        self.ready[name].append(asked)

    def last(self) -> bool:
        """Whether every gateway was ready a moment ago."""
        return all(times and time.time() - times[-1] < 1.0 for times in self.ready.values())


@dataclass(frozen=True, slots=True)
class Recovery:
    """A kill, and the seconds until what was killed served again; None where another fault came first."""

    target: str
    seconds: float | None


def recoveries(evidence: Evidence, strikes: Sequence[Strike], probe: Probe) -> list[Recovery]:
    """One for each kill, and one for each server that was away; of that from when it answered again."""
    gateways = {name: [[*times]] for name, times in probe.ready.items()}
    effects = [sorted(each.at for each in evidence.effects if each.target.endswith(f" {name}")) for name in CONTRACTS]
    serves = {**gateways, "materialise-1": effects, "materialise-2": effects}
    serves |= {server: [*effects, *(times for found in gateways.values() for times in found)] for server in SERVERS}
    for part, source in SOURCES.items():
        found = (each.at for each in evidence.good() if each.source == source and mark(each) is None)
        serves[part] = [sorted(found)]
    told = []
    for before, strike, following in zip([None, *strikes], strikes, [*strikes[1:], None], strict=False):
        if strike.kills or strike.target in SERVERS:
            began = strike.until if strike.target in SERVERS else strike.at
            until = max(_first(times, began) for times in serves[strike.target])
            alone = (following is None or until < following.at) and not _shaken(before, strike)
            told.append(Recovery(strike.target, until - began if alone and until < float("inf") else None))
    return told


def gaps(served: Sequence[float], strike: Strike) -> tuple[int, float]:
    """How many views were asked for and served while a fault lasted, and the longest time without one, in seconds."""
    within = sorted(at for at in served if strike.at <= at <= strike.until)
    ends = [strike.at, *within, strike.until]
    return len(within), max(after - before for before, after in itertools.pairwise(ends))


def _shaken(before: Strike | None, strike: Strike) -> bool:
    """Whether what came before was no kill of one process, and may still be felt."""
    return before is not None and before.target not in SOURCES | PARTS and strike.at - before.until < CALM


def _first(times: Sequence[float], after: float) -> float:
    place = bisect_right(times, after)
    return times[place] if place < len(times) else float("inf")
