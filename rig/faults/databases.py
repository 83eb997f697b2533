"""PostgreSQL: killed, read-only, a table locked."""

from __future__ import annotations

import time
from random import Random

import psycopg

from rig.faults.base import Fault, Here, Struck
from rig.servers import POSTGRES

READ_ONLY = 10.0  # seconds
LOCKED = 30.0
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


def _ours(here: Here) -> bool:
    return POSTGRES in here.servers.running


def _used(here: Here) -> bool:
    return bool(here.places.store)


DATABASES = (
    Fault("database-kill", 2, kill, kills=1, possible=_ours),
    Fault("database-read-only", 1, read_only, possible=_ours),
    Fault("database-locked", 1, locked, possible=_used),
)
