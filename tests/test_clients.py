"""Departments with producers and readers of their own: docs/clients as it stands, and the whole path of such a record.

One exchange for all: a Kafka with SASL/SCRAM and access rules, a gateway that is the registry, a materialiser, and the
connectors that the pages show.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.support.connect import Register, Worker, jars
from tests.support.departments import Town, files, unpacked
from tests.support.publishing import citizen
from tests.support.services import Missing, local_services, skip_or_fail
from tests.support.site import CITIZEN

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).parent.parent
NODE = ROOT / "tests" / "clients" / "node"
LAST = [f"LT-{number}" for number in range(1000, 1008)]  # behind all others, in each partition
INBOX = "transport.vehicle.inbox"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    services = local_services()
    try:
        with Town(tmp_path_factory.mktemp("town"), services) as made:
            made.connector("README.md", "vehicles.toml")
            yield made
    except Missing as missing:
        skip_or_fail(str(missing))
    finally:
        services.stop()


class Foreign:
    """A producer of the department transport that knows Confluent's serializer and nothing of Exchange."""

    def __init__(self, town: Town) -> None:
        given = town.environment("transport-producer", "transport-programs")
        registry = SchemaRegistryClient(
            {"url": given["REGISTRY"], "basic.auth.user.info": f"{given['REGISTRY_CLIENT']}:{given['REGISTRY_SECRET']}"}
        )
        self._serialize = AvroSerializer(registry, files("README.md")["vehicle.avsc"])
        self._producer = Producer(
            {"bootstrap.servers": town.kafka.servers, **town.kafka.properties("transport-producer")}
        )

    def write(self, **changes: Any) -> str:
        """Write one registration; where it stands in the inbox."""
        vehicle = {
            "owner": citizen(1), "plate": "LT-0001", "brand": "Lanyan", "energy": "petrol",
            "registered": date(2020, 5, 6), "inspection_due": date(2027, 5, 6), "state": "in_use", "edition": 1,
            "deleted": False,
        } | changes  # fmt: skip
        return self.write_bytes(
            vehicle["plate"], self._serialize(vehicle, SerializationContext(INBOX, MessageField.VALUE))
        )

    def write_bytes(self, key: str, value: bytes | None) -> str:
        told: list[Message] = []
        self._producer.produce(INBOX, value, key, on_delivery=lambda _, message: told.append(message))
        assert self._producer.flush(30) == 0
        (message,) = told
        assert message.error() is None
        return f"{INBOX} partition {message.partition()} offset {message.offset()}"


@pytest.fixture(scope="module")
def rejected(town: Town) -> dict[str, tuple[str | None, str]]:
    """What a foreign producer writes; of what is no record, the place in the inbox with the field and the reason."""
    foreign = Foreign(town)
    foreign.write(edition=2)
    foreign.write(edition=3, state="transferred")
    foreign.write(edition=3, state="transferred")  # sent again, as a program does that had no answer
    foreign.write(edition=1, state="seized")  # late, and older
    foreign.write(plate="LT-0002", edition=1)
    foreign.write(plate="LT-0002", edition=2, deleted=True)
    foreign.write(plate="LT-0002", edition=1)  # older than its deletion
    bad = {
        foreign.write(owner="110101190001010015", plate="LT-0003"): ("citizen_id", "the check character is wrong"),
        foreign.write(plate="LT-0003", state="lost"): ("status", "none of the symbols"),
        foreign.write_bytes("LT-0003", b'{"plate": "LT-0003"}'): (None, "not framed"),
        foreign.write_bytes("LT-0003", None): (None, "a message without a value names nobody"),
    }
    for plate in LAST:
        foreign.write(owner=citizen(2), plate=plate)
    return bad


def vehicles(town: Town, client: str, purpose: str, identifier: str) -> dict[str, dict[str, Any]]:
    """What a client sees of a citizen's vehicles, by plate."""
    records = town.ask(client, purpose, identifier)["records"].get("transport.vehicle", {"items": []})
    return {item["value"]["plate"]: item["value"] for item in records["items"]}


def test_a_foreign_producers_records_are_seen_in_views_and_what_is_no_record_is_set_aside(
    town: Town, rejected: dict[str, tuple[str | None, str]]
) -> None:
    def seen(number: int) -> dict[str, dict[str, Any]]:
        return vehicles(town, "transport-window", "licence-service", citizen(number))

    town.site.until(lambda: seen(2).keys() == set(LAST) and len(town.rejects("transport.vehicle")) == len(rejected))
    assert seen(1) == {
        "LT-0001": {
            "citizen_id": citizen(1), "plate": "LT-0001", "brand": "Lanyan", "energy": "petrol",
            "model": None, "mileage_km": None, "registered_on": "2020-05-06", "inspection_due": "2027-05-06",
            "status": "transferred", "edition": 3,
        }
    }  # fmt: skip
    found = town.rejects("transport.vehicle")
    assert found.keys() == rejected.keys()
    for place, (field, reason) in rejected.items():
        assert found[place][0] == field
        assert reason in found[place][1]
    agreed = vehicles(town, "tax-desk", "tax-assessment", citizen(1))
    assert agreed.keys() == {"****"}, "its agreement shows the last four of a plate, and of so short a one none"
    assert "edition" not in agreed["****"]
    assert "transport.vehicle" not in town.ask("hotline-desk", "hotline-service", citizen(1))["records"]


