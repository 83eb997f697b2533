"""How the gateway reads, on SQLite and on PostgreSQL: only what stands, bounded, and whole lists page by page."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from exchange.errors import NotFound, StoreUnavailable
from exchange.records import Facet, Watermark
from exchange.store import LIST_LIMIT, Batch, FacetReader, Place, Told, open_reader
from exchange.store.prepared import Prepared, numbers, texts
from exchange.store.reading_postgres import CONNECTIONS, PROBES, PostgresFacetReader
from tests.support.stores import NOW, Stores, facet, stores

__all__ = ["stores"]

pytestmark = pytest.mark.anyio

LI, WANG = "k1.llllllllllllllllllllll", "k1.wwwwwwwwwwwwwwwwwwwwww"


@pytest.fixture
async def reader(stores: Stores) -> AsyncIterator[FacetReader]:
    opened = stores.reader()
    yield opened
    await opened.close()


def put(stores: Stores, facets: Iterable[Facet]) -> None:
    store = stores.open()
    position = store.take("t", 0, "a", "id")
    store.apply([Batch("t", 0, position.epoch, position.offset, position.offset + 1, list(facets))])


def licence(number: int, **changes: Any) -> Facet:
    """One of a subject's many records; three share each event time."""
    return facet(
        number,
        subject_key=LI,
        contract="market.licence",
        record_key=f"{(number * 7919) % 10_007:022d}",
        event_time=NOW + timedelta(seconds=number // 3),
        **changes,
    )


def newest_first(facets: Iterable[Facet]) -> list[Facet]:
    return sorted(facets, key=lambda one: (one.event_time, one.record_key), reverse=True)


async def test_only_the_wanted_facets_of_the_subject(stores: Stores, reader: FacetReader) -> None:
    wanted = [
        facet(1, subject_key=LI, contract="tax.person", version=3),
        facet(2, subject_key=LI, contract="civil.person", major=2),
    ]
    others = [
        facet(3, subject_key=LI, contract="civil.person", major=1),
        facet(4, subject_key=LI, contract="health.person"),
        facet(5, subject_key=WANG, contract="tax.person"),
        facet(6, subject_key=LI, contract="civil.household", payload=None),
    ]
    put(stores, wanted + others)
    pairs = [("tax.person", 1), ("civil.household", 1), ("civil.person", 2), ("no.such", 1), ("tax.person", 1)]
    assert await reader.facets(LI, pairs) == wanted
    assert await reader.facets("k1.nobody", pairs) == []
    assert await reader.facets(LI, []) == []


async def test_a_list_comes_newest_first_and_cut(stores: Stores, reader: FacetReader) -> None:
    licences = [licence(number) for number in range(LIST_LIMIT)]
    put(stores, licences)
    assert await reader.facets(LI, [("market.licence", 1)]) == newest_first(licences)
    put(stores, [licence(LIST_LIMIT), facet(9, subject_key=LI)])
    found = await reader.facets(LI, [("civil.person", 1), ("market.licence", 1)])
    assert found == [facet(9, subject_key=LI), *newest_first([*licences, licence(LIST_LIMIT)])[:LIST_LIMIT]]


@pytest.mark.parametrize("limit", [LIST_LIMIT, 50, 1000])
async def test_page_by_page_every_record_comes_once(stores: Stores, reader: FacetReader, limit: int) -> None:
    licences = [licence(number, payload=None if number % 10 == 0 else "{}") for number in range(700)]
    put(stores, licences)
    seen: list[Facet] = []
    after: dict[str, Place] = {}
    while page := await reader.facets(LI, [("market.licence", 1)], after, limit):
        assert len(page) <= limit
        seen += page
        after = {"market.licence": Place(page[-1].event_time, page[-1].record_key)}
    assert seen == newest_first(one for one in licences if one.payload is not None)


async def test_a_place_concerns_its_contract_only(stores: Stores, reader: FacetReader) -> None:
    put(stores, [licence(0), licence(3), facet(9, subject_key=LI)])
    after = {"market.licence": Place(licence(3).event_time, licence(3).record_key)}
    found = await reader.facets(LI, [("market.licence", 1), ("civil.person", 1)], after)
    assert found == [licence(0), facet(9, subject_key=LI)]


async def test_what_was_committed_is_seen_by_the_next_read(stores: Stores, reader: FacetReader) -> None:
    for number in range(5):
        put(stores, [facet(number)])
        assert await reader.facets(facet(0).subject_key, [("civil.person", 1)]) == [facet(number)]
    put(stores, [facet(9, payload=None)])
    assert await reader.facets(facet(0).subject_key, [("civil.person", 1)]) == []


async def test_watermarks(stores: Stores, reader: FacetReader) -> None:
    def mark(contract: str, source: str, minutes: int) -> Watermark:
        return Watermark(contract, f"{contract}.v1", source, 1, NOW + timedelta(minutes=minutes), {})

    store = stores.open()
    position = store.take("exchange.watermarks.v1", 0, "a", "id")
    marks = [
        mark("civil.person", "civil/push", 1),
        mark("civil.person", "civil/people", 2),
        mark("tax.person", "tax/a", 3),
    ]
    store.apply([Batch("exchange.watermarks.v1", 0, position.epoch, 0, 1, watermarks=marks)])
    assert await reader.watermarks(["civil.person", "no.such", "civil.person"]) == [
        Told("civil.person", "civil/people", NOW + timedelta(minutes=2)),
        Told("civil.person", "civil/push", NOW + timedelta(minutes=1)),
    ]
    assert await reader.watermarks([]) == []


async def test_bundles(stores: Stores, reader: FacetReader) -> None:
    assert await reader.recent_bundles() == []
    store = stores.open()
    store.save_bundle("one", b"1")
    store.save_bundle("two", b"\xff2")
    store.save_bundle("one", b"1")
    assert await reader.recent_bundles() == store.recent_bundle_versions() == ["one", "two", "one"]
    assert await reader.bundle("two") == b"\xff2"
    with pytest.raises(NotFound):
        await reader.bundle("three")


async def test_many_readers_at_once_get_each_their_own(stores: Stores, reader: FacetReader) -> None:
    subjects = [f"k1.{number:022d}" for number in range(300)]
    put(stores, (facet(number, subject_key=subject) for number, subject in enumerate(subjects)))
    found = await asyncio.gather(*(reader.facets(subject, [("civil.person", 1)]) for subject in subjects))
    assert found == [[facet(number, subject_key=subject)] for number, subject in enumerate(subjects)]


async def test_a_file_that_is_no_store(tmp_path: Path) -> None:
    reader = open_reader(f"sqlite:///{tmp_path}/missing/store.db")
    with pytest.raises(StoreUnavailable):
        await reader.recent_bundles()
    (tmp_path / "store.db").write_bytes(b"not a database " * 100)
    (tmp_path / "store.db").chmod(0o600)
    reader = open_reader(f"sqlite:///{tmp_path}/store.db")
    with pytest.raises(StoreUnavailable, match="NOTADB"):
        await reader.facets(LI, [("civil.person", 1)])
    await reader.close()


async def test_postgres_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.store.reading_postgres.POOL_SECONDS", 0.2)
    reader = open_reader("postgresql://nobody@127.0.0.1:1/nothing")
    with pytest.raises(StoreUnavailable):
        await reader.recent_bundles()
    with pytest.raises(StoreUnavailable):
        await asyncio.gather(*(reader.facets(LI, [("civil.person", 1)]) for _ in range(5)))
    await reader.close()


class Counting(PostgresFacetReader):
    """A reader without a server: it counts statements and answers each a moment later."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__({})
        self.statements: list[int] = []
        self.error = error

    async def _look_up(self, keys: Sequence[str], sets: Sequence[int], probes: Sequence[Any]) -> list[Any]:
        assert {probe[0] for probe in probes} == set(sets)
        self.statements.append(sum(1 for one in sets for probe in probes if probe[0] == one))
        await asyncio.sleep(0.01)
        if self.error is not None:
            raise self.error
        return [
            (number, contract, 1, "", "{}", 1, "a/b", 1, 1, 0, 0, None, 0)
            for number, one in enumerate(sets)
            for set_, contract, *_ in probes
            if set_ == one
        ]


async def test_what_waits_goes_in_one_statement() -> None:
    reader = Counting()
    pairs = [("a.b", 1), ("c.d", 1)]

    async def read(number: int) -> None:
        found = await reader.facets(f"k1.{number}", pairs)
        assert [(one.subject_key, one.contract) for one in found] == [(f"k1.{number}", "a.b"), (f"k1.{number}", "c.d")]

    first = asyncio.gather(*(read(number) for number in range(40)))
    await asyncio.sleep(0.001)
    await asyncio.gather(first, *(read(number) for number in range(40, 80)))
    assert sum(reader.statements) == 160
    assert len(reader.statements) <= 2 * CONNECTIONS
    await asyncio.gather(*(read(number) for number in range(500)))
    assert max(reader.statements) <= PROBES


async def test_a_caller_that_comes_as_the_last_statements_end_is_served() -> None:
    class Together(Counting):
        """Both statements end in one turn of the loop."""

        async def _look_up(self, keys: Sequence[str], sets: Sequence[int], probes: Sequence[Any]) -> list[Any]:
            self.statements.append(len(keys))
            if len(self.statements) == CONNECTIONS:
                asyncio.get_running_loop().call_later(0.01, ended.set)
            await ended.wait()
            return []

    ended, reader = asyncio.Event(), Together()

    async def ask(times: int) -> None:
        for _ in range(times):
            await reader.facets("k1.a", [("a.b", 1)])

    first = asyncio.create_task(ask(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await asyncio.gather(first, ask(1))


async def test_an_error_reaches_every_caller_of_its_statement_and_no_other() -> None:
    reader = Counting(StoreUnavailable("away"))
    calls = [asyncio.create_task(reader.facets("k1.a", [("a.b", 1)])) for _ in range(5)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [StoreUnavailable] * 5
    reader.error = None
    assert len(await reader.facets("k1.a", [("a.b", 1)])) == 1


async def test_a_caller_that_goes_away_takes_nobody_along() -> None:
    reader = Counting()
    gone = asyncio.create_task(reader.facets("k1.a", [("a.b", 1)]))
    stays = asyncio.create_task(reader.facets("k1.b", [("a.b", 1)]))
    await asyncio.sleep(0.001)
    gone.cancel()
    assert [one.subject_key for one in await stays] == ["k1.b"]


@pytest.mark.services
async def test_arrays_are_read_as_they_were_written(fresh_postgres: Callable[[], str]) -> None:
    odd = ["", '"', "\\", "{", "}", ",", "NULL", " ", "\n", "甲", 'a"b\\"c', "k1.x"]
    some = [[], [""], ["NULL"], ["\\"], ['"'], odd, ["k1.a", "k1.b"]]
    connection = await psycopg.AsyncConnection.connect(fresh_postgres(), autocommit=True)
    async with connection:
        prepared = Prepared(connection, "SELECT $1::text[], $2::int8[]")
        for each in some:
            assert await prepared.rows([texts(each), numbers(range(len(each)))]) == [(each, [*range(len(each))])]
        with pytest.raises(psycopg.DataError):
            texts(["a\0b"])
        long = ["x" * 100_000] * 100  # more than the socket takes at once
        assert await prepared.rows([texts(long), numbers([-(2**63)])]) == [(long, [-(2**63)])]
        with pytest.raises(psycopg.Error):
            await prepared.rows([b"{", b"{}"])
        assert connection.closed


@pytest.mark.services
async def test_a_restarted_server_is_passed_over(fresh_postgres: Callable[[], str]) -> None:
    """Connections that the server has cut cost no request."""
    stores = Stores(fresh_postgres())
    store, reader = stores.open(), stores.reader()
    store.migrate()
    put(stores, [facet(1)])
    wanted = [("civil.person", 1)]
    await asyncio.gather(*(reader.facets(facet(1).subject_key, wanted) for _ in range(20)))
    with store.engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    await asyncio.sleep(0.1)
    assert await reader.facets(facet(1).subject_key, wanted) == [facet(1)]
    assert store.newest_bundle_version() is None
    await reader.close()
    stores.close()


@pytest.mark.services
async def test_the_hot_statement_is_planned_once_and_reads_by_the_index(fresh_postgres: Callable[[], str]) -> None:
    """Planned while the table is empty, where reading all of it is cheapest."""
    stores = Stores(fresh_postgres())
    stores.open().migrate()
    reader = stores.reader()
    assert isinstance(reader, PostgresFacetReader)
    for _ in range(20):
        assert await reader.facets(facet(1).subject_key, [("civil.person", 1)]) == []
    connection = reader._idle[0].connection
    cursor = await connection.execute("SELECT generic_plans, custom_plans FROM pg_prepared_statements")
    assert (20, 0) in await cursor.fetchall()
    nothing = ", ".join(["'{}'"] * 8)
    plan = await (await connection.execute(f"EXPLAIN EXECUTE exchange({nothing})")).fetchall()
    lines = [line for (line,) in plan if "facets" in line]
    assert lines
    assert not any("Seq Scan" in line for line in lines), lines
    await reader.close()
    stores.close()


class Proxy:
    """Between a client and PostgreSQL: sends the last message of each answer later, or cuts its connections."""

    LAST = 6  # bytes of ReadyForQuery

    def __init__(self, url: str) -> None:
        self._to = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._clients: list[asyncio.StreamWriter] = []

    async def start(self) -> str:
        """The URL of the same database through here."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        return self._to._replace(
            netloc=f"{self._to.username}:{self._to.password}@127.0.0.1:{port}", query="sslmode=disable"
        ).geturl()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._to.port is not None
        self._clients.append(writer)
        from_server, to_server = await asyncio.open_connection(self._to.hostname, self._to.port)

        async def there() -> None:
            while sent := await reader.read(1 << 16):
                to_server.write(sent)
            to_server.close()

        async def back() -> None:
            while sent := await from_server.read(1 << 16):
                writer.write(sent[: -self.LAST])
                await writer.drain()
                await asyncio.sleep(0.02)
                writer.write(sent[-self.LAST :])
            writer.close()

        await asyncio.gather(there(), back(), return_exceptions=True)

    def cut(self) -> None:
        for client in self._clients:
            client.transport.abort()

    def close(self) -> None:
        self.cut()
        if self._server is not None:
            self._server.close()


