"""What tests of publish and of connectors share: a registry in memory, a bench with everything around a connector.

    bench = Bench(tmp_path, contract)
    outcome = bench.read(connector)          one reading, as the runner does it
    bench.crash(connector, "unsent")         the process dies at that point; the next `read` is a new one
    bench.facets()                           what a materialiser makes of the topic: {message key: value or None}

After every reading the bench checks the promise on which all else rests: no number ever stands for two values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from operator import mul
from pathlib import Path
from typing import Any

from connectors.protocol import Connector, Means
from exchange.contracts import Contract, unframe
from exchange.errors import BrokerUnavailable, UnknownSchema
from exchange.publish import Batch, CursorFile, Keeps, Outcome, Publishing, Tolerance, replay
from exchange.records import WATERMARKS_TOPIC, Delivery, Envelope, Origin, Reject, Watermark, rejects_topic
from exchange.registry import Registered
from exchange.subjects import KeyMaker, parse
from tests.support.broker import FakeBroker
from tests.support.contracts import contract, field

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEYS = KeyMaker("k1", b"a secret of a test, 32 bytes....")
NULLABLE_TEXT = ["null", "string"]
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}

TOLERANT = Tolerance(1.0, 1)

PERSON = contract(
    field("name", "string"),
    field("address", NULLABLE_TEXT, default=None),
    field("updated_at", MILLIS),
    event_time="updated_at",
)


def citizen(number: int) -> str:
    """A valid identifier of an invented person, born on 1900-01-01 in an area that there is not."""
    head = f"2901011900{101:04d}{number:03d}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return head + "10X98765432"[sum(map(mul, map(int, head), weights)) % 11]


class FakeRegistry:
    """A registry in memory; `ids` counts from 1."""

    def __init__(self) -> None:
        self.texts: list[tuple[str, str]] = []

    def register(self, subject: str, schema_text: str) -> int:
        found = self.lookup(subject, schema_text)
        if found is None:
            self.texts.append((subject, schema_text))
            return len(self.texts)
        return found

    def lookup(self, subject: str, schema_text: str) -> int | None:
        return self.texts.index((subject, schema_text)) + 1 if (subject, schema_text) in self.texts else None

    def schema(self, schema_id: int) -> str:
        if not 1 <= schema_id <= len(self.texts):
            raise UnknownSchema(str(schema_id))
        return self.texts[schema_id - 1][1]

    def latest(self, subject: str) -> Registered | None:
        found = [(number, text) for number, (known, text) in enumerate(self.texts, 1) if known == subject]
        return Registered(found[-1][0], len(found), found[-1][1]) if found else None


class Died(Exception):
    """The process under test was killed here."""


class Bench:
    """A broker, a registry and a cursor file around one connector instance."""

    def __init__(
        self,
        folder: Path,
        contract: Contract = PERSON,
        *,
        keeps: Keeps = Keeps.KEYS,
        source: str | None = None,
        tolerance: Tolerance = TOLERANT,
    ) -> None:
        self.broker: Any = FakeBroker()
        self.registry: Any = FakeRegistry()
        self.contract = contract
        self.keeps = keeps
        self.source = source or f"{contract.department}/test"
        self.tolerance = tolerance
        self.cursor = folder / "test.cursor"
        self.now = NOW
        self.replayed: set[Origin] = set()
        self.waits: list[float] = []
        self.patience = 0  # attempts to wait for the broker before giving up

    def clock(self) -> datetime:
        return self.now

    def means(self, folder: Path) -> Means:
        """What a connector is given; `folder` is where its instance file would be."""
        return Means(folder, self.clock, lambda: self.broker, lambda: self.registry)

    def passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def open(self, cursor: CursorFile | None = None) -> Publishing:
        """A Publishing of a process that has just started."""
        held = cursor or CursorFile(self.cursor)
        try:
            return Publishing(
                self.contract,
                source=self.source,
                keeps=self.keeps,
                keys=KEYS,
                broker=self.broker,
                registry=self.registry,
                cursor=held,
                clock=self.clock,
                wait=self._wait,
                tolerance=self.tolerance,
            )
        except BaseException:
            held.close()
            raise

    def read(self, connector: Connector) -> Outcome:
        """One reading in a process of its own."""
        with closing(self.open()) as publishing:
            reading = publishing.reading()
            try:
                for batch in reading.follow(connector.read(publishing.position)):
                    connector.ack(batch.position)
            finally:
                reading.close()
                self.check_numbers()
            assert reading.outcome.accounted, reading.outcome
            assert reading.complete
            return reading.outcome

    def crash(self, connector: Connector, where: str, batches: int = 1) -> None:
        """A process that dies in its batch number `batches`, at one of four points:

        unsent: the cursor file has the batch, the topic has nothing of it; half: the topic has one message of it;
        stored: the topic has all of it, no answer came; unmarked: it was acknowledged, the cursor file does not say so.
        """
        publishing = self.open()
        try:
            reading = publishing.reading()
            if where == "unmarked":
                self._forget_to_mark(publishing, batches)
            for batch in reading.follow(self._failing(connector.read(publishing.position), where, batches)):
                connector.ack(batch.position)
            raise AssertionError(f"the reading had fewer than {batches} batches")
        except (BrokerUnavailable, Died):
            pass
        finally:
            publishing.close()
            self.check_numbers()

    def replay(self, epoch: int | None = None) -> None:
        """Publish all rejects again, or those of one epoch, as the operator does once the contract takes them."""
        for reject in self.rejects():
            assert reject.origin is not None
            if epoch not in (None, reject.origin.epoch):
                continue
            self.replayed.add(reject.origin)
            replay(self.contract, reject, keys=KEYS, publisher=self.broker.publisher(), schema_id=1)

    # -- what is in the topics --

    def deliveries(self, topic: str | None = None) -> list[Delivery]:
        """The messages of the contract's topic, or of another, in the order of their offsets."""
        return list(self.broker.read(topic or self.contract.topic))

    def sequences(self) -> list[int]:
        """The numbers of the topic's messages."""
        return [Envelope.read(delivery.headers).origin.sequence for delivery in self.deliveries()]

    def facets(self) -> dict[str, Any]:
        """What stands at the end under each identifier that the bench can name, else under each message key."""
        newest: dict[bytes, tuple[tuple[int, int], Delivery]] = {}
        for delivery in self.deliveries():
            assert delivery.key is not None
            origin = Envelope.read(delivery.headers).origin
            order = (origin.epoch, origin.sequence)
            if delivery.key not in newest or order > newest[delivery.key][0]:
                newest[delivery.key] = order, delivery
        names = {KEYS.subject(parse("cn.ric", citizen(n))).encode(): n for n in range(200)}
        return {
            str(names.get(key, key.decode())): self.value(delivery)
            for key, (_, delivery) in newest.items()
            if delivery.value is not None
        }

    def value(self, delivery: Delivery) -> Mapping[str, Any] | None:
        """The record of a delivery in JSON."""
        if delivery.value is None:
            return None
        schema_id, datum = unframe(delivery.value)
        return dict(json.loads(Contract.from_text(self.registry.schema(schema_id)).unpack(datum).payload))

    def rejects(self) -> list[Reject]:
        topic = rejects_topic(self.contract.department)
        return [Reject.read(delivery) for delivery in self.deliveries(topic)] if self.broker.state(topic) else []

    def reasons(self) -> list[tuple[str, str | None, str]]:
        """(place, field, reason) of the rejects, by number, each number once."""
        once = {reject.origin: reject for reject in self.rejects()}
        ordered = sorted(once.values(), key=lambda reject: (reject.origin.epoch, reject.origin.sequence))  # type: ignore[union-attr]
        return [(reject.place, reject.field, reject.reason) for reject in ordered]

    def watermarks(self) -> list[Watermark]:
        return [Watermark.read(delivery) for delivery in self.deliveries(WATERMARKS_TOPIC)]

    def check_numbers(self) -> None:
        """No (source, epoch, sequence) stands for two values; a reject that was replayed stands for one record."""
        told: dict[Any, Any] = {}
        for topic in (self.contract.topic, rejects_topic(self.contract.department)):
            if self.broker.state(topic) is None:
                continue
            for delivery in self.deliveries(topic):
                origin = Envelope.read(delivery.headers).origin
                if origin in self.replayed and topic != self.contract.topic:
                    continue
                assert told.setdefault(origin, (topic, delivery.key, delivery.value)) == (
                    topic, delivery.key, delivery.value
                ), f"{origin} stands for two values"  # fmt: skip

    # -- inside --

    def _wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return len(self.waits) > self.patience

    def _failing(self, batches: Iterator[Batch], where: str, at: int) -> Iterator[Batch]:
        """The batches; that of this number goes wrong on its way."""
        for number, batch in enumerate(batches, 1):
            if number == at:
                self._fail(where)
            yield batch

    def _forget_to_mark(self, publishing: Publishing, at: int) -> None:
        """The process dies when the batch of this number is to be marked."""
        marked, acknowledge = iter(range(1, at)), publishing.cursor.acknowledge

        def die(**given: Any) -> None:
            if next(marked, None) is None:
                raise Died
            acknowledge(**given)

        publishing.cursor.acknowledge = die  # type: ignore[method-assign]

    def _fail(self, where: str) -> None:
        faults = self.broker.faults
        match where:
            case "unsent":
                faults.refuse()
            case "half":
                faults.lose(keep=1)
            case "stored":
                faults.lose()
            case "unmarked":
                pass
            case _:
                raise ValueError(where)


CRASHES: Sequence[str] = ("unsent", "half", "stored", "unmarked")
