"""The second verb: what the topic says becomes facets, once; what is wrong is set aside; nothing stalls but itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from exchange.contracts import Contract
from exchange.errors import (
    BrokerUnavailable,
    Fenced,
    NameTaken,
    NotFound,
    RegistryUnavailable,
    StoreUnavailable,
    TopicChanged,
)
from exchange.materialise import loop
from exchange.materialise.schemas import SchemaSource
from exchange.metrics import LAG
from exchange.records import WATERMARKS_TOPIC, Delivery, Envelope, Message, Origin, Reject, Watermark, rejects_topic
from exchange.registry import StoreRegistry
from exchange.store import Applied, Batch, Store, open_reader
from exchange.topics import Assignments, Feed
from tests.support.broker import FakeBroker
from tests.support.bus import KEYS, NOW, Bus, Running, clock, facets, sqlite_url, until
from tests.support.contracts import CITIZEN, contract, field

OTHER = "11010119000101009X"
PERSON = contract(field("name", "string"), field("revision", ["null", "long"], default=None))
VERSIONED = contract(
    field("status", "string"),
    field("revision", "long"),
    name="Status",
    fields={"revision": {"level": 1}},
    version="revision",
)
PENALTY = contract(field("number", "string"), field("amount", "long"), name="Penalty", record_key=["number"])


@pytest.fixture
def broker() -> FakeBroker:
    return FakeBroker()


@pytest.fixture
def bus(broker: FakeBroker, tmp_path: Path) -> Iterator[Bus]:
    bus = Bus(broker, sqlite_url(tmp_path), [PERSON, VERSIONED, PENALTY])
    yield bus
    bus.close()


def person(citizen: str = CITIZEN, name: str = "Li") -> dict[str, object]:
    return {"citizen_id": citizen, "name": name, "revision": None}


async def names(bus: Bus, citizen: str = CITIZEN) -> list[str]:
    reader = open_reader(bus.url)
    try:
        found = await facets(reader, PERSON, person(citizen))
    finally:
        await reader.close()
    return [each.payload or "" for each in found]


def read_to_end(bus: Bus, registry: SchemaSource | None = None) -> None:
    """Materialise until every topic is read to its present end."""
    with Running(bus.materialiser(registry=registry)):
        until(lambda: read_all(bus, *bus.topics))


def read_all(bus: Bus, *topics: str) -> bool:
    """Whether these topics were read to their present end."""
    return all(
        bus.store_position(topic, partition) >= end
        for topic in topics
        if (state := bus.broker.state(topic)) is not None
        for partition, (_, end) in state.bounds.items()
    )


@pytest.mark.anyio
async def test_a_record_becomes_a_facet_and_a_deletion_takes_it_away(bus: Bus) -> None:
    bus.say(PERSON.topic, bus.message("civil.person", person(), 1), bus.message("civil.person", person(OTHER), 2))
    read_to_end(bus)
    assert await names(bus) == [f'{{"citizen_id":"{CITIZEN}","name":"Li","revision":null}}']
    bus.say(PERSON.topic, bus.message("civil.person", person(), 3, delete=True))
    read_to_end(bus)
    assert await names(bus) == []
    assert len(await names(bus, OTHER)) == 1


@pytest.mark.anyio
async def test_repeats_late_ones_and_replays_change_nothing(bus: Bus) -> None:
    first, second = (bus.message("civil.person", person(name=name), n) for n, name in ((1, "Old"), (2, "New")))
    bus.say(PERSON.topic, first, second, first, second, first)
    read_to_end(bus)
    assert "New" in (await names(bus))[0]
    bus.say(PERSON.topic, bus.message("civil.person", person(), 3, delete=True), second)
    read_to_end(bus)
    assert await names(bus) == []  # only a newer record brings it back


def test_what_is_wrong_is_set_aside_with_its_place_and_its_neighbours_go_on(bus: Bus) -> None:
    good = bus.message("civil.person", person(), 1)
    headers = dict(good.headers)
    assert good.value is not None
    wrong = {
        "no key of ours": Message(b"people", good.value, headers),
        "a key of another": Message(
            KEYS.message_key(PERSON.check(person(OTHER)).subject, "civil.person", ()), good.value, headers
        ),
        "no framing": Message(good.key, b"{}", headers),
        "empty": Message(good.key, b"", headers),
        "a byte too many": Message(good.key, good.value + b"z", headers),
        "a byte too few": Message(good.key, good.value[:-1], headers),
        "four zero bytes": Message(good.key, bytes(4), headers),
        "a frame of another form": Message(good.key, b"\1" + bytes(16) + good.value[5:], headers),
        "an unknown schema": Message(good.key, b"\0\0\0\x27\x0f" + good.value[5:], headers),
        "another contract's schema": bus.message(
            "civil.penalty", {"citizen_id": CITIZEN, "number": "1", "amount": 1}, 1
        )._replace(key=good.key),
        "no source": Message(good.key, good.value, {**headers, "ce_source": b"x"}),
        "another department": Message(good.key, good.value, {**headers, "ce_source": b"tax/people/1"}),
    }
    bus.say(PERSON.topic, *wrong.values(), bus.message("civil.person", person(OTHER), 2))
    read_to_end(bus)
    found = [each.reject for each in bus.store.list_rejects(limit=1000)]
    assert len(found) == len(wrong)
    assert {(reject.topic, reject.partition, reject.offset) for reject in found} == {
        (delivery.topic, delivery.partition, delivery.offset)
        for delivery in bus.broker.messages(PERSON.topic)  # type: ignore[attr-defined]
        if delivery.headers != bus.message("civil.person", person(OTHER), 2).headers
    }
    told = " ".join(f"{reject.reason} {reject.place} {reject.field}" for reject in found)
    assert CITIZEN not in told
    assert "Li" not in told


def test_a_message_without_a_key_is_set_aside_and_changes_no_facet(bus: Bus, broker: FakeBroker) -> None:
    """Without a key a record cannot be compacted, and a deletion means nothing: foreign producers send both."""
    bus.say(PERSON.topic, bus.message("civil.person", person(), 1))
    record = bus.message("civil.person", person(name="Zhao"), 2)
    deletion = bus.message("civil.person", person(), 3, delete=True)
    broker.append_unchecked(PERSON.topic, [each._replace(key=None) for each in (record, deletion)])  # type: ignore[arg-type]
    bus.say(PERSON.topic, bus.message("civil.person", person(OTHER), 4))
    read_to_end(bus)
    assert [each.reject.reason for each in bus.store.list_rejects()] == ["the message has no key"] * 2
    assert bus.store_facets() == 2
    assert not any("Zhao" in payload for payload in bus.store_payloads())


def test_the_lag_of_a_partition_is_shown_by_its_owner_only(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has given its partitions up would show its last lag for ever, and sums would count it twice."""
    monkeypatch.setattr(loop, "LAG_SECONDS", 0.02)

    def shown() -> int:
        return sum(sample.labels["topic"] == PERSON.topic for each in LAG.collect() for sample in each.samples)

    bus.say(PERSON.topic, bus.message("civil.person", person(), 1))
    for _ in range(2):  # the second time round it is the next owner
        with Running(bus.materialiser()):
            until(lambda: shown() == 4)
        assert shown() == 0


