"""Faults: each is StoreUnavailable, nothing is half done, and the same call again is as good as the first.

Each commit fails twice: once nothing was stored, once everything was and only the answer is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine.interfaces import DBAPIConnection

from exchange import sqlite
from exchange.errors import SchemaOutdated, StoreRefused, StoreUnavailable
from exchange.records import Facet, Reject
from exchange.store import Applied, Batch, ClaimState, PushLedger, Store, facets
from exchange.store.database import is_postgres, open_engine, reading
from tests.support.faults import commit_fails
from tests.support.stores import NOW, Stores, expected, facet, stored, stores

__all__ = ["stores"]

TOPIC = "civil.person.v1"


@pytest.fixture(params=[False, True], ids=["lost", "stored"])
def is_stored(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def work(store: Store) -> list[Batch]:
    position = store.take(TOPIC, 0, "a", "id-1")
    reject = Reject("civil", "civil.person", "here", None, "why", NOW, topic=TOPIC, partition=0, offset=1)
    facets_ = [facet(0), facet(2, subject_key="k1.bbbbbbbbbbbbbbbbbbbbbb")]
    return [Batch(TOPIC, 0, position.epoch, position.offset, 3, facets_, [reject])]


# --- the commit -------------------------------------------------------------------------------------------------------


def test_the_commit_of_a_batch_fails(stores: Stores, is_stored: bool) -> None:
    store = stores.open()
    batches = work(store)
    with commit_fails(store.engine, stored=is_stored), pytest.raises(StoreUnavailable):
        store.apply(batches)
    assert store.apply(batches) == [Applied(0, 2) if is_stored else Applied(2, 0)]
    assert stored(store) == expected(*batches[0].facets)
    assert len(store.list_rejects()) == 1
    follows = Batch(TOPIC, 0, batches[0].epoch, 3, 4, [facet(3)])
    assert store.apply([follows]) == [Applied(1, 0)]


def test_the_commit_of_a_take_over_fails(stores: Stores, is_stored: bool) -> None:
    store = stores.open()
    with commit_fails(store.engine, stored=is_stored), pytest.raises(StoreUnavailable):
        store.take(TOPIC, 0, "a", "id-1")
    assert store.apply(work(store)) == [Applied(2, 0)]


def test_the_commit_of_a_bundle_fails(stores: Stores, is_stored: bool) -> None:
    store = stores.open()
    store.save_bundle("before", b"1")
    with commit_fails(store.engine, stored=is_stored), pytest.raises(StoreUnavailable):
        store.save_bundle("v", b"2")
    assert store.newest_bundle_version() == ("v" if is_stored else "before")
    store.save_bundle("v", b"2")
    assert store.newest_bundle_version() == "v"
    assert store.bundle("v") == b"2"


def test_the_commit_of_a_claim_fails(stores: Stores, is_stored: bool) -> None:
    """The client tries again with its key: at once if nothing was stored, else when the lease has ended."""
    ledger = PushLedger(stores.open().engine, stores.clock)
    with commit_fails(ledger._engine, stored=is_stored), pytest.raises(StoreUnavailable):
        ledger.claim("client", "key", "civil.person", "digest", 5)
    stores.clock.move(seconds=10)
    claim = ledger.claim("client", "key", "civil.person", "digest", 5)
    assert (claim.state, claim.first_sequence) == (ClaimState.RETRY if is_stored else ClaimState.NEW, 1)
    assert ledger.next_sequences(1)[1] == 6


def test_the_commit_of_an_answer_fails(stores: Stores, is_stored: bool) -> None:
    ledger = PushLedger(stores.open().engine, stores.clock)
    ledger.claim("client", "key", "civil.person", "digest", 5)
    with commit_fails(ledger._engine, stored=is_stored), pytest.raises(StoreUnavailable):
        ledger.finish("client", "key", "first")
    assert ledger.finish("client", "key", "second") == ("first" if is_stored else "second")


def test_the_commit_of_the_migration_fails(
    request: pytest.FixtureRequest, stores: Stores, tmp_path: Path, is_stored: bool
) -> None:
    fresh = request.getfixturevalue("fresh_postgres")() if is_postgres(stores.open().engine) else None
    store = Store(open_engine(fresh or f"sqlite:///{tmp_path}/fresh.db"), stores.clock)
    with commit_fails(store.engine, stored=is_stored), pytest.raises(StoreUnavailable):
        store.migrate()
    assert store.migrate() is not is_stored
    store.check()
    assert PushLedger(store.engine, stores.clock).epoch() > 0
    store.close()


# --- the database -----------------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Stores]:
    stores = Stores(f"sqlite:///{tmp_path}/store.db")
    stores.open().migrate()
    yield stores
    stores.close()


def pragma(store: Store, statement: str) -> None:
    """Have each new connection of this store run a pragma."""
    store.engine.dispose()

    @sa.event.listens_for(store.engine, "connect")
    def run(connection: DBAPIConnection, _: object) -> None:
        connection.cursor().execute(statement)


def test_a_file_that_another_has_locked(file: Stores, tmp_path: Path) -> None:
    store = file.open(busy_seconds=0.05)
    batches = work(store)
    other = sqlite.connect(tmp_path / "store.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="SQLITE_BUSY"):
        store.apply(batches)
    assert stored(store) == {}, "reading goes on"
    other.execute("COMMIT")
    other.close()
    assert store.apply(batches) == [Applied(2, 0)]


def test_a_disk_that_is_full(file: Stores) -> None:
    store = file.open()
    with reading(store.engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    position = store.take(TOPIC, 0, "a", "id-1")
    many = [facet(number, subject_key=f"k1.{number:022d}") for number in range(1000)]
    full = file.open()
    pragma(full, f"PRAGMA max_page_count = {pages + 5}")
    with pytest.raises(StoreUnavailable, match="SQLITE_FULL"):
        full.apply([Batch(TOPIC, 0, position.epoch, 0, 1000, many)])
    assert stored(store) == {}
    assert store.apply([Batch(TOPIC, 0, position.epoch, 0, 1000, many)]) == [Applied(1000, 0)]


def test_a_file_that_can_only_be_read(file: Stores) -> None:
    store = file.open()
    batches = work(store)
    only_read = file.open()
    pragma(only_read, "PRAGMA query_only = ON")
    with pytest.raises(StoreUnavailable, match="SQLITE_READONLY"):
        only_read.apply(batches)
    assert store.apply(batches) == [Applied(2, 0)]


@pytest.fixture
def server(fresh_postgres: Callable[[], str]) -> Iterator[Stores]:
    stores = Stores(fresh_postgres())
    stores.open().migrate()
    yield stores
    stores.close()


@pytest.mark.services
def test_a_server_that_is_in_recovery(server: Stores) -> None:
    only_read = server.open(options="-c default_transaction_read_only=on")
    batches = work(server.open())
    with pytest.raises(StoreUnavailable, match="25006"):
        only_read.apply(batches)


@pytest.mark.services
def test_a_row_that_another_has_locked(server: Stores) -> None:
    store = server.open(options="-c lock_timeout=50ms")
    batches = work(store)
    with server.open().engine.begin() as other:
        other.exec_driver_sql("SELECT * FROM positions FOR UPDATE")
        with pytest.raises(StoreUnavailable, match="55P03"):
            store.apply(batches)
    assert store.apply(batches) == [Applied(2, 0)]


@pytest.mark.services
@pytest.mark.parametrize("others", [0, facets.COPY_ROWS], ids=["few", "many"])
@pytest.mark.parametrize("standing", [True, False], ids=["changed", "inserted"])
def test_a_facet_that_another_writes_meanwhile(
    server: Stores, monkeypatch: pytest.MonkeyPatch, standing: bool, others: int
) -> None:
    """One identity in two partitions, by a producer that partitions in its own way: no update is lost between them."""
    store = server.open()
    here, there = store.take(TOPIC, 0, "a", "id-1"), store.take(TOPIC, 1, "a", "id-1")
    if standing:
        store.apply([Batch(TOPIC, 0, here.epoch, 0, 1, [facet(0, version=1)])])
        here = store.take(TOPIC, 0, "a", "id-1")
    newest = facet(0, partition=1, version=9)
    write = facets.write

    def another_comes_first(*arguments: Any) -> None:
        monkeypatch.setattr(facets, "write", write)
        server.open().apply([Batch(TOPIC, 1, there.epoch, 0, 1, [newest])])
        write(*arguments)

    monkeypatch.setattr(facets, "write", another_comes_first)
    more = [facet(offset, record_key=str(offset)) for offset in range(5, 5 + others)]
    late = [Batch(TOPIC, 0, here.epoch, here.offset, 5 + others, [facet(4, version=2), *more])]
    with pytest.raises(StoreUnavailable, match=r"PostgreSQL (40001|23505)"):
        store.apply(late)
    assert stored(store) == expected(newest)
    assert store.apply(late) == [Applied(others, 1)]
    assert stored(store) == expected(newest, *more)


@pytest.mark.services
def test_a_connection_that_is_cut_in_the_middle(server: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    store = server.open()
    batches = work(store)
    write = facets.write

    def cut(connection: sa.Connection, *arguments: Any) -> None:
        monkeypatch.setattr(facets, "write", write)
        write(connection, *arguments)
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with server.open().engine.connect() as other:
            other.exec_driver_sql("SELECT pg_terminate_backend(%s, 2000)", (pid,))

    monkeypatch.setattr(facets, "write", cut)
    with pytest.raises(StoreUnavailable):
        store.apply(batches)
    assert stored(store) == {}
    assert store.apply(batches) == [Applied(2, 0)]


# --- what errors say --------------------------------------------------------------------------------------------------


def test_a_store_without_tables_says_what_to_do(tmp_path: Path) -> None:
    store = Stores(f"sqlite:///{tmp_path}/empty.db").open()
    with pytest.raises(SchemaOutdated, match="exchange"):
        store.take(TOPIC, 0, "a", "id-1")


@pytest.mark.services
def test_a_server_without_tables_says_what_to_do(fresh_postgres: Callable[[], str]) -> None:
    store = Stores(fresh_postgres()).open()
    with pytest.raises(SchemaOutdated, match="exchange"):
        store.take(TOPIC, 0, "a", "id-1")
    store.close()


@pytest.mark.parametrize("copied", [0, facets.COPY_ROWS])
def test_no_error_shows_a_value(stores: Stores, copied: int) -> None:
    """A record that no database takes (it never comes here: its contract refuses it) is named by a code only."""
    store = stores.open()
    position = store.take(TOPIC, 0, "a", "id-1")
    bad = facet(0, payload='{"name":"王小明\ud800"}', version=2**70)
    others: list[Facet] = [facet(0, subject_key=f"k1.{number:022d}") for number in range(copied)]
    with pytest.raises((StoreRefused, UnicodeEncodeError, OverflowError)) as caught:
        store.apply([Batch(TOPIC, 0, position.epoch, 0, 1, [bad, *others])])
    assert "王" not in str(caught.value)
    assert stored(store) == {}


@pytest.mark.services
@pytest.mark.parametrize("place", ["subject_key", "record_key"])
def test_keys_that_would_be_taken_apart_are_refused(server: Stores, place: str) -> None:
    """They come from nowhere, for a key is base64url; were they let in, others would be taken for them."""
    store = server.open()
    position = store.take(TOPIC, 0, "a", "id-1")
    with pytest.raises(StoreRefused, match="comma"):
        store.apply([Batch(TOPIC, 0, position.epoch, 0, 1, [facet(0, **{place: "a,b"})])])
    assert stored(store) == {}


def test_a_pool_that_is_used_up(file: Stores) -> None:
    engine = open_engine(file.url, pool_size=1)
    engine.pool._timeout = 0.05  # type: ignore[attr-defined]
    engine.pool._max_overflow = 0  # type: ignore[attr-defined]
    with reading(engine), pytest.raises(StoreUnavailable, match="pool"):
        PushLedger(engine, file.clock, timedelta(days=7)).epoch()
    engine.dispose()
