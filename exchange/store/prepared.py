"""One statement of PostgreSQL in the shortest way: prepared once on a connection, parameters as text, rows in binary.

A cursor of psycopg finds out anew for each execution what its parameters are and how to wait; for a statement of a few
rows that takes several times as long as the statement. Here libpq, beneath psycopg, is asked directly, on a connection
that psycopg has made, and psycopg reads the rows.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Any

import psycopg
from psycopg import errors, pq
from psycopg.adapt import Transformer

_SPECIAL = re.compile(r'(["\\])')
_BINARY = pq.Format.BINARY
_ARRAY, _LENGTH = Struct("!iiIii"), Struct("!i")
_BYTEA = 17  # its type's number in pg_type
LOOK_SECONDS = 0.1
_NAME = b"exchange"  # of the one statement that a connection is kept for


class Prepared:
    """A statement on one connection, which nobody else uses meanwhile; one execution at a time, in one event loop.

    After an error the connection is closed: what of an answer is still to come would be taken for the next one's.
    """

    def __init__(self, connection: psycopg.AsyncConnection[Any], statement: str) -> None:
        self.connection = connection
        self._pg = connection.pgconn
        self._statement = statement.encode()
        self._prepared = False
        self._result: pq.abc.PGresult | None = None  # the last that has come of an answer
        self._loop = asyncio.get_running_loop()

    async def rows(self, parameters: list[bytes]) -> list[tuple[Any, ...]]:
        """Execute it. Raises psycopg.Error."""
        try:
            if not self._prepared:
                await self._answer(lambda: self._pg.send_prepare(_NAME, self._statement))
                self._prepared = True
            result = await self._answer(lambda: self._pg.send_query_prepared(_NAME, parameters, None, _BINARY))
        except BaseException:
            self._pg.finish()
            raise
        reading = Transformer(self.connection)
        reading.set_pgresult(result)
        return reading.load_rows(0, result.ntuples, tuple)

    async def _answer(self, send: Callable[[], None]) -> pq.abc.PGresult:
        """Send a command and wait until its one result is here, and nothing more to come."""
        self._result = None
        send()
        if not self._sent():
            await self._until(self._sent, self._loop.add_writer, self._loop.remove_writer)
        await self._until(self._received, self._loop.add_reader, self._loop.remove_reader)
        if self._result is None:
            raise errors.OperationalError("the server has sent no answer")
        return checked(self._result)

    def _sent(self) -> bool:
        """Whether all of the command has left."""
        return self._pg.flush() == 0

    def _received(self) -> bool:
        """Whether all of the answer is here: libpq has no result more.

        The last bytes may come alone: a connection that is left before them is busy for whoever uses it next.
        """
        self._pg.consume_input()
        while not self._pg.is_busy():
            result = self._pg.get_result()
            if result is None:
                return True
            self._result = result
        return False

    async def _until(
        self, true: Callable[[], bool], tell: Callable[..., None], forget: Callable[[int], object]
    ) -> None:
        """Wait until this is true: asked whenever the loop tells that the socket is ready, and each LOOK_SECONDS.

        Without being told to, as psycopg does: sockets that break and open in one turn can be missed.
        """
        socket = self._pg.socket
        done: asyncio.Future[None] = self._loop.create_future()

        def look_again() -> None:
            self._look(socket, true, forget, done)
            if not done.done():
                self._loop.call_later(LOOK_SECONDS, look_again)

        tell(socket, self._look, socket, true, forget, done)
        again = self._loop.call_later(LOOK_SECONDS, look_again)
        try:
            await done
        finally:
            again.cancel()
            if done.cancelled():
                forget(socket)

    def _look(
        self, socket: int, true: Callable[[], bool], forget: Callable[[int], object], done: asyncio.Future[None]
    ) -> None:
        """Ask, unless the waiting has ended.

        The loop is told at once that it need not look any more: libpq closes a socket that has broken, and whatever is
        opened then may have its number.
        """
        try:
            if done.done() or not true():
                return
        except psycopg.Error as error:
            forget(socket)
            done.set_exception(error)
        else:
            forget(socket)
            done.set_result(None)


def checked(result: pq.abc.PGresult) -> pq.abc.PGresult:
    """A result that is none of an error. Raises psycopg.Error."""
    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        raise errors.error_from_result(result)
    return result


def byteas(values: Sequence[bytes]) -> bytes:
    """An array of bytea in PostgreSQL's binary form (array_recv): dimensions, nulls, type, length, first index."""
    parts = [_ARRAY.pack(1, 0, _BYTEA, len(values), 1)]
    for value in values:
        parts += (_LENGTH.pack(len(value)), value)
    return b"".join(parts)


def texts(values: Iterable[str]) -> bytes:
    """An array of texts as PostgreSQL reads it (8.15.2)."""
    found = list(values)
    quoted = '","'.join(found)
    if "\\" in quoted or quoted.count('"') > 2 * max(0, len(found) - 1):
        quoted = '","'.join(_SPECIAL.sub(r"\\\1", one) for one in found)
    if "\0" in quoted:
        raise psycopg.DataError("PostgreSQL has no text with a NUL")
    return f'{{"{quoted}"}}'.encode() if found else b"{}"


def numbers(values: Iterable[int]) -> bytes:
    """An array of whole numbers as PostgreSQL reads it."""
    return f"{{{','.join(map(str, values))}}}".encode()
