"""What happens to our own processes."""

from __future__ import annotations

import signal
import time
from random import Random

from rig.faults.base import Fault, Here, Struck
from rig.offices import REGISTRATION, topic

SESSION = {True: 6.0, False: 2.0}  # seconds after which a reader that is not heard of is replaced; True: on Kafka
SPARE = 4.0


def kill(here: Here, dice: Random) -> Struck:
    """kill -9 of one process, of any kind."""
    name = dice.choice(sorted(here.site.parts))
    here.site.kill(name)
    return name, ()


def restart(here: Here, dice: Random) -> Struck:
    """SIGTERM, one process of a kind after the other: a rolling restart."""
    kind = dice.choice(sorted({part.kind for part in here.site.parts.values()}))
    for name in [part.name for part in here.site.parts.values() if part.kind == kind]:
        here.site.signal(name, signal.SIGTERM, 0, -signal.SIGTERM)  # the latter: it had only begun
        time.sleep(dice.uniform(0.5, 3.0))
    return kind, ()


def freeze(here: Here, dice: Random) -> Struck:
    """SIGSTOP of the materialiser that reads a topic, past its session, then SIGCONT: what it still writes is fenced.

    It joins again; fenced twice within a minute it ends (78). On SQLite it may hold the write lock meanwhile, and then
    nobody goes on.
    """
    first = _reader(here) or dice.choice(["materialise-1", "materialise-2"])
    here.site.signal(first, signal.SIGSTOP)
    time.sleep(SESSION[bool(here.places.kafka)] + SPARE)
    taken_over = _reader(here) != first
    here.site.signal(first, signal.SIGCONT, 78)
    return f"{first}{', taken over' if taken_over else ''}", ()


def cursor(here: Here, dice: Random) -> Struck:
    """kill -9 of a connector, and its cursor file is lost: it learns from the topic what it has published."""
    name = dice.choice(["register", "penalties"])
    files = here.site.folder / "data" / "cursors"

    def lose() -> None:
        for file in files.glob(f"market.{name}.db*"):
            file.unlink()

    here.site.kill(f"connector-{name}", meanwhile=lose)
    return f"connector-{name}", ()


def _reader(here: Here) -> str | None:
    """Which materialiser reads the topic of registrations now."""
    owner = here.tables.owner(topic(REGISTRATION))
    return next((name for name, pid in here.site.pids().items() if owner and owner.endswith(f":{pid}")), None)


PROCESSES = (
    Fault("kill", 20, kill, kills=1),
    Fault("restart", 2, restart),
    Fault("freeze", 2, freeze),
    Fault("cursor", 2, cursor, kills=1),
)
