"""Random bytes of the kernel, fetched many at a time.

Each call for them gives the interpreter lock away, and on a busy process the event loop then waits to have it back.
What is fetched is given out once: not to two threads, and not in a forked process again.
"""

from __future__ import annotations

import os

PIECE = 16
_AT_ONCE = 256
_kept: list[bytes] = []

os.register_at_fork(after_in_child=_kept.clear)


def piece() -> bytes:
    """16 random bytes."""
    while True:
        try:
            return _kept.pop()  # one step for the interpreter: nobody else gets it
        except IndexError:
            found = os.urandom(PIECE * _AT_ONCE)
            _kept.extend(found[at : at + PIECE] for at in range(0, len(found), PIECE))
