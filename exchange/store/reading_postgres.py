"""FacetReader on PostgreSQL: what waits goes in one statement.

While a statement is on its way, other requests gather, and the next statement asks for all of them: no timer, and a
lone request waits for nobody. Under load one round trip serves dozens of views.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import psycopg
from psycopg import errors
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from exchange.errors import NotFound
from exchange.records import Facet, moment
from exchange.store import statements
from exchange.store.database import meaning
from exchange.store.keyed import Keyed
from exchange.store.prepared import Prepared, numbers, texts
from exchange.store.reading import LIST_LIMIT, Place, Told, start

CONNECTIONS = 2  # one statement gathers while the other is on its way; one more is for all that is not hot
POOL_SECONDS = 2.0  # how long a request waits for a connection while the database is away
PROBES = 256  # look-ups, one for each contract of each request, in one statement at most


Probe = tuple[str, int, int, str, int]  # contract, major, the place to begin before, and how many rows at most


async def _planned_once(connection: psycopg.AsyncConnection[Any]) -> None:
    """Let this session plan a prepared statement once and by its indexes.

    Left to itself PostgreSQL plans the hot statement anew each time, which takes as long as the statement and three
    times as long as one for few requests. A plan that is kept must not be one for the small table that it was made at.
    """
    await connection.execute(statements.POSTGRES_PLANNED_ONCE)


@dataclass(slots=True)
class _Request:
    """A call that waits for its rows."""

    subject_key: str
    probes: tuple[Probe, ...]
    answer: asyncio.Future[list[Facet]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class PostgresFacetReader:
    """Reads over a small pool of connections; to be used by one event loop."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._pool = AsyncConnectionPool(
            kwargs={**parameters, "autocommit": True, "prepare_threshold": 0},
            min_size=1,
            max_size=CONNECTIONS + 1,  # each flight keeps one
            configure=_planned_once,
            timeout=POOL_SECONDS,
            reconnect_timeout=POOL_SECONDS,  # after that, the next request tries again: no growing pauses
            open=False,
            name="facets",
        )
        self._opened = self._closed = False
        self._idle: list[Prepared] = []
        self._waiting: list[_Request] = []
        self._flights: set[asyncio.Task[None]] = set()

    async def facets(
        self,
        subject_key: str,
        wanted: Sequence[tuple[str, int]],
        after: Mapping[str, Place] | None = None,
        limit: int = LIST_LIMIT,
    ) -> list[Facet]:
        """See FacetReader."""
        if not wanted:
            return []
        places = after or {}
        probes = tuple([(*pair, *start(places.get(pair[0])), limit) for pair in dict.fromkeys(wanted)])
        request = _Request(subject_key, probes)
        self._waiting.append(request)
        if len(self._flights) < CONNECTIONS:
            self._flights.add(asyncio.create_task(self._fly()))
        return await request.answer

    async def watermarks(self, contracts: Sequence[str]) -> list[Told]:
        """See FacetReader."""
        rows = await self._read(statements.POSTGRES_WATERMARKS, (list(dict.fromkeys(contracts)),))
        return [Told(contract, source, moment(as_of)) for contract, source, as_of in rows]

    async def recent_bundles(self) -> list[str]:
        """See FacetReader."""
        return [str(version) for (version,) in await self._read(statements.RECENT_BUNDLES)]

    async def bundle(self, version: str) -> bytes:
        """See FacetReader."""
        for (body,) in await self._read(statements.POSTGRES_BUNDLE, (version,)):
            return bytes(body)
        raise NotFound("no such policy bundle")

    async def keyed(self) -> Keyed | None:
        """See FacetReader."""
        for mark, whole in await self._read(statements.KEYED):
            return Keyed(str(mark), bool(whole))
        return None

    async def close(self) -> None:
        """See FacetReader."""
        self._closed = True
        while self._idle:
            await self._pool.putconn(self._idle.pop().connection)
        await self._pool.close()

    async def _fly(self) -> None:
        """Answer what waits, and what has come to wait meanwhile."""
        try:
            await self._answer()
        finally:  # in the moment in which nothing waits: whoever comes next must not rely on a flight that has ended
            self._flights.discard(cast("asyncio.Task[None]", asyncio.current_task()))

    async def _answer(self) -> None:
        while requests := self._board():
            try:
                answers = await self._fetch(requests)
            except Exception as error:  # noqa: BLE001 - whatever it is, every caller of this flight gets it
                for request in requests:
                    if not request.answer.done():
                        request.answer.set_exception(error)
            else:
                for request, answer in zip(requests, answers, strict=True):
                    if not request.answer.done():  # its caller may have gone away
                        request.answer.set_result(answer)
            finally:
                for request in requests:
                    request.answer.cancel()  # only where the flight itself was cancelled is one left

    def _board(self) -> list[_Request]:
        """Take waiting requests up to PROBES look-ups, at least one request."""
        taken = probes = 0
        for request in self._waiting:
            probes += len(request.probes)
            if taken and probes > PROBES:
                break
            taken += 1
        requests, self._waiting = self._waiting[:taken], self._waiting[taken:]
        return requests

    async def _fetch(self, requests: Sequence[_Request]) -> list[list[Facet]]:
        sets: dict[tuple[Probe, ...], int] = {}
        places = [sets.setdefault(request.probes, len(sets)) for request in requests]
        keys = [request.subject_key for request in requests]
        probes = [(number, *probe) for wanted, number in sets.items() for probe in wanted]
        answers: list[list[Facet]] = [[] for _ in requests]
        for row in await self._look_up(keys, places, probes):
            number = row[0]
            answers[number].append(Facet(keys[number], *row[1:]))
        return answers

    async def _look_up(
        self, keys: Sequence[str], sets: Sequence[int], probes: Sequence[tuple[int, str, int, int, str, int]]
    ) -> list[tuple[Any, ...]]:
        """The rows of these subjects, each looked for by the probes of its set; see `statements.POSTGRES_FACETS`."""
        set_, contract, major, before_time, before_key, most = zip(*probes, strict=True)
        parameters = [
            texts(keys),
            numbers(sets),
            numbers(set_),
            texts(contract),
            numbers(major),
            numbers(before_time),
            texts(before_key),
            numbers(most),
        ]
        return await self._safely(lambda: self._rows(parameters))

    async def _rows(self, parameters: list[bytes]) -> list[tuple[Any, ...]]:
        """Run the hot statement on a connection that is kept for it."""
        if self._idle:
            try:
                return await self._run_kept(self._idle.pop(), parameters)
            except psycopg.OperationalError:
                raise
            except psycopg.Error:  # it was prepared when the tables, or the session, were others: once more, anew
                pass
        return await self._run_kept(Prepared(await self._pool.getconn(), statements.POSTGRES_FACETS), parameters)

    async def _run_kept(self, prepared: Prepared, parameters: list[bytes]) -> list[tuple[Any, ...]]:
        try:
            found = await prepared.rows(parameters)
        except BaseException:
            await self._pool.putconn(prepared.connection)
            raise
        if self._closed:
            await self._pool.putconn(prepared.connection)
        else:
            self._idle.append(prepared)
        return found

    async def _read(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return await self._safely(lambda: self._run(statement, parameters))

    async def _safely(self, read: Callable[[], Awaitable[list[tuple[Any, ...]]]]) -> list[tuple[Any, ...]]:
        """Read. Connections that a restart of the server has cut are passed over: reading again is safe."""
        try:
            if not self._opened:
                self._opened = True
                await self._pool.open()
            for _ in range(CONNECTIONS + 1):
                try:
                    return await read()
                except (PoolTimeout, errors.LockNotAvailable, errors.QueryCanceled):
                    raise  # what was waited for is not had sooner by waiting again
                except psycopg.OperationalError:
                    continue
            return await read()
        except psycopg.Error as error:
            raise meaning(error) from None

    async def _run(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute(statement, parameters)
            return await cursor.fetchall()
