"""Standing names: how a process is called, and its successor after it, and no other living process.

A name is held by a locked file in a folder, and the kernel lets go of the lock however the process ends. So whoever has
the name knows that its former bearer is dead, and need not wait until that one's silence has been long enough. One that
was only stopped (SIGSTOP) still holds its lock.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import re
import secrets
import socket
from pathlib import Path
from typing import IO

_PLACE = re.compile(rb"[0-9a-f]{16}")


class StandingName:
    """A name in a folder, `role.host.place.n`, held until `close`. `name` is None where the folder
    is missing or cannot be written.

    `place` is drawn once for each folder, so that two containers of one host name are not taken for one; `n` counts the
    processes of one role that share the folder. `role` is of letters, digits and `-`.
    """

    def __init__(self, folder: Path, role: str) -> None:
        self.name: str | None = None
        self._lock: IO[bytes] | None = None
        try:
            place = _place(folder / "place")
            number, self._lock = _lock_one(folder, role)
        except OSError:
            return
        host = re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname())[:100]
        self.name = f"{role}.{host}.{place}.{number}"

    def close(self) -> None:
        """Let go of the name; a second time does nothing."""
        if self._lock is not None:
            self._lock.close()


def held(folder: Path, locks: str = "*-*.lock") -> list[str]:
    """The names of this folder that living processes bear, without host and place: `gateway-1`.

    `locks`: which files are locked while a process lives; those of standing names unless it is said.
    """
    found = []
    for file in sorted(folder.glob(locks)):
        with file.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(file.stem)
    return found


def _place(file: Path) -> str:
    """What tells this folder from every other: drawn by the first that asks."""
    with open(file, "a+b", opener=_for_the_owner) as drawn:
        fcntl.flock(drawn, fcntl.LOCK_EX)
        drawn.seek(0)
        text = drawn.read(16)
        if _PLACE.fullmatch(text) is None:  # new, or written when the disk was full
            text = secrets.token_hex(8).encode("ascii")
            drawn.truncate(0)
            drawn.write(text)
        return text.decode("ascii")


def _lock_one(folder: Path, role: str) -> tuple[int, IO[bytes]]:
    """The first of the numbered files that nobody has locked."""
    for number in itertools.count(1):
        lock = open(folder / f"{role}-{number}.lock", "ab", opener=_for_the_owner)  # noqa: SIM115 the caller closes it
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
        except OSError:
            lock.close()
            raise
        else:
            return number, lock
    raise AssertionError


def _for_the_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
