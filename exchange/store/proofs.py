"""Which proofs of possession were used: each counts once, in all gateways of a store."""

from __future__ import annotations

import json
from collections.abc import Sequence

import sqlalchemy as sa

from exchange.store.database import is_postgres, writing
from exchange.store.statements import POSTGRES_USE_PROOFS, SQLITE_USE_PROOFS
from exchange.store.tables import used_proofs as used


class UsedProofs:
    """The memory of used proofs. Every method raises StoreUnavailable."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def use(self, proofs: Sequence[tuple[str, int]]) -> list[bool]:
        """Mark proofs, each with its end (Unix time), as used, in one durable transaction; whether each was new.

        Of one that stands there twice the first is new. If only the store's answer was lost, they were used.
        """
        ends: dict[str, int] = {}
        for mark, end in proofs:
            ends[mark] = max(end, ends.get(mark, end))
        marks = sorted(ends)  # in one order, so that two gateways wait for each other in one direction only
        with writing(self._engine) as connection:
            if is_postgres(connection):
                rows = connection.exec_driver_sql(POSTGRES_USE_PROOFS, (marks, [ends[mark] for mark in marks]))
            else:
                rows = connection.exec_driver_sql(SQLITE_USE_PROOFS, (json.dumps([[one, ends[one]] for one in marks]),))
            new = {mark for (mark,) in rows}
        fresh = []
        for mark, _ in proofs:
            fresh.append(mark in new)
            new.discard(mark)
        return fresh

    def forget(self, now: int) -> int:
        """Delete those that ended before this time (Unix time); how many."""
        with writing(self._engine) as connection:
            return connection.execute(used.delete().where(used.c.until < now)).rowcount
