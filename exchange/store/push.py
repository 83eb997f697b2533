"""The push ledger: under which sequences a push is produced, and what was answered to it.

All pushes of a store are one source, `<department>/push/<epoch>`, with one counter. A push with an Idempotency-Key has
a row for (client, key), committed before anything is produced: a retry finds its sequences there and, once it was
finished, its answer.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from exchange.clock import Clock
from exchange.errors import Conflict, Unprocessable
from exchange.store.database import insert_into, reading, writing
from exchange.store.tables import push_claims as claims
from exchange.store.tables import push_source as source

KEEP = timedelta(days=7)
LEASE_SECONDS = 10.0


class ClaimState(enum.Enum):
    """What the claimant has to do."""

    NEW = "new"  # produce
    RETRY = "retry"  # produce again, under the same sequences: who claimed first has not finished in time
    DONE = "done"  # give the stored answer


@dataclass(frozen=True, slots=True)
class Claim:
    """The sequences of a push: `first_sequence` is that of line 0, of the source epoch `epoch`.

    `received` is when it was claimed first. What a push produces holds this time, so that a retry says the same again.
    """

    state: ClaimState
    epoch: int
    first_sequence: int
    received: datetime
    answer: str | None = None


class PushLedger:
    """The ledger of all gateways of a store.

    Every method raises StoreUnavailable, after which the same call may be made again.
    """

    def __init__(self, engine: sa.Engine, clock: Clock, keep: timedelta = KEEP) -> None:
        self._engine = engine
        self._clock = clock
        self._keep = keep

    def claim(
        self, client: str, key: str, contract: str, digest: str, lines: int, lease_s: float = LEASE_SECONDS
    ) -> Claim:
        """Claim a key for this body of `lines` lines before anything of it is produced.

        Raises Unprocessable if the key was used for another body or contract; Conflict while another request with it
        is being worked on (its lease has not ended).
        """
        now = self._clock()
        lease = now + timedelta(seconds=lease_s)
        here = (claims.c.client == client) & (claims.c.key == key)
        with writing(self._engine) as connection:
            connection.execute(claims.delete().where(here, claims.c.claimed_at < now - self._keep))
            insert = insert_into(connection, claims).values(
                client=client,
                key=key,
                contract=contract,
                digest=digest,
                epoch=0,
                first_sequence=0,
                lines=lines,
                claimed_at=now,
                lease_until=lease,
            )
            inserted = connection.execute(insert.on_conflict_do_nothing().returning(claims.c.key)).first()
            if inserted is not None:
                epoch, first = _take_sequences(connection, lines)
                connection.execute(claims.update().where(here).values(epoch=epoch, first_sequence=first))
                return Claim(ClaimState.NEW, epoch, first, now)
            found = connection.execute(sa.select(claims).where(here).with_for_update()).one_or_none()
            if found is None:  # purged at this very moment
                raise Conflict("this Idempotency-Key has just come to its end; send the request again")
            if (found.digest, found.contract) != (digest, contract):
                raise Unprocessable("this Idempotency-Key was used for another body or another contract")
            if found.answer is not None:
                return Claim(ClaimState.DONE, found.epoch, found.first_sequence, found.claimed_at, found.answer)
            if found.lease_until > now:
                raise Conflict("a request with this Idempotency-Key is being worked on; retry in a few seconds")
            connection.execute(claims.update().where(here).values(lease_until=lease))
            return Claim(ClaimState.RETRY, found.epoch, found.first_sequence, found.claimed_at)

    def finish(self, client: str, key: str, answer: str) -> str:
        """Store the answer to a claim; the one that was stored first is returned, and is what must be answered."""
        here = (claims.c.client == client) & (claims.c.key == key)
        with writing(self._engine) as connection:
            connection.execute(claims.update().where(here, claims.c.answer.is_(None)).values(answer=answer))
            return connection.execute(sa.select(claims.c.answer).where(here)).scalar_one_or_none() or answer

    def release(self, client: str, key: str) -> None:
        """End the lease of a claim that could not be produced, so that a retry need not wait for it."""
        here = (claims.c.client == client) & (claims.c.key == key)
        with writing(self._engine) as connection:
            connection.execute(claims.update().where(here).values(lease_until=self._clock()))

    def next_sequences(self, lines: int) -> tuple[int, int]:
        """Epoch and first of `lines` sequences, for a push without an Idempotency-Key."""
        with writing(self._engine) as connection:
            return _take_sequences(connection, lines)

    def epoch(self) -> int:
        """The epoch of the source that all pushes are."""
        with reading(self._engine) as connection:
            epoch: int = connection.execute(sa.select(source.c.epoch)).scalar_one()
            return epoch

    def renew_epoch(self) -> int:
        """Begin a new epoch: `exchange restored` does, as the sequences given since the backup are forgotten."""
        with writing(self._engine) as connection:
            standing: int = connection.execute(sa.select(source.c.epoch)).scalar_one()
            epoch = max(standing + 1, _seconds(self._clock()))
            connection.execute(source.update().values(epoch=epoch, next_sequence=1))
            return epoch

    def purge(self) -> int:
        """Delete the claims that are kept no longer; how many."""
        with writing(self._engine) as connection:
            return connection.execute(claims.delete().where(claims.c.claimed_at < self._clock() - self._keep)).rowcount


def make_source(engine: sa.Engine, clock: Clock) -> None:
    """Give a new store its push source; an existing one stays.

    Its epoch is the time, in seconds: a store that is made anew beside old topics must begin above every epoch that the
    lost one used, and nothing but the time is known to do so. It orders stores, never two records of one.
    """
    with reading(engine) as connection:
        if connection.execute(sa.select(source.c.id)).first() is not None:
            return
    with writing(engine) as connection:
        insert = insert_into(connection, source).values(id=1, epoch=_seconds(clock()), next_sequence=1)
        connection.execute(insert.on_conflict_do_nothing())


def _take_sequences(connection: sa.Connection, lines: int) -> tuple[int, int]:
    taken = connection.execute(
        source.update()
        .values(next_sequence=source.c.next_sequence + lines)
        .returning(source.c.epoch, source.c.next_sequence)
    ).one()
    return taken.epoch, taken.next_sequence - lines


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
