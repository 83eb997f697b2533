"""Databases: engines for SQLite and PostgreSQL, transactions, one table of what their errors mean, migrations.

The store and the audit log both stand on this module. Each is a `Lineage` of migrations with a version table of its
own, so that they may share one PostgreSQL database or have a SQLite file each.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.pool import QueuePool

from exchange import sqlite
from exchange.errors import ExchangeError, SchemaOutdated, SettingWrong, StoreRefused, StoreUnavailable

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")

# What a PostgreSQL session gets unless `options` say otherwise. A lock is waited for, a dead peer noticed and a frozen
# transaction cut after seconds, never "for ever"; JIT would compile for longer than our statements run.
_SESSION = "-c timezone=UTC -c lock_timeout=10s -c idle_in_transaction_session_timeout=60s -c jit=off"
_PARAMETERS = {"connect_timeout": 5, "tcp_user_timeout": 10_000, "application_name": "exchange", "options": _SESSION}

_READING = "exchange_reading"  # execution option: this SQLite transaction takes no write lock


# --- engines ----------------------------------------------------------------------------------------------------------


def open_engine(url: str, options: Mapping[str, Any] | None = None, *, pool_size: int = 5) -> sa.Engine:
    """An engine for `sqlite:///path` or `postgresql://...`; connects at the first use.

    `options` go to the driver: those of `exchange.sqlite.connect`, or libpq's connection parameters. Errors never show
    a statement's parameters. Raises SettingWrong for any other URL.
    """
    if url.startswith(_SQLITE):
        return _sqlite_engine(sqlite_path(url), dict(options or {}), pool_size)
    return sa.create_engine(
        "postgresql+psycopg://",
        connect_args=postgres_parameters(url, options),
        pool_size=pool_size,
        pool_pre_ping=True,  # a restarted server costs the next caller nothing
        hide_parameters=True,
    )


def is_sqlite(url: str) -> bool:
    """Whether this URL is that of a SQLite file."""
    return url.startswith(_SQLITE)


def sqlite_path(url: str) -> Path:
    """The file of a `sqlite:///` URL."""
    return Path(url.removeprefix(_SQLITE))


def postgres_parameters(url: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What psycopg connects with, for engines and for pools. Raises SettingWrong for a URL of another kind."""
    if not url.startswith(_POSTGRES):
        raise SettingWrong("the database's URL must begin with sqlite:/// or postgresql://")
    try:
        named = conninfo_to_dict(url)
    except psycopg.Error:  # its text holds the URL, and that may hold a password
        raise SettingWrong("the database's URL cannot be read as postgresql://user@host:port/database") from None
    return {**_PARAMETERS, **named, **(options or {})}


def connect_sqlite(path: Path, **options: Any) -> Any:
    """A connection to a store's file. One that cannot be made now, for want of its folder or of room, can be later.

    Raises StoreUnavailable; SettingWrong if others can read the file; UnsafeSQLite.
    """
    try:
        connection = sqlite.connect(path, **options)
    except SettingWrong as wrong:
        if isinstance(wrong.__cause__, OSError):
            raise StoreUnavailable(wrong.detail) from None
        raise
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from None
    # What is erased or replaced is not left in the file's free places.
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def _sqlite_engine(path: Path, options: dict[str, Any], pool_size: int) -> sa.Engine:
    engine = sa.create_engine(
        "sqlite+pysqlite://",
        module=sqlite.dbapi2,
        creator=partial(connect_sqlite, path, **options),
        poolclass=QueuePool,
        pool_size=pool_size,
        hide_parameters=True,
    )

    # The driver is in autocommit mode, so that we say when a transaction begins; a writer takes its lock at once, else
    # it could lose what it has read to another writer half-way (SQLITE_BUSY_SNAPSHOT).
    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        reading = connection.get_execution_options().get(_READING)
        connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")

    return engine


def is_postgres(database: sa.Engine | sa.Connection) -> bool:
    """Whether this is PostgreSQL; else it is SQLite."""
    return database.dialect.name == "postgresql"


def driver(connection: sa.Connection) -> Any:
    """The driver's own connection beneath, in the same transaction."""
    return connection.connection.driver_connection


