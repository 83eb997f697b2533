"""Positions: how far each partition was read, and whose it is.

A position moves by compare-and-set on (topic, partition, previous offset, owner epoch), in the transaction of the
effects that it covers. Whoever takes a partition over raises its epoch, and the owner before can write nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import sqlalchemy as sa

from exchange.errors import Fenced, TopicChanged
from exchange.store.batches import Batch, Position
from exchange.store.database import insert_into, is_postgres
from exchange.store.tables import positions

# Built once: it is in every transaction of a materialiser, once for each partition.
_ADVANCE = (
    positions.update()
    .where(
        positions.c.topic == sa.bindparam("of"),
        positions.c.partition == sa.bindparam("at"),
        positions.c.next == sa.bindparam("previous"),
        positions.c.epoch == sa.bindparam("under"),
    )
    .values(next=sa.bindparam("following"))
)

# The same for many partitions in one statement, locked in the order in which `advance_all` is given them. With a
# statement for each, a transaction of a few records was little else.
_ADVANCE_ALL = """
WITH asked AS (
    SELECT * FROM unnest(%s::text[], %s::integer[], %s::bigint[], %s::bigint[], %s::bigint[])
        AS asked (topic, partition, previous, epoch, following)
), locked AS (
    SELECT here.topic, here.partition, asked.following FROM positions AS here JOIN asked USING (topic, partition)
    WHERE here.next = asked.previous AND here.epoch = asked.epoch
    ORDER BY here.topic, here.partition FOR UPDATE OF here
)
UPDATE positions AS here SET next = locked.following FROM locked
WHERE here.topic = locked.topic AND here.partition = locked.partition
RETURNING here.topic, here.partition
"""


def take(connection: sa.Connection, topic: str, partition: int, owner: str, topic_id: str) -> Position:
    """Raise the epoch of a partition and name its owner. Raises TopicChanged."""
    here = (positions.c.topic == topic) & (positions.c.partition == partition)
    insert = insert_into(connection, positions).values(
        topic=topic, partition=partition, next=0, epoch=0, owner=owner, topic_id=topic_id
    )
    connection.execute(insert.on_conflict_do_nothing())
    found = connection.execute(
        sa.select(positions.c.next, positions.c.epoch, positions.c.topic_id).where(here).with_for_update()
    ).one()
    if found.next > 0 and found.topic_id != topic_id:
        raise TopicChanged(
            f"{topic}: partition {partition} was read up to offset {found.next} of another topic of this name; "
            "rebuild the store from the new one, or restore the old one"
        )
    epoch = found.epoch + 1
    connection.execute(positions.update().where(here).values(epoch=epoch, owner=owner, topic_id=topic_id))
    return Position(found.next, epoch)


def advance_all(connection: sa.Connection, batches: Sequence[Batch]) -> list[bool]:
    """`advance` for each of these batches, in the order of topic and partition, so that no two writers meet in a ring.

    What one statement for all of them does not move, `advance` judges.
    """
    moved: set[tuple[str, int]] = set()
    places = [(batch.topic, batch.partition) for batch in batches]
    if is_postgres(connection) and len(set(places)) == len(places) > 1:
        asked = [
            (*place, batch.previous, batch.epoch, batch.next) for place, batch in zip(places, batches, strict=True)
        ]
        columns = tuple(list(column) for column in zip(*asked, strict=True))
        moved = {(topic, partition) for topic, partition in connection.exec_driver_sql(_ADVANCE_ALL, columns)}
    in_order = sorted(batches, key=lambda batch: (batch.topic, batch.partition, batch.previous))
    advanced = {
        id(batch) for batch in in_order if (batch.topic, batch.partition) in moved or advance(connection, batch)
    }
    return [id(batch) in advanced for batch in batches]


def advance(connection: sa.Connection, batch: Batch) -> bool:
    """Move a position over a batch; False if it has been moved over just this batch before.

    That is so when the batch was committed and only the answer was lost. Raises Fenced if the position is anything
    else than what the batch was read from.
    """
    moved = connection.execute(
        _ADVANCE,
        {
            "of": batch.topic,
            "at": batch.partition,
            "previous": batch.previous,
            "under": batch.epoch,
            "following": batch.next,
        },
    )
    if moved.rowcount == 1:
        return True
    here = (positions.c.topic == batch.topic) & (positions.c.partition == batch.partition)
    found = connection.execute(sa.select(positions.c.next, positions.c.epoch).where(here)).one_or_none()
    if found is not None and found.epoch == batch.epoch and found.next == batch.next:
        return False
    stands = "was never taken" if found is None else f"is at offset {found.next} of epoch {found.epoch}"
    raise Fenced(
        f"{batch.topic} partition {batch.partition} {stands}, not at offset {batch.previous} of epoch {batch.epoch}"
    )


def next_offsets(connection: sa.Connection, topics: Iterable[str]) -> Mapping[tuple[str, int], int]:
    """The offset to read next of every partition of these topics of which something was read."""
    found = sa.select(positions).where(positions.c.topic.in_(topics), positions.c.next > 0)
    return {(row.topic, row.partition): row.next for row in connection.execute(found)}


def topics(connection: sa.Connection) -> set[str]:
    """The topics of which a partition was ever taken."""
    return set(connection.scalars(sa.select(positions.c.topic).distinct()))


def end_at(connection: sa.Connection, ends: Mapping[tuple[str, int], int]) -> None:
    """Positions behind these ends move back to them."""
    for (topic, partition), end in ends.items():
        beyond = (positions.c.topic == topic) & (positions.c.partition == partition) & (positions.c.next > end)
        connection.execute(positions.update().where(beyond).values(next=end))
