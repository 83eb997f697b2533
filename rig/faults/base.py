"""A fault, a strike, and the schedule: all of it drawn from one seed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from rig.issuer import Issuer
from rig.places import Places
from rig.proxy import Proxy
from rig.servers import Servers
from rig.site import Failed, Site
from rig.tables import Tables

CALM = 60.0  # seconds within which every gateway must be ready again


@dataclass(frozen=True, slots=True)
class Here:
    """What a fault may lay hands on. Without Kafka or PostgreSQL of the rig's own, `servers` runs neither."""

    site: Site
    places: Places
    tables: Tables
    servers: Servers
    issuer: Issuer
    gateways: Sequence[Proxy]  # before them, for whoever pushes
    database: Proxy | None  # before PostgreSQL, for the product


@dataclass(frozen=True, slots=True)
class Strike:
    """What was done to whom, from when to when (Unix time), how many processes were killed, and what came of it."""

    fault: str
    target: str
    at: float
    until: float
    kills: int = 0
    wrong: Sequence[str] = ()


Struck = tuple[str, Sequence[str]]  # to whom it was done, and what was wrong then


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by its name on the command line; `weight`: how often it is drawn among the others.

    `do` strikes once. A fault that lasts ends before it returns.
    """

    name: str
    weight: int
    do: Callable[[Here, Random], Struck]
    kills: int = 0
    possible: Callable[[Here], bool] = lambda here: True
    calm: bool = False  # it begins when every gateway is ready: what struck before is over then

    def strike(self, here: Here, dice: Random) -> Strike:
        """Do it."""
        late = list(_late(here)) if self.calm else []
        at = time.time()
        target, wrong = self.do(here, dice)
        return Strike(self.name, target, at, time.time(), self.kills, [*late, *wrong])


@dataclass(frozen=True, slots=True)
class Planned:
    """The next fault, how long after the one before (seconds), and the seed of its own dice."""

    pause: float
    fault: Fault
    seed: str


def schedule(seed: int, faults: Sequence[Fault], mean: float) -> Iterator[Planned]:
    """One fault after the other, without end; the same for the same seed and faults."""
    dice = Random(f"{seed}/faults")
    weights = [fault.weight for fault in faults]
    for number in itertools.count(1) if faults else ():
        fault = dice.choices(faults, weights)[0]
        yield Planned(dice.uniform(0.2, 2 * mean - 0.2), fault, f"{seed}/{number}")


def _late(here: Here) -> Iterator[str]:
    for part in here.site.parts.values():
        if part.kind == "gateway":
            try:
                here.site.ready(part.name, CALM)
            except Failed as failed:
                yield str(failed)


def after(seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait until it holds; False if it does not after so many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
