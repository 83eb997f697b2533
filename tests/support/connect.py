"""Kafka Connect's own runtime with the files of deploy/connect, and a register in PostgreSQL from which it reads."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import psycopg

from tests.support.running import ROOT
from tests.support.services import LocalServices, Missing
from tests.support.site import free_port

DEPLOY = ROOT / "deploy" / "connect"
JARS = ROOT / ".services" / "connect-source-jars"

TABLE = """
CREATE TABLE public.licences (
    citizen_id text PRIMARY KEY, name text NOT NULL, birth_date date NOT NULL, address text, file_no text NOT NULL,
    vehicle_class text NOT NULL, first_issued_on date NOT NULL, valid_until date NOT NULL, points integer NOT NULL,
    status text NOT NULL, donor boolean, revision bigint NOT NULL, updated_at timestamptz(3) NOT NULL
)"""


def jars(pom: Path, folder: Path) -> None:
    """Fetch what a pom.xml names, with the project's own script. Raises Missing."""
    command = [sys.executable, str(ROOT / "deploy" / "local" / "jars.py"), str(pom), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(done.stderr.strip())


class Register:
    """A department's table of licences, set up by its DBA as deploy/connect/setup.sql says. Raises Missing."""

    def __init__(self, services: LocalServices) -> None:
        with psycopg.connect(services.start("postgres"), autocommit=True) as admin:
            admin.execute("ALTER SYSTEM SET wal_level = 'logical'")
        url = services.restart("postgres")
        self._password = secrets.token_hex(8)
        self._at = urlsplit(url)
        self.connection = psycopg.connect(url, autocommit=True)
        self.connection.execute(TABLE)
        self.connection.execute(f"CREATE USER exchange_reader LOGIN REPLICATION PASSWORD '{self._password}'")
        self.connection.execute((DEPLOY / "setup.sql").read_text("utf-8"))

    def environment(self) -> dict[str, str]:
        """What deploy/connect/licences.properties asks for."""
        return {
            "REGISTER_HOST": str(self._at.hostname), "REGISTER_PORT": str(self._at.port),
            "REGISTER_DATABASE": self._at.path.lstrip("/"), "REGISTER_USER": "exchange_reader",
            "REGISTER_PASSWORD": self._password,
        }  # fmt: skip

    def add(self, citizen: str, status: str = "valid") -> None:
        self.connection.execute(
            "INSERT INTO licences VALUES"
            " (%s, '甲某', '1990-01-01', NULL, 'F-1', 'C1', '2010-02-03', '2030-02-03', 0, %s, true, 1, now())",
            (citizen, status),
        )

    def change(self, citizen: str, **columns: object) -> None:
        """Set these, count the revision on."""
        assigned = "".join(f", {name} = %s" for name in columns)
        self.connection.execute(
            f"UPDATE licences SET revision = revision + 1, updated_at = now(){assigned} WHERE citizen_id = %s",
            (*columns.values(), citizen),
        )

    def remove(self, citizen: str) -> None:
        self.connection.execute("DELETE FROM licences WHERE citizen_id = %s", (citizen,))


class Worker:
    """A standalone worker of Kafka Connect with the source of deploy/connect; its files are in `folder`."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        jars(DEPLOY / "pom.xml", JARS)
        self._port = free_port()
        self._log = folder / "connect.log"
        self._environment = {
            **os.environ, **environment, "CONNECT_PORT": str(self._port), "CONNECT_OFFSETS": str(folder / "offsets"),
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until its task runs."""
        files = [str(DEPLOY / "worker.properties"), str(DEPLOY / "licences.properties")]
        program = ["java", "-Xmx256m", "-cp", f"{JARS}/*", "org.apache.kafka.connect.cli.ConnectStandalone", *files]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(program, env=self._environment, stdout=log, stderr=log)
        self._until("RUNNING", ["RUNNING"])

    def pause(self) -> None:
        """End the connector and its task as an operator does, and begin them again in the same process."""
        for asked, state, tasks in (("stop", "STOPPED", []), ("resume", "RUNNING", ["RUNNING"])):
            httpx2.put(f"{self._url}/{asked}", timeout=30).raise_for_status()
            self._until(state, tasks)

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._port}/connectors/licences"

    def _until(self, state: str, tasks: Sequence[str]) -> None:
        deadline = time.monotonic() + 60
        while self._status() != (state, list(tasks)):
            assert self._process is not None
            alive = self._process.poll() is None and time.monotonic() < deadline
            assert alive, self._log.read_text("utf-8", "replace")[-5000:]
            time.sleep(0.1)

    def _status(self) -> tuple[str, list[str]] | None:
        """The states of the connector and of its tasks; None while nobody can say."""
        try:
            answer = httpx2.get(f"{self._url}/status", timeout=5)
        except httpx2.TransportError:
            return None
        if answer.status_code != 200:
            return None
        status = answer.json()
        return status["connector"]["state"], [task["state"] for task in status["tasks"]]
