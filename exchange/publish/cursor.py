"""The cursor file: what a connector last published of each row, in a SQLite file of its own (mode 0600).

It is a cache of the topic with one thing the topic lacks: what was about to be sent when the process died. From one
table follow repeats with their old number, unchanged rows, corrected keys and the rows that a snapshot no longer has.

    before a batch is produced    `write`: each entry as it will be in the topic, under a number of its own
    after it was acknowledged     `acknowledge`: the numbers up to here are in the topic; the source's position moves

An entry whose number was written and never acknowledged is *doubtful*: it may be in the topic or not. Sent again
unchanged it carries its old number, changed it gets a new one, so no number ever stands for two values.

One process holds the file (a lock beside it); others may read its status.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from exchange import sqlite
from exchange.errors import CursorHeld, CursorUnavailable, SettingWrong
from exchange.publish.entries import LEARNED, SCHEMA, TABLES, Entries, Entry, Told
from exchange.publish.learning import Learned, Learning
from exchange.publish.rows import Keeps, Outcome
from exchange.records import rfc3339

if TYPE_CHECKING:
    from sqlite3 import Connection

READINGS_KEPT = 200
_CACHE_KIB = 64 * 1024
_WAL_PAGES = 8_000
_WAL_KEPT = 1024 * 1024  # bytes of its log that a file at rest may have

_COUNTS = [part.name for part in fields(Outcome)]


class CursorFile:
    """The cursor file at `path`, held by this process until `close`.

    Raises CursorHeld if another process holds it; SettingWrong if it is of another format or its folder is missing.
    Whatever writes raises CursorUnavailable if that cannot be done now, as on a full disk: nothing has changed then, as
    far as the file can tell, and the next reading goes on from there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = _lock(path)
        self._closed = False
        try:
            with _reported(path):
                self._db: Connection = sqlite.connect(path)
                # Keys are hashes, so a batch touches pages all over the file: keep them in memory, copy them back
                # seldom.
                self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
                self._db.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
                self._migrate()
        except BaseException:
            os.close(self._lock)
            raise
        self.rows = Entries(self._db, self._transaction)
        self._position: dict[str, str] = {}
        self._next_id = 1
        self._recall()
        self._reading: int | None = None

    # -- state --

    def state(self, name: str) -> str | None:
        """A value of the file's own state."""
        found = self._db.execute("SELECT value FROM state WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    @property
    def fresh(self) -> bool:
        """Whether the file has not learned its epoch yet: it is new, or its first reading of the topic broke off."""
        return self.state("epoch") is None

    @property
    def empty(self) -> bool:
        """Whether there is no entry at all."""
        return self._next_id == 1

    @property
    def epoch(self) -> int:
        return int(self.state("epoch") or 0)

    @property
    def next_sequence(self) -> int:
        return int(self.state("next_sequence") or 1)

    @property
    def position(self) -> Mapping[str, str]:
        """What the source is remembered by: values by name."""
        return self._position

    @property
    def offsets(self) -> dict[int, int]:
        """The last offset that was produced to the contract's topic, per partition."""
        return dict(self._db.execute("SELECT partition, last FROM offsets"))

    def begin(self, identity: Mapping[str, str], *, by_key: bool = False) -> None:
        """Note what this file belongs to, or raise SettingWrong, naming the difference, if it belongs to another.

        `by_key` prepares it for `holders`.
        """
        for name, value in identity.items():
            found = self.state(name)
            if found is not None and found != value:
                raise SettingWrong(
                    f"{self.path} belongs to {name} {found}, not {value}: give this instance a `cursor` file of its own"
                )
        with self._transaction():
            self._set(identity)
            if by_key:
                self._db.execute("CREATE INDEX IF NOT EXISTS rows_key ON rows (key)")

    def learn(self, messages: Iterable[Learned], result: Learning, keeps: Keeps) -> None:
        """Fill a fresh file with the newest of these messages under each key, and start the next epoch."""
        with self._transaction():
            self.rows.forget_all()
            self._db.execute(
                "CREATE TEMP TABLE learned (key TEXT PRIMARY KEY, digest BLOB, epoch INTEGER, sequence INTEGER,"
                " version INTEGER) WITHOUT ROWID"
            )
            self._db.executemany(
                "INSERT INTO learned VALUES (?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET digest = excluded.digest,"
                " epoch = excluded.epoch, sequence = excluded.sequence, version = excluded.version"
                " WHERE (excluded.epoch, excluded.sequence) > (epoch, sequence)",
                ((m.key, m.digest, m.epoch, m.sequence, m.version) for m in messages),
            )
            if keeps is not Keeps.FLIGHT:
                place, key = ("key", "''") if keeps is Keeps.KEYS else (f"'{LEARNED}' || key", "key")
                self._db.execute(
                    f"INSERT INTO rows (place, key, id, digest, sequence, version)"  # noqa: S608
                    f" SELECT {place}, {key}, row_number() OVER (), digest, 0, version FROM learned"
                    " WHERE digest NOT NULL"
                )
            self._next_id = self._db.execute("SELECT count(*) + 1 FROM rows").fetchone()[0]
            learned = self._db.execute("SELECT count(*) FROM rows WHERE key <> ''").fetchone()[0]
            self._db.execute("DROP TABLE learned")
            self._save_offsets(result.offsets)
            self._set(
                {
                    "epoch": str(result.epoch + 1),
                    "next_sequence": "1",
                    "acknowledged": "0",
                    "learned": str(learned),
                    "next_id": str(self._next_id),
                }
            )

    def new_id(self) -> int:
        """The id of an entry to be written."""
        self._next_id += 1
        return self._next_id - 1

    # -- a reading --

    def open_reading(self, began: datetime) -> None:
        """Start a reading. What was written and not acknowledged in an earlier one is doubtful from now on."""
        with self._transaction():
            acknowledged = int(self.state("acknowledged") or 0)
            if acknowledged < self.next_sequence - 1:
                self.rows.settle()
                for table in ("rows", "rejects"):
                    self._db.execute(f"UPDATE {table} SET doubtful = 1 WHERE sequence > ?", (acknowledged,))  # noqa: S608
                self._set({"acknowledged": str(self.next_sequence - 1)})
            self._reading = self._db.execute(
                f"INSERT INTO readings (began, {', '.join(_COUNTS)}) VALUES (?, 0, 0, 0, 0, 0, 0) RETURNING id",  # noqa: S608
                (rfc3339(began),),
            ).fetchone()[0]
            self._db.execute("DELETE FROM readings WHERE id <= ?", (self._reading - READINGS_KEPT,))

    def write(
        self, entries: Collection[Entry], rejects: Iterable[Told], next_sequence: int, claimed: Collection[Entry] = ()
    ) -> None:
        """Make durable what is about to be produced. The line of no return is the `publish` behind this.

        `claimed` are learned entries that stand under another place among the entries.
        """
        with self._transaction():
            self.rows.forget(claimed)
            self.rows.put(entries)
            self._db.executemany(
                "INSERT OR REPLACE INTO rejects (place, digest, sequence, at, doubtful) VALUES (?, ?, ?, ?, ?)",
                [(told.place, told.digest, told.sequence, rfc3339(told.at), told.doubtful) for told in rejects],
            )
            self._set({"next_sequence": str(next_sequence), "next_id": str(self._next_id)})

    def acknowledge(
        self,
        *,
        settled: Collection[Entry] = (),
        settled_rejects: Iterable[str] = (),
        forget: Collection[Entry] = (),
        position: Mapping[str, str | None] | None = None,
        offsets: Mapping[int, int] | None = None,
        outcome: Outcome | None = None,
        in_flight_only: bool = False,
    ) -> None:
        """All that was written is in the topic. `settled` were doubtful, `forget` are entries that are done with.

        `in_flight_only` forgets every entry that is not doubtful (Keeps.FLIGHT).
        """
        with self._transaction():
            self._set({"acknowledged": str(self.next_sequence - 1)})
            self.rows.acknowledged(settled)
            self._db.executemany("UPDATE rejects SET doubtful = 0 WHERE place = ?", [(at,) for at in settled_rejects])
            self.rows.forget(forget)
            if in_flight_only:
                self.rows.forget_all(but_doubtful=True)
                self._db.execute("DELETE FROM rejects WHERE doubtful = 0")
            self._move(position or {})
            self._save_offsets(offsets or {})
            if outcome is not None:
                sums = ", ".join(f"{name} = {name} + :{name}" for name in _COUNTS)
                self._db.execute(
                    f"UPDATE readings SET {sums} WHERE id = :id",  # noqa: S608
                    {**asdict(outcome), "id": self._reading},
                )

    def close_reading(
        self, ended: datetime, *, as_of: datetime | None, note: str | None, forget_rejects: bool = False
    ) -> None:
        """End the reading: complete if it has an `as_of`, else `note` says why not."""
        with self._transaction():
            if forget_rejects:
                self._db.execute("DELETE FROM rejects")
            self._db.execute(
                "UPDATE readings SET ended = ?, as_of = ?, note = ? WHERE id = ?",
                (rfc3339(ended), rfc3339(as_of) if as_of else None, note, self._reading),
            )
        self._shrink_log()

    def learned_is_seen(self) -> None:
        """Every learned entry has been claimed or deleted: look for them no more."""
        with self._transaction():
            self._set({"learned": "0"})

    @property
    def learned(self) -> bool:
        """Whether entries stand under LEARNED places."""
        return int(self.state("learned") or 0) > 0

    def close(self) -> None:
        """Release the file; a second time does nothing."""
        if not self._closed:
            self._closed = True
            self._db.close()
            os.close(self._lock)

    # -- inside --

    def _recall(self) -> None:
        """What is kept in memory too, as the file has it."""
        self._position = dict(self._db.execute("SELECT name, value FROM position"))
        self._next_id = int(self.state("next_id") or 1)
        self.rows.recall()

    def _migrate(self) -> None:
        with sqlite.writing(self._db):
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version in (0, 1):
                for statement in TABLES.split(";\n"):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {SCHEMA}")
            elif version != SCHEMA:
                raise SettingWrong(
                    f"{self.path} is of another version of Exchange: remove it, and it is rebuilt from the topic"
                )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with _reported(self.path), sqlite.writing(self._db):
                yield
        except BaseException:
            self._recall()
            raise

    def _shrink_log(self) -> None:
        """After a reading that wrote much: SQLite itself keeps the log's size for the next one, 30 MiB beside 2."""
        log = self.path.with_name(f"{self.path.name}-wal")
        with suppress(FileNotFoundError):
            if log.stat().st_size > _WAL_KEPT:
                with _reported(self.path):
                    self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _set(self, values: Mapping[str, str]) -> None:
        self._db.executemany("INSERT OR REPLACE INTO state (name, value) VALUES (?, ?)", values.items())

    def _move(self, position: Mapping[str, str | None]) -> None:
        for name, value in position.items():
            if value is None:
                self._db.execute("DELETE FROM position WHERE name = ?", (name,))
                self._position.pop(name, None)
            else:
                self._db.execute("INSERT OR REPLACE INTO position (name, value) VALUES (?, ?)", (name, value))
                self._position[name] = value

    def _save_offsets(self, offsets: Mapping[int, int]) -> None:
        self._db.executemany(
            "INSERT INTO offsets (partition, last) VALUES (?, ?)"
            " ON CONFLICT (partition) DO UPDATE SET last = max(last, excluded.last)",
            offsets.items(),
        )


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """Errors that pass by themselves (disk full, or locked by who looks at it) as CursorUnavailable."""
    try:
        yield
    except sqlite.dbapi2.OperationalError as error:
        raise CursorUnavailable(f"{path}: {error}") from None


def _lock(path: Path) -> int:
    """Hold the file against other processes until the descriptor is closed, also by this process's death.

    The lock is on a file beside it: closing any descriptor of the database itself would drop SQLite's own locks.
    """
    beside = path.with_name(f"{path.name}.lock")
    try:
        descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SettingWrong(f"the cursor file's folder cannot be written: {beside} ({error.strerror})") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise CursorHeld(f"{path}: this instance is running already; stop that process first") from None
    return descriptor
