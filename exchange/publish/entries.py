"""The tables of a cursor file, and the look-ups in what was last said of each row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sqlite3 import Connection

SCHEMA = 1
# An entry that was learned from the topic and not yet seen at the source stands under this and its key.
LEARNED = "learned:"
# In place of a digest: something was published under this key, and nobody knows any more what stands there.
UNKNOWN = b""
# In place of a digest: a row under this key was set aside. Whether a record of it stands in the topic is for whoever
# replays rejects to decide, and this connector is not told; so what leaves this key is deleted there in either case.
SET_ASIDE = b"set aside"
_MOST_VARIABLES = 5_000

TABLES = """
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE rows (
    place TEXT NOT NULL,                -- names the row at the source; in a snapshot this is the message key
    key TEXT NOT NULL,                  -- message key; empty where the place is the key
    id INTEGER NOT NULL,                -- a small number for the entry, for as long as it is there
    digest BLOB,                        -- of the value; NULL is a deletion; see UNKNOWN, SET_ASIDE
    sequence INTEGER NOT NULL,
    version INTEGER,
    doubtful INTEGER NOT NULL DEFAULT 0,
    raw BLOB,                           -- digest of the source's row, where the connector gives one
    PRIMARY KEY (place, key)
) WITHOUT ROWID;
CREATE TABLE rejects (
    place TEXT PRIMARY KEY, digest BLOB NOT NULL, sequence INTEGER NOT NULL, at TEXT NOT NULL,
    doubtful INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE offsets (partition INTEGER PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE position (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE readings (
    id INTEGER PRIMARY KEY, began TEXT NOT NULL, ended TEXT, as_of TEXT, note TEXT,
    read INTEGER NOT NULL, published INTEGER NOT NULL, unchanged INTEGER NOT NULL, deleted INTEGER NOT NULL,
    rejected INTEGER NOT NULL, gone INTEGER NOT NULL
);
"""
_ENTRY = "SELECT place, key, id, digest, sequence, version, doubtful, raw FROM rows"


class Entry(NamedTuple):
    """What was last said under (place, key). A `digest` of None is a deletion; an empty `key` is that of the place."""

    place: str
    key: str
    id: int
    digest: bytes | None
    sequence: int
    version: int | None
    doubtful: bool = False
    raw: bytes | None = None

    @property
    def set_aside(self) -> bool:
        """Whether all that is known under the key is a row that was rejected."""
        return self.digest == SET_ASIDE

    @property
    def message_key(self) -> bytes:
        return (self.key or self.place).encode("ascii")


class Told(NamedTuple):
    """A reject that was told of a place; `digest` is of field, reason and payload, `at` the time it bears."""

    place: str
    digest: bytes
    sequence: int
    at: datetime
    doubtful: bool = False


class Entries:
    """Look-ups in the entries and rejects of a cursor file."""

    def __init__(self, db: Connection) -> None:
        self._db = db

    def at(self, places: Sequence[str]) -> dict[str, list[Entry]]:
        """All entries of these places."""
        found: dict[str, list[Entry]] = {}
        for part in _parts(places):
            marks = ",".join("?" * len(part))
            query = f"{_ENTRY} WHERE place IN ({marks})"
            for row in self._db.execute(query, part):
                found.setdefault(row[0], []).append(Entry(*row))
        return found

    def holders(self, key: str) -> list[Entry]:
        """The entries, of any place, that stand under this message key and are no deletion."""
        query = f"{_ENTRY} WHERE key = ? AND digest NOT NULL"
        return [Entry(*row) for row in self._db.execute(query, (key,))]

    def under(self, subject_key: str) -> list[int]:
        """The ids of a snapshot's entries about one subject, whatever their record keys."""
        query = "SELECT id FROM rows WHERE place = ? OR (place > ? AND place < ?)"
        return [row[0] for row in self._db.execute(query, (subject_key, f"{subject_key}.", f"{subject_key}/"))]

    def all(self, prefix: str = "", size: int = 1_000) -> Iterator[list[Entry]]:
        """All entries, in parts; `prefix` of the place. They may be changed while this runs."""
        after = (prefix, "")
        query = f"{_ENTRY} WHERE (place, key) > (?, ?) AND place < ? ORDER BY place, key LIMIT ?"
        while part := [Entry(*row) for row in self._db.execute(query, (*after, f"{prefix}\U0010ffff", size))]:
            yield part
            after = (part[-1].place, part[-1].key)

    def doubtful_deletions(self) -> list[Entry]:
        """Deletions that may not have reached the topic."""
        query = f"{_ENTRY} WHERE doubtful = 1 AND digest IS NULL ORDER BY sequence"
        return [Entry(*row) for row in self._db.execute(query)]

    def rejects(self, places: Sequence[str]) -> dict[str, Told]:
        """The rejects that were told of these places."""
        found = {}
        for part in _parts(places):
            marks = ",".join("?" * len(part))
            query = f"SELECT place, digest, sequence, at, doubtful FROM rejects WHERE place IN ({marks})"  # noqa: S608
            for place, digest, sequence, at, doubtful in self._db.execute(query, part):
                found[place] = Told(place, digest, sequence, datetime.fromisoformat(at), bool(doubtful))
        return found


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _MOST_VARIABLES):
        yield values[start : start + _MOST_VARIABLES]
