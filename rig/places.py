"""Where topics and tables are: files of the run's folder, or servers, given or the rig's own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import confluent_kafka
import psycopg

from rig.servers import KAFKA, POSTGRES, Servers
from rig.site import Failed
from rig.tables import PostgresDatabase, SqliteFile, Tables
from rig.topics import KafkaTopics, SqliteTopics, Topics

OWN = "own"  # instead of an address: a server that the rig starts, and may kill


@dataclass(frozen=True, slots=True)
class Places:
    """`kafka` is host:port and `store` a URL; empty means files."""

    kafka: str = ""
    store: str = ""

    @property
    def broker(self) -> str:
        """The product's setting."""
        return f"kafka://{self.kafka}" if self.kafka else ""

    @property
    def database(self) -> tuple[str, int]:
        """Host and port of PostgreSQL."""
        found = urlsplit(self.store)
        return found.hostname or "127.0.0.1", found.port or 5432

    def store_through(self, port: int) -> str:
        """The store's URL, through a port of the loopback."""
        found = urlsplit(self.store)
        user = found.netloc.rpartition("@")[0]
        return urlunsplit(found._replace(netloc=f"{user}@127.0.0.1:{port}"))

    def topics(self, folder: Path) -> Topics:
        """Open the topics; for one thread."""
        return KafkaTopics(self.kafka) if self.kafka else SqliteTopics(folder / "data" / "topics.db")

    def tables(self, folder: Path) -> Tables:
        """The store and the audit log."""
        if self.store:
            database = PostgresDatabase(self.store)
            return Tables(database, database)
        return Tables(SqliteFile(folder / "data" / "store.db"), SqliteFile(folder / "data" / "audit.db"))

    def __str__(self) -> str:
        topics = "Kafka" if self.kafka else "SQLite"
        return f"topics in {topics}, store in {'PostgreSQL' if self.store else 'SQLite'}"


@contextmanager
def prepared(kafka: str, postgres: str, servers: Servers) -> Iterator[Places]:
    """Start what is to be the rig's own; a given PostgreSQL gets a database, a given Kafka must be empty.

    Raises Failed.
    """
    with ExitStack() as stack:
        stack.callback(servers.stop)
        kafka = servers.start(KAFKA) if kafka == OWN else kafka
        if postgres == OWN:
            store = servers.start(POSTGRES)
        else:
            store = stack.enter_context(_database(postgres)) if postgres else ""
        if kafka and (left := _contracts_in(kafka)):
            raise Failed(f"Kafka at {kafka} holds {left[0]}: give an empty one")
        yield Places(kafka, store)


def _contracts_in(kafka: str) -> list[str]:
    found = confluent_kafka.Producer({"bootstrap.servers": kafka, "log_level": 0}).list_topics(timeout=30).topics
    return sorted(name for name in found if not name.startswith("__"))


@contextmanager
def _database(url: str) -> Iterator[str]:
    """A database of our own on a server; dropped in the end."""
    name = f"rig_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    try:
        yield urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())
