"""Watermarks: until when a source has told everything, once all that it has told is stored.

A watermark names the last offset that its source produced in each partition. It waits until every position has passed
its offset; of those that have, the newest of a source stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from exchange.records import Watermark, canonical
from exchange.store.database import insert_into
from exchange.store.positions import next_offsets
from exchange.store.reading import Told
from exchange.store.tables import pending_watermarks as pending
from exchange.store.tables import watermarks


def wait(connection: sa.Connection, arrived: Iterable[Watermark]) -> None:
    """Let watermarks wait for their positions; `settle` in the same transaction takes those that need not."""
    for watermark in arrived:
        insert = insert_into(connection, pending).values(
            contract=watermark.contract,
            source=watermark.source,
            epoch=watermark.epoch,
            as_of=watermark.as_of,
            topic=watermark.topic,
            offsets=canonical({str(partition): offset for partition, offset in watermark.offsets.items()}),
        )
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=list(pending.primary_key.columns),
                set_={"topic": insert.excluded.topic, "offsets": insert.excluded.offsets},
            )
        )


def settle(connection: sa.Connection, topics: Iterable[str] | None = None) -> None:
    """Store the watermarks of these topics (None: of all) that wait no longer.

    Two processes that move two partitions at the same moment may each miss the other's; the next call by either finds
    it, which is why the materialiser also calls when it has nothing to do.
    """
    waiting = sa.select(pending)
    if topics is not None:
        waiting = waiting.where(pending.c.topic.in_(list(topics)))
    found = [
        Watermark(
            contract=row.contract,
            topic=row.topic,
            source=row.source,
            epoch=row.epoch,
            as_of=row.as_of,
            offsets={int(partition): offset for partition, offset in json.loads(row.offsets).items()},
        )
        for row in connection.execute(waiting)
    ]
    if not found:
        return
    positions = next_offsets(connection, {watermark.topic for watermark in found})
    newest: dict[tuple[str, str], Watermark] = {}
    for watermark in found:
        key = (watermark.contract, watermark.source)
        if _passed(watermark, positions) and (key not in newest or _age(newest[key]) < _age(watermark)):
            newest[key] = watermark
    for key in sorted(newest):
        _store(connection, newest[key])


def told(connection: sa.Connection) -> list[Told]:
    """The watermark of every source of every contract."""
    return [
        Told(row.contract, row.source, row.as_of)
        for row in connection.execute(sa.select(watermarks).order_by(*watermarks.primary_key.columns))
    ]


def any_waits(connection: sa.Connection) -> bool:
    """Whether there is a watermark that waits."""
    return connection.execute(sa.select(sa.exists().select_from(pending))).scalar_one()


def _passed(watermark: Watermark, positions: Mapping[tuple[str, int], int]) -> bool:
    return all(
        positions.get((watermark.topic, partition), 0) > offset for partition, offset in watermark.offsets.items()
    )


def _age(watermark: Watermark) -> tuple[object, ...]:
    return (watermark.epoch, watermark.as_of)


def _store(connection: sa.Connection, watermark: Watermark) -> None:
    insert = insert_into(connection, watermarks).values(
        contract=watermark.contract, source=watermark.source, epoch=watermark.epoch, as_of=watermark.as_of
    )
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=list(watermarks.primary_key.columns),
            set_={"epoch": insert.excluded.epoch, "as_of": insert.excluded.as_of},
            where=sa.tuple_(insert.excluded.epoch, insert.excluded.as_of)
            > sa.tuple_(watermarks.c.epoch, watermarks.c.as_of),
        )
    )
    connection.execute(
        pending.delete().where(
            pending.c.contract == watermark.contract,
            pending.c.source == watermark.source,
            sa.tuple_(pending.c.epoch, pending.c.as_of)
            <= sa.tuple_(sa.literal(watermark.epoch), sa.literal(watermark.as_of, pending.c.as_of.type)),
        )
    )
