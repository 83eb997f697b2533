"""How long it takes to verify an audit log, against reading the same entries from the same store and hashing them.

One core does either. The log is one writer's, in groups as a gateway under load makes them, sealed and with its
checkpoints; verifying checks every entry's hash, every group's root, signature and predecessor, the tree and each
checkpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from bench.citizens import START
from bench.measuring import CannotMeasure, Measurement, Side, interleaved, timed
from exchange.audit import AuditStore, Entry, Holder, PublicKeys, Sealer, Signer, verify_log
from exchange.audit.entries import Line
from exchange.audit.tables import entries as table
from exchange.audit.writer import Writer
from exchange.clock import system_clock
from exchange.records import Message
from exchange.topics import Publisher

ORIGIN = "exchange.invalid/audit"
GROUP = 16  # entries committed together
SEALED = 5_000  # entries between two checkpoints, about a second of a busy gateway


def of_log(folder: Path, entries: int, rounds: int, tell: Callable[[str], None]) -> Measurement:
    """Verifying against hashing. Raises CannotMeasure if the log does not verify."""
    folder.mkdir()
    signer, left = Signer.generate(), _Left()
    keys = PublicKeys([signer.public])
    with closing(AuditStore.open(f"sqlite:///{folder / 'audit.db'}")) as store:
        store.migrate()
        _write(store, signer, keys, left, entries)
        tell(f"  {entries:,} entries in groups of {GROUP}, {len(left.notes)} checkpoints")
        sides = [
            Side("exchange", lambda: timed("entries/s", entries, lambda: _verify(store, left, keys))),
            Side("sha256", lambda: timed("entries/s", entries, lambda: _hash(store))),
        ]
        measured = interleaved(sides, rounds, tell)
    facts = {"entries": entries, "group": GROUP, "checkpoints": len(left.notes), "verified": True}
    return Measurement("audit verify, SQLite; ceiling: sha256 of what is read", "entries/s", measured, facts)


class _Left(Publisher):
    """The topic of checkpoints."""

    def __init__(self) -> None:
        self.notes: list[bytes] = []

    def publish(self, topic: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
        self.notes += [message.value or b"" for message in messages]
        return [(0, len(self.notes) - 1)]

    def close(self) -> None:
        """Nothing is held."""


def _write(store: AuditStore, signer: Signer, keys: PublicKeys, left: _Left, entries: int) -> None:
    writer = Writer(store, signer, "gateway-1", Holder("bench"))
    sealer = Sealer(store, signer, keys, left, ORIGIN, system_clock, Holder("bench"))
    writer.open()
    for first in range(0, entries, GROUP):
        numbers = range(first, min(first + GROUP, entries))
        writer.append([Line.of(_entry(number), b"a view", number.to_bytes(16)) for number in numbers])
        if first // SEALED != (first + GROUP) // SEALED:
            sealer.step()
    sealer.step()
    writer.close()


def _entry(number: int) -> Entry:
    return Entry(
        time=START + timedelta(milliseconds=number),
        act="view",
        outcome="served",
        issuer="https://issuer.exchange.invalid",
        client="credit-office",
        department="credit",
        purpose="credit-assessment",
        subject=f"a1.{number:022}",
        contracts={
            f"{name}.resident.v1": ["address", "amount", "name", "since", "status"] for name in ("civil", "tax")
        },
        policies=["agreement"],
        bundle="0" * 64,
        request=f"{number:032x}",
    )


def _verify(store: AuditStore, left: _Left, keys: PublicKeys) -> None:
    if not (report := verify_log(store, left.notes, keys, ORIGIN)):
        raise CannotMeasure(f"the log does not verify: {report}")


def _hash(store: AuditStore) -> None:
    columns = sa.select(table.c.entry, table.c.answer).order_by(table.c.writer, table.c.number)
    with store.reading() as connection:
        for entry, answer in connection.execution_options(yield_per=1_000).execute(columns):
            hashlib.sha256(entry + answer).digest()
