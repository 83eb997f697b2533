"""Real Apache Kafka, PostgreSQL and Keycloak for the tests that carry the `services` marker.

Each is looked for in this order: the variable EXCHANGE_TEST_KAFKA (host:port), EXCHANGE_TEST_POSTGRES (a URL whose
user may make databases) or EXCHANGE_TEST_KEYCLOAK (a URL with its administrator; its realm `city` is as imported); a
container, if a docker engine answers (not for Keycloak); processes of this machine (deploy/local/services.py), in a
folder of their own, stopped at the end of the session. If none works, the test is skipped with the reason; with
EXCHANGE_TEST_REQUIRED=1 it fails instead.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "local" / "services.py"


class Missing(Exception):
    """Why a service cannot be had here."""


@dataclass(frozen=True)
class LocalServices:
    """The script over one folder; a test that stops or kills a server has a folder of its own."""

    folder: Path

    def start(self, service: str, *options: str) -> str:
        """Start it, if it does not run, and return what names it. Raises Missing."""
        done = self._run("start", service, *options)
        if done.returncode:
            raise Missing(done.stderr.strip())
        return done.stdout.strip().partition("=")[2]

    def restart(self, service: str) -> str:
        """Stop it and start it again, for a setting that it reads only then. Raises Missing."""
        self._run("stop", service)
        return self.start(service)

    def pid(self, service: str) -> int:
        """The server's process id."""
        return int((self.folder / service / "pid").read_text().split()[0])

    def halt(self) -> None:
        """Stop all that was started here; its data stays."""
        self._run("stop")

    def stop(self) -> None:
        """Stop all that was started here, and remove the folder."""
        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), *arguments, "--dir", str(self.folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def local_services() -> LocalServices:
    """A new folder for servers; another user than root must be able to enter it."""
    folder = Path(tempfile.mkdtemp(prefix="exchange-services-"))
    folder.chmod(0o711)
    return LocalServices(folder)


@pytest.fixture(scope="session")
def kafka_servers() -> Iterator[str]:
    """host:port of a real Apache Kafka."""
    yield from _service("EXCHANGE_TEST_KAFKA", "kafka", _kafka_container)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a real PostgreSQL; use `fresh_postgres` for a database of one's own."""
    yield from _service("EXCHANGE_TEST_POSTGRES", "postgres", _postgres_container)


@pytest.fixture(scope="session")
def keycloak_url() -> Iterator[str]:
    """URL, with its administrator, of a real Keycloak that has imported deploy/keycloak/city-realm.json."""
    yield from _service("EXCHANGE_TEST_KEYCLOAK", "keycloak", lambda: None)


@pytest.fixture
def fresh_postgres(postgres_url: str) -> Iterator[Callable[[], str]]:
    """Makes an empty database at each call and returns its URL; all are dropped after the test."""
    made: list[str] = []

    def make() -> str:
        name = f"test_{secrets.token_hex(6)}"
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        made.append(name)
        return urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))

    yield make
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        for name in made:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def skip_or_fail(reason: str) -> None:
    """A missing service is a skip with its reason, or a failure where services are required."""
    if os.environ.get("EXCHANGE_TEST_REQUIRED") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _service(variable: str, name: str, container: Callable[[], tuple[str, Callable[[], None]] | None]) -> Iterator[str]:
    if os.environ.get(variable):
        yield os.environ[variable]
        return
    running = container()
    if running is not None:
        where, stop = running
        try:
            yield where
        finally:
            stop()
        return
    local = local_services()
    try:
        try:
            where = local.start(name)
        except Missing as missing:
            skip_or_fail(f"no {name}: {variable} is not set, no docker engine answers, and: {missing}")
        yield where
    finally:
        local.stop()


def _engine_answers() -> bool:
    try:
        import docker

        docker.from_env(timeout=3).ping()
    except Exception:  # whatever it says, there is no engine to use
        return False
    return True


def _kafka_container() -> tuple[str, Callable[[], None]] | None:
    if not _engine_answers():
        return None
    from testcontainers.community.kafka import KafkaContainer

    container = KafkaContainer("confluentinc/cp-kafka:7.9.0").with_kraft()
    container.start(timeout=120)
    return container.get_bootstrap_server(), container.stop


def _postgres_container() -> tuple[str, Callable[[], None]] | None:
    if not _engine_answers():
        return None
    from testcontainers.community.postgres import PostgresContainer

    container = PostgresContainer("postgres:17", driver=None)
    container.start()
    return container.get_connection_url(driver=None), container.stop


@pytest.fixture
def fresh_kafka(kafka_servers: str) -> str:
    """host:port of a Kafka without topics: what an earlier test left under the city's names is deleted."""
    from confluent_kafka.admin import AdminClient

    admin = AdminClient({"bootstrap.servers": kafka_servers})

    def left() -> list[str]:
        return [topic for topic in admin.list_topics(timeout=20).topics if not topic.startswith("__")]

    if left():
        for deleted in admin.delete_topics(left(), operation_timeout=20).values():
            deleted.result(30)
    deadline = time.monotonic() + 20
    while left():
        assert time.monotonic() < deadline, "Kafka does not delete its topics"
        time.sleep(0.1)
    return kafka_servers
