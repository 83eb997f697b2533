"""Erasure: nothing of a subject is left anywhere that is ours, whatever breaks, and nobody else loses a word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from connectors.config import Instance
from exchange import erasure
from exchange.cli import audit, erase
from exchange.erasure import Eraser, again, listed, merged
from exchange.errors import BadRequest, InvalidIdentifier, Rejected, StoreUnavailable
from exchange.records import ERASURES_TOPIC, Delivery, Erasure, Origin, Reject
from exchange.settings import Settings
from exchange.subjects import parse
from exchange.topics.sqlite import SqliteBroker
from tests.support.bus import KEYS, NOW, Bus, Running, clock, sqlite_url, until
from tests.support.contracts import CITIZEN, contract, field
from tests.support.site import Site
from tests.support.writes import Died, Dying

OTHER = "11010119000101009X"
PERSON = contract(field("name", "string"), field("revision", ["null", "long"], default=None))
VERSIONED = contract(
    field("status", "string"), field("revision", "long"),
    name="Status", fields={"revision": {"level": 1}}, version="revision",
)  # fmt: skip
PENALTY = contract(field("number", "string"), field("amount", "long"), name="Penalty", record_key=["number"])
KEY = KEYS.subject(parse("cn.ric", CITIZEN))


@pytest.fixture(params=["sqlite", pytest.param("kafka-postgresql", marks=pytest.mark.services)])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    with ExitStack() as stack:
        if request.param == "sqlite":
            broker: Any = stack.enter_context(closing(SqliteBroker(tmp_path / "topics.db")))
            url = sqlite_url(tmp_path)
        else:
            from exchange.kafka import KafkaBroker

            broker = stack.enter_context(closing(KafkaBroker(request.getfixturevalue("fresh_kafka"))))
            url = request.getfixturevalue("fresh_postgres")()
        broker.ensure(erasure.topic())
        yield stack.enter_context(closing(Bus(broker, url, [PERSON, VERSIONED, PENALTY])))


def eraser(bus: Bus, **parts: Any) -> Eraser:
    made = {"store": bus.store, "broker": bus.broker, "contracts": list(bus.contracts.values()), **parts}
    return Eraser(made["store"], made["broker"], made["contracts"], bus.topics, KEYS, clock)


def person(citizen: str = CITIZEN, name: str = "Li") -> dict[str, object]:
    return {"citizen_id": citizen, "name": name, "revision": None}


def status(revision: int, citizen: str = CITIZEN) -> dict[str, object]:
    return {"citizen_id": citizen, "status": f"s{revision}", "revision": revision}


def penalty(number: str, citizen: str = CITIZEN) -> dict[str, object]:
    return {"citizen_id": citizen, "number": number, "amount": 1}


def fill(bus: Bus) -> None:
    """Two citizens, each with a person, a status and three penalties."""
    for at, citizen in enumerate((CITIZEN, OTHER)):
        bus.say(PERSON.topic, bus.message("civil.person", person(citizen), 10 * at + 1))
        bus.say(VERSIONED.topic, bus.message("civil.status", status(5, citizen), 10 * at + 1))
        for n in range(3):
            bus.say(PENALTY.topic, bus.message("civil.penalty", penalty(f"p{n}", citizen), 10 * at + n + 1))


def of(bus: Bus, citizen: str) -> list[str]:
    return [payload for payload in bus.store_payloads() if citizen in payload]


def set_aside(number: int, payload: str | None, contract: str = "civil.person") -> Reject:
    return Reject(
        department="civil", contract=contract, place=f"line {number}", field=None, reason="wrong", at=NOW,
        origin=Origin("civil/test", 1, 1_000 + number), schema_id=1, payload=payload,
    )  # fmt: skip


def rejects(bus: Bus) -> list[str]:
    return [each.reject.place for each in bus.store.list_rejects()]


# --- what it does -----------------------------------------------------------------------------------------------------


def test_nothing_of_the_subject_is_left_and_the_others_keep_all(bus: Bus) -> None:
    fill(bus)
    with Running(bus.materialiser()):
        until(lambda: bus.store_facets() == 10)
        assert eraser(bus).would(KEY) == {PERSON.topic: 1, VERSIONED.topic: 1, PENALTY.topic: 3}
        done = eraser(bus).carry_out(eraser(bus).order(KEY, "a/1"))
    assert (done.records, done.rejects, done.done) == (5, 0, NOW)
    assert of(bus, CITIZEN) == []
    assert len(of(bus, OTHER)) == 5
    assert listed(bus.broker) == {KEY: done}
    for topic in (PERSON.topic, VERSIONED.topic, PENALTY.topic):  # compaction keeps the last word of each key
        last = {each.key: each.value for each in bus.broker.read(topic)}
        assert all(value is None for key, value in last.items() if key.startswith(KEY.encode()))
        assert any(value is not None for value in last.values())


def test_records_that_were_not_read_yet_go_too(bus: Bus) -> None:
    """Nobody reads while it is ordered: what stands in the topics is found there, and comes to nothing."""
    fill(bus)
    waiting = eraser(bus).order(KEY, "a/1")
    with pytest.raises(StoreUnavailable, match="resume"):
        eraser(bus).carry_out(waiting, 0.0)
    shown: list[str] = []
    with Running(bus.materialiser()):
        done = eraser(bus).carry_out(waiting)
        shown += of(bus, CITIZEN)
    assert done.done is not None
    assert shown == []
    assert len(of(bus, OTHER)) == 5


def test_late_and_repeated_records_stay_out_and_new_ones_come_in(bus: Bus) -> None:
    fill(bus)
    with Running(bus.materialiser()):
        until(lambda: bus.store_facets() == 10)
        eraser(bus).carry_out(eraser(bus).order(KEY, "a/1"))
        bus.say(PERSON.topic, bus.message("civil.person", person(), 1))  # a repeat
        bus.say(VERSIONED.topic, bus.message("civil.status", status(4), 1, source="civil/late"))  # an older version
        bus.say(PERSON.topic, bus.message("civil.person", person(OTHER, "Wang"), 12))
        until(lambda: any("Wang" in each for each in of(bus, OTHER)))
        assert of(bus, CITIZEN) == []
        bus.say(PERSON.topic, bus.message("civil.person", person(name="New"), 2))
        bus.say(VERSIONED.topic, bus.message("civil.status", status(6), 2))
        until(lambda: len(of(bus, CITIZEN)) == 2)


def test_rejects_that_name_the_subject_go_and_no_other(bus: Bus) -> None:
    payloads: list[str | None] = [
        json.dumps({"citizen_id": CITIZEN, "name": 1}),
        json.dumps({"citizen_id": f" {CITIZEN} "}),
        json.dumps({"citizen_id": OTHER, "name": CITIZEN}),  # speaks of another
        json.dumps({"citizen_id": "nobody"}),
        json.dumps([CITIZEN]),
        json.dumps("text"),
        None,
    ]
    for number, payload in enumerate(payloads):
        bus.say("civil.rejects.v1", set_aside(number, payload).message())
    with Running(bus.materialiser()):
        until(lambda: len(rejects(bus)) == len(payloads))
        done = eraser(bus).carry_out(eraser(bus).order(KEY, "a/1"))
    assert done.rejects == 2
    assert sorted(rejects(bus)) == [f"line {n}" for n in range(2, len(payloads))]


def test_a_reject_that_was_not_read_yet_goes_too(bus: Bus) -> None:
    """It stands in the department's topic when the order comes, and would be replayed one day."""
    bus.say("civil.rejects.v1", set_aside(0, json.dumps({"citizen_id": CITIZEN})).message())
    waiting = eraser(bus).order(KEY, "a/1")
    with pytest.raises(StoreUnavailable, match=r"civil\.rejects"):
        eraser(bus).carry_out(waiting, 0.0)
    with Running(bus.materialiser()):
        assert eraser(bus).carry_out(waiting).rejects == 1
    assert rejects(bus) == []


