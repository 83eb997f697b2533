"""A gateway and a materialiser as processes, and one citizen about whom records are pushed and asked."""

from __future__ import annotations

import httpx2
import pytest
from typer.testing import CliRunner

from exchange.cli import audit
from tests.support.running import Site
from tests.support.site import CITIZEN

RECORDS = "/v1/datasets/civil.person/records"
PURPOSE = {"Exchange-Purpose": "tax-assessment"}
BACKINGS = [
    pytest.param("sqlite", marks=pytest.mark.slow),
    pytest.param("kafka-postgresql", marks=pytest.mark.services),
]


def places(request: pytest.FixtureRequest) -> str:
    """Where topics and store are, for a fixture with BACKINGS as its parameters."""
    if request.param == "sqlite":
        return ""
    kafka, postgres = request.getfixturevalue("fresh_kafka"), request.getfixturevalue("fresh_postgres")()
    return f'[broker]\nurl = "kafka://{kafka}"\n[store]\nurl = "{postgres}"\n'


class Drill(Site):
    """See above. `begin` and `end` start and stop the processes; the folder stays."""

    revision = 0

    def begin(self) -> None:
        self.running = [self.gateway(), self.materialise()]

    def end(self) -> None:
        for each in self.running:
            each.stop()

    def push(self, name: str, citizen: str = CITIZEN) -> None:
        """One record of a citizen, under a newer name; it is acknowledged when this returns."""
        self.revision += 1
        body = {
            "citizen_id": citizen, "name": name, "gender": "unspecified", "birth_date": "1990-01-01",
            "district": "north", "registered_on": "2020-01-01", "revision": str(self.revision),
            "updated_at": "2026-01-01T00:00:00.000Z",
        }  # fmt: skip
        answer = httpx2.post(self.url + RECORDS, json=[body], headers=self.token("civil-connector"), timeout=30)
        assert answer.json()["accepted"] == 1, answer.text

    def name(self, citizen: str = CITIZEN) -> tuple[str | None, str, bytes]:
        """The name that a view shows, with its receipt and its body."""
        headers = {**self.token("tax-desk"), **PURPOSE}
        answer = httpx2.post(f"{self.url}/v1/citizens/view", json={"id": citizen}, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        value = answer.json()["values"].get("citizen.name", {}).get("value")
        return value, answer.headers["Exchange-Receipt"], answer.content

    def shows(self, name: str | None, citizen: str = CITIZEN) -> None:
        self.until(lambda: self.name(citizen)[0] == name)

    def holds(self, receipt: str, body: bytes) -> bool:
        """Whether the log holds the entry of a receipt."""
        (self.folder / "receipt").write_text(receipt, "ascii")
        (self.folder / "body").write_bytes(body)
        files = [str(self.folder / "receipt"), str(self.folder / "body")]
        return CliRunner().invoke(audit.app, ["receipt", *files, "-c", str(self.config)]).exit_code == 0
