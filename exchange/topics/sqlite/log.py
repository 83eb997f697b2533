"""The file: tables, and the statements that append, read and tidy.

Every reader and every writer has a connection of its own.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import orjson

from exchange.clock import Clock
from exchange.errors import BrokerUnavailable, OperatorError, SchemaOutdated, TopicChanged
from exchange.records import Delivery, Message
from exchange.sqlite import Connection, connect, dbapi2, writing
from exchange.topics import COMPACTION_HOURS, DELETIONS_DAYS, TopicSpec

VERSION = 1
TABLES = """
CREATE TABLE topics (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    id TEXT NOT NULL,              -- made with the topic: one of the same name made later has another
    compacted INTEGER NOT NULL,
    retention_days INTEGER,
    earliest INTEGER NOT NULL DEFAULT 0,
    next INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE messages (
    topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE,
    offset INTEGER NOT NULL,
    at INTEGER NOT NULL,           -- milliseconds; only compaction and retention look at it
    key BLOB NOT NULL,
    value BLOB,
    headers BLOB NOT NULL,         -- a JSON object; each byte of a value is the character of that number
    PRIMARY KEY (topic, offset)
) STRICT, WITHOUT ROWID;
CREATE TABLE owners (
    consumer_group TEXT NOT NULL,
    topic INTEGER NOT NULL REFERENCES topics ON DELETE CASCADE,
    owner TEXT,                    -- null: given back
    epoch INTEGER NOT NULL,        -- grows with each take-over
    beat INTEGER NOT NULL,         -- grows while the owner is alive
    PRIMARY KEY (consumer_group, topic)
) STRICT, WITHOUT ROWID;
"""

CHUNK_MESSAGES = 1_000  # in one transaction: the write lock is not fair, so nobody holds it for long
CHUNK_BYTES = 4 * 1024 * 1024
READ_BYTES = 16 * 1024 * 1024  # in one reading, however many messages were asked for


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic's row."""

    number: int
    name: str
    id: str
    earliest: int
    next: int


class Log:
    """One connection to the file, which is made if it does not exist. Used by one thread at a time."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        with self.reported():
            self.connection: Connection = connect(path)
            self._inode = _inode(path)
            self._make_tables()

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Turn the driver's errors into ours."""
        try:
            yield
        except dbapi2.OperationalError as error:  # locked too long, disk full, disk broken
            raise BrokerUnavailable(f"{self._path}: {error}") from error
        except dbapi2.DatabaseError as error:
            raise OperatorError(f"{self._path} cannot be used as a file of topics: {error}") from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A transaction that holds the write lock and is durable when the block has ended."""
        with self.reported(), writing(self.connection):
            yield

    @contextmanager
    def reading(self) -> Iterator[None]:
        """A transaction that sees one state of the file."""
        with self.reported():
            self.connection.execute("BEGIN")
            try:
                yield
            finally:
                self.connection.execute("ROLLBACK")

    def changed(self) -> int:
        """A number that differs from the last one if another connection has committed since. Costs some 2 us."""
        with self.reported():
            found: int = self.connection.execute("PRAGMA data_version").fetchone()[0]
            return found

    def check_file(self) -> None:
        """Raise TopicChanged if the file under this path is no longer the one that was opened.

        Without it, a process would go on writing into a file that someone has removed or replaced.
        """
        if _inode(self._path) != self._inode:
            raise TopicChanged(f"{self._path} was removed or replaced while it was in use; restart this process")

    # --- topics -------------------------------------------------------------------------------------------------------

    def ensure(self, spec: TopicSpec) -> None:
        """Create the topic if there is none of this name."""
        if self.topics([spec.name]):
            return
        with self.writing():
            self.connection.execute(
                "INSERT INTO topics (name, id, compacted, retention_days) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                (spec.name, secrets.token_urlsafe(16), spec.compacted, spec.retention_days),
            )

    def topics(self, names: Sequence[str]) -> dict[str, Topic]:
        """The topics of these names that exist."""
        marks = ",".join("?" * len(names))
        with self.reported():
            rows = self.connection.execute(
                f"SELECT number, name, id, earliest, next FROM topics WHERE name IN ({marks})",  # noqa: S608 marks only
                list(names),
            ).fetchall()
        return {row[1]: Topic(*row) for row in rows}

    # --- messages -----------------------------------------------------------------------------------------------------

    def append(self, topic: str, messages: Sequence[Message]) -> list[int]:
        """Append to a topic; return each message's offset once all are durable."""
        rows = [(message.key, message.value, _headers(message)) for message in messages]
        at = int(self._clock().timestamp() * 1000)
        offsets: list[int] = []
        for chunk in _chunks(rows):
            with self.writing():
                found = self.connection.execute(
                    "UPDATE topics SET next = next + ? WHERE name = ? RETURNING number, next", (len(chunk), topic)
                ).fetchone()
                if found is None:
                    raise TopicChanged(f"there is no topic {topic}")
                number, end = found
                first = end - len(chunk)
                self.connection.executemany(
                    "INSERT INTO messages (topic, offset, at, key, value, headers) VALUES (?, ?, ?, ?, ?, ?)",
                    [(number, first + place, at, *row) for place, row in enumerate(chunk)],
                )
                self.check_file()
            offsets.extend(range(first, end))
        return offsets

    def read(self, topic: Topic, position: int, limit: int) -> tuple[list[Delivery], int]:
        """Messages from `position` on, and the position after them.

        At most `limit`, and about READ_BYTES. What compaction removed is passed over: if nothing is left up to the
        topic's end, the position is that end.
        """
        out: list[Delivery] = []
        size = 0
        with self.reported():
            for offset, key, value, headers in self.connection.execute(
                "SELECT offset, key, value, headers FROM messages WHERE topic = ? AND offset >= ? AND offset < ?"
                " ORDER BY offset LIMIT ?",
                (topic.number, position, topic.next, limit),
            ):
                out.append(Delivery(topic.name, 0, offset, key, value, _parsed(headers)))
                size += len(key) + len(value or b"") + len(headers)
                if size >= READ_BYTES:
                    return out, offset + 1
        return out, out[-1].offset + 1 if len(out) == limit else topic.next

    # --- compaction and retention -------------------------------------------------------------------------------------

    def tidy(self) -> None:
        """Compaction and retention of every topic, in small transactions; then the log file is emptied too.

        Compacted: of one key, what has a newer message and is older than COMPACTION_HOURS goes; a deletion goes after
        DELETIONS_DAYS. Offsets of what stays never change. The freed pages are overwritten (secure_delete), because
        a subject's erasure is only done when its bytes are gone.
        """
        now = self._clock()

        def before(**ago: float) -> int:
            return int((now - timedelta(**ago)).timestamp() * 1000)

        with self.reported():
            self.connection.execute("PRAGMA secure_delete = ON")
            plans = self.connection.execute("SELECT number, compacted, retention_days FROM topics").fetchall()
        for number, compacted, retention_days in plans:
            if compacted:
                self._compact(number, before(hours=COMPACTION_HOURS), before(days=DELETIONS_DAYS))
            if retention_days is not None:
                self._retain(number, before(days=retention_days))
        with self.reported():
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def _compact(self, number: int, before: int, deletions_before: int) -> None:
        with self.reported():
            self.connection.execute("DROP TABLE IF EXISTS temp.old")
            self.connection.execute("CREATE TEMP TABLE old (offset INTEGER NOT NULL)")
            self.connection.execute(
                "INSERT INTO temp.old SELECT offset FROM"
                " (SELECT offset, at, value IS NULL AS deletion, max(offset) OVER (PARTITION BY key) AS newest"
                "  FROM messages WHERE topic = ?)"
                " WHERE (offset < newest AND at < ?) OR (deletion AND at < ?) ORDER BY offset",
                (number, before, deletions_before),
            )
        place = 0
        while True:
            with self.reported():
                old = self.connection.execute(
                    "SELECT rowid, offset FROM temp.old WHERE rowid > ? ORDER BY rowid LIMIT ?", (place, CHUNK_MESSAGES)
                ).fetchall()
            if not old:
                return
            with self.writing():
                self.connection.executemany(
                    "DELETE FROM messages WHERE topic = ? AND offset = ?", [(number, offset) for _, offset in old]
                )
            place = old[-1][0]

    def _retain(self, number: int, before: int) -> None:
        """Drop from the front only, so that no reader meets a gap; `earliest` tells where the topic begins now."""
        with self.reported():
            kept = self.connection.execute(
                "SELECT coalesce((SELECT offset FROM messages WHERE topic = ?1 AND at >= ?2 ORDER BY offset LIMIT 1),"
                " (SELECT next FROM topics WHERE number = ?1))",
                (number, before),
            ).fetchone()[0]
        self.drop(number, kept)

    def drop(self, number: int, kept: int) -> None:
        """Remove a topic's messages below the offset `kept`; their pages are overwritten."""
        with self.reported():
            self.connection.execute("PRAGMA secure_delete = ON")
        with self.writing():
            self.connection.execute("UPDATE topics SET earliest = max(earliest, ?) WHERE number = ?", (kept, number))
        removed = CHUNK_MESSAGES
        while removed:
            with self.writing():
                removed = self.connection.execute(
                    "DELETE FROM messages WHERE topic = ?1 AND offset IN (SELECT offset FROM messages"
                    " WHERE topic = ?1 AND offset < ?2 ORDER BY offset LIMIT ?3)",
                    (number, kept, CHUNK_MESSAGES),
                ).rowcount

    def _make_tables(self) -> None:
        def version() -> int:
            found: int = self.connection.execute("PRAGMA user_version").fetchone()[0]
            return found

        if not version():
            with self.writing():
                if not version():  # another process was faster
                    for statement in TABLES.split(";\n"):
                        self.connection.execute(statement)
                    self.connection.execute(f"PRAGMA user_version = {VERSION}")
        if version() != VERSION:
            raise SchemaOutdated(f"{self._path} was made by another version of Exchange (format {version()})")


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _headers(message: Message) -> bytes:
    return orjson.dumps({name: value.decode("latin-1") for name, value in message.headers.items()})


def _parsed(headers: bytes) -> dict[str, bytes]:
    return {name: value.encode("latin-1") for name, value in orjson.loads(headers).items()}


def _chunks(rows: list[tuple[bytes, bytes | None, bytes]]) -> Iterator[list[tuple[bytes, bytes | None, bytes]]]:
    """Parts that one transaction takes."""
    chunk: list[tuple[bytes, bytes | None, bytes]] = []
    size = 0
    for row in rows:
        chunk.append(row)
        size += len(row[0]) + len(row[1] or b"") + len(row[2])
        if len(chunk) == CHUNK_MESSAGES or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
