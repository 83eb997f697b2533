"""Another bus secret: what was known is known, under keys that the old secret does not lead to, whatever breaks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from exchange import erasure
from exchange.erasure import Eraser
from exchange.errors import Conflict, SettingWrong
from exchange.rekeying import COPY, PLAN, Plan, Rekeying, of_contracts
from exchange.store import Store, tables
from exchange.store.database import open_engine
from exchange.subjects import KeyMaker, parse
from exchange.topics.sqlite import SqliteBroker
from tests.support.bus import KEYS, Bus, Running, clock, sqlite_url, until
from tests.support.contracts import CITIZEN, contract, field
from tests.support.writes import Died, Dying

NEW = KeyMaker("k2", b"another secret of the tests, as long")
OTHER = "11010119000101009X"
GONE = "110101190001010276"
PERSON = contract(field("name", "string"), field("revision", ["null", "long"], default=None))
VERSIONED = contract(
    field("status", "string"), field("revision", "long"),
    name="Status", fields={"revision": {"level": 1}}, version="revision",
)  # fmt: skip
PENALTY = contract(field("number", "string"), field("amount", "long"), name="Penalty", record_key=["number"])
TOPICS = [each.topic for each in (PERSON, VERSIONED, PENALTY)]
RECORDS = 10

Row = tuple[Any, ...]


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
        yield stack.enter_context(closing(Bus(broker, url, [PERSON, VERSIONED, PENALTY])))


def person(citizen: str = CITIZEN, name: str = "Li") -> dict[str, object]:
    return {"citizen_id": citizen, "name": name, "revision": None}


def status(revision: int, citizen: str = CITIZEN) -> dict[str, object]:
    return {"citizen_id": citizen, "status": f"s{revision}", "revision": revision}


def penalty(number: str, citizen: str = CITIZEN) -> dict[str, object]:
    return {"citizen_id": citizen, "number": number, "amount": 1}


def fill(bus: Bus) -> None:
    """Two citizens with a person, a status and three penalties each, and what makes it hard: see the comments."""
    for at, citizen in enumerate((CITIZEN, OTHER)):
        bus.say(PERSON.topic, bus.message("civil.person", person(citizen), 10 * at + 1))
        bus.say(VERSIONED.topic, bus.message("civil.status", status(5, citizen), 10 * at + 1))
        for n in range(3):
            bus.say(PENALTY.topic, bus.message("civil.penalty", penalty(f"p{n}", citizen), 10 * at + n + 1))
    bus.say(PERSON.topic, bus.message("civil.person", person(GONE, "erased"), 100))  # said, and deleted
    bus.say(PERSON.topic, bus.message("civil.person", person(GONE), 101, delete=True))
    bus.say(PENALTY.topic, bus.message("civil.penalty", penalty("p0"), 50, delete=True))  # deleted, and said again
    bus.say(PENALTY.topic, bus.message("civil.penalty", penalty("p0"), 51))
    bus.say(PENALTY.topic, bus.message("civil.penalty", penalty("never"), 52, delete=True))  # never said
    bus.say(VERSIONED.topic, bus.message("civil.status", status(4), 60, delete=True, version=4))  # an old deletion
    bus.say(VERSIONED.topic, bus.message("civil.status", status(3), 7, source="civil/other"))  # an old version
    wrong = bus.message("civil.person", person(OTHER, "wrong"), 70)
    bus.say(PERSON.topic, wrong._replace(key=KEYS.subject(parse("cn.ric", CITIZEN)).encode()))  # set aside
    bus.say(PERSON.topic, wrong._replace(key=b"no key"))


def read_all(bus: Bus, keys: KeyMaker, store: Store | None = None) -> None:
    """Materialise until every message of the contracts is read."""
    store = store or bus.store

    def is_read() -> bool:
        positions = store.positions(TOPICS)
        states = {topic: bus.broker.state(topic) for topic in TOPICS}
        return all(
            positions.get((topic, partition), 0) == end or end == begin
            for topic, state in states.items()
            if state is not None
            for partition, (begin, end) in state.bounds.items()
        )

    with Running(bus.materialiser(keys=keys, store=store)):
        until(is_read, 30)


def facets(store: Store) -> dict[str, list[Row]]:
    """What stands, by subject key: all but its place in the log and the keys themselves."""
    columns = tables.facets.c
    shown = (columns.contract, columns.payload, columns.source, columns.epoch, columns.sequence, columns.version)
    wanted = sa.select(columns.subject_key, *shown, columns.event_time).where(columns.payload.is_not(None))
    found: dict[str, list[Row]] = {}
    with store.engine.connect() as connection:
        for row in connection.execute(wanted):
            found.setdefault(row[0], []).append(tuple(row[1:]))
    return {key: sorted(rows, key=str) for key, rows in found.items()}


def expected(before: dict[str, list[Row]]) -> dict[str, list[Row]]:
    return {NEW.subject(parse("cn.ric", c)): before[KEYS.subject(parse("cn.ric", c))] for c in (CITIZEN, OTHER)}


def rekeying(bus: Bus, folder: Path, **parts: Any) -> Rekeying:
    made = {"store": bus.store, "broker": bus.broker, **parts}
    return Rekeying(made["store"], made["broker"], bus.registry, folder, new=NEW, clock=clock)


def copied(bus: Bus, folder: Path) -> Plan:
    plan = rekeying(bus, folder).copy(TOPICS, KEYS, "file:keys/bus-2.key")
    plan.write(folder)
    return plan


def in_topics(bus: Bus) -> list[tuple[bytes | None, bytes | None]]:
    return [(each.key, each.value) for topic in TOPICS for each in bus.broker.read(topic)]


# --- what it does -----------------------------------------------------------------------------------------------------


def test_all_that_was_known_is_known_under_the_new_keys(bus: Bus, tmp_path: Path) -> None:
    fill(bus)
    read_all(bus, KEYS)
    before, rejects = facets(bus.store), bus.store.list_rejects()
    assert sum(map(len, before.values())) == RECORDS
    assert len(rejects) == 2
    plan = copied(bus, tmp_path / "rekeying")
    assert facets(bus.store) == before, "nothing was changed yet"
    rekeying(bus, tmp_path / "rekeying").carry_out(plan)
    assert facets(bus.store) == {}
    read_all(bus, NEW)
    assert facets(bus.store) == expected(before)
    assert bus.store.list_rejects() == rejects, "and none came to them"
    said = in_topics(bus)
    assert all(key is not None and key.startswith(b"k2.") for key, _ in said)
    assert not any(value is not None and b"erased" in value for _, value in said)
    assert sum(value is None for _, value in said) == 3, "of the deletions the one of what was never said is left out"


def test_a_store_made_from_the_topics_alone_is_the_same(
    bus: Bus, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    fill(bus)
    read_all(bus, KEYS)
    before = facets(bus.store)
    rekeying(bus, tmp_path / "rekeying").carry_out(copied(bus, tmp_path / "rekeying"))
    on_postgres = bus.url.startswith("postgresql")
    url = request.getfixturevalue("fresh_postgres")() if on_postgres else sqlite_url(tmp_path, "second")
    with closing(Store(open_engine(url), clock)) as second:
        second.migrate()
        for each in bus.contracts.values():
            bus.registry.register(each.registry_subject, each.schema_text)
        read_all(bus, NEW, second)
        assert facets(second) == expected(before)
        bus.broker.ensure(erasure.topic())
        eraser = Eraser(second, bus.broker, list(bus.contracts.values()), bus.topics, NEW, clock)
        with Running(bus.materialiser(keys=NEW, store=second)):  # partitions that were cut are empty, and not unread
            assert eraser.carry_out(eraser.order(NEW.subject(parse("cn.ric", CITIZEN)), "a/1"), 30).records == 5
        assert list(facets(second)) == [NEW.subject(parse("cn.ric", OTHER))]


def test_what_was_decided_stays_decided(bus: Bus, tmp_path: Path) -> None:
    """A repeat and an older version change nothing, what was deleted stays deleted, and new words come in."""
    fill(bus)
    read_all(bus, KEYS)
    rekeying(bus, tmp_path / "rekeying").carry_out(copied(bus, tmp_path / "rekeying"))
    read_all(bus, NEW)
    stands = facets(bus.store)
    bus.say(PERSON.topic, bus.message("civil.person", person(name="repeat"), 1, keys=NEW))
    bus.say(PERSON.topic, bus.message("civil.person", person(GONE, "erased"), 100, keys=NEW))
    bus.say(VERSIONED.topic, bus.message("civil.status", status(4), 8, source="civil/late", keys=NEW))
    read_all(bus, NEW)
    assert facets(bus.store) == stands
    bus.say(PERSON.topic, bus.message("civil.person", person(name="New"), 200, keys=NEW))
    bus.say(VERSIONED.topic, bus.message("civil.status", status(6), 201, keys=NEW))
    bus.say(PENALTY.topic, bus.message("civil.penalty", penalty("p1"), 202, delete=True, keys=NEW))
    read_all(bus, NEW)
    shown = str(facets(bus.store)[NEW.subject(parse("cn.ric", CITIZEN))])
    assert "New" in shown
    assert "s6" in shown
    assert '"p1"' not in shown


def test_the_store_is_closed_to_the_old_secret_and_to_the_new_one_until_all_is_there(bus: Bus, tmp_path: Path) -> None:
    bus.store.adopt(KEYS.mark)
    fill(bus)
    read_all(bus, KEYS)
    plan = copied(bus, tmp_path / "rekeying")
    bus.store.check_keyed(KEYS.mark)
    with pytest.raises(Died):
        rekeying(bus, tmp_path / "rekeying", store=Dying(bus.store, [0], 1, behind=True)).carry_out(plan)
    for keys in (KEYS, NEW):
        with pytest.raises(SettingWrong, match="rotate bus"):
            bus.store.check_keyed(keys.mark)
        with pytest.raises(SettingWrong, match="rotate bus"):
            bus.store.adopt(keys.mark)
    rekeying(bus, tmp_path / "rekeying").carry_out(plan)
    bus.store.check_keyed(NEW.mark)
    with pytest.raises(SettingWrong, match=r"keys\.bus"):
        bus.store.check_keyed(KEYS.mark)


def test_topics_that_are_served_no_longer_are_among_them(bus: Bus) -> None:
    fill(bus)
    read_all(bus, KEYS)
    assert of_contracts([PERSON.topic], bus.store) == sorted(TOPICS)


# --- whatever breaks --------------------------------------------------------------------------------------------------

# The store is closed; a cut and a batch for each of three topics; the facets are emptied and the store is open.
WRITES = 8


@pytest.mark.parametrize("behind", [False, True], ids=["failed", "done but not heard"])
@pytest.mark.parametrize("at", range(1, WRITES + 1))
def test_killed_at_any_write_it_goes_on_to_its_end(tmp_path: Path, at: int, behind: bool) -> None:
    with (
        closing(SqliteBroker(tmp_path / "topics.db")) as broker,
        closing(Bus(broker, sqlite_url(tmp_path), [PERSON, VERSIONED, PENALTY])) as bus,
    ):
        fill(bus)
        read_all(bus, KEYS)
        before = facets(bus.store)
        folder, count = tmp_path / "rekeying", [0]
        copied(bus, folder)
        plan = Plan.read(folder)
        assert plan is not None
        parts = {"store": Dying(bus.store, count, at, behind), "broker": Dying(broker, count, at, behind)}
        with pytest.raises(Died):
            rekeying(bus, folder, **parts).carry_out(plan)
        whole = {"store": Dying(bus.store, [0], 0, behind), "broker": Dying(broker, count := [0], 0, behind)}
        rekeying(bus, folder, **whole).carry_out(plan)
        assert count[0] == WRITES - 2, "the store's two are counted elsewhere: no write was left untried"
        read_all(bus, NEW)
        assert facets(bus.store) == expected(before)
        assert not any(key is not None and key.startswith(b"k1.") for key, _ in in_topics(bus))


def test_a_copy_that_was_killed_is_made_anew(tmp_path: Path, bus: Bus) -> None:
    fill(bus)
    read_all(bus, KEYS)
    before, folder = facets(bus.store), tmp_path / "rekeying"
    rekeying(bus, folder).copy(TOPICS, KEYS, "file:x")  # no plan was written
    assert Plan.read(folder) is None
    assert (folder / COPY).exists()
    bus.say(PERSON.topic, bus.message("civil.person", person(name="later"), 300))
    read_all(bus, KEYS)
    before = facets(bus.store)
    rekeying(bus, folder).carry_out(copied(bus, folder))
    read_all(bus, NEW)
    assert facets(bus.store) == expected(before)
    assert "later" in str(expected(before))


# --- what it does not begin -------------------------------------------------------------------------------------------


def test_what_was_not_read_yet_is_not_copied(bus: Bus, tmp_path: Path) -> None:
    fill(bus)
    with pytest.raises(Conflict, match="not read"):
        copied(bus, tmp_path / "rekeying")
    read_all(bus, KEYS)
    bus.say(PENALTY.topic, bus.message("civil.penalty", penalty("one more"), 400))
    with pytest.raises(Conflict, match=PENALTY.topic):
        copied(bus, tmp_path / "rekeying")
    assert Plan.read(tmp_path / "rekeying") is None


def test_nothing_is_published_meanwhile(bus: Bus, tmp_path: Path) -> None:
    fill(bus)
    read_all(bus, KEYS)

    class Busy:
        """A broker into which a connector publishes while it is read."""

        published = False

        def __getattr__(self, name: str) -> Any:
            return getattr(bus.broker, name)

        def read(self, topic: str, *since: Any) -> Iterator[Any]:
            yield from bus.broker.read(topic, *since)
            if topic == VERSIONED.topic and not since and not self.published:
                self.published = True
                bus.say(topic, bus.message("civil.status", status(9), 500))

    with pytest.raises(Conflict, match=VERSIONED.topic):
        rekeying(bus, tmp_path / "rekeying", broker=Busy()).copy(TOPICS, KEYS, "file:x")


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"form 1": true}', '{"form 2": true, "ends": {}}', '{"form 1": true, "ends": []}']
)
def test_a_plan_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / PLAN).write_text(text)
    with pytest.raises(SettingWrong, match=PLAN):
        Plan.read(tmp_path)


def test_a_plan_comes_back_as_it_was(tmp_path: Path) -> None:
    assert Plan.read(tmp_path) is None
    plan = Plan("k1", "k2", "file:keys/bus-2.key", {"a.v1": {0: 7, 11: 3}, "b.v1": {}}, {"a.v1": 5})
    plan.write(tmp_path)
    assert Plan.read(tmp_path) == plan
    assert plan.cuts == {("a.v1", 0): 7, ("a.v1", 11): 3}
    assert json.loads((tmp_path / PLAN).read_text())["records"] == {"a.v1": 5}
