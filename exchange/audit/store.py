"""AuditStore: the log's bytes, and every statement on them but those of `slots`.

The statements take a connection, so that a caller decides what is one transaction. Writers and the sealer insert;
`verify` walks everything in one snapshot, in constant memory.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import sqlalchemy as sa

from exchange import merkle
from exchange.audit.groups import group_hash
from exchange.audit.tables import LINEAGE, checkpoints, entries, groups, leaves, nodes
from exchange.errors import AuditBroken, AuditUnavailable, StoreRefused, StoreUnavailable
from exchange.store import database

_Begun = TypeVar("_Begun")

_WALK = 1_000  # rows fetched at once in a walk

# SQLite waits for its lock with longer and longer sleeps, up to 0.1 s, and starves beside processes that write without
# pause. We let it wait for 30 ms and begin again, as long as a caller of the gateway can wait: with three processes on
# one file that took the longest append from 540 to 80 ms, and p99 from 130 to 30 ms.
_SQLITE_SECONDS = 0.03
_TURN_SECONDS = 0.8
_MIGRATE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Head:
    """Where a writer's line ends: its last number, and the hash of its last group."""

    number: int = 0
    group: bytes | None = None


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """A row of entries."""

    writer: str
    number: int
    entry: bytes
    answer: bytes
    leaf: bytes


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A row of groups; `position` is its place in the tree, where it has one."""

    writer: str
    first: int
    last: int
    token: bytes
    position: int | None = None


@dataclass(frozen=True, slots=True)
class StoredLeaf:
    """A row of leaves, with its group's first number and token where the group is there."""

    position: int
    writer: str
    last: int
    first: int | None
    token: bytes | None


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A row of checkpoints."""

    size: int
    note: bytes
    published: bool


class AuditStore:
    """The audit log in SQLite or PostgreSQL. Engines may be shared between threads; so may this."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine
        self._turn = threading.Lock()

    @classmethod
    def open(cls, url: str, options: Mapping[str, Any] | None = None) -> AuditStore:
        """The log at `sqlite:///path` or `postgresql://...`; connects at the first use. Raises SettingWrong.

        Unless `options` say otherwise, nothing is waited for longer than what a caller of the gateway waits.
        """
        if database.is_sqlite(url):
            brief: dict[str, Any] = {"busy_seconds": _SQLITE_SECONDS}
        else:
            brief = {"connect_timeout": 2, "tcp_user_timeout": 1_000}
        return cls(database.open_engine(url, {**brief, **(options or {})}))

    def migrate(self) -> bool:
        """Bring the tables to the newest version; whether anything had to be done. Raises AuditUnavailable."""
        with unavailable():
            return _in_turn(lambda: database.migrate(self.engine, LINEAGE), _MIGRATE_SECONDS)

    def check(self) -> None:
        """Raises SchemaOutdated unless the tables are those of this version; AuditUnavailable."""
        with unavailable():
            database.check(self.engine, LINEAGE)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One transaction that may write. Raises AuditUnavailable; it may have been committed all the same."""
        began = time.monotonic()
        with unavailable(), ExitStack() as transaction:
            # Of two threads of this process one is woken when the other is done: SQLite would only look again later.
            if not database.is_postgres(self.engine) and self._turn.acquire(timeout=_TURN_SECONDS):
                transaction.callback(self._turn.release)
            left = _TURN_SECONDS - (time.monotonic() - began)
            yield _in_turn(lambda: transaction.enter_context(database.writing(self.engine)), left)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """One snapshot of the whole log. Raises AuditUnavailable; StoreRefused for a row that no driver can read."""
        with unavailable(refused=False), database.reading(self.engine) as connection:
            if database.is_postgres(connection):
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield connection

    # --- one writer's line --------------------------------------------------------------------------------------------

    def head(self, connection: sa.Connection, writer: str) -> Head:
        """Where this writer's line ends."""
        row = connection.execute(
            sa.select(groups.c.last, groups.c.token)
            .where(groups.c.writer == writer)
            .order_by(groups.c.last.desc())
            .limit(1)
        ).one_or_none()
        return Head() if row is None else Head(row.last, group_hash(row.token))

    def entry(self, connection: sa.Connection, writer: str, number: int) -> StoredEntry | None:
        """The entry of this number."""
        row = connection.execute(
            sa.select(entries).where(entries.c.writer == writer, entries.c.number == number)
        ).one_or_none()
        return None if row is None else StoredEntry(*row)

    def group_of(self, connection: sa.Connection, writer: str, number: int) -> StoredGroup | None:
        """The group that holds this number."""
        row = connection.execute(
            _placed().where(groups.c.writer == writer, groups.c.first <= number, groups.c.last >= number)
        ).first()
        return None if row is None else StoredGroup(*row)

    # --- the tree of all groups ---------------------------------------------------------------------------------------

    def size(self, connection: sa.Connection) -> int:
        """The number of leaves."""
        last = connection.scalar(sa.select(sa.func.max(leaves.c.position)))
        return 0 if last is None else int(last) + 1

    def nodes(self, connection: sa.Connection, *sizes: int) -> merkle.Nodes:
        """The stored nodes: those that trees of these sizes consist of in one look-up, every other in one of its own.

        Raises AuditBroken for one that is missing.
        """
        place = sa.tuple_(nodes.c.level, nodes.c.index)
        wanted = {peak for size in sizes for peak in merkle.peaks(size)}
        known: dict[tuple[int, int], bytes] = {}
        if wanted:
            for level, index, hash_ in connection.execute(sa.select(nodes).where(place.in_(sorted(wanted)))):
                known[level, index] = bytes(hash_)

        def node(level: int, index: int) -> bytes:
            found = known.get((level, index))
            if found is None:
                found = connection.scalar(sa.select(nodes.c.hash).where(nodes.c.level == level, nodes.c.index == index))
            if found is None:
                raise AuditBroken(f"node {level}/{index} of the tree is missing")
            return bytes(found)

        return node

    def unsealed(self, connection: sa.Connection, limit: int) -> list[StoredGroup]:
        """At most `limit` groups of each writer that are not in the tree yet, in the order of each line."""
        found: list[StoredGroup] = []
        for writer, sealed in connection.execute(_LINES):
            rows = connection.execute(
                sa.select(groups.c.writer, groups.c.first, groups.c.last, groups.c.token)
                .where(groups.c.writer == writer, groups.c.last > sealed)
                .order_by(groups.c.last)
                .limit(limit)
            )
            found.extend(StoredGroup(*row) for row in rows)
        return found

    def add_leaves(self, connection: sa.Connection, frontier: merkle.Frontier, found: Sequence[StoredGroup]) -> None:
        """Append groups to the tree, whose frontier moves on."""
        places, complete = [], []
        for group in found:
            places.append({"position": frontier.size, "writer": group.writer, "last": group.last})
            complete.extend(frontier.append(merkle.leaf_hash(group_hash(group.token))))
        connection.execute(sa.insert(leaves), places)
        connection.execute(
            sa.insert(nodes), [{"level": level, "index": index, "hash": hash_} for level, index, hash_ in complete]
        )

    def newest_checkpoint(self, connection: sa.Connection) -> StoredCheckpoint | None:
        """The checkpoint of the largest tree."""
        row = connection.execute(sa.select(checkpoints).order_by(checkpoints.c.size.desc()).limit(1)).one_or_none()
        return None if row is None else StoredCheckpoint(*row)

    def newest_published(self, connection: sa.Connection) -> int:
        """The size of the largest checkpoint that the topic has acknowledged; 0 if none has left."""
        published = sa.select(sa.func.max(checkpoints.c.size)).where(checkpoints.c.published)
        return int(connection.scalar(published) or 0)

    def add_checkpoint(self, connection: sa.Connection, size: int, note: bytes) -> None:
        connection.execute(sa.insert(checkpoints), {"size": size, "note": note, "published": False})

    def mark_published(self, connection: sa.Connection, size: int) -> None:
        connection.execute(sa.update(checkpoints).where(checkpoints.c.size == size).values(published=True))

    # --- walks, in constant memory ------------------------------------------------------------------------------------

    def walk_entries(self, connection: sa.Connection) -> Iterator[StoredEntry]:
        """Every entry, by writer and number."""
        for row in _walk(connection, sa.select(entries).order_by(entries.c.writer, entries.c.number)):
            yield StoredEntry(*row)

    def walk_groups(self, connection: sa.Connection) -> Iterator[StoredGroup]:
        """Every group, by writer and last number."""
        for row in _walk(connection, _placed().order_by(groups.c.writer, groups.c.last)):
            yield StoredGroup(*row)

    def walk_leaves(self, connection: sa.Connection) -> Iterator[StoredLeaf]:
        """Every leaf, by position."""
        statement = (
            sa.select(leaves.c.position, leaves.c.writer, leaves.c.last, groups.c.first, groups.c.token)
            .select_from(leaves.outerjoin(groups, _same_group()))
            .order_by(leaves.c.position)
        )
        for row in _walk(connection, statement):
            yield StoredLeaf(*row)

    def walk_nodes(self, connection: sa.Connection, level: int) -> Iterator[tuple[int, bytes]]:
        """Every stored node of a level as (index, hash), by index."""
        statement = sa.select(nodes.c.index, nodes.c.hash).where(nodes.c.level == level).order_by(nodes.c.index)
        for row in _walk(connection, statement):
            yield row.index, row.hash

    def outer_levels(self, connection: sa.Connection) -> list[int]:
        """The lowest and the highest level that have stored nodes; none if there are no nodes."""
        ends = (
            connection.scalar(sa.select(end(nodes.c.level))) for end in (sa.func.min, sa.func.max)
        )  # a look-up each
        return sorted({level for level in ends if level is not None})

    def walk_checkpoints(self, connection: sa.Connection) -> Iterator[StoredCheckpoint]:
        """Every stored checkpoint, by size."""
        for row in _walk(connection, sa.select(checkpoints).order_by(checkpoints.c.size)):
            yield StoredCheckpoint(*row)


