"""FacetReader on PostgreSQL: what waits goes in one statement.

While a statement is on its way, other requests gather, and the next statement asks for all of them: no timer, and a
lone request waits for nobody. Under load one round trip serves dozens of views.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from exchange.errors import NotFound
from exchange.records import Facet, moment
from exchange.store import statements
from exchange.store.database import meaning
from exchange.store.facets import from_row
from exchange.store.reading import LIST_LIMIT, Place, Told, start

CONNECTIONS = 2  # one statement gathers while the other is on its way
POOL_SECONDS = 2.0  # how long a request waits for a connection while the database is away
PROBES = 256  # look-ups, one for each contract of each request, in one statement at most


@dataclass(slots=True)
class _Request:
    """A call that waits for its rows."""

    probes: list[tuple[Any, ...]]
    answer: asyncio.Future[list[Facet]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class PostgresFacetReader:
    """Reads over a small pool of connections; to be used by one event loop."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._pool = AsyncConnectionPool(
            kwargs={**parameters, "autocommit": True, "prepare_threshold": 0},
            min_size=1,
            max_size=CONNECTIONS,
            timeout=POOL_SECONDS,
            reconnect_timeout=POOL_SECONDS,  # after that, the next request tries again: no growing pauses
            open=False,
            name="facets",
        )
        self._opened = False
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
        request = _Request(
            [
                (subject_key, contract, major, *start(places.get(contract)), limit)
                for contract, major in dict.fromkeys(wanted)
            ]
        )
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

    async def close(self) -> None:
        """See FacetReader."""
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
        probes = [(number, *probe) for number, request in enumerate(requests) for probe in request.probes]
        answers: list[list[Facet]] = [[] for _ in requests]
        for number, *row in await self._read(
            statements.POSTGRES_FACETS, [list(column) for column in zip(*probes, strict=True)]
        ):
            answers[number].append(from_row(row))
        return answers

    async def _read(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            if not self._opened:
                self._opened = True
                await self._pool.open()
            return await self._try(statement, parameters)
        except psycopg.Error as error:
            raise meaning(error) from None

    async def _try(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run a statement. Connections that a restart of the server has cut are passed over: reading again is safe."""
        for _ in range(CONNECTIONS):
            try:
                return await self._run(statement, parameters)
            except PoolTimeout:
                raise
            except psycopg.OperationalError:
                continue
        return await self._run(statement, parameters)

    async def _run(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        async with self._pool.connection() as connection, connection.cursor(binary=True) as cursor:
            await cursor.execute(statement, parameters)
            return await cursor.fetchall()
