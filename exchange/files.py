"""Files that people edit: read within bounds, for anybody may have put them there, and replaced in one step."""

from __future__ import annotations

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Unfit(Exception):
    """Why a file is not read, to be said after its name"""


def replace(file: Path, before: bytes, after: bytes) -> None:
    """Put new content in a file's place in one step, durably, with its mode and its owner.

    A link is followed. Raises OSError; Unfit if the file does not hold `before` any more.
    """
    real = file.resolve()
    with _held(real.parent):  # of two that change one file at the same moment, the second finds that it was changed
        if real.read_bytes() != before:
            raise Unfit("was changed meanwhile; look at it and try again")
        standing = real.stat()
        handle, name = tempfile.mkstemp(prefix=f".{real.stem}-", dir=real.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(after)
                os.fchmod(stream.fileno(), stat.S_IMODE(standing.st_mode))
                with suppress(PermissionError):
                    os.fchown(stream.fileno(), standing.st_uid, standing.st_gid)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(name, real)
        except BaseException:
            os.unlink(name)
            raise
        synced(real.parent)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Wait for whoever changes a file of this folder, and hold others off."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def owned_as_folder(file: Path) -> None:
    """Give a file that the administrator made to whom its folder belongs: a service reads it under its own account."""
    if os.geteuid() == 0:
        standing = file.parent.stat()
        os.chown(file, standing.st_uid, standing.st_gid)


def synced(path: Path) -> None:
    """Make what is in a file, or which names are in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def content(file: Path, limit: int) -> bytes:
    """The bytes of a regular file, at most `limit` of them. Raises OSError, Unfit."""
    if not stat.S_ISREG(file.stat().st_mode):  # a pipe would be waited for
        raise Unfit("is not a regular file")
    with file.open("rb") as stream:
        found = stream.read(limit + 1)
    if len(found) > limit:
        raise Unfit(f"is larger than {limit} bytes")
    return found
