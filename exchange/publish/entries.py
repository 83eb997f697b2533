"""The tables of a cursor file, and what was last said of each row: its entries, written and looked up.

Places are hashes mostly, so entries that are told together stand far apart in the file, and each would cost a page of
it. So they are first written down as they come, in one piece (`fresh`), and put where they belong many at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

import orjson

if TYPE_CHECKING:
    from sqlite3 import Connection

SCHEMA = 2
# An entry that was learned from the topic and not yet seen at the source stands under this and its key.
LEARNED = "learned:"
# In place of a digest: something was published under this key, and nobody knows any more what stands there.
UNKNOWN = b""
# In place of a digest: a row under this key was set aside. Whether a record of it stands in the topic is for whoever
# replays rejects to decide, and this connector is not told; so what leaves this key is deleted there in either case.
SET_ASIDE = b"set aside"
_MOST_VARIABLES = 5_000
_MOST_FRESH = 20_000  # entries; they are in memory too

TABLES = """
CREATE TABLE IF NOT EXISTS state (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
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
CREATE TABLE IF NOT EXISTS rejects (
    place TEXT PRIMARY KEY, digest BLOB NOT NULL, sequence INTEGER NOT NULL, at TEXT NOT NULL,
    doubtful INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS fresh (
    number INTEGER PRIMARY KEY,
    entries BLOB NOT NULL               -- newer than those in `rows`: one JSON array for each batch
);
CREATE TABLE IF NOT EXISTS offsets (partition INTEGER PRIMARY KEY, last INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS position (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS readings (
    id INTEGER PRIMARY KEY, began TEXT NOT NULL, ended TEXT, as_of TEXT, note TEXT,
    read INTEGER NOT NULL, published INTEGER NOT NULL, unchanged INTEGER NOT NULL, deleted INTEGER NOT NULL,
    rejected INTEGER NOT NULL, gone INTEGER NOT NULL
);
"""
_COLUMNS = "place, key, id, digest, sequence, version, doubtful, raw"
_ENTRY = f"SELECT {_COLUMNS} FROM rows"  # noqa: S608
_PUT = f"INSERT OR REPLACE INTO rows ({_COLUMNS})"
_FRESH = """
SELECT told.value ->> 0 AS place, told.value ->> 1 AS key, told.value ->> 2 AS id, unhex(told.value ->> 3) AS digest,
       told.value ->> 4 AS sequence, told.value ->> 5 AS version, told.value ->> 6 AS doubtful,
       unhex(told.value ->> 7) AS raw
  FROM fresh, json_each(fresh.entries) AS told"""
# The last entry of a place and key replaces the others, for they come in this order.
_SETTLE = f"{_PUT} {_FRESH} ORDER BY place, key, fresh.number, told.key"

# For who looks at a file that another process holds: how many records stand, and how many of them may not.
COUNT = f"""
WITH newer AS (
    SELECT place, key, digest, sequence, doubtful,
           row_number() OVER (PARTITION BY place, key ORDER BY number DESC, at DESC) AS age
      FROM ({_FRESH.replace("SELECT", "SELECT fresh.number AS number, told.key AS at,")}))
SELECT count(*), coalesce(sum(doubtful OR sequence > ?), 0) FROM (
    SELECT digest, sequence, doubtful FROM newer WHERE age = 1
    UNION ALL
    SELECT digest, sequence, doubtful FROM rows WHERE (place, key) NOT IN (SELECT place, key FROM newer))
 WHERE digest NOT NULL AND digest <> ?"""  # noqa: S608


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
    """The entries and rejects of a cursor file. What writes is called inside of a `transaction`."""

    def __init__(self, db: Connection, transaction: Callable[[], AbstractContextManager[None]]) -> None:
        self._db = db
        self._transaction = transaction
        self._fresh: dict[str, tuple[Entry, ...]] = {}  # by place, what the table `fresh` holds
        self._count = 0

    # -- writing --

    def recall(self) -> None:
        """Know again what the file holds, after a transaction that was rolled back too."""
        self._fresh, self._count = {}, 0
        for (text,) in self._db.execute("SELECT entries FROM fresh ORDER BY number"):
            for place, key, id_, digest, sequence, version, doubtful, raw in orjson.loads(text):
                told = (None if digest is None else bytes.fromhex(digest), sequence, version, doubtful)
                self._add([Entry(place, key, id_, *told, None if raw is None else bytes.fromhex(raw))])

    def put(self, entries: Collection[Entry]) -> None:
        """Write these over what stands under their places and keys, and if much has come together, settle it."""
        if self._count >= _MOST_FRESH:
            self.settle()
        text = orjson.dumps([
            (place, key, id_, _hex(digest), sequence, version, doubtful, _hex(raw))
            for place, key, id_, digest, sequence, version, doubtful, raw in entries
        ])  # fmt: skip
        if rb"\u0000" in text:  # where the JSON of SQLite 3.44 ends a text
            self.put_plainly(entries)
        elif entries:
            self._db.execute("INSERT INTO fresh (entries) VALUES (?)", (text,))
            self._add(entries)

    def put_plainly(self, entries: Iterable[Entry]) -> None:
        """`put` without the way round, which comes to the same: its reference."""
        self.settle()
        self._db.executemany(f"{_PUT} VALUES (?, ?, ?, ?, ?, ?, ?, ?)", entries)

    def settle(self) -> None:
        """Put all entries where they belong."""
        if self._count:
            self._db.execute(_SETTLE)
            self._db.execute("DELETE FROM fresh")
            self._fresh, self._count = {}, 0

    def forget(self, entries: Collection[Entry]) -> None:
        """Delete what stands under these places and keys."""
        if entries:
            self.settle()
            self._db.executemany("DELETE FROM rows WHERE place = ? AND key = ?", [entry[:2] for entry in entries])

    def acknowledged(self, entries: Collection[Entry]) -> None:
        """These are doubtful no more."""
        if entries:
            self.settle()
            self._db.executemany(
                "UPDATE rows SET doubtful = 0 WHERE place = ? AND key = ?", [entry[:2] for entry in entries]
            )

    def forget_all(self, *, but_doubtful: bool = False) -> None:
        """Delete all entries."""
        if but_doubtful and any(entry.doubtful for told in self._fresh.values() for entry in told):
            self.settle()
        self._db.execute("DELETE FROM fresh")
        self._fresh, self._count = {}, 0
        self._db.execute("DELETE FROM rows WHERE doubtful = 0" if but_doubtful else "DELETE FROM rows")

    def _add(self, entries: Collection[Entry]) -> None:
        fresh = self._fresh
        for entry in entries:
            place, key = entry[0], entry[1]
            others = fresh.get(place)
            fresh[place] = (entry,) if others is None else (*(each for each in others if each.key != key), entry)
        self._count += len(entries)

    def _settled(self) -> None:
        if self._count:
            with self._transaction():
                self.settle()

    # -- look-ups --

    def at(self, places: Sequence[str]) -> dict[str, list[Entry]]:
        """All entries of these places."""
        found: dict[str, list[Entry]] = {}
        for part in _parts(places):
            marks = ",".join("?" * len(part))
            query = f"{_ENTRY} WHERE place IN ({marks})"
            for row in self._db.execute(query, part):
                found.setdefault(row[0], []).append(Entry(*row))
        if self._fresh:
            for place in places:
                newer = self._fresh.get(place)
                if newer is not None:
                    keys = [entry.key for entry in newer]
                    found[place] = [*(entry for entry in found.get(place, ()) if entry.key not in keys), *newer]
        return found

    def holders(self, key: str) -> list[Entry]:
        """The entries, of any place, that stand under this message key and are no deletion."""
        self._settled()
        query = f"{_ENTRY} WHERE key = ? AND digest NOT NULL"
        return [Entry(*row) for row in self._db.execute(query, (key,))]

    def under(self, subject_key: str) -> list[int]:
        """The ids of a snapshot's entries about one subject, whatever their record keys."""
        self._settled()
        query = "SELECT id FROM rows WHERE place = ? OR (place > ? AND place < ?)"
        return [row[0] for row in self._db.execute(query, (subject_key, f"{subject_key}.", f"{subject_key}/"))]

    def rest(self, held: Callable[[int], bool], prefix: str = "", size: int = 5_000) -> Iterator[list[Entry]]:
        """All entries but those whose id is `held`, in parts; `prefix` of the place. They may be changed meanwhile."""
        after = (prefix, "")
        query = "SELECT place, key, id FROM rows WHERE (place, key) > (?, ?) AND place < ? ORDER BY place, key LIMIT ?"
        one = f"{_ENTRY} WHERE place = ? AND key = ?"
        while True:
            self._settled()
            part = self._db.execute(query, (*after, f"{prefix}\U0010ffff", size)).fetchall()
            if not part:
                return
            places = [(place, key) for place, key, id_ in part if not held(id_)]
            if places:
                yield [Entry(*self._db.execute(one, each).fetchone()) for each in places]
            after = part[-1][:2]

    def doubtful_deletions(self) -> list[Entry]:
        """Deletions that may not have reached the topic."""
        self._settled()
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


def _hex(blob: bytes | None) -> str | None:
    return None if blob is None else blob.hex()


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _MOST_VARIABLES):
        yield values[start : start + _MOST_VARIABLES]
