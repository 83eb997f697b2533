"""A table or query in a database: its columns as the driver gives them, its pages as the database orders them.

Columns are selected without a type, so that nothing between driver and converter rounds a decimal, guesses a date or
fails a whole page for one value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from connectors.sqlcursor import After
from exchange import sqlite
from exchange.clock import Clock
from exchange.errors import SettingWrong, SourceRefused, SourceUnavailable


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `type` is None for a query's."""

    name: str
    type: Any = None
    nullable: bool = True


class Source:
    """The rows of one table (`[schema.]table`) or of one query, read-only."""

    def __init__(self, engine: sa.Engine, table: str | None, query: str | None, clock: Clock) -> None:
        self.engine = engine
        self.name = table or "query"
        self._schema, _, self._table = (table or "").rpartition(".")
        self._query = query
        self._clock = clock

    @contextmanager
    def connection(self) -> Iterator[sa.Connection]:
        """A connection that reads and holds no transaction. Raises SourceUnavailable, SourceRefused."""
        try:
            with self.engine.connect() as connection:
                yield connection.execution_options(isolation_level="AUTOCOMMIT")
        except (exc.OperationalError, exc.InterfaceError) as error:
            raise SourceUnavailable(f"{self.name}: {_told(error)}") from None
        except exc.ProgrammingError as error:
            raise SourceRefused(f"{self.name}: {_told(error)}") from None
        except exc.DBAPIError as error:  # its text may hold values
            raise SourceRefused(f"{self.name}: the database refuses the query ({type(error.orig).__name__})") from None

    def columns(self, connection: sa.Connection) -> list[Column]:
        """All columns. Raises SourceRefused if there is no such table."""
        if self._query is not None:
            none = sa.select(sa.text("*")).select_from(self._from()).where(sa.false())
            return [Column(name) for name in connection.execute(none).keys()]  # noqa: SIM118
        try:
            found = sa.inspect(connection).get_columns(self._table, self._schema or None)
        except exc.NoSuchTableError:
            raise SourceRefused(f"there is no table {self.name}") from None
        return [Column(column["name"], column["type"], bool(column.get("nullable", True))) for column in found]

    def primary_key(self, connection: sa.Connection) -> list[str]:
        """The columns of the table's primary key; empty if there is none."""
        if self._query is not None:
            return []
        return list(sa.inspect(connection).get_pk_constraint(self._table, self._schema or None)["constrained_columns"])

    def indexed(self, connection: sa.Connection, column: str) -> bool:
        """Whether an index begins with this column (taken for granted of a query)."""
        if self._query is not None:
            return True
        indexes = sa.inspect(connection).get_indexes(self._table, self._schema or None)
        return any(index["column_names"][:1] == [column] for index in indexes)

    def now(self, connection: sa.Connection) -> datetime:
        """The source's clock. SQLite has none but this machine's."""
        dialect = connection.dialect.name
        if dialect == "sqlite":
            return self._clock()
        text = {"postgresql": "clock_timestamp()", "mysql": "utc_timestamp(6)", "mariadb": "utc_timestamp(6)"}
        found = connection.execute(sa.text(f"SELECT {text.get(dialect, 'CURRENT_TIMESTAMP')}")).scalar()
        if not isinstance(found, datetime):
            return self._clock()
        return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)

    def sample(self, connection: sa.Connection, column: str) -> Any:
        """A value of the column that is not null; None if there is none."""
        at: sa.ColumnElement[Any] = sa.column(column)
        return connection.execute(sa.select(at).select_from(self._from()).where(at.is_not(None)).limit(1)).scalar()

    def count(self, connection: sa.Connection, condition: sa.ColumnElement[bool]) -> int:
        """How many rows fulfil a condition."""
        return int(
            connection.execute(sa.select(sa.func.count()).select_from(self._from()).where(condition)).scalar() or 0
        )

    def page(
        self,
        connection: sa.Connection,
        columns: Sequence[str],
        at: str,
        key: Sequence[str],
        *,
        after: After | None,
        since: Any,
        size: int,
    ) -> Sequence[Sequence[Any]]:
        """The next rows by (update time, key): those behind `after`; without it those from the time `since` on."""
        order: list[sa.ColumnElement[Any]] = [sa.column(name) for name in (at, *key)]
        statement = self._select(columns).where(order[0].is_not(None))
        if after is not None:
            statement = statement.where(order[0] >= after.at, _behind(order, (after.at, *after.key)))
        elif since is not None:
            statement = statement.where(order[0] >= since)
        return connection.execute(statement.order_by(*order).limit(size)).all()

    def rows(
        self, connection: sa.Connection, columns: Sequence[str], key: Sequence[str], values: Sequence[Any]
    ) -> Sequence[Sequence[Any]]:
        """The row with this key."""
        statement: Any = self._select(columns)
        for name, value in zip(key, values, strict=True):
            statement = statement.where(sa.column(name) == value)
        return connection.execute(statement).all()

    def _select(self, columns: Sequence[str]) -> Any:
        return sa.select(*map(sa.column, columns)).select_from(self._from())

    def _from(self) -> Any:
        if self._query is not None:
            return sa.text(f"({self._query}) AS source")
        return sa.table(self._table, schema=self._schema or None)


