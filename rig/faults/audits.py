"""The audit log cannot be written: nothing is shown meanwhile."""

from __future__ import annotations

import time
from random import Random

import psycopg

from rig.faults.base import Fault, Here, Struck
from rig.tables import SqliteFile

LOCKED = 8.0  # seconds


def locked(here: Here, dice: Random) -> Struck:
    """Somebody holds a lock on the audit log, as maintenance does that does not end."""
    if here.places.store:
        with psycopg.connect(here.places.store) as connection:
            connection.execute("LOCK TABLE audit_entries IN ACCESS EXCLUSIVE MODE")
            time.sleep(LOCKED)
    else:
        with SqliteFile(here.site.folder / "data" / "audit.db").locked():
            time.sleep(LOCKED)
    return "audit log", ()


AUDITS = (Fault("audit-locked", 1, locked),)