def test_what_is_served_no_longer_goes_too_and_nobody_waits_for_it(bus: Bus) -> None:
    fill(bus)
    bus.say("civil.rejects.v1", set_aside(0, json.dumps({"citizen_id": CITIZEN}), "civil.penalty").message())
    with Running(bus.materialiser()):
        until(lambda: bus.store_facets() == 10 and len(rejects(bus)) == 1)
    bus.say(PENALTY.topic, bus.message("civil.penalty", penalty("late"), 99))
    bus.topics.remove(PENALTY.topic)
    with Running(bus.materialiser()):
        done = eraser(bus).carry_out(eraser(bus).order(KEY, "a/1"), 5.0)
    assert (done.records, done.rejects) == (6, 1)
    assert of(bus, CITIZEN) == []


def test_a_second_order_stays_open_when_the_first_is_done(bus: Bus) -> None:
    fill(bus)
    with Running(bus.materialiser()):
        until(lambda: bus.store_facets() == 10)
        first = eraser(bus).order(KEY, "a/1")
        second = Erasure(KEY, "b/2", first.ordered + timedelta(seconds=1))
        with closing(bus.broker.publisher()) as publisher:
            publisher.publish(ERASURES_TOPIC, [second.message()])
        assert eraser(bus).carry_out(first).done is not None
    assert listed(bus.broker) == {KEY: second}


