"""Lanting through the first two verbs: every row of every office becomes what truth.json says, day after day."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from connectors.protocol import Weight
from exchange import city
from exchange.contracts import Catalogue, load_catalogue
from exchange.errors import BadRequest
from exchange.publish import PushAnswer, Tolerance, Unparsed, publish_push
from exchange.store import tables
from exchange.topics.sqlite import SqliteBroker
from gateway.strictjson import read_text
from tests.support.bus import KEYS, NOW, Bus, Running, sqlite_url, until
from tests.support.instances import Instances

SCHEMAS = Path(__file__).parent.parent / "schemas"


class Lanting:
    """A city, its bus, and a running reader of its instance files."""

    def __init__(self, folder: Path, bus: Bus, catalogue: Catalogue, **size: Any) -> None:
        self.out = folder / "city"
        city.generate(self.out, seed=11, **size)
        self.bus = bus
        self.catalogue = catalogue
        self.instances = Instances(bus, self.out / "connectors.d", catalogue, folder)
        self._pushed: set[Path] = set()
        self._sequence = 1

    def truth(self, day: int) -> dict[str, dict[str, Any]]:
        """The day's figures of each dataset, with its facets and its kind of source."""
        datasets = json.loads((self.out / "truth.json").read_text("utf-8"))["datasets"]
        return {name: figures["days"][day] | figures for name, figures in datasets.items()}

    def push(self) -> dict[str, PushAnswer]:
        """Push what was not pushed yet."""
        answers = {}
        for contract, file in city.pushes(self.out):
            if file not in self._pushed:
                self._pushed.add(file)
                answers[contract] = self._push(contract, file)
        return answers

    def _push(self, contract: str, file: Path) -> PushAnswer:
        lines = [parsed(line) for line in file.read_text("utf-8").splitlines()]
        first, self._sequence = self._sequence, self._sequence + len(lines)
        publisher = self.bus.broker.publisher()
        try:
            return publish_push(
                self.catalogue.newest(contract),
                lines,
                first_sequence=first,
                epoch=1,
                keys=KEYS,
                publisher=publisher,
                schema_id=self.bus.ids[contract],
                received=NOW,
                tolerance=Tolerance(1.0),
            )
        finally:
            publisher.close()

    def facets(self) -> dict[str, int]:
        """How many records stand in the store, by contract."""
        facets = tables.facets
        counted = sa.select(facets.c.contract, sa.func.count()).where(facets.c.payload.is_not(None))
        with self.bus.store.engine.connect() as connection:
            return {name: count for name, count in connection.execute(counted.group_by(facets.c.contract))}  # noqa: C416


def parsed(line: str) -> Any:
    try:
        return read_text(line)
    except BadRequest:
        return Unparsed(line, "not JSON")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(SCHEMAS)


@pytest.fixture
def bus(tmp_path: Path, catalogue: Catalogue) -> Iterator[Bus]:
    broker = SqliteBroker(tmp_path / "topics.db")
    shared = [contract for contract in catalogue.contracts.values() if contract.sharing != "withheld"]
    bus = Bus(broker, sqlite_url(tmp_path), shared)
    yield bus
    bus.close()
    broker.close()


@pytest.fixture
def lanting(tmp_path: Path, bus: Bus, catalogue: Catalogue) -> Iterator[Lanting]:
    lanting = Lanting(tmp_path, bus, catalogue, citizens=300, enterprises=100)
    yield lanting
    lanting.instances.close()


def test_no_instance_file_is_refused(lanting: Lanting) -> None:
    found = lanting.instances.check()
    assert len(found) == 17
    assert {
        name: [finding.text for finding in findings if finding.weight is Weight.REFUSED]
        for name, findings in found.items()
    } == {name: [] for name in found}


def test_every_row_of_every_office_is_accounted_for(lanting: Lanting) -> None:
    with Running(lanting.bus.materialiser()):
        for day in range(4):
            if day > 0:
                city.advance(lanting.out)
            outcomes, answers = lanting.instances.read(), lanting.push()
            truth = lanting.truth(day)
            for name, outcome in outcomes.items():
                expected = {part: truth[name][part] for part in ("published", "deleted", "gone")}
                assert {part: getattr(outcome, part) for part in expected} == expected, (day, name)
                # A snapshot whose bytes are those of the day before is not read again.
                same_bytes = truth[name]["source"] == "snapshot" and outcome.read == 0
                assert same_bytes or outcome.rejected == sum(truth[name]["rejected"].values()), (day, name)
                assert outcome.accounted
            for name, answer in answers.items():
                assert answer.accepted == truth[name]["published"] + truth[name]["deleted"], (day, name)
                assert answer.rejected == sum(truth[name]["rejected"].values()), (day, name)
            standing = {name: figures["facets"] for name, figures in truth.items()}
            until(lambda standing=standing: lanting.facets() == standing, 20)
