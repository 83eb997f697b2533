"""SQLite as every part opens it: one engine build, one set of pragmas, files that only their owner can read.

All access goes through `pysqlite3`, whose SQLite is newer than Python's own. Builds before 3.51.3 (3.50.7, 3.44.6) can
corrupt a database in WAL mode when two processes checkpoint at once, and are refused.

SQLAlchemy gets the same connections:

    engine = sa.create_engine("sqlite+pysqlite://", module=dbapi2, creator=creator(path), poolclass=sa.QueuePool)

They are in autocommit mode (`isolation_level=None`): whoever wants a transaction opens one with `writing`; with
SQLAlchemy that is a listener on the engine's `begin` event.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pysqlite3 import dbapi2

from exchange.errors import SettingWrong, UnsafeSQLite
from exchange.files import synced

if TYPE_CHECKING:  # the same interface; pysqlite3 itself carries no types
    from sqlite3 import Connection
else:
    Connection = dbapi2.Connection

__all__ = ["Connection", "check_build", "connect", "creator", "dbapi2", "writing"]

_SAFE = (3, 51, 3)
_SAFE_PATCHES = {(3, 50): 7, (3, 44): 6}  # branches that the repair was carried back to
_WAL_BYTES = 64 * 1024 * 1024
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def check_build(version: tuple[int, int, int] | None = None) -> None:
    """Raise UnsafeSQLite if this SQLite build (or the given version) can corrupt a database in WAL mode."""
    major, minor, patch = version or dbapi2.sqlite_version_info
    if (major, minor, patch) < _SAFE and patch < _SAFE_PATCHES.get((major, minor), patch + 1):
        raise UnsafeSQLite(
            f"SQLite {major}.{minor}.{patch} is in use; 3.51.3 or newer is needed (or 3.50.7, 3.44.6): "
            "install the pysqlite3 wheel of the lock file, or build it against a newer SQLite"
        )


def connect(path: Path | str, *, readonly: bool = False, busy_seconds: float = 10.0) -> Connection:
    """Open a database file; unless `readonly`, make it first if it does not exist (its folder must).

    *Durability*: WAL with synchronous=FULL, so a commit that returned survives a loss of power. *Blocking*: a statement
    waits up to `busy_seconds` for another process's lock and then raises `dbapi2.OperationalError`. *Threads*: the
    connection may be handed to another thread, but is used by one at a time. The file, its -wal and its -shm have mode
    0600 (the latter two take the mode of the first).

    Raises UnsafeSQLite; SettingWrong if the file cannot be made, or others can read it and that cannot be changed;
    `dbapi2.Error`.
    """
    check_build()
    path = Path(path).absolute()
    if not readonly:
        _make(path)
    connection: Connection = dbapi2.connect(
        f"{path.as_uri()}?mode={'ro' if readonly else 'rw'}",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        if not readonly:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def writing(connection: Connection) -> Iterator[None]:
    """A transaction that holds the write lock and is durable when the block has ended. Raises `dbapi2.Error`."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # on a full disk SQLite may have rolled back already
            connection.execute("ROLLBACK")
        raise


def creator(path: Path | str, **options: Any) -> Callable[[], Connection]:
    """What SQLAlchemy's `create_engine(creator=...)` wants: a function that opens `path` as `connect` does."""
    return lambda: connect(path, **options)


def _make(path: Path) -> None:
    """Make the file with mode 0600, or tighten one that others can read.

    A new database is made whole under another name and then linked: never is there a moment in which others can read
    it or two processes switch it to WAL at once. The file is never opened by its own name here, because closing any
    descriptor of it would drop the locks that SQLite holds for another thread of this process (fcntl locks).
    """
    if not path.exists():
        try:
            _make_new(path)
        except OSError as error:
            raise SettingWrong(f"{path} cannot be made: {error.strerror}") from error
        return
    for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        with suppress(FileNotFoundError):
            mode = file.stat().st_mode
            if not mode & _OTHERS:
                continue
            try:
                file.chmod(stat.S_IRUSR | stat.S_IWUSR)
            except PermissionError:
                raise SettingWrong(
                    f"{file} can be read by others (mode {stat.S_IMODE(mode):04o}) and belongs to another user"
                ) from None


def _make_new(path: Path) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    try:
        fresh: Connection = dbapi2.connect(name, isolation_level=None)
        fresh.execute("PRAGMA journal_mode = WAL").fetchone()
        fresh.close()
        with suppress(FileExistsError):  # another process was faster
            os.link(name, path)
    finally:
        os.unlink(name)
    synced(path.parent)  # the name is as durable as what will be committed under it
