"""sql: a table of any database that SQLAlchemy speaks to, polled by its update time.

Options: SqlSettings below; docs/connectors.md explains each with an example.

    name = "person"                                   [mapping]
    connector = "sql"                                 citizen_id = "id_number"
    contract = "civil.person"                         name = "full_name"
    url = "postgresql://reader@db.example/register"
    password = "env:REGISTER_PASSWORD"                [deleted_when]
    table = "public.people"                           column = "is_deleted"
    updated_at = "updated_at"                         values = [1]
    timezone = "Asia/Shanghai"

Behaviour: rows are read by (update time, key), behind the last one that the topic has acknowledged; what was written
within `safety_lag` before it is read again, because a transaction may have been committed late, and what is unchanged
is dropped. A row that is deleted at the source without a mark cannot be seen by polling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

import sqlalchemy as sa
from pydantic import Field, model_validator

from connectors.config import ColumnName, Duration, Instance
from connectors.mapping import FieldMapping
from connectors.protocol import Finding, Means, Weight
from connectors.sqlcheck import look
from connectors.sqlcursor import AFTER, WINDOW, After, Window, key_of, place_of
from connectors.sqlsource import Source, open_engine
from connectors.sqltable import Table
from connectors.sqltimes import UpdateTime, refuse_unsafe, update_time
from connectors.times import Zone
from exchange.contracts import Contract
from exchange.errors import Rejected, SourceRefused
from exchange.publish import AGAIN, Batch, End, Keeps, Row
from exchange.settings import SecretReference, read_secret

_SAFE_FOR = timedelta(minutes=1)  # how long a look at all update times holds: it goes through the whole table


class SqlSettings(Instance):
    """The settings of a sql instance."""

    url: str
    """a URL as SQLAlchemy has it, without password, or a reference to one (`env:NAME`, `file:PATH`). The driver must be
    installed; those for PostgreSQL and SQLite are"""
    password: SecretReference | None = None
    """`env:NAME` or `file:PATH`"""
    table: ColumnName | None = None
    """`[schema.]table`"""
    query: ColumnName | None = None
    """a SELECT instead of a table; it needs `key`"""
    key: ColumnName | list[ColumnName] = Field(default=[])
    """the column, or list of columns, that tells rows apart; unset: the primary key"""
    updated_at: ColumnName | None = None
    """the column that says when a row was written last"""
    updated_at_format: str | None = None
    """its form, if it is a text (strptime's words) or a number (`epoch`, `epoch_ms`, `epoch_us`). The ISO forms of
    texts are recognised"""
    safety_lag: Duration = timedelta(seconds=10)
    """the longest time from stamping a row to committing it: so much is read again in each reading"""

    @model_validator(mode="after")
    def _one_source(self) -> SqlSettings:
        if (self.table is None) == (self.query is None):
            raise ValueError("give either `table` or `query`")
        return self

    @property
    def key_columns(self) -> list[str]:
        return [self.key] if isinstance(self.key, str) else self.key


class SqlConnector:
    """Polls one table."""

    Settings: ClassVar[type[Instance]] = SqlSettings

    def __init__(self, settings: SqlSettings, contract: Contract, means: Means) -> None:
        self._settings = settings
        self._contract = contract
        self._mapping = FieldMapping(settings, contract)
        self._zone = Zone(settings.timezone)
        url, password = settings.url, None
        if url.startswith(("env:", "file:")):
            url = read_secret("url", url, means.root).decode("utf-8").strip()
        if settings.password is not None:
            password = read_secret("password", settings.password, means.root).decode("utf-8").strip()
        self._source = Source(open_engine(url, password, means.root), settings.table, settings.query, means.clock)
        self._opened: Table | None = None
        self._safe_until: datetime | None = None

    @property
    def keeps(self) -> Keeps:
        return Keeps.ROWS

    def check(self) -> Sequence[Finding]:
        """Whether the table can be polled without losing rows, and what polling cannot see of it."""
        findings = [
            Finding(Weight.NOTE, name, "a level 4 field stays at its department; its column is not read")
            for name in self._mapping.sealed
        ]
        try:
            with self._source.connection() as connection:
                table = self._table(connection)
                findings += look(
                    connection, table, self._contract, marks_deletions=self._settings.deleted_when is not None
                )
                self._times(connection, table, self._source.now(connection))
                findings.append(Finding(Weight.NOTE, self._source.name, table.summary()))
        except SourceRefused as refused:
            findings.append(Finding(Weight.REFUSED, self._source.name, refused.detail))
        return findings

    def read(self, position: Mapping[str, str]) -> Iterator[Batch]:
        """One reading: the rows that publish asked for again, then all behind the cursor, page by page."""
        with self._source.connection() as connection:
            began = self._source.now(connection)
            table = self._table(connection)
            kind = self._times(connection, table, began)
            if position.get(AGAIN):
                found = [row for place in position[AGAIN].split("\n") for row in table.row(connection, key_of(place))]
                yield Batch([self._row(table, row, kind) for row in found], {AGAIN: None})
            if kind is not None:
                yield from self._pages(connection, table, kind, position, began)
            else:  # nothing has a time, most likely because there is nothing
                untimed = table.untimed(connection)
                yield Batch(
                    (), end=End(began - self._settings.safety_lag, untimed == 0), notes=_untimed(table, untimed)
                )

    def ack(self, position: Mapping[str, str | None]) -> None:
        """Nothing: the table knows nothing of its readers."""

    def close(self) -> None:
        """Close the connections."""
        self._source.engine.dispose()

    # -- inside --

    def _table(self, connection: sa.Connection) -> Table:
        if self._opened is None:
            at, key = self._settings.updated_at, self._settings.key_columns
            self._opened = Table.open(connection, self._source, at, key, self._mapping)
        return self._opened

    def _times(self, connection: sa.Connection, table: Table, now: datetime) -> UpdateTime | None:
        """How the update times are read; None if no row has one. Raises SourceRefused if that cannot be done safely."""
        sample = self._source.sample(connection, table.at)
        if sample is None:
            return None
        settings = self._settings
        kind = update_time(sample, settings.updated_at_format, self._zone, table.at)
        if self._safe_until is None or now >= self._safe_until:
            refuse_unsafe(kind, self._zone, settings.timezone, table.at, now, settings.safety_lag)
            table.refuse_mixed(connection, kind)
            self._safe_until = now + _SAFE_FOR
        return kind

    def _pages(
        self, connection: sa.Connection, table: Table, kind: UpdateTime, position: Mapping[str, str], began: datetime
    ) -> Iterator[Batch]:
        first, window = After.read(position), Window.read(position)
        lag, size = self._settings.safety_lag, self._settings.batch_size
        since, after = self._start(first, window, kind)
        reached, read = first, 0
        while True:
            rows = table.page(connection, after=after, since=since, size=size)
            if rows:
                reached = table.after(rows[-1])
                if reached == after:
                    raise SourceRefused(f"{self._source.name}: {table.at} is finer than its driver reads it")
                after = reached
            batch = [self._row(table, row, kind) for row in rows]
            read += len(rows)
            moved = {} if reached is None else {AFTER: reached.text()}
            if len(rows) < size:
                break
            yield Batch(batch, {**moved, WINDOW: Window.during(window, began=began).text()})
        untimed = table.untimed(connection)
        following = Window.following(
            window,
            began=began,
            moved=reached != first,
            last=None if reached is None else kind.instant(reached.at),
            lag=lag,
            large=read > size,
        )
        end = End(began - lag, whole=untimed == 0)
        yield Batch(batch, {**moved, WINDOW: following.text()}, end, notes=_untimed(table, untimed))

    def _start(self, after: After | None, window: Window | None, kind: UpdateTime) -> tuple[Any, After | None]:
        """The time from which on rows are read, or the row behind which."""
        if after is None:
            return None, None
        last = kind.instant(after.at)
        if last is None or (window is not None and window.settled):
            return None, after
        if window is not None:  # a row that is dated into the future must not hide those of the present
            last = min(last, window.began)
        return kind.value(last - self._settings.safety_lag), None

    def _row(self, table: Table, row: Sequence[Any], kind: UpdateTime | None) -> Row:
        key, at = table.key_of(row), table.at_of(row)
        where = f"{self._source.name} {table.described(key) or '(the key is in the payload)'}"
        event_time = kind.instant(at) if kind is not None else None
        place, columns = place_of(key), table.columns
        if columns.deleted(row):
            return Row(columns.remains(row), where, place, deleted=True, event_time=event_time)
        try:
            return Row(columns.read(row), where, place, event_time=event_time)
        except Rejected as rejected:
            return Row(columns.remains(row), where, place, rejected.kept(), event_time=event_time)


def _untimed(table: Table, rows: int) -> Sequence[str]:
    return (f"{rows} rows have no {table.at} and are not read",) if rows else ()
