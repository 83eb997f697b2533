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
        done: asyncio.Future[pq.abc.PGresult] = self._loop.create_future()
        socket = self._pg.socket
        self._result = None
        send()
        while self._pg.flush():
            await self._writable(socket)
        self._loop.add_reader(socket, self._receive, socket, done)
        again = self._loop.call_later(LOOK_SECONDS, self._look, socket, done)
        try:
            result = await done
        except asyncio.CancelledError:
            self._loop.remove_reader(socket)
            raise
        finally:
            again.cancel()
        return checked(result)

    def _look(self, socket: int, done: asyncio.Future[pq.abc.PGresult]) -> None:
        """Look without having been told to, as psycopg does: sockets that break and open in one turn can be missed."""
        if not done.done():
            self._receive(socket, done)
            self._loop.call_later(LOOK_SECONDS, self._look, socket, done)

    def _receive(self, socket: int, done: asyncio.Future[pq.abc.PGresult]) -> None:
        """Bytes have come; the answer is whole when libpq has no result more.

        The last bytes may come alone: a connection that is left before them is busy for whoever uses it next. The loop
        is told at once that it need not look any more: libpq closes a socket that has broken, and whatever is opened
        then may have its number.
        """
        try:
            self._pg.consume_input()
            while not self._pg.is_busy():
                result = self._pg.get_result()
                if result is None:
                    if self._result is None:
                        raise errors.OperationalError("the server has sent no answer")
                    break
                self._result = result
            else:
                return
        except psycopg.Error as error:
            self._loop.remove_reader(socket)
            if not done.done():
                done.set_exception(error)
            return
        self._loop.remove_reader(socket)
        if not done.done():
            done.set_result(self._result)

    async def _writable(self, socket: int) -> None:
        ready = asyncio.Event()
        self._loop.add_writer(socket, ready.set)
        try:
            await ready.wait()
        finally:
            self._loop.remove_writer(socket)


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