@contextmanager
def unavailable(*, refused: bool = True) -> Iterator[None]:
    """Faults of the database mean one thing here: the log cannot be written or read now."""
    try:
        yield
    except (StoreUnavailable, StoreRefused) as error:
        if isinstance(error, StoreRefused) and not refused:
            raise
        raise AuditUnavailable(error.detail) from None


def _in_turn(begin: Callable[[], _Begun], seconds: float) -> _Begun:
    """What `begin` returns, once the database lets it. Raises StoreUnavailable after so many seconds."""
    give_up = time.monotonic() + seconds
    while True:
        try:
            return begin()
        except StoreUnavailable:
            if time.monotonic() >= give_up:
                raise
            time.sleep(0.002)


def _same_group() -> sa.ColumnElement[bool]:
    return (leaves.c.writer == groups.c.writer) & (leaves.c.last == groups.c.last)


def _placed() -> sa.Select[Any]:
    return sa.select(groups.c.writer, groups.c.first, groups.c.last, groups.c.token, leaves.c.position).select_from(
        groups.outerjoin(leaves, _same_group())
    )


def _lines() -> sa.Select[Any]:
    """Every writer that has a group, and the last of its numbers that is in the tree: one index look-up each."""
    writers = sa.select(sa.func.min(groups.c.writer).label("writer")).cte("writers", recursive=True)
    later = sa.select(sa.func.min(groups.c.writer)).where(groups.c.writer > writers.c.writer).scalar_subquery()
    writers = writers.union_all(sa.select(later).where(writers.c.writer.is_not(None)))
    sealed = sa.select(sa.func.max(leaves.c.last)).where(leaves.c.writer == writers.c.writer).scalar_subquery()
    return sa.select(writers.c.writer, sa.func.coalesce(sealed, 0)).where(writers.c.writer.is_not(None))


_LINES = _lines()


def _walk(connection: sa.Connection, statement: sa.Select[Any]) -> Iterator[Any]:
    return iter(connection.execute(statement.execution_options(yield_per=_WALK)))