@pytest.mark.services
async def test_an_answer_whose_end_comes_late_leaves_its_connection_ready(fresh_postgres: Callable[[], str]) -> None:
    proxy = Proxy(fresh_postgres())
    async with await psycopg.AsyncConnection.connect(await proxy.start(), autocommit=True) as connection:
        prepared = Prepared(connection, "SELECT $1::int8[]")
        for number in range(3):
            assert await prepared.rows([numbers([number])]) == [([number],)]
    proxy.close()


@pytest.mark.services
async def test_whatever_is_opened_as_a_connection_breaks_is_heard(fresh_postgres: Callable[[], str]) -> None:
    proxy, loop = Proxy(fresh_postgres()), asyncio.get_running_loop()
    connection = await psycopg.AsyncConnection.connect(await proxy.start(), autocommit=True)
    prepared, number = Prepared(connection, "SELECT pg_sleep(60)"), connection.pgconn.socket
    look, opened, heard = prepared._look, [], asyncio.Event()

    def look_and_open(*arguments: Any) -> None:
        look(*arguments)
        if not opened and connection.pgconn.status != psycopg.pq.ConnStatus.OK:  # libpq has closed its socket
            opened.extend(end for _ in range(4) for end in socket.socketpair())
            loop.add_reader(number, heard.set)

    prepared._look = look_and_open  # type: ignore[method-assign]
    reading = asyncio.create_task(prepared.rows([]))
    await asyncio.sleep(0.3)
    proxy.cut()
    with pytest.raises(psycopg.OperationalError):
        await reading
    at = [end.fileno() for end in opened].index(number)  # one of them has the number that was let go
    opened[at ^ 1].send(b"!")
    await asyncio.wait_for(heard.wait(), 5)
    loop.remove_reader(number)
    for end in opened:
        end.close()
    proxy.close()


