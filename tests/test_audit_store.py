"""The tables, the slots and the writer, on both databases: numbers without gaps, whatever is lost on the way."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata

from exchange import merkle
from exchange.audit.entries import Line
from exchange.audit.slots import Holder, Slot
from exchange.audit.store import AuditStore
from exchange.audit.tables import LINEAGE, entries, groups, metadata
from exchange.audit.writer import Writer, append_admin
from exchange.errors import AuditUnavailable, Fenced, SchemaOutdated
from exchange.store import database
from exchange.store.database import is_sqlite, sqlite_path
from tests.support.audit import SIGNER, entry, fresh_store, sqlite_url, verified

PATIENCE = 0.3


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    made: str = request.getfixturevalue("fresh_postgres")()
    return made


@pytest.fixture
def store(url: str) -> Iterator[AuditStore]:
    found = fresh_store(url)
    yield found
    found.close()


def writer(store: AuditStore, name: str = "gateway-1") -> Writer:
    return Writer(store, SIGNER, name, Holder("test"), patience_s=PATIENCE)


def lines(count: int) -> list[Line]:
    return [Line.of(entry(request=f"r-{index}"), b"body", bytes(16)) for index in range(count)]


def numbers(store: AuditStore, name: str = "gateway-1") -> list[int]:
    with store.reading() as connection:
        return list(
            connection.scalars(sa.select(entries.c.number).where(entries.c.writer == name).order_by(entries.c.number))
        )


# --- tables ----------------------------------------------------------------------------------------------------------


def test_migrations_arrive_at_the_declared_tables(store: AuditStore) -> None:
    assert not store.migrate()
    store.check()
    with store.engine.connect() as connection:
        context = LINEAGE.context(
            connection,
            compare_type=True,
            include_object=lambda _object, name, kind, *_: kind != "table" or name in metadata.tables,
        )
        assert compare_metadata(context, metadata) == []


def test_tables_that_are_missing_are_the_operators_business(url: str) -> None:
    store = AuditStore.open(url)
    with pytest.raises(SchemaOutdated):
        store.check()
    with pytest.raises(SchemaOutdated):
        writer(store).open()


def test_the_file_is_its_owners(store: AuditStore, url: str) -> None:
    if is_sqlite(url):
        assert stat.S_IMODE(sqlite_path(url).stat().st_mode) == 0o600


# --- slots -----------------------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def slot(store: AuditStore, clock: Clock, holder: str) -> Slot:
    return Slot(store, "place", Holder(holder), patience_s=2.0, monotonic=clock)


def beat(store: AuditStore, held: Slot) -> None:
    with store.writing() as connection:
        held.beat(connection)


def test_a_free_place_is_taken_at_once_and_a_freed_one_too(store: AuditStore) -> None:
    clock = Clock()
    first, second = slot(store, clock, "one"), slot(store, clock, "two")
    assert first.try_take()
    assert not second.try_take()
    assert first.holder() == "one"
    first.release()
    assert second.try_take()
    assert clock.now == 100.0
    assert (first.epoch, second.epoch) == (None, 2)


def test_a_place_whose_holder_is_silent_is_taken_over_and_the_sleeper_is_fenced(store: AuditStore) -> None:
    clock = Clock()
    sleeper, heir = slot(store, clock, "one"), slot(store, clock, "two")
    sleeper.take(clock.sleep)
    heir.take(clock.sleep)
    assert clock.now >= 102.0
    beat(store, heir)
    with pytest.raises(Fenced, match="taken over"):
        beat(store, sleeper)
    sleeper.release()  # is no release of what is another's
    beat(store, heir)


def test_who_has_the_dead_holders_standing_name_takes_over_at_once_and_nobody_else(store: AuditStore) -> None:
    clock = Clock()
    dead = Slot(store, "place", Holder("gateway@here:1", "gateway.here.1"), monotonic=clock)
    dead.take(clock.sleep)
    for other in ("gateway.here.2", "here.1", None):
        assert not Slot(store, "place", Holder("gateway@here:2", other), monotonic=clock).try_take()
    heir = Slot(store, "place", Holder("gateway@here:3", "gateway.here.1"), monotonic=clock)
    heir.take(clock.sleep)
    assert (clock.now, heir.epoch) == (100.0, 2)
    with pytest.raises(Fenced, match="taken over"):
        beat(store, dead)


def test_a_place_whose_holder_lives_is_refused(store: AuditStore) -> None:
    clock = Clock()
    living, second = slot(store, clock, "gateway@here:1"), slot(store, clock, "gateway@here:2")
    living.take(clock.sleep)

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now > 101.5:
            beat(store, living)

    with pytest.raises(Fenced, match="held by gateway@here:1, which is alive"):
        second.take(sleep)
    assert clock.now < 102.0
    beat(store, living)


def test_of_many_who_want_a_place_one_has_it(store: AuditStore) -> None:
    wanting = [Slot(store, "place", Holder(str(index))) for index in range(6)]
    taken: list[Slot] = []

    def want(one: Slot) -> None:
        if one.try_take():
            taken.append(one)

    threads = [threading.Thread(target=want, args=(one,)) for one in wanting]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


# --- the writer ------------------------------------------------------------------------------------------------------


def test_numbers_go_on_over_restarts(store: AuditStore) -> None:
    first = writer(store)
    first.open()
    assert [made.number for made in first.append(lines(3))] == [1, 2, 3]
    assert [made.number for made in first.append(lines(1))] == [4]
    first.close()
    second = writer(store)
    second.open()
    assert [made.number for made in second.append(lines(2))] == [5, 6]
    other = writer(store, "gateway-2")
    other.open()
    assert [made.number for made in other.append(lines(1))] == [1]
    report = verified(store)
    assert report
    assert report.writers == {"gateway-1": 6, "gateway-2": 1}
    assert (report.entries, report.groups, report.uncovered) == (7, 4, 7)


def test_a_second_living_writer_of_one_name_is_refused(store: AuditStore) -> None:
    first = writer(store)
    first.open()
    stop = threading.Event()

    def live() -> None:
        while not stop.wait(PATIENCE / 6):
            first.beat()

    thread = threading.Thread(target=live)
    thread.start()
    with pytest.raises(Fenced, match="writer/gateway-1 is held by test"):
        writer(store).open()
    stop.set()
    thread.join()
    first.append(lines(1))


def test_a_zombie_writes_nothing(store: AuditStore) -> None:
    zombie = writer(store)
    zombie.open()
    zombie.append(lines(2))
    heir = writer(store)  # the zombie is silent for the patience
    heir.open()
    with pytest.raises(Fenced):
        zombie.append(lines(1))
    with pytest.raises(Fenced):
        zombie.beat()
    assert [made.number for made in heir.append(lines(1))] == [3]
    with pytest.raises(Fenced):
        zombie.append(lines(1))
    assert numbers(store) == [1, 2, 3]
    assert verified(store)


@pytest.mark.parametrize("committed", [True, False], ids=["failed but stored", "failed and lost"])
@pytest.mark.parametrize("same", [True, False], ids=["again", "given up"])
def test_a_lost_answer_makes_no_gap_and_no_second_number(
    store: AuditStore, committed: bool, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = writer(store)
    own.open()
    own.append(lines(2))
    add = own._commits.add

    def lossy(*arguments: object) -> None:
        if committed:
            add(*arguments)  # type: ignore[arg-type]
        raise AuditUnavailable("the answer was lost")

    tried = lines(3)
    monkeypatch.setattr(own._commits, "add", lossy)
    with pytest.raises(AuditUnavailable):
        own.append(tried)
    monkeypatch.setattr(own._commits, "add", add)
    if same:
        assert [made.number for made in own.append(tried)] == [3, 4, 5]
    after = [made.number for made in own.append(lines(1))]
    assert after == [6 if same or committed else 3]
    assert numbers(store) == list(range(1, after[0] + 1))
    assert verified(store)


def test_a_lost_answer_is_settled_by_a_beat_too(store: AuditStore, monkeypatch: pytest.MonkeyPatch) -> None:
    own = writer(store)
    own.open()
    add = own._commits.add

    def lossy(*arguments: object) -> None:
        add(*arguments)  # type: ignore[arg-type]
        raise AuditUnavailable("the answer was lost")

    tried = lines(3)
    monkeypatch.setattr(own._commits, "add", lossy)
    with pytest.raises(AuditUnavailable):
        own.append(tried)
    monkeypatch.setattr(own._commits, "add", add)
    own.beat()
    assert [made.number for made in own.append(tried)] == [1, 2, 3]
    assert numbers(store) == [1, 2, 3]


def test_groups_of_every_size(store: AuditStore) -> None:
    own = writer(store)
    own.open()
    for count in (1, 2, 3, 255, 256):
        made = own.append(lines(count))
        assert len(made) == count
        assert len(made[0].path) <= 8
    assert verified(store)


@pytest.mark.services
def test_a_connection_that_the_server_cut_costs_nothing(fresh_postgres) -> None:  # type: ignore[no-untyped-def]
    url = fresh_postgres()
    store = fresh_store(url)
    own = writer(store)
    own.open()
    own.append(lines(1))
    other = fresh_store(url)
    with other.writing() as connection:
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        )
    tried = lines(2)
    with pytest.raises(AuditUnavailable):
        own.append(tried)
    assert [made.number for made in own.append(tried)] == [2, 3]
    assert verified(store)


# --- administrative acts ---------------------------------------------------------------------------------------------


def test_threads_of_one_process_wait_for_each_other_and_not_for_sqlite_to_look_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite sleeps longer each time that it finds its lock taken: the writer behind a sealer lost 5 ms by it."""
    store, begun = fresh_store(sqlite_url(tmp_path)), []
    writing = database.writing
    monkeypatch.setattr(
        database, "writing", lambda engine: begun.append(threading.current_thread().name) or writing(engine)
    )

    def write() -> None:
        with store.writing():
            pass

    with store.writing():
        other = threading.Thread(target=write, name="other")
        other.start()
        other.join(0.2)
        assert other.is_alive()
        assert begun.count("other") == 0
    other.join(5)
    assert begun.count("other") == 1
    store.close()


