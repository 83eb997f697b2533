"""The product's tables, read as they are, and one of the rig's beside them: `rig_effects`.

The database itself notes there each effect in the transaction that has it, so that an effect which came twice, or came
behind a later one, is seen although the row that stands looks right. What is noted about a facet is who said it; where
a facet only learns what another source had said, nothing has changed and nothing is noted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psycopg
from pysqlite3 import dbapi2

from rig.topics import Away

FACET = "NEW.subject_key || CASE NEW.record_key WHEN '' THEN '' ELSE '.' || NEW.record_key END || ' ' || NEW.contract"
ABOUT = {"facets": (FACET, "NEW.version"), "rejects": ("NEW.id", "NULL")}
SAME = "NEW.source IS NOT DISTINCT FROM OLD.source AND NEW.epoch = OLD.epoch AND NEW.sequence = OLD.sequence"
ONLY_HEARD = f"{SAME} AND NEW.heard IS DISTINCT FROM OLD.heard"

TABLE = (
    "CREATE TABLE rig_effects (n {serial} PRIMARY KEY, at {real} NOT NULL DEFAULT {now}, of_table text, target text,"
    " source text, epoch bigint, sequence bigint, version bigint)"
)
NOTE = (
    "INSERT INTO rig_effects (of_table, target, source, epoch, sequence, version)"
    " VALUES ('{table}', {target}, NEW.source, NEW.epoch, NEW.sequence, {version});"
)


class Effect(NamedTuple):
    """One effect: when (Unix time), in which table, on what, because of whose word."""

    at: float
    table: str
    target: str
    source: str | None
    number: tuple[int | None, int | None]
    version: int | None


class Facet(NamedTuple):
    """A row of the store. `key` is the message key; `payload` None is a tombstone."""

    key: str
    contract: str
    payload: dict[str, Any] | None
    source: str
    number: tuple[int, int]
    place: tuple[int, int]


class Reject(NamedTuple):
    """A row of the rejects; `place` is (topic, partition, offset) where materialise rejected it."""

    id: str
    source: str | None
    number: tuple[int | None, int | None]
    place: tuple[str | None, int | None, int | None]
    reason: str


class Database(Protocol):
    """How a database is asked. Raises Away where it cannot be."""

    def rows(self, query: str) -> list[Any]: ...
    def run(self, *statements: str) -> None: ...


class SqliteFile:
    """A file of the product's."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def rows(self, query: str) -> list[Any]:
        """See Database."""
        with self._connected() as connection:
            found: list[Any] = connection.execute(query).fetchall()
            return found

    def run(self, *statements: str) -> None:
        """See Database."""
        with self._connected() as connection:
            for statement in statements:
                connection.execute(statement)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else writes as long as the block lasts."""
        with self._connected() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            with closing(dbapi2.connect(self._path, timeout=30, isolation_level=None)) as connection:
                yield connection
        except dbapi2.OperationalError as error:
            raise Away(f"{self._path}: {error}") from None


class PostgresDatabase:
    """A database of PostgreSQL's."""

    def __init__(self, url: str) -> None:
        self._url = url

    def rows(self, query: str) -> list[Any]:
        """See Database."""
        with self._connected() as connection:
            return list(connection.execute(query.encode()).fetchall())

    def run(self, *statements: str) -> None:
        """See Database."""
        with self._connected() as connection:
            for statement in statements:
                connection.execute(statement.encode())

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with psycopg.connect(self._url, autocommit=True, connect_timeout=10) as connection:
                yield connection
        except psycopg.OperationalError as error:
            raise Away(f"PostgreSQL: {error}") from None


class Tables:
    """The store and the audit log."""

    def __init__(self, store: Database, audit: Database) -> None:
        self.store = store
        self._audit = audit

    def watch(self) -> None:
        """Have the database note each effect from now on."""
        self.store.run(*(_postgres() if isinstance(self.store, PostgresDatabase) else _sqlite()))

    def effects(self) -> list[Effect]:
        """Every effect, in the order in which they came."""
        query = "SELECT at, of_table, target, source, epoch, sequence, version FROM rig_effects ORDER BY n"
        return [
            Effect(at, table, target, source, (epoch, sequence), version)
            for at, table, target, source, epoch, sequence, version in self.store.rows(query)
        ]

    def facets(self, contracts: Sequence[str]) -> list[Facet]:
        """What stands of these contracts, tombstones too."""
        wanted = ", ".join(f"'{contract}'" for contract in contracts)
        query = (
            "SELECT subject_key, record_key, contract, payload, source, epoch, sequence, log_partition, log_offset"
            f" FROM facets WHERE contract IN ({wanted})"
        )
        return [
            Facet(
                f"{subject}.{record}" if record else subject,
                contract,
                None if payload is None else json.loads(payload),
                source,
                (epoch, sequence),
                (partition, offset),
            )
            for subject, record, contract, payload, source, epoch, sequence, partition, offset in self.store.rows(query)
        ]

    def rejects(self) -> list[Reject]:
        """What was set aside."""
        query = "SELECT id, source, epoch, sequence, topic, log_partition, log_offset, reason FROM rejects"
        return [
            Reject(each, source, (epoch, sequence), (topic, partition, offset), reason)
            for each, source, epoch, sequence, topic, partition, offset, reason in self.store.rows(query)
        ]

    def positions(self) -> dict[tuple[str, int], int]:
        """By topic and partition: the offset to read next."""
        query = "SELECT topic, partition, next FROM positions"
        return {(topic, partition): at for topic, partition, at in self.store.rows(query)}

    def owner(self, topic: str) -> str:
        """Who reads the first partition of a topic, as the product calls its processes; empty if nobody ever has."""
        found = self.store.rows(f"SELECT owner FROM positions WHERE topic = '{topic}' AND partition = 0")
        return found[0][0] if found else ""

    def as_of(self, source: str) -> int:
        """Until when a source has told everything, in microseconds; 0 if it never has."""
        found = self.store.rows(f"SELECT max(as_of) FROM watermarks WHERE source = '{source}'")
        return int(found[0][0] or 0)

    def entries(self) -> list[dict[str, Any]]:
        """Every entry of the audit log."""
        return [json.loads(bytes(entry)) for (entry,) in self._audit.rows("SELECT entry FROM audit_entries")]


def _notes(table: str) -> str:
    target, version = ABOUT[table]
    return NOTE.format(table=table, target=target, version=version)


def _sqlite() -> Iterator[str]:
    now = "((julianday('now') - 2440587.5) * 86400.0)"
    yield TABLE.format(serial="integer", real="real", now=now)
    for table in ABOUT:
        for event in ("INSERT", "UPDATE"):
            when = f"WHEN NOT ({ONLY_HEARD}) " if (table, event) == ("facets", "UPDATE") else ""
            yield f"CREATE TRIGGER rig_{table}_{event} AFTER {event} ON {table} {when}BEGIN {_notes(table)} END"


def _postgres() -> Iterator[str]:
    yield TABLE.format(serial="bigserial", real="double precision", now="extract(epoch from clock_timestamp())")
    for table in ABOUT:
        body = f"BEGIN {_notes(table)} RETURN NULL; END"
        yield f"CREATE FUNCTION rig_{table}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$"
        for event in ("INSERT", "UPDATE"):
            when = f"WHEN (NOT ({ONLY_HEARD})) " if (table, event) == ("facets", "UPDATE") else ""
            call = f"FOR EACH ROW {when}EXECUTE FUNCTION rig_{table}()"
            yield f"CREATE TRIGGER rig_{event} AFTER {event} ON {table} {call}"