def test_a_connectors_rejects_and_watermarks_are_stored(bus: Bus) -> None:
    reject = Reject("civil", "civil.person", "people.csv line 5", "name", "empty", NOW, Origin("civil/people", 1, 9))
    bus.say(rejects_topic("civil"), reject.message(), reject.message())
    (place,) = bus.say(PERSON.topic, bus.message("civil.person", person(), 1))
    behind = Watermark("civil.person", PERSON.topic, "civil/people", 1, NOW, {place[0]: place[1] + 1})
    bus.say(WATERMARKS_TOPIC, behind.message())
    read_to_end(bus)
    assert [each.reject for each in bus.store.list_rejects()] == [replace(reject)]
    assert bus.store.watermarks() == []  # it speaks of a record that is not stored yet
    bus.say(PERSON.topic, bus.message("civil.person", person(name="Wu"), 2))
    with Running(bus.materialiser()):
        until(lambda: [told.as_of for told in bus.store.watermarks()] == [NOW])


def test_a_misplaced_reject_or_watermark_is_a_reject_of_its_own(bus: Bus) -> None:
    foreign = Reject("tax", "tax.person", "x line 1", None, "y", NOW, Origin("tax/people", 1, 9))
    bus.say(rejects_topic("civil"), foreign.message())
    bus.say(WATERMARKS_TOPIC, Message(b"k", b"{}", {}))
    read_to_end(bus)
    assert sorted(each.reject.topic or "" for each in bus.store.list_rejects()) == [
        rejects_topic("civil"),
        WATERMARKS_TOPIC,
    ]