def test_no_byte_of_it_is_left_in_the_stores_file(tmp_path: Path) -> None:
    with (
        closing(SqliteBroker(tmp_path / "topics.db")) as broker,
        closing(Bus(broker, sqlite_url(tmp_path), [PERSON, VERSIONED, PENALTY])) as bus,
    ):
        broker.ensure(erasure.topic())
        fill(bus)
        bus.say(PERSON.topic, bus.message("civil.person", person(name="Former"), 1, epoch=2))
        with Running(bus.materialiser()):
            until(lambda: any("Former" in each for each in of(bus, CITIZEN)))
            eraser(bus).carry_out(eraser(bus).order(KEY, "a/1"))
    for file in tmp_path.glob("store.db*"):
        content = file.read_bytes()
        assert CITIZEN.encode() not in content, file.name
        assert b"Former" not in content, file.name


def test_who_waits_in_vain_says_so_and_nothing_is_shown_all_the_same(bus: Bus) -> None:
    fill(bus)
    with Running(bus.materialiser()):
        until(lambda: bus.store_facets() == 10)
    waiting = eraser(bus).order(KEY, "a/1")
    with pytest.raises(StoreUnavailable, match="resume"):
        eraser(bus).carry_out(waiting, 0.2)
    assert of(bus, CITIZEN) == []
    assert listed(bus.broker)[KEY].done is None
    with Running(bus.materialiser()):
        assert eraser(bus).carry_out(listed(bus.broker)[KEY]).done is not None


def test_a_subject_of_whom_nothing_is_known(bus: Bus) -> None:
    with Running(bus.materialiser()):
        done = eraser(bus).carry_out(eraser(bus).order(KEY, "a/1"))
    assert (done.records, done.rejects) == (0, 0)


# --- whatever breaks --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("behind", [False, True], ids=["failed", "done but not heard"])
@pytest.mark.parametrize("at", range(1, 8))
def test_killed_at_any_step_it_goes_on_to_its_end(tmp_path: Path, at: int, behind: bool) -> None:
    """The order, a deletion for each of three topics, the store, the rejects, the last word: seven writes."""
    with closing(SqliteBroker(tmp_path / "topics.db")) as broker:
        broker.ensure(erasure.topic())
        with closing(Bus(broker, sqlite_url(tmp_path), [PERSON, VERSIONED, PENALTY])) as bus:
            fill(bus)
            bus.say("civil.rejects.v1", set_aside(0, json.dumps({"citizen_id": CITIZEN})).message())
            with Running(bus.materialiser()):
                until(lambda: bus.store_facets() == 10 and len(rejects(bus)) == 1)
                count = [0]
                dying = eraser(bus, store=Dying(bus.store, count, at, behind), broker=Dying(broker, count, at, behind))
                with pytest.raises(Died):
                    dying.carry_out(dying.order(KEY, "a/1"))
                waiting = listed(broker).get(KEY)
                if waiting is None:
                    assert (at, behind) == (1, False)
                    assert len(of(bus, CITIZEN)) == 5, "it was not ordered, and nothing was erased"
                    return
                if waiting.done is None:
                    eraser(bus).carry_out(waiting)
                until(lambda: of(bus, CITIZEN) == [])
            assert rejects(bus) == []
            assert len(of(bus, OTHER)) == 5
            assert listed(broker)[KEY].done is not None


# --- the list ---------------------------------------------------------------------------------------------------------

TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(
    TIMES, st.none() | TIMES, st.integers(0, 10**9), st.integers(0, 10**9), st.text("az09._/-", min_size=1, max_size=64)
)
def test_an_order_comes_back_as_it_was(
    ordered: datetime, done: datetime | None, records: int, dropped: int, reference: str
) -> None:
    said = Erasure(KEY, reference, ordered, done, records, dropped)
    message = said.message()
    assert Erasure.read(Delivery(ERASURES_TOPIC, 0, 0, message.key, message.value)) == said


