"""Departments with programs of their own: what docs/clients shows, as files, and an exchange that is set up as it says.

    with Town(folder, services) as town:                      a Kafka that asks who it is, a gateway, a materialiser
        town.connector("README.md", "vehicles.toml")            a department's connector
        town.write(["node", "write.js"], folder)              a program of the department transport, to its end
        town.reads(["node", "read.js"], folder, ["LT-JS-01"])   one of social: what it prints until it has seen that

Each part logs in to Kafka as itself, and the cluster's access rules are those of `exchange broker apply`.
"""

from __future__ import annotations

import os
import re
import selectors
import shutil
import subprocess
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Self

import httpx2
import sqlalchemy as sa

from exchange.clock import system_clock
from exchange.store import tables
from exchange.wiring import client_secret, open_store
from tests.support.running import ROOT, Process, Site
from tests.support.secured import Secured
from tests.support.services import LocalServices

PAGES = ROOT / "docs" / "clients"
_BLOCK = re.compile(r'^```\w+ title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def files(page: str) -> dict[str, str]:
    """The blocks of a page that have a file's name."""
    found = _BLOCK.findall((PAGES / page).read_text("utf-8"))
    assert len({name for name, _ in found}) == len(found), f"{page} shows a file twice"
    return dict(found)


def unpacked(page: str, folder: Path) -> Path:
    """A folder with the files of a page, and the schema that all pages share."""
    for name, text in {**files(page), "vehicle.avsc": files("README.md")["vehicle.avsc"]}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    return folder


class Town:
    """An exchange on a cluster with access rules, whose operator has done what docs/clients/README.md says."""

    def __init__(self, folder: Path, services: LocalServices) -> None:
        self.folder = folder
        self.services = services
        self.kafka = Secured(services)
        said = files("README.md")
        policies = folder / "policies"
        shutil.copytree(ROOT / "policies", policies)
        for file, text in (("clients.toml", policies), ("agreements.toml", policies / "transport")):
            with (text / file).open("a", encoding="utf-8") as out:
                out.write(f"\n{said[file]}")
        properties = "".join(f'"{name}" = "{value}"\n' for name, value in self.kafka.properties("admin").items())
        broker = f'[broker]\nurl = "kafka://{self.kafka.servers}"\npartitions = 2\n'
        places = f"{said['exchange.toml'].replace('[broker]', broker)}[broker.properties]\n{properties}"
        self.site = Site(folder, places, policies=policies)
        try:
            self._begin()
        except BaseException:
            self.site.close()
            raise

    def _begin(self) -> None:
        assert self.site.start("broker", "apply", "--yes").wait() == 0
        self.kafka.add("transport-producer", "transport-connector", "social-reader")
        self.kafka.add("exchange-gateway", "exchange-materialise")
        for part in ("gateway", "materialise"):
            self.site.start(part, config=self._as(f"exchange-{part}"))
        self.site.ready()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.site.close()

    def _as(self, user: str) -> Path:
        """Settings for a part that logs in as this user."""
        text = self.site.config.read_text("utf-8")
        for name, value in self.kafka.properties("admin").items():
            text = text.replace(f'"{name}" = "{value}"', f'"{name}" = "{self.kafka.properties(user)[name]}"')
        file = self.folder / f"{user}.toml"
        file.write_text(text, "utf-8")
        return file

    def connector(self, page: str, file: str) -> Process:
        """Run the connector of an instance file that a page shows, until the end."""
        instance = self.folder / file
        instance.write_text(files(page)[file], "utf-8")
        return self.site.start("connector", "run", str(instance), config=self._as("transport-connector"))

    # -- programs --

    def environment(self, user: str, client: str) -> dict[str, str]:
        """What a program is given, as docs/clients/README.md says."""
        login = self.kafka.properties(user)
        return {
            **os.environ,
            "KAFKA": self.kafka.servers,
            "KAFKA_USER": user,
            "KAFKA_PASSWORD": login["sasl.password"],
            "KAFKA_PROTOCOL": login["security.protocol"].upper(),
            "REGISTRY": f"{self.site.url}/registry",
            "REGISTRY_CLIENT": client,
            "REGISTRY_SECRET": client_secret(self.site.settings, client).read_text("ascii"),
        }

    def write(self, command: Sequence[str], folder: Path) -> str:
        """Run a program of the department transport to its end; what it printed."""
        given = self.environment("transport-producer", "transport-programs")
        ran = subprocess.run(
            command, cwd=folder, env=given, capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def reads(self, command: Sequence[str], folder: Path, until: Sequence[str]) -> list[str]:
        """Run a program of the department social until it has printed lines that begin so; all that it has printed."""
        given = self.environment("social-reader", "social-programs")
        with (folder / "read.log").open("wb") as log:
            process = subprocess.Popen(
                command, cwd=folder, env=given, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log
            )  # fmt: skip
        try:
            return _lines(process, until, folder / "read.log")
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    # -- what came of it --

    def ask(self, client: str, purpose: str, citizen: str) -> dict[str, Any]:
        """A view over HTTP with a real token."""
        headers = {**self.site.token(client), "Exchange-Purpose": purpose}
        answer = httpx2.post(f"{self.site.url}/v1/citizens/view", json={"id": citizen}, headers=headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def messages(self, topic: str) -> list[bytes | None]:
        """The values that were written to a topic."""
        with self.kafka.broker("admin") as broker:
            return [delivery.value for delivery in broker.read(topic)]

    def rejects(self, contract: str) -> dict[str, tuple[str | None, str]]:
        """What was set aside: place -> (field, reason)."""
        table = tables.rejects
        wanted = sa.select(table.c.place, table.c.field, table.c.reason).where(table.c.contract == contract)
        with closing(open_store(self.site.settings, system_clock)) as store, store.engine.connect() as connection:
            return {place: (field, reason) for place, field, reason in connection.execute(wanted)}


def _lines(process: subprocess.Popen[bytes], until: Sequence[str], log: Path) -> list[str]:
    """What it prints until there is a line for each of these beginnings."""
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    printed, deadline = b"", time.monotonic() + 60
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while time.monotonic() < deadline:
            if ready.select(0.5):
                some = process.stdout.read()
                if some == b"":
                    break
                printed += some or b""
            *lines, _ = printed.decode().split("\n")
            missing = [beginning for beginning in until if not any(line.startswith(beginning) for line in lines)]
            if not missing:
                return lines
    raise AssertionError(f"{until} were not read\n{printed.decode()}\n{log.read_text('utf-8', 'replace')[-3000:]}")