def test_a_reject_from_the_future_cannot_outlive_the_purge(bus: Bus) -> None:
    for number, ahead in enumerate((timedelta(hours=1), timedelta(days=2), timedelta(days=300_000))):
        origin = Origin("civil/people", 1, number)
        reject = Reject("civil", "civil.person", f"line {number}", None, "empty", clock() + ahead, origin)
        bus.say(rejects_topic("civil"), reject.message())
    read_to_end(bus)
    found = [each.reject for each in bus.store.list_rejects()]
    assert len(found) == 3
    assert all(reject.at <= clock() + timedelta(days=1) for reject in found)
    assert sum("a day ahead" in reject.reason for reject in found) == 2
    assert bus.store.purge_rejects(clock() + timedelta(days=1, seconds=1)) == 3


def test_a_watermark_from_the_future_hides_no_delay(bus: Bus) -> None:
    marks = [
        Watermark("civil.person", PERSON.topic, "civil/people", 1, clock() + ahead, {})
        for ahead in (timedelta(hours=1), timedelta(days=2), timedelta(days=300_000))
    ]
    bus.say(WATERMARKS_TOPIC, *(mark.message() for mark in marks))
    read_to_end(bus)
    assert [told.as_of for told in bus.store.watermarks()] == [clock() + timedelta(hours=1)]
    reasons = [each.reject.reason for each in bus.store.list_rejects()]
    assert len(reasons) == sum("a day ahead" in reason for reason in reasons) == 2


class Away:
    """A registry that is out of reach, or does not know, until told otherwise; it counts what it is asked."""

    def __init__(self, registry: StoreRegistry, error: Exception) -> None:
        self.registry = registry
        self.error: Exception | None = error
        self.asked = 0

    def schema(self, schema_id: int) -> str:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.registry.schema(schema_id)

    def newest_id(self) -> int:
        if isinstance(self.error, RegistryUnavailable):
            self.asked += 1
            raise self.error
        return self.registry.newest_id()


@pytest.mark.anyio
async def test_the_partition_waits_while_the_registry_is_away(bus: Bus) -> None:
    registry = Away(bus.registry, RegistryUnavailable("down"))
    bus.say(PERSON.topic, bus.message("civil.person", person(), 1))
    with Running(bus.materialiser(registry=registry)):
        until(lambda: registry.asked > 0)
        assert bus.store.list_rejects() == []
        registry.error = None
        until(lambda: bus.store_facets() == 1)


def test_an_unknown_schema_is_not_asked_for_on_every_record(bus: Bus) -> None:
    from exchange.errors import UnknownSchema

    registry = Away(bus.registry, UnknownSchema("9"))
    bus.say(PERSON.topic, *(bus.message("civil.person", person(), n) for n in range(50)))
    read_to_end(bus, registry)
    assert registry.asked == 1
    assert len(bus.store.list_rejects(limit=100)) == 50


class Failing:
    """A store whose `apply` fails: before anything is written (lost), or after all of it is (stored)."""

    def __init__(self, store: Store, *, stored: bool) -> None:
        self._store = store
        self._stored = stored
        self.failures = 3

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def apply(self, batches: list[Batch]) -> list[Applied]:
        if self.failures:
            self.failures -= 1
            if self._stored:
                self._store.apply(batches)
            raise StoreUnavailable("the answer to the commit was lost" if self._stored else "down")
        return self._store.apply(batches)


@pytest.mark.anyio
@pytest.mark.parametrize("stored", [False, True], ids=["failed and lost", "failed but stored"])
async def test_a_store_that_fails_is_tried_again_and_nothing_is_applied_twice(bus: Bus, stored: bool) -> None:
    store = Failing(bus.store, stored=stored)
    bus.say(PERSON.topic, *(bus.message("civil.person", person(name=f"n{n}"), n) for n in range(1, 5)))
    with Running(bus.materialiser(store=store)):  # type: ignore[arg-type]
        until(lambda: store.failures == 0)
        until(lambda: bus.store_facets() == 1)
    assert "n4" in (await names(bus))[0]


