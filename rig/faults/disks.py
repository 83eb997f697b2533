"""The disk under topics, store, audit log and cursor files: full, and free again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

from rig.faults.base import Fault, Here, Struck

FULL = 8.0  # seconds
SMALL = 1 << 30  # bytes: only a file system that was made to be filled


def full(here: Here, dice: Random) -> Struck:
    """Not a byte is left; then all of it is given back."""
    with filled(_data(here)):
        time.sleep(FULL)
    return "data", ()


@contextmanager
def filled(folder: Path) -> Iterator[Callable[[], None]]:
    """Not a byte is left on the disk of this folder until the block ends; what it gets takes what came free again."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:

        def fill() -> None:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:  # ENOSPC; and what is left takes smaller pieces
                    continue

        fill()
        try:
            yield fill
        finally:
            filler.unlink()


def _data(here: Here) -> Path:
    return here.site.folder / "data"


def _small(here: Here) -> bool:
    found = os.statvfs(_data(here))
    return found.f_frsize * found.f_blocks <= SMALL


DISKS = (Fault("disk-full", 1, full, possible=_small),)
