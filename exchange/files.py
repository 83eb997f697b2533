"""Files that anybody may have put there: read within bounds."""

from __future__ import annotations

import stat
from pathlib import Path


class Unfit(Exception):
    """Why a file is not read, to be said after its name"""


def content(file: Path, limit: int) -> bytes:
    """The bytes of a regular file, at most `limit` of them. Raises OSError, Unfit."""
    if not stat.S_ISREG(file.stat().st_mode):  # a pipe would be waited for
        raise Unfit("is not a regular file")
    with file.open("rb") as stream:
        found = stream.read(limit + 1)
    if len(found) > limit:
        raise Unfit(f"is larger than {limit} bytes")
    return found