@pytest.mark.anyio
async def test_who_lost_a_partition_writes_nothing_more_and_joins_again(bus: Bus) -> None:
    bus.say(PERSON.topic, bus.message("civil.person", person(), 1))
    with capture_logs() as logs, Running(bus.materialiser(owner="stalled")):
        until(lambda: read_all(bus, PERSON.topic))
        lose_the_partitions(bus)
        bus.say(PERSON.topic, bus.message("civil.person", person(name="Wang"), 2))
        until(lambda: read_all(bus, PERSON.topic))
    assert [each["log_level"] for each in logs if "joins the consumer group again" in each["event"]] == ["warning"]
    assert "Wang" in (await names(bus))[0]
    assert lose_the_partitions(bus) == {4}, "taken by us, by another, by us again, and now"


@pytest.mark.anyio
async def test_who_loses_its_partitions_twice_in_a_minute_ends(bus: Bus) -> None:
    bus.say(PERSON.topic, bus.message("civil.person", person(), 1))

    def twice(running: Running) -> None:
        until(lambda: read_all(bus, PERSON.topic))
        for number, name in ((2, "Wang"), (3, "Zombie")):
            lose_the_partitions(bus)
            bus.say(PERSON.topic, bus.message("civil.person", person(name=name), number))
            until(lambda: read_all(bus, PERSON.topic) or running.error is not None)
        running.join()

    with pytest.raises(Fenced), Running(bus.materialiser(owner="stalled")) as running:
        twice(running)
    assert "Wang" in (await names(bus))[0]


class Gated:
    """A store whose transactions wait for the gate."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.gate = threading.Event()

    def apply(self, batches: Sequence[Batch]) -> list[Applied]:
        self.gate.wait(10)
        return self._store.apply(batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


class Overtaken:
    """A broker that gives one message in a poll, and after two of them everything to another member of the group."""

    def __init__(self, bus: Bus, gate: threading.Event) -> None:
        self._bus = bus
        self._gate = gate
        self.found = 0
        self.other: Feed | None = None

    def feed(self, group: str, topics: Sequence[str], assignments: Assignments) -> Feed:
        feed = self._bus.broker.feed(group, topics, assignments)
        genuine = feed.poll

        def poll(limit: int, timeout: float) -> list[Delivery]:
            if self.found == 2 and self.other is None:
                feed.stall()
                self.other = self._bus.broker.feed(group, topics, self)
                self.other.poll(1, 0.0)
                self._gate.set()
                stored = PERSON.topic, next(self._bus.broker.read(PERSON.topic)).partition
                del feed._positions[stored]  # it hears of this one first
                assignments.revoked(*stored)
            found = genuine(1, timeout)
            self.found += len(found)
            return found

        feed.poll = poll  # type: ignore[method-assign]
        return feed

    def assigned(self, topic: str, partition: int, topic_id: str) -> int:
        return self._bus.store.take(topic, partition, "other", topic_id).offset

    def revoked(self, topic: str, partition: int) -> None:
        """It writes nothing."""


@pytest.mark.anyio
async def test_who_is_overtaken_while_it_stores_drops_what_it_gathered_beside_and_goes_on(
    bus: Bus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LINGER", 0.0)  # the second message is not waited for before the first is stored
    bus.say(PERSON.topic, *(bus.message("civil.person", person(name=name), n) for n, name in ((1, "Li"), (2, "Wang"))))
    store = Gated(bus.store)
    broker = Overtaken(bus, store.gate)
    with capture_logs() as logs, Running(bus.materialiser(store=store, broker=broker)):  # type: ignore[arg-type]
        until(lambda: any("joins the consumer group again" in each["event"] for each in logs))
        await anyio.sleep(0.3)  # it is a member again, and has nothing
        assert await names(bus) == []
        assert broker.other is not None
        broker.other.close()
        until(lambda: read_all(bus, PERSON.topic))
    assert "Wang" in (await names(bus))[0]


class Forgetful:
    """A broker that was killed: `times` polls find that the group knows another session under our name."""

    def __init__(self, broker: FakeBroker, times: int) -> None:
        self._broker = broker
        self.times = times

    def feed(self, group: str, topics: Sequence[str], assignments: Assignments) -> Feed:
        feed = self._broker.feed(group, topics, assignments)
        genuine = feed.poll

        def poll(limit: int, timeout: float) -> list[Delivery]:
            found = genuine(limit, timeout)
            if found and self.times:
                self.times -= 1
                raise NameTaken("another process reads under this one's name")
            return found

        feed.poll = poll  # type: ignore[method-assign]
        return feed


def test_a_group_that_has_forgotten_us_is_joined_again_and_a_namesake_ends_us(bus: Bus) -> None:
    bus.say(PERSON.topic, bus.message("civil.person", person(), 1))
    with Running(bus.materialiser(broker=Forgetful(bus.broker, 1))):  # type: ignore[arg-type]
        until(lambda: bus.store_facets() == 1)
    bus.say(PERSON.topic, bus.message("civil.person", person(name="n2"), 2))
    running = Running(bus.materialiser(broker=Forgetful(bus.broker, 2)))  # type: ignore[arg-type]
    with pytest.raises(NameTaken), running:
        running.join()


def lose_the_partitions(bus: Bus) -> set[int]:
    """Another process takes them over behind our back; their epochs."""
    state = bus.broker.state(PERSON.topic)
    assert state is not None
    return {bus.store.take(PERSON.topic, partition, "other", state.id).epoch for partition in range(4)}


def test_a_topic_that_is_not_the_same_stops_the_reader(bus: Bus, broker: FakeBroker) -> None:
    bus.say(PERSON.topic, bus.message("civil.person", person(), 1))
    read_to_end(bus)
    broker.recreate(PERSON.topic)
    running = Running(bus.materialiser())
    with pytest.raises(TopicChanged), running:
        running.join()


def test_a_broker_that_is_away_is_waited_for(bus: Bus, broker: FakeBroker) -> None:
    bus.say(PERSON.topic, bus.message("civil.person", person(), 1))
    broker.faults.down = True
    with pytest.raises(BrokerUnavailable):
        broker.state(PERSON.topic)
    with Running(bus.materialiser()):
        broker.faults.down = False
        until(lambda: bus.store_facets() == 1)


def test_what_comes_in_several_answers_is_stored_together(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the first few of what was sent at once would be stored alone, and the others wait for them."""
    stored: list[int] = []
    apply = bus.store.apply
    monkeypatch.setattr(loop, "AT_ONCE", 1)  # of one poll
    monkeypatch.setattr(loop, "LINGER", 0.5)
    monkeypatch.setattr(
        bus.store, "apply", lambda batches: stored.append(sum(len(each.facets) for each in batches)) or apply(batches)
    )
    bus.say(PERSON.topic, *[bus.message("civil.person", person(), number) for number in range(1, 6)])
    read_to_end(bus)
    assert stored == [5]


