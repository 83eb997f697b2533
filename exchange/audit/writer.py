"""Writer: one line of numbered groups, in a slot of its own. Synchronous; used by one thread at a time.

AuditLog gives it a thread; the operator's commands call it directly (`append_admin`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from exchange import merkle
from exchange.audit import groups
from exchange.audit.commits import Commits
from exchange.audit.entries import Entry, Line
from exchange.audit.groups import SignedGroup
from exchange.audit.keys import Signer
from exchange.audit.receipts import Receipt
from exchange.audit.slots import PATIENCE_S, Holder, Slot
from exchange.audit.store import AuditStore, Head
from exchange.errors import AuditUnavailable, Fenced
from exchange.metrics import AUDIT_GROUP, AUDIT_SECONDS
from exchange.randomness import piece


class Writer:
    """Appends groups of entries under the name of its slot; numbers go on where the line ended, restarts or not.

    *Durability*: when `append` returns, the group is committed. *Fencing*: every transaction begins with the slot's
    beat; once another process holds the slot, each call raises Fenced and nothing is written. *Lost answers*: after
    AuditUnavailable the group may or may not have been committed; the next call reads back and goes on from there, so
    that no number is given twice and none is left out.
    """

    def __init__(
        self,
        store: AuditStore,
        signer: Signer,
        name: str,
        holder: Holder,
        *,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.name = name
        self._store = store
        self._signer = signer
        self._slot = Slot(store, f"writer/{name}", holder, patience_s=patience_s)
        self._commits = Commits(store)
        self._head: Head | None = None  # None: to be read back
        self._sent: _Sent | None = None

    def open(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Take the slot, waiting at most the patience for a holder that is gone; read back where the line ends.

        Raises Fenced if a living process holds it; AuditUnavailable.
        """
        self._slot.take(sleep)
        self._settle()

    def append(self, lines: Sequence[Line]) -> list[Receipt]:
        """Commit 1 to 256 entries as one group; return their receipts, in order. Raises AuditUnavailable, Fenced.

        After AuditUnavailable the very same `lines` may be given again: they are not written twice.
        """
        head = self._head or self._settle()
        if self._sent is None or self._sent.lines is not lines or self._sent.signed.hash != head.group:
            leaves = [line.leaf for line in lines]
            self._sent = _Sent(groups.seal(self.name, head.number + 1, head.group, leaves, self._signer), lines)
            self._head = None  # until the answer is here, nobody knows
            with AUDIT_SECONDS.time():
                self._commits.add(self._slot, self._sent.signed, lines)
            self._head = Head(self._sent.signed.group.last, self._sent.signed.hash)
        AUDIT_GROUP.observe(len(lines))
        signed, self._sent = self._sent.signed, None
        return receipts(signed, lines)

    def beat(self) -> None:
        """Show life; read back where the line ends if that is in doubt. Raises AuditUnavailable, Fenced."""
        if self._head is None:
            self._settle()
            return
        with self._store.writing() as connection:
            self._slot.beat(connection)

    def close(self) -> None:
        """Free the slot, so that the next process of this name need not wait. Raises AuditUnavailable."""
        self._commits.close()
        self._slot.release()

    def _settle(self) -> Head:
        with self._store.writing() as connection:
            self._slot.beat(connection)  # waits for a transaction of ours that the server may still be committing
            self._head = self._store.head(connection, self.name)
        return self._head


@dataclass(frozen=True, slots=True)
class _Sent:
    """The group that was sent last; its answer may have been lost."""

    signed: SignedGroup
    lines: Sequence[Line]


def receipts(signed: SignedGroup, lines: Sequence[Line]) -> list[Receipt]:
    """The receipts of a group that is durable."""
    group, tree = signed.group, merkle.Small([line.leaf for line in lines])
    return [
        Receipt(group.writer, number, line.hash, line.salt, tree.path(number - group.first), signed.token)
        for number, line in enumerate(lines, group.first)
    ]


def append_admin(
    store: AuditStore, signer: Signer, entry: Entry, *, holder: Holder, writer: str = "operator", wait_s: float = 10.0
) -> Receipt:
    """Write one entry and return once it is durable: for commands that act on the city.

    Commands share one line, one after the other; each waits for its turn. Raises AuditUnavailable.
    """
    line = Line.of(entry, b"", piece())
    own = Writer(store, signer, writer, holder)
    give_up = time.monotonic() + wait_s
    while True:
        try:
            own.open()
            break
        except Fenced as fenced:
            if time.monotonic() >= give_up:
                raise AuditUnavailable(fenced.detail) from None
            time.sleep(0.05)
    try:
        return own.append([line])[0]
    finally:
        own.close()