@pytest.mark.parametrize("page", ["python.md", "node.md", "java.md", "go.md"])
@pytest.mark.usefixtures("rejected")
def test_the_programs_of_a_page_write_and_read(town: Town, tmp_path: Path, page: str) -> None:
    """A record on its way through both; what came late and older the reader passes over, what was deleted it tells."""
    write, read, plate = programs(page, unpacked(page, tmp_path))
    assert re.fullmatch(r"written: partition \d offset \d+\n", town.write(write, tmp_path))
    until = [f"{plate} in_use 1", "LT-0001 transferred 3", "deleted k1.", *LAST]
    lines = town.reads(read, tmp_path, until)
    assert "LT-0001 seized 1" not in lines
    assert lines.count("LT-0002 in_use 1") == 1, "it is not back after its deletion"
    town.site.until(lambda: plate in vehicles(town, "transport-window", "licence-service", CITIZEN))


def programs(page: str, folder: Path) -> tuple[list[str], list[str], str]:
    """The commands of a page, with what it tells to install done, and the number plate that its program writes."""
    if page == "node.md":
        if shutil.which("node") is None or not (NODE / "node_modules").is_dir():
            skip_or_fail("no Node, or its clients are not installed: run `make test-services`")
        (folder / "node_modules").symlink_to(NODE / "node_modules")
        return ["node", "write.js"], ["node", "read.js"], "LT-JS-01"
    if page == "java.md":
        if shutil.which("javac") is None:
            skip_or_fail("no JDK: install Debian's package openjdk-17-jdk-headless")
        jars(folder / "pom.xml", folder / "jars")
        return ["java", "-cp", "jars/*", "Write.java"], ["java", "-cp", "jars/*", "Read.java"], "LT-JV-01"
    if page == "go.md":
        if shutil.which("go") is None:
            pytest.skip("Go is not installed; docs/clients/go.md says that its programs are run where it is")
        for command in (["go", "mod", "tidy"], ["go", "build", "-o", "bin/", "./..."]):
            ran = subprocess.run(
                command, cwd=folder, env={**os.environ, "GOTOOLCHAIN": "local"},
                capture_output=True, text=True, check=False, timeout=200,
            )  # fmt: skip
            assert ran.returncode == 0, ran.stderr
        return ["bin/write"], ["bin/read"], "LT-GO-01"
    return [sys.executable, "write.py"], [sys.executable, "read.py"], "LT-PY-01"


# --- Kafka Connect ----------------------------------------------------------------------------------------------------


@pytest.fixture
def register(town: Town) -> Iterator[Register]:
    try:
        made = Register(town.services)
    except Missing as missing:
        skip_or_fail(str(missing))
    with made.connection:
        yield made


def test_changes_of_a_table_come_through_kafka_connect_once_also_when_it_is_killed(
    town: Town, register: Register, tmp_path: Path
) -> None:
    """Debezium's source as deploy/connect has it: rows, changes and deletions are records, a bad row is a reject."""
    town.connector("kafka-connect.md", "licences.toml")
    stays, goes, comes, bad = (citizen(number) for number in range(11, 15))

    def points(identifier: str) -> list[tuple[Any, Any]]:
        """What the licence's office sees: (points, revision), or nothing."""
        values = town.ask("transport-window", "licence-service", identifier)["values"]
        found = [values.get(f"transport.licence.{name}", {}).get("value") for name in ("points", "revision")]
        return [] if found == [None, None] else [tuple(found)]

    register.add(stays)
    register.add(goes)
    register.add(bad, status="lost")
    with ExitStack() as stack:
        given = town.environment("transport-producer", "transport-programs")
        worker = Worker(tmp_path, {**given, **register.environment()})
        stack.callback(worker.kill)
        worker.start()
        town.site.until(lambda: points(stays) == points(goes) == [(0, "1")])
        town.site.until(lambda: len(town.rejects("transport.licence")) == 1)
        ((place, why),) = town.rejects("transport.licence").items()
        assert re.fullmatch(r"transport\.licence\.inbox partition \d offset \d+", place)
        assert why[0] == "status"
        assert points(bad) == []

        worker.pause()  # from here on it has noted where it is
        register.change(stays, points=3)
        register.remove(goes)
        register.add(comes)
        register.change(bad, status="valid")
        town.site.until(lambda: points(stays) == [(3, "2")] and points(comes) == [(0, "1")])
        town.site.until(lambda: points(goes) == [] and points(bad) == [(0, "2")])
        told = town.messages("transport.licence.inbox")
        worker.kill()

        register.change(comes, points=6)
        worker.start()
        town.site.until(lambda: points(comes) == [(6, "2")])
        repeated = [value for value in told if town.messages("transport.licence.inbox").count(value) > 1]
        assert len(repeated) == 4, "it has said again the four changes that it had not noted, and no row of before"
        assert (points(stays), points(goes), points(bad)) == ([(3, "2")], [], [(0, "2")])
        assert len(town.rejects("transport.licence")) == 1

        def as_of() -> str:
            said = town.ask("transport-window", "licence-service", stays)["values"]["transport.licence.points"][
                "said_by"
            ]
            return str(said[0]["as_of"])

        before = as_of()
        town.site.until(lambda: as_of() > before)
        assert len(town.rejects("transport.licence")) == 1, "a heartbeat is none"
