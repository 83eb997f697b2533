"""PostgreSQL: killed, read-only, a table locked, its disk full."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import psycopg

from rig.faults.base import Fault, Here, Struck, after
from rig.faults.disks import filled
from rig.servers import POSTGRES
from rig.site import Failed
from rig.topics import Away

READ_ONLY = 10.0  # seconds
LOCKED = 30.0
FULL, LOG_FULL = "database-full", "database-log-full"
FULL_FOR = 8.0
AGAIN = 60.0  # within which it answers when there is room again
TABLES = ("facets", "positions", "audit_entries", "push_claims")


def kill(here: Here, dice: Random) -> Struck:
    """kill -9 of PostgreSQL, and it is started again."""
    here.servers.kill(POSTGRES)
    here.servers.start(POSTGRES)
    return POSTGRES, ()


def read_only(here: Here, dice: Random) -> Struck:
    """Whatever is written is refused, as on a standby: nothing is shown, because it could not be logged."""
    here.tables.store.run("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    time.sleep(READ_ONLY)
    here.tables.store.run(
        "SET default_transaction_read_only = off",
        "ALTER SYSTEM RESET default_transaction_read_only",
        "SELECT pg_reload_conf()",
    )
    return POSTGRES, ()


def locked(here: Here, dice: Random) -> Struck:
    """One table is locked by somebody for half a minute."""
    table = dice.choice(TABLES)
    with psycopg.connect(here.places.store) as connection:
        connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        time.sleep(LOCKED)
    return table, ()


def full(here: Here, dice: Random) -> Struck:
    """Its disk has not a byte left: whatever makes a table grow is refused."""
    with filled(_disk(here)) as fill:
        _meanwhile(fill)
    return _again(here)


def log_full(here: Here, dice: Random) -> Struck:
    """Its disk has no room for its log either: it gives itself up (PANIC), cannot recover, and is gone."""
    refused: list[Away] = []

    def use_up() -> None:
        fill()
        try:  # what it keeps ready of its log
            here.tables.store.run("SELECT pg_logical_emit_message(true, 'rig', 'x')", "SELECT pg_switch_wal()")
        except Away as away:
            refused.append(away)

    with filled(_disk(here)) as fill:
        _meanwhile(use_up)
    target, wrong = _again(here)
    return target, wrong if refused else [*wrong, "PostgreSQL found room for its log"]


def _meanwhile(do: Callable[[], None]) -> None:
    end = time.monotonic() + FULL_FOR
    while time.monotonic() < end:
        do()
        time.sleep(0.2)


def _again(here: Here) -> Struck:
    """There is room: whoever made it starts PostgreSQL if it is gone."""
    if after(AGAIN, lambda: _answers(here)):
        return POSTGRES, ()
    return POSTGRES, [f"PostgreSQL did not answer {AGAIN:.0f} s after there was room again"]


def _disk(here: Here) -> Path:
    assert here.servers.small is not None
    return here.servers.small


def _answers(here: Here) -> bool:
    try:
        here.servers.start(POSTGRES)
        return bool(here.tables.store.rows("SELECT 1"))
    except (Away, Failed):
        return False


def _confined(here: Here) -> bool:
    return here.servers.small is not None


def _ours(here: Here) -> bool:
    return POSTGRES in here.servers.running


def _used(here: Here) -> bool:
    return bool(here.places.store)


DATABASES = (
    Fault("database-kill", 2, kill, kills=1, possible=_ours),
    Fault("database-read-only", 1, read_only, possible=_ours),
    Fault("database-locked", 1, locked, possible=_used),
    Fault(FULL, 1, full, possible=_confined),
    Fault(LOG_FULL, 1, log_full, possible=_confined),
)
