"""The disk under topics, store, audit log and cursor files: full, and free again."""

from __future__ import annotations

import os
import time
from pathlib import Path
from random import Random

from rig.faults.base import Fault, Here, Struck

FULL = 8.0  # seconds
SMALL = 1 << 30  # bytes: only a file system that was made to be filled


def full(here: Here, dice: Random) -> Struck:
    """Not a byte is left; then all of it is given back."""
    data = _data(here)
    filler = data / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:  # ENOSPC; and what is left takes smaller pieces
                continue
        time.sleep(FULL)
    filler.unlink()
    return "data", ()


def _data(here: Here) -> Path:
    return here.site.folder / "data"


def _small(here: Here) -> bool:
    found = os.statvfs(_data(here))
    return found.f_frsize * found.f_blocks <= SMALL


DISKS = (Fault("disk-full", 1, full, possible=_small),)