def open_engine(url: str, password: str | None, root: Path) -> sa.Engine:
    """The engine for a SQLAlchemy URL; a relative SQLite file is looked for from `root`. Raises SettingWrong."""
    try:
        parsed = sa.make_url(url)
    except exc.ArgumentError:
        raise SettingWrong("url: a SQLAlchemy URL is expected, such as postgresql://reader@host/database") from None
    if parsed.get_backend_name() == "sqlite":
        file = root / (parsed.database or "")
        # The engine's own driver is Python's older SQLite; what opens here is the build that every part uses.
        return sa.create_engine("sqlite+pysqlite://", module=sqlite.dbapi2, creator=_sqlite(file), hide_parameters=True)
    if parsed.drivername in ("postgresql", "postgres"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if password is not None:
        parsed = parsed.set(password=password)
    try:
        engine = sa.create_engine(parsed, hide_parameters=True, pool_pre_ping=True, pool_size=1)
    except (ImportError, exc.ArgumentError) as error:
        raise SettingWrong(f"url: no driver for it is installed ({error})") from None
    if engine.dialect.driver == "psycopg":
        sa.event.listen(engine, "connect", _lenient_psycopg)
    return engine


def _sqlite(file: Path) -> Callable[[], Any]:
    def connect() -> Any:
        connection = sqlite.connect(file, readonly=True)
        # A text that is no UTF-8 costs its own row (a lone surrogate is rejected), not the whole page.
        connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
        return connection

    return connect


def _lenient_psycopg(connection: Any, _record: Any) -> None:
    """Dates that Python does not have (infinity, BC, years of five digits) cost their own row, not the whole page."""
    from psycopg import DataError
    from psycopg.types import datetime as types

    def lenient(loader: Any) -> Any:
        class Lenient(loader):  # type: ignore[misc]
            def load(self, data: Any) -> Any:
                try:
                    return super().load(data)
                except (DataError, ValueError):
                    return bytes(data).decode("ascii", "replace")

        return Lenient

    for name, loader in (
        ("timestamp", types.TimestampLoader),
        ("timestamptz", types.TimestamptzLoader),
        ("date", types.DateLoader),
    ):
        connection.adapters.register_loader(name, lenient(loader))


def _behind(columns: Sequence[sa.ColumnElement[Any]], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    """Rows behind these values in the order of these columns; the database compares."""
    first, value = columns[0], values[0]
    beyond: sa.ColumnElement[bool] = first > value
    if len(columns) == 1:
        return beyond
    return sa.or_(beyond, sa.and_(first == value, _behind(columns[1:], values[1:])))


def _told(error: exc.DBAPIError) -> str:
    """What the driver says, in one line. Errors of connection and of names hold no values."""
    return " ".join(str(error.orig).split())
