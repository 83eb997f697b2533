"""How many subjects each client has seen on a day: one sketch for all gateways of a store, never a subject.

A sketch is the registers of a HyperLogLog; what two gateways know together is the greater of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

import sqlalchemy as sa

from exchange.store.database import insert_into, reading, writing
from exchange.store.tables import subjects_seen as seen


class SubjectsSeen:
    """The days' sketches. Every method raises StoreUnavailable, after which the same call may be made again."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def exchange(self, day: date, mine: Mapping[str, bytes]) -> dict[str, bytes]:
        """Add what one gateway knows of a day, by client; what all of them know together. Earlier days go.

        Two that write at the same moment may lose one's news: it is told again with the next call, as long as that
        gateway runs.
        """
        with reading(self._engine) as connection:
            known = _of(connection, day)
        merged = {client: _union(sketch, known.get(client, sketch)) for client, sketch in mine.items()}
        news = {client: sketch for client, sketch in merged.items() if known.get(client) != sketch}
        if news:
            with writing(self._engine) as connection:
                connection.execute(seen.delete().where(seen.c.day < day.isoformat()))
                for client, sketch in sorted(news.items()):
                    insert = insert_into(connection, seen).values(day=day.isoformat(), client=client, sketch=sketch)
                    connection.execute(
                        insert.on_conflict_do_update(
                            index_elements=[seen.c.day, seen.c.client], set_={"sketch": insert.excluded.sketch}
                        )
                    )
        return known | merged


def _union(mine: bytes, known: bytes) -> bytes:
    """The greater of each register; what stands there with another number of them is damaged, and replaced."""
    return mine if mine == known or len(mine) != len(known) else bytes(map(max, mine, known))


def _of(connection: sa.Connection, day: date) -> dict[str, bytes]:
    found = connection.execute(sa.select(seen.c.client, seen.c.sketch).where(seen.c.day == day.isoformat()))
    return {client: bytes(sketch) for client, sketch in found}