class Deaf:
    """An event loop that tells nobody that bytes have come, or may leave."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def add_reader(self, *_: object) -> None: ...
    def remove_reader(self, *_: object) -> None: ...
    def add_writer(self, *_: object) -> None: ...
    def remove_writer(self, *_: object) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)


@pytest.mark.services
async def test_a_statement_goes_on_though_the_loop_does_not_tell_of_its_socket(
    fresh_postgres: Callable[[], str],
) -> None:
    async with await psycopg.AsyncConnection.connect(fresh_postgres(), autocommit=True) as connection:
        prepared = Prepared(connection, "SELECT length($1::text)")
        prepared._loop = Deaf()  # type: ignore[assignment]
        for size in (1, 10_000_000):  # the second is more than the socket takes at once
            assert await asyncio.wait_for(prepared.rows([b"x" * size]), 30) == [(size,)]


@pytest.mark.services
async def test_a_statement_that_was_prepared_for_other_tables_is_prepared_anew(
    fresh_postgres: Callable[[], str],
) -> None:
    stores = Stores(fresh_postgres())
    stores.open().migrate()
    put(stores, [facet(1, subject_key=LI)])
    reader = stores.reader()
    pair = (facet(1).contract, 1)
    assert len(await reader.facets(LI, [pair])) == 1
    with psycopg.connect(stores.url, autocommit=True) as connection:
        connection.execute("ALTER TABLE facets ALTER sequence TYPE numeric")
        connection.execute("ALTER TABLE facets ALTER sequence TYPE bigint")
        connection.execute("ALTER TABLE facets ALTER major TYPE bigint")
    assert len(await reader.facets(LI, [pair])) == 1
    await reader.close()
    stores.close()
