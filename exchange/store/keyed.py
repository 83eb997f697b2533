"""Under which bus secret the facets' keys were made, so that nobody looks for a subject under another one.

A gateway with another secret would find no subject at all, and say so of every one; a materialiser would set every
record aside. The store knows a secret by its mark (`KeyMaker.mark`), which tells it from others and nothing else of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from exchange.store.database import insert_into, is_postgres
from exchange.store.statements import KEYED
from exchange.store.tables import bus_secret, facets, positions


@dataclass(frozen=True, slots=True)
class Keyed:
    """The secret's mark, and whether all facets are under it: while it takes another's place they are not."""

    mark: str
    whole: bool

    def refusal(self, mark: str) -> str | None:
        """Why nobody may work here with the secret of this mark; None if he may."""
        if not self.whole:
            return "another bus secret is taking the old one's place; `exchange keys rotate bus` goes on with it"
        if self.mark != mark:
            return (
                "keys.bus: the store's subject keys were made under another secret or key id (keys.bus_kid); put that "
                "one back"
            )
        return None


def found(connection: sa.Connection) -> Keyed | None:
    """What the store is keyed by; None before the first `adopt`."""
    row = connection.exec_driver_sql(KEYED).one_or_none()
    return None if row is None else Keyed(row[0], bool(row[1]))


def adopt(connection: sa.Connection, mark: str) -> None:
    """A store that was keyed by nothing is keyed by this from now on; any other stays."""
    values = {"id": 1, "mark": mark, "whole": True}
    connection.execute(insert_into(connection, bus_secret).values(values).on_conflict_do_nothing())


def begin(connection: sa.Connection, mark: str) -> None:
    """From now on nobody may work here, until `finish`."""
    insert = insert_into(connection, bus_secret).values(id=1, mark=mark, whole=False)
    set_ = {"mark": insert.excluded.mark, "whole": insert.excluded.whole}
    connection.execute(insert.on_conflict_do_update(index_elements=["id"], set_=set_))


def finish(connection: sa.Connection, cuts: Mapping[tuple[str, int], int]) -> None:
    """Empty the facets, and have these partitions read from where their topics were cut: all comes in anew."""
    if is_postgres(connection):
        connection.exec_driver_sql("TRUNCATE facets")  # and no dead row of a subject stays behind
    else:
        connection.execute(facets.delete())
    for (topic, partition), offset in cuts.items():
        here = (positions.c.topic == topic) & (positions.c.partition == partition)
        connection.execute(positions.update().where(here).values(next=offset))
    connection.execute(bus_secret.update().values(whole=True))