@given(st.none() | st.binary(max_size=60) | st.just(KEY.encode()), st.none() | st.binary(max_size=200))
def test_whatever_stands_in_the_list_is_read_or_refused(key: bytes | None, value: bytes | None) -> None:
    with suppress(Rejected):
        assert Erasure.read(Delivery(ERASURES_TOPIC, 0, 0, key, value)).subject_key


@pytest.mark.parametrize(
    ("done", "elsewhere", "with_it"),
    [
        (None, True, True),
        (NOW - timedelta(days=1), False, False),
        (NOW - timedelta(minutes=10), True, False),  # the clock of another host may differ: does the backup have it?
        (NOW + timedelta(days=1), True, True),
    ],
)
def test_which_orders_a_backup_may_not_know(done: datetime | None, elsewhere: bool, with_it: bool) -> None:
    order = Erasure(KEY, "a", NOW - timedelta(days=2), done)
    assert again({KEY: order}, {}, NOW) == ([order] if elsewhere else [])
    assert again({KEY: order}, {KEY: order}, NOW) == ([order] if with_it else [])
    assert again({}, {KEY: order}, NOW) == ([order] if with_it else [])


def test_the_newest_word_on_each_subject_counts() -> None:
    first, later = Erasure(KEY, "a", NOW - timedelta(days=2)), Erasure(KEY, "b", NOW)
    done = Erasure(KEY, "a", first.ordered, NOW)
    for lists in (({KEY: first}, {KEY: later}), ({KEY: later}, {KEY: done})):
        assert merged(*lists) == {KEY: later}
    assert merged({KEY: done}, {KEY: first}) == {KEY: done}


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for room in (erase, audit):
        monkeypatch.setattr(room, "load", Settings.load)  # without setting up this process's logs
    return Site.made(tmp_path)


def run(site: Site, *arguments: str, given: str = CITIZEN) -> Result:
    return CliRunner().invoke(erase.app, [*arguments, "-c", str(site.config)], input=given + "\n")


def test_the_log_proves_what_was_done_and_neither_it_nor_the_list_knows_the_identifier(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was published yet, so nobody needs to read."""
    done = run(site, "order", "--reference", "2026/7", "--json")
    assert done.exit_code == 0, (done.output, done.exception)
    assert json.loads(done.stdout)["done"] is not None
    told = json.loads(run(site, "list", "--json").stdout)["erasures"]
    assert [(each["reference"], each["records"]) for each in told] == [("2026/7", 0)]
    assert "no order is open" in run(site, "resume").output
    found = CliRunner().invoke(audit.app, ["reads", "--json", "-c", str(site.config)], input=CITIZEN + "\n")
    acts = [
        (one["act"], one["details"]["reference"]) for one in json.loads(found.stdout) if one["act"].startswith("eras")
    ]
    assert acts == [("erase", "2026/7"), ("erased", "2026/7")]
    for file in (site.folder / "data").glob("*.db*"):
        assert CITIZEN.encode() not in file.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "identifier", "kind"),
    [
        (["--reference", "x" * 65], CITIZEN, BadRequest),
        (["--reference", "Li 李"], CITIZEN, BadRequest),
        (["--reference", "a", "--scheme", "none"], CITIZEN, BadRequest),
        (["--reference", "a"], "110101190001010015", InvalidIdentifier),
        (["--reference", "a"], "", InvalidIdentifier),
    ],
)
def test_an_order_that_is_none(site: Site, arguments: list[str], identifier: str, kind: type[Exception]) -> None:
    refused = run(site, "order", *arguments, given=identifier)
    assert isinstance(refused.exception, kind)
    assert not identifier or identifier not in str(refused.exception)
    assert json.loads(run(site, "list", "--json").stdout)["erasures"] == []


def test_a_dry_run_orders_nothing(site: Site) -> None:
    assert "nothing is known" in run(site, "order", "--reference", "a", "--dry-run").output
    assert json.loads(run(site, "list", "--json").stdout)["erasures"] == []


def test_no_connector_has_its_name() -> None:
    with pytest.raises(ValueError, match="name erase"):
        Instance.model_validate({"contract": "civil.person", "name": "erase", "connector": "csv"})
