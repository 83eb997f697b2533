"""Empty databases on the PostgreSQL that is measured, each dropped in the end."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """The URL of an empty database. `server` is that of any database there, whose user may make others."""
    name = f"bench_{secrets.token_hex(6)}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        connection.execute("CHECKPOINT")  # so that none pays for what the one before has left unwritten
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def version(server: str) -> str:
    """The server's version, and what of its settings decides whether a commit is durable."""
    with psycopg.connect(server) as connection:
        found = [
            connection.execute(f"SHOW {name}").fetchone()
            for name in ("server_version", "fsync", "synchronous_commit", "shared_buffers")
        ]
    number, fsync, commit, buffers = (row[0] for row in found if row is not None)
    return f"{number}, fsync {fsync}, synchronous_commit {commit}, shared_buffers {buffers}"