def test_two_values_of_one_version_are_counted_and_the_order_rule_decides(bus: Bus) -> None:
    said = [{"citizen_id": CITIZEN, "status": status, "revision": 7} for status in ("one", "two")]
    bus.say(VERSIONED.topic, *(bus.message("civil.status", value, n) for n, value in enumerate(said, 1)))
    read_to_end(bus)
    assert bus.store_payloads() == [f'{{"citizen_id":"{CITIZEN}","revision":"7","status":"two"}}']


def test_records_with_a_key_stand_side_by_side(bus: Bus) -> None:
    said = [{"citizen_id": CITIZEN, "number": number, "amount": 5} for number in ("a", "b", "a")]
    bus.say(PENALTY.topic, *(bus.message("civil.penalty", value, n) for n, value in enumerate(said, 1)))
    read_to_end(bus)
    assert bus.store_facets() == 2


def test_old_rejects_are_let_go_by_the_housekeeping(bus: Bus) -> None:
    bus.say(
        rejects_topic("civil"), Reject("civil", "civil.person", "l", None, "r", NOW, Origin("civil/p", 1, 1)).message()
    )
    read_to_end(bus)
    assert bus.store.purge_rejects(clock() + timedelta(seconds=1)) == 1
    with pytest.raises(NotFound):
        bus.store.reject("civil/p/1/1")


def test_headers_of_a_deletion_name_its_version(bus: Bus) -> None:
    message = bus.message("civil.status", {"citizen_id": CITIZEN, "status": "x", "revision": 9}, 1, delete=True)
    assert message.value is None
    assert Envelope.read(message.headers).version == 9


def test_contract_of_the_tests_is_what_it_says() -> None:
    assert isinstance(PERSON, Contract)
    assert PERSON.topic == "civil.person.v1"
