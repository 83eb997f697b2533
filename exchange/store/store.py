"""The store as its users see it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import sqlalchemy as sa

from exchange.clock import Clock
from exchange.store import database, tables
from exchange.store.batches import Applied, Batch, Position


class Store:
    """Facets, positions, rejects, watermarks and bundles in one database. May be used by several threads."""

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self.engine = engine
        self._clock = clock

    def migrate(self) -> bool:
        """Bring the tables to this version; whether anything had to be done. Safe when several processes start at once.

        Raises StoreUnavailable; SchemaOutdated if the tables are those of a newer version.
        """
        return database.migrate(self.engine, tables.LINEAGE)

    def check(self) -> None:
        """Raise SchemaOutdated unless the tables are those of this version; StoreUnavailable."""
        database.check(self.engine, tables.LINEAGE)

    def take(self, topic: str, partition: int, owner: str, topic_id: str) -> Position:
        """Take a partition over: from now on what an older owner writes is fenced. The offset is that to read next.

        Raises TopicChanged if something was read of a topic with another id; StoreUnavailable.
        """
        raise NotImplementedError

    def apply(self, batches: Sequence[Batch]) -> list[Applied]:
        """Store what the batches do together with their positions, in one transaction; the outcome of each, in order.

        A batch that is stored already, because the answer to its commit was lost, changes nothing. Raises Fenced if
        another owner has taken a partition over: then nothing of any batch is written. StoreUnavailable: all or
        nothing was written; apply the same batches again.
        """
        raise NotImplementedError

    def settle(self) -> list[object]:
        """Store every waiting watermark whose positions have been passed; call it when there is nothing to apply."""
        raise NotImplementedError

    def list_rejects(
        self, department: str | None = None, contract: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[object]:
        """Rejects without payload, newest first; `after` is the id of the last one shown."""
        raise NotImplementedError

    def reject(self, reject_id: str, *, reveal: bool = False) -> object:
        """One reject; its payload only if `reveal`. Raises NotFound."""
        raise NotImplementedError

    def mark_replayed(self, reject_id: str) -> None:
        """Note that a reject was published again. Raises NotFound."""
        raise NotImplementedError

    def purge_rejects(self, before: datetime) -> int:
        """Delete the rejects set aside before that time; how many."""
        raise NotImplementedError

    def save_bundle(self, version: str, body: bytes) -> None:
        """Store an immutable bundle and make it the newest, also if it was stored before."""
        raise NotImplementedError

    def newest_bundle_version(self) -> str | None:
        """The version of the newest bundle, None if there is none."""
        raise NotImplementedError

    def bundle(self, version: str) -> bytes:
        """The bytes of a bundle. Raises NotFound."""
        raise NotImplementedError

    def close(self) -> None:
        """Release the connections."""
        self.engine.dispose()
