"""FacetReader on SQLite: inline, on the event loop's own thread.

A read takes some ten microseconds and never waits for a writer (WAL); handing it to a thread would cost more.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exchange import sqlite
from exchange.errors import NotFound
from exchange.records import Facet, moment
from exchange.store import statements
from exchange.store.database import connect_sqlite, meaning
from exchange.store.facets import from_row
from exchange.store.keyed import Keyed
from exchange.store.reading import LIST_LIMIT, Place, Told, in_order, start

if TYPE_CHECKING:
    from sqlite3 import Connection

BUSY_SECONDS = 0.2  # a reader waits for nobody but in the moment of a recovery


class SqliteFacetReader:
    """Reads a store's file on one connection; to be used by one event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: Connection | None = None

    async def facets(
        self,
        subject_key: str,
        wanted: Sequence[tuple[str, int]],
        after: Mapping[str, Place] | None = None,
        limit: int = LIST_LIMIT,
    ) -> list[Facet]:
        """See FacetReader."""
        wanted = list(dict.fromkeys(wanted))
        if not after:
            few = self._read(statements.SQLITE_FEW_FACETS, (json.dumps(wanted), subject_key, limit + 1))
            if len(few) <= limit:  # these are all: a statement for each contract would take four times as long
                return in_order(map(from_row, few), wanted)
        places, found = after or {}, []
        for contract, major in wanted:
            page = (subject_key, contract, major, *start(places.get(contract)), limit)
            found += [from_row(row) for row in self._read(statements.SQLITE_FACETS, page)]
        return found

    async def watermarks(self, contracts: Sequence[str]) -> list[Told]:
        """See FacetReader."""
        return [
            Told(name, source, moment(as_of))
            for contract in dict.fromkeys(contracts)
            for name, source, as_of in self._read(statements.SQLITE_WATERMARKS, (contract,))
        ]

    async def recent_bundles(self) -> list[str]:
        """See FacetReader."""
        return [str(version) for (version,) in self._read(statements.RECENT_BUNDLES, ())]

    async def bundle(self, version: str) -> bytes:
        """See FacetReader."""
        for (body,) in self._read(statements.SQLITE_BUNDLE, (version,)):
            return bytes(body)
        raise NotFound("no such policy bundle")

    async def keyed(self) -> Keyed | None:
        """See FacetReader."""
        for mark, whole in self._read(statements.KEYED, ()):
            return Keyed(str(mark), bool(whole))
        return None

    async def close(self) -> None:
        """See FacetReader."""
        self._drop()

    def _read(self, statement: str, parameters: tuple[Any, ...]) -> list[Any]:
        try:
            if self._connection is None:
                self._connection = connect_sqlite(self._path, busy_seconds=BUSY_SECONDS)
                self._connection.execute("PRAGMA query_only = ON")
            return self._connection.execute(statement, parameters).fetchall()
        except sqlite.dbapi2.Error as error:
            self._drop()  # the next call opens the file anew, whatever has become of it
            raise meaning(error) from None

    def _drop(self) -> None:
        if self._connection is not None:
            with suppress(sqlite.dbapi2.Error):
                self._connection.close()
            self._connection = None
