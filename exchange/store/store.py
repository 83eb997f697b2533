"""The store as its users see it; the rooms beside it do the work, each on a connection that it is given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from types import EllipsisType

import sqlalchemy as sa

from exchange.clock import Clock
from exchange.errors import SettingWrong
from exchange.store import bundles, database, erasing, facets, keyed, positions, push, rejects, tables, watermarks
from exchange.store.batches import Applied, Batch, Position
from exchange.store.database import reading, writing
from exchange.store.keyed import Keyed
from exchange.store.reading import Told
from exchange.store.rejects import SetAside


class Store:
    """Facets, positions, rejects, watermarks and bundles in one database. May be used by several threads.

    Every method raises StoreUnavailable when the database is away, locked, full or read-only; the same call can be made
    again, also where the transaction may have been committed and only the answer was lost.
    """

    def __init__(self, engine: sa.Engine, clock: Clock) -> None:
        self.engine = engine
        self._clock = clock

    def migrate(self) -> bool:
        """Bring the tables to this version; whether anything had to be done. Safe when several processes start at once.

        Raises SchemaOutdated if the tables are those of a newer version.
        """
        changed = database.migrate(self.engine, tables.LINEAGE)
        push.make_source(self.engine, self._clock)
        return changed

    def check(self) -> None:
        """Raise SchemaOutdated unless the tables are those of this version."""
        database.check(self.engine, tables.LINEAGE)

    # -- the bus secret --

    def adopt(self, mark: str) -> None:
        """Take the secret of this mark for that of the facets, if nobody has said another. Raises SettingWrong."""
        with writing(self.engine) as connection:
            keyed.adopt(connection, mark)
        self.check_keyed(mark)

    def keyed(self) -> Keyed | None:
        """The bus secret that the facets are keyed by; None if nobody has said it yet."""
        with reading(self.engine) as connection:
            return keyed.found(connection)

    def check_keyed(self, mark: str) -> None:
        """Raise SettingWrong unless the facets are keyed by the secret of this mark."""
        found = self.keyed()
        if found is not None and (refusal := found.refusal(mark)) is not None:
            raise SettingWrong(refusal)

    def begin_keying(self, mark: str) -> None:
        """From now on nobody may work with this store, until `finish_keying`."""
        with writing(self.engine) as connection:
            keyed.begin(connection, mark)

    def finish_keying(self, cuts: Mapping[tuple[str, int], int]) -> None:
        """Empty the facets; these (topic, partition) are read from these offsets on, and the new secret holds."""
        with writing(self.engine) as connection:
            keyed.finish(connection, cuts)

    # -- materialise --

    def take(self, topic: str, partition: int, owner: str, topic_id: str) -> Position:
        """Take a partition over: from now on what an older owner writes is fenced. The offset is that to read next.

        Raises TopicChanged if something was read of a topic with another id.
        """
        with writing(self.engine) as connection:
            return positions.take(connection, topic, partition, owner, topic_id)

    def apply(self, batches: Sequence[Batch]) -> list[Applied]:
        """Store what the batches do together with their positions, in one transaction; the outcome of each, in order.

        A batch that is stored already, because the answer to its commit was lost, changes nothing. Raises Fenced if
        another owner has taken one of the partitions over: then nothing of any batch is written.
        """
        with writing(self.engine, isolation="REPEATABLE READ") as connection:
            moved = positions.advance_all(connection, batches)
            fresh = [batch for batch, is_fresh in zip(batches, moved, strict=True) if is_fresh]
            standing = facets.read_standing(connection, [facet for batch in fresh for facet in batch.facets])
            stood = frozenset(standing)
            changed: facets.Standing = {}
            applied = [
                facets.fold(batch.facets, standing, changed) if is_fresh else Applied(0, len(batch.facets))
                for batch, is_fresh in zip(batches, moved, strict=True)
            ]
            facets.write(connection, changed, stood)
            rejects.put(connection, [reject for batch in fresh for reject in batch.rejects])
            watermarks.wait(connection, [watermark for batch in fresh for watermark in batch.watermarks])
            watermarks.settle(connection, {batch.topic for batch in fresh} | _spoken_of(fresh))
        return applied

    def settle(self) -> None:
        """Store every watermark that waits no longer; to be called about once a second.

        `apply` does it for its own topics, but two processes that pass the last two offsets at the same moment do not
        see each other.
        """
        with reading(self.engine) as connection:
            if not watermarks.any_waits(connection):
                return
        with writing(self.engine) as connection:
            watermarks.settle(connection)

    def watermarks(self) -> list[Told]:
        """The watermark of every source of every contract."""
        with reading(self.engine) as connection:
            return watermarks.told(connection)

    # -- rejects --

    def list_rejects(
        self, department: str | None = None, contract: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[SetAside]:
        """At most `limit` rejects without payload, newest first; `after` is the id of the last one shown.

        Raises NotFound if the reject `after` is not there any more.
        """
        with reading(self.engine) as connection:
            return rejects.list_(connection, department, contract, after, limit)

    def reject(self, reject_id: str, *, reveal: bool = False) -> SetAside:
        """One reject; its payload only if `reveal`. Raises NotFound."""
        with reading(self.engine) as connection:
            return rejects.show(connection, reject_id, reveal=reveal)

    def mark_replayed(self, reject_id: str) -> None:
        """Note that a reject was published again. Raises NotFound."""
        with writing(self.engine) as connection:
            rejects.mark_replayed(connection, reject_id, self._clock())

    def purge_rejects(self, before: datetime) -> int:
        """Delete what was set aside before that time; how many."""
        with writing(self.engine) as connection:
            return rejects.purge(connection, before)

    # -- erasure --

    def known_of(self, subject_key: str) -> list[tuple[str, int, str]]:
        """(contract, major, record key) of everything that is known of a subject."""
        with reading(self.engine) as connection:
            return erasing.identities(connection, subject_key)

    def erase(self, subject_key: str) -> int:
        """Take the payloads of a subject's facets; how many. Their places stay, so that no repeat brings them back."""
        with writing(self.engine) as connection:
            return erasing.erase(connection, subject_key)

    def overwrite_log(self) -> None:
        """On SQLite: bring the log beside the file into it and empty it, for it holds pages as they were before.

        A reader that is at work keeps it from that; the next checkpoint does it.
        """
        if not database.is_postgres(self.engine):
            with closing(self.engine.raw_connection()) as connection:
                connection.driver_connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()  # type: ignore[union-attr]

    def payloads(self, contract: str) -> list[tuple[str, str]]:
        """(id, payload) of the rejects of `<department>.<dataset>` that have one."""
        with reading(self.engine) as connection:
            return list(erasing.payloads(connection, contract))

    def drop_rejects(self, ids: Iterable[str]) -> int:
        """Delete these rejects; how many."""
        with writing(self.engine) as connection:
            return erasing.drop_rejects(connection, ids)

    def topics_read(self) -> set[str]:
        """The topics of which a partition was ever taken."""
        with reading(self.engine) as connection:
            return positions.topics(connection)

    def read_from_end(self, ends: Mapping[tuple[str, int], int]) -> None:
        """Positions behind these ends, by topic and partition, move back to them: what comes next there is read."""
        with writing(self.engine) as connection:
            positions.end_at(connection, ends)

    def positions(self, topics: Iterable[str]) -> Mapping[tuple[str, int], int]:
        """The offset to read next of every partition of these topics of which something was read."""
        with reading(self.engine) as connection:
            return positions.next_offsets(connection, topics)

    # -- policy bundles --

    def save_bundle(self, version: str, body: bytes, after: str | EllipsisType | None = ...) -> None:
        """Store an immutable bundle and make it the newest, also if it was stored before.

        `after`: what must be the newest version until now, None for none; Conflict is raised if another is.
        A body that was damaged in the store is mended. Raises PolicyRefused if another body is stored under this
        version, and this one has not the version's hash either.
        """
        with writing(self.engine) as connection:
            bundles.save(connection, version, body, self._clock(), after)

    def newest_bundle_version(self) -> str | None:
        """The version of the newest bundle, None if there is none."""
        with reading(self.engine) as connection:
            return bundles.newest_version(connection)

    def recent_bundle_versions(self) -> list[str]:
        """The versions of the last sixteen policy bundles that were applied, the newest first."""
        with reading(self.engine) as connection:
            return bundles.recent_versions(connection)

    def bundle(self, version: str) -> bytes:
        """The bytes of a bundle. Raises NotFound."""
        with reading(self.engine) as connection:
            return bundles.load(connection, version)

    def close(self) -> None:
        """Release the connections."""
        self.engine.dispose()


def _spoken_of(batches: Sequence[Batch]) -> set[str]:
    return {watermark.topic for batch in batches for watermark in batch.watermarks}