def test_who_waits_for_another_thread_gives_up_in_its_time(tmp_path: Path) -> None:
    store = fresh_store(sqlite_url(tmp_path))
    found: list[BaseException] = []

    def write() -> None:
        try:
            with store.writing():
                pass
        except AuditUnavailable as unavailable:
            found.append(unavailable)

    with store.writing():
        other = threading.Thread(target=write)
        other.start()
        other.join(5)
        assert not other.is_alive()
    assert len(found) == 1
    with store.writing():
        pass
    store.close()


def test_administrative_acts_wait_for_their_turn(store: AuditStore) -> None:
    made: list[int] = []

    def act(name: str) -> None:
        done = entry(act="policy.apply", outcome="done", details={"bundle": name, "rows": 2**60})
        made.append(append_admin(store, SIGNER, done, holder=Holder(name)).number)

    threads = [threading.Thread(target=act, args=(str(index),)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [1, 2, 3, 4]
    assert verified(store).writers == {"operator": 4}


# --- the stored tree -------------------------------------------------------------------------------------------------


def test_proofs_come_from_stored_nodes(store: AuditStore) -> None:
    own = writer(store)
    own.open()
    for _ in range(11):
        own.append(lines(1))
    with store.writing() as connection:
        for chunk in (3, 1, 7):
            frontier = merkle.Frontier.load(store.size(connection), store.nodes(connection))
            store.add_leaves(connection, frontier, store.unsealed(connection, chunk))
    with store.reading() as connection:
        nodes = store.nodes(connection)
        assert store.size(connection) == 11
        root = merkle.root(11, nodes)
        hashes = [leaf.token for leaf in store.walk_leaves(connection)]
        placed = store.group_of(connection, "gateway-1", 6)
        tokens = list(connection.scalars(sa.select(groups.c.token).order_by(groups.c.last)))
    assert hashes == tokens
    assert placed is not None
    assert placed.position == 5
    with store.reading() as connection:
        nodes = store.nodes(connection)
        leaf = nodes(0, 5)
        assert merkle.verify_inclusion(leaf, 5, 11, merkle.inclusion_proof(5, 11, nodes), root)
        proof = merkle.consistency_proof(4, 11, nodes)
        assert merkle.verify_consistency(4, 11, merkle.root(4, nodes), root, proof)
