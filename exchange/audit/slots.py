"""Slot: a named place that one process at a time holds, fenced by an epoch.

No clock is compared between machines. A holder moves its beat; whoever wants the place watches the beat, and takes it
over if it is free or its holder has not moved for the whole patience; at once, if it has that one's standing name, for
then that one is dead. A holder that only slept is fenced: its next transaction finds another epoch.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from exchange.audit.store import AuditStore
from exchange.audit.tables import slots
from exchange.errors import Fenced
from exchange.store.database import insert_into

PATIENCE_S = 2.0
"""Seconds without a beat after which a holder counts as gone. A holder beats at least four times as often."""

# Built once: it is in every transaction of a holder.
_BEAT = (
    sa.update(slots)
    .where(slots.c.name == sa.bindparam("held"), slots.c.epoch == sa.bindparam("under"), slots.c.holder.is_not(None))
    .values(beat=slots.c.beat + 1)
)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds places: `process` is for people, and in the error of the one that is refused.

    `standing` is its standing name (`exchange.standing`), if it has one: no other living process has it.
    """

    process: str
    standing: str | None = None

    def __str__(self) -> str:
        return self.process if self.standing is None else f"{self.process} {self.standing}"

    def succeeds(self, holder: str) -> bool:
        """Whether the one that a table names had our standing name: we would not have it if that process lived."""
        return self.standing is not None and holder.rpartition(" ")[2] == self.standing


class Slot:
    """One process's hold on a name, or its wish for it. Used by one thread at a time."""

    def __init__(
        self,
        store: AuditStore,
        name: str,
        holder: Holder,
        *,
        patience_s: float = PATIENCE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.epoch: int | None = None
        self._store = store
        self._holder = holder
        self._patience = patience_s
        self._monotonic = monotonic
        self._seen: tuple[int, int] | None = None
        self._since = 0.0

    def try_take(self) -> bool:
        """Take the place if it is free, if its holder is dead, or has been seen without a beat for the patience.

        Whether it is ours now.
        Does not wait: whoever wants the place calls again. Raises AuditUnavailable.
        """
        with self._store.reading() as connection:
            row = connection.execute(sa.select(slots).where(slots.c.name == self.name)).one_or_none()
        held = row is not None and row.holder is not None and not self._holder.succeeds(row.holder)
        if row is not None and held and not self._gone(row.epoch, row.beat):
            return False
        with self._store.writing() as connection:
            insert = insert_into(connection, slots).values(name=self.name, epoch=0, beat=0, holder=None)
            connection.execute(insert.on_conflict_do_nothing())
            epoch, beat = (0, 0) if row is None else (row.epoch, row.beat)
            taken = connection.execute(
                sa.update(slots)
                .where(slots.c.name == self.name, slots.c.epoch == epoch, slots.c.beat == beat)
                .values(epoch=epoch + 1, beat=beat + 1, holder=str(self._holder))
            )
        if taken.rowcount != 1:
            return False
        self.epoch, self._seen = epoch + 1, None
        return True

    def take(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take the place, waiting at most the patience for a holder that is gone.

        Raises Fenced if a living process holds it; AuditUnavailable.
        """
        first = None
        while not self.try_take():
            if first is not None and self._seen != first:
                raise Fenced(f"{self.name} is held by {self.holder()}, which is alive; each process needs its own name")
            first = self._seen
            sleep(self._patience / 10)

    def beat(self, connection: sa.Connection) -> None:
        """Show life and hold the row until this transaction ends. Raises Fenced if the place is another's now.

        Every transaction of a holder begins with it. It also waits for a transaction of ours whose answer was lost:
        what is read after it is what that one left.
        """
        moved = connection.execute(_BEAT, {"held": self.name, "under": self.epoch})
        if self.epoch is None or moved.rowcount != 1:
            raise Fenced(f"{self.name} has been taken over by another process")

    def lost(self) -> None:
        """Know that the place is another's now; it may be taken again once that one is gone."""
        self.epoch = None

    def release(self) -> None:
        """Free the place, so that the next one need not wait. Raises AuditUnavailable."""
        if self.epoch is None:
            return
        with self._store.writing() as connection:
            connection.execute(
                sa.update(slots).where(slots.c.name == self.name, slots.c.epoch == self.epoch).values(holder=None)
            )
        self.epoch = None

    def holder(self) -> str:
        """Who holds the place, for people. Raises AuditUnavailable."""
        with self._store.reading() as connection:
            return connection.scalar(sa.select(slots.c.holder).where(slots.c.name == self.name)) or "nobody"

    def _gone(self, epoch: int, beat: int) -> bool:
        """Whether the holder has not moved for the patience, as far as we have watched."""
        now = self._monotonic()
        if self._seen != (epoch, beat):
            self._seen, self._since = (epoch, beat), now
        return now - self._since >= self._patience