def insert_into(connection: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite_dialect.Insert:
    """An INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update` of this database."""
    return postgresql.insert(table) if is_postgres(connection) else sqlite_dialect.insert(table)


# --- transactions -----------------------------------------------------------------------------------------------------


@contextmanager
def writing(engine: sa.Engine, *, isolation: str | None = None) -> Iterator[sa.Connection]:
    """One transaction that may write; committed at the end, rolled back on any error.

    `isolation` is for PostgreSQL ("REPEATABLE READ"); on SQLite a writer is alone anyway. Raises StoreUnavailable: the
    transaction may have been committed all the same if it was the answer that was lost.
    """
    with translated(), engine.connect() as connection:
        if isolation is not None and is_postgres(engine):
            connection.execution_options(isolation_level=isolation)
        with connection.begin():
            yield connection


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction that only reads: it is rolled back at the end. Raises StoreUnavailable."""
    with translated(), engine.connect() as connection:
        connection.execution_options(**{_READING: True})
        yield connection  # the transaction begins by itself, and closing the connection rolls it back


# --- errors -----------------------------------------------------------------------------------------------------------


@contextmanager
def translated() -> Iterator[None]:
    """Turn what the drivers raise into our errors; see `meaning`."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, psycopg.Error, sqlite.dbapi2.Error) as error:
        raise meaning(error) from None  # a driver's error can hold a row's values


def meaning(error: Exception) -> ExchangeError:
    """What an error of SQLAlchemy, psycopg or SQLite means to us.

    StoreUnavailable: out of reach, locked, full, read-only, a deadlock, a lost race; the same call can succeed later.
    SchemaOutdated: a table or column is missing. StoreRefused: anything else. None repeats a value of a row.
    """
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, psycopg.Error):
        return _postgres_meaning(cause)
    if isinstance(cause, sqlite.dbapi2.Error):
        return _sqlite_meaning(cause)
    if isinstance(error, sa.exc.TimeoutError):
        return StoreUnavailable("every connection of the pool is in use")
    return StoreRefused(type(error).__name__)


def _postgres_meaning(error: psycopg.Error) -> ExchangeError:
    state = error.sqlstate
    if isinstance(error, psycopg.OperationalError):  # also deadlocks, lost races, a full disk, a shutdown
        text = error.diag.message_primary or (str(error).splitlines() or [""])[0]
        return StoreUnavailable(f"PostgreSQL {state or ''}: {text}".replace(" :", ":"))
    if state is None or state.startswith("25"):  # the connection is gone; the transaction was cut or is read-only
        return StoreUnavailable(f"PostgreSQL {state or 'connection lost'}: {type(error).__name__}")
    if isinstance(error, (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)):
        return SchemaOutdated("a table or column is missing; `exchange policy apply` or `exchange up` migrates")
    return StoreRefused(f"PostgreSQL {state}: {type(error).__name__}")


# Primary result codes (sqlite.org/rescode.html) after which the same call can succeed.
_SQLITE_LATER = {
    "SQLITE_BUSY",
    "SQLITE_LOCKED",
    "SQLITE_NOMEM",
    "SQLITE_READONLY",
    "SQLITE_INTERRUPT",
    "SQLITE_IOERR",
    "SQLITE_CORRUPT",  # once a backup has been put back
    "SQLITE_NOTADB",
    "SQLITE_FULL",
    "SQLITE_CANTOPEN",
    "SQLITE_PROTOCOL",
}


def _sqlite_meaning(error: Exception) -> ExchangeError:
    name = getattr(error, "sqlite_errorname", None)
    if name is None:  # raised by the driver, not by SQLite: misuse, or an integer beyond 64 bits
        return StoreRefused(f"SQLite: {type(error).__name__}")
    if "_".join(name.split("_")[:2]) in _SQLITE_LATER:
        return StoreUnavailable(f"{name}: {error}")
    if name == "SQLITE_ERROR" and str(error).startswith(("no such table", "no such column")):
        return SchemaOutdated("a table or column is missing; `exchange policy apply` or `exchange up` migrates")
    return StoreRefused(name)


# --- migrations -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lineage:
    """A chain of migrations: `folder` holds alembic's `versions/`, `metadata` the tables that they must arrive at."""

    name: str
    folder: Path
    metadata: sa.MetaData

    @property
    def version_table(self) -> str:
        return f"{self.name}_version"

    def scripts(self) -> ScriptDirectory:
        return ScriptDirectory(str(self.folder))

    def context(self, connection: sa.Connection, **options: Any) -> MigrationContext:
        return MigrationContext.configure(connection, opts={"version_table": self.version_table, **options})


def migrate(engine: sa.Engine, lineage: Lineage) -> bool:
    """Bring the database to the newest migration; whether anything had to be done.

    Safe when several processes start at once: one migrates, in one transaction, the others wait for it. Raises
    StoreUnavailable; SchemaOutdated if the database is newer than this program.
    """
    if not _behind(engine, lineage):
        return False
    scripts = lineage.scripts()
    with writing(engine) as connection:
        if is_postgres(connection):
            key = zlib.crc32(f"exchange migrate {lineage.name}".encode())
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(key)))
        context = lineage.context(connection, fn=lambda heads, _: scripts._upgrade_revs("head", heads))
        before = set(context.get_current_heads())
        if before == set(scripts.get_heads()):  # another process was faster
            return False
        with Operations.context(context):
            context.run_migrations()
    return True


def check(engine: sa.Engine, lineage: Lineage) -> None:
    """Raise SchemaOutdated unless the database stands at the newest migration; StoreUnavailable if it is away."""
    if _behind(engine, lineage):
        raise SchemaOutdated(
            f"the {lineage.name}'s tables are older; `exchange policy apply` or `exchange up` migrates"
        )


def _behind(engine: sa.Engine, lineage: Lineage) -> bool:
    scripts = lineage.scripts()
    with reading(engine) as connection:
        found = set(lineage.context(connection).get_current_heads())
    known = {script.revision for script in scripts.walk_revisions()}
    if not found <= known:
        raise SchemaOutdated(f"the {lineage.name}'s tables are those of a newer version than this program")
    return found != set(scripts.get_heads())
