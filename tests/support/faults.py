"""Faults of a database, made at the moment of the commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa

from exchange.sqlite import dbapi2
from exchange.store.database import is_postgres


@contextmanager
def commit_fails(engine: sa.Engine, *, stored: bool) -> Iterator[None]:
    """The next commit fails: before anything was stored, or after everything was and only the answer is lost."""
    commit = engine.dialect.do_commit

    def fail(connection: Any) -> None:
        engine.dialect.do_commit = commit  # type: ignore[method-assign]
        if stored:
            commit(connection)
        if is_postgres(engine):
            raise psycopg.OperationalError("the connection is lost")
        error = dbapi2.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    engine.dialect.do_commit = fail  # type: ignore[method-assign]
    try:
        yield
    finally:
        assert engine.dialect.do_commit is not fail, "there was no commit"
