"""Sealer: groups become leaves of one tree, and the tree's checkpoints leave the store.

Whoever holds the newest checkpoint can tell later whether anything before it was changed, removed or added. Every
gateway runs a sealer; one of them holds the slot, the others wait for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import sqlalchemy as sa
import structlog

from exchange import merkle
from exchange.audit.checkpoints import Checkpoint, check_origin, open_checkpoint
from exchange.audit.keys import PublicKeys, Signer
from exchange.audit.slots import PATIENCE_S, Holder, Slot
from exchange.audit.store import AuditStore
from exchange.clock import Clock
from exchange.errors import AuditBroken, ExchangeError, Fenced
from exchange.logs import unexpected
from exchange.metrics import CHECKPOINT
from exchange.records import CHECKPOINTS_TOPIC, Message
from exchange.topics import Publisher

INTERVAL_S = 0.25
"""Seconds between two looks for new groups: a checkpoint leaves well within a second after an entry. While views come
there is something new at each look, and one behind the other took a fifth of a core from them."""

_CHUNK = 500  # groups of each writer in one transaction
_HEADERS = {"content-type": b"text/plain; charset=utf-8"}


class Sealer:
    """Seals the log of one store. `step` is one look; `start` and `close` run it in a thread.

    At most one checkpoint waits for the broker; while it waits, groups still become leaves, and the next checkpoint
    covers them all. *Refusal*: a tree that does not begin with the newest checkpoint of the store is never signed.
    `keys` are the log's public keys, former ones too.
    """

    def __init__(
        self,
        store: AuditStore,
        signer: Signer,
        keys: PublicKeys,
        publisher: Publisher,
        origin: str,
        clock: Clock,
        holder: Holder,
        *,
        topic: str = CHECKPOINTS_TOPIC,
        patience_s: float = PATIENCE_S,
        interval_s: float = INTERVAL_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._signer = signer
        self._keys = keys
        self._publisher = publisher
        self._origin = check_origin(origin)
        self._clock = clock
        self._topic = topic
        self._slot = Slot(store, "sealer", holder, patience_s=patience_s, monotonic=monotonic)
        self._beat_every = patience_s / 4
        self._interval = interval_s
        self._monotonic = monotonic
        self._beaten = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._log = structlog.get_logger("audit.sealer")

    def step(self) -> int | None:
        """Seal what is new, and publish; the size of the checkpoint that left, None if none had to.

        Raises AuditUnavailable, BrokerUnavailable: the next step goes on; AuditBroken if the tree must not be signed.
        """
        if self._slot.epoch is None and not self._slot.try_take():
            return None
        try:
            waiting = self._seal()
        except Fenced:
            self._slot.lost()
            return None
        if waiting is None:
            return None
        size, note = waiting
        self._publisher.publish(self._topic, [Message(self._origin.encode(), note, _HEADERS)])
        with self._store.writing() as connection:
            self._store.mark_published(connection, size)
        CHECKPOINT.set(self._clock().timestamp())
        return size

    def start(self) -> None:
        """Run in a thread until `close`."""
        self._thread = threading.Thread(target=self._run, name="sealer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Seal and publish what is there, then free the slot. Call it after the AuditLog has been closed."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(10.0)

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._stop.wait(self._interval)
            try:
                if stopping and self._slot.epoch is None:
                    self._slot.take()  # that of one that was killed is not free before its patience has ended
                while self.step() is not None and stopping:
                    pass
            except Fenced:
                pass  # a living process seals, our last entries too
            except ExchangeError as error:
                self._log.warning("no checkpoint", reason=str(error))
            except Exception as error:  # noqa: BLE001  entries go on being written: checkpoints must, too
                unexpected(error, part="sealer")
        try:
            self._slot.release()
        except ExchangeError as error:
            self._log.warning("sealer not released", reason=str(error))

    def _seal(self) -> tuple[int, bytes] | None:
        """Make leaves of what is new; the checkpoint that waits to be published. Raises Fenced, AuditBroken."""
        with self._store.reading() as connection:
            idle = not self._store.unsealed(connection, 1) and self._settled(connection)
        if idle and self._monotonic() - self._beaten < self._beat_every:
            return None
        more = True
        while more:
            with self._store.writing() as connection:
                self._slot.beat(connection)
                self._beaten = self._monotonic()
                found = self._store.unsealed(connection, _CHUNK)
                if found:
                    size = self._store.size(connection)
                    frontier = merkle.Frontier.load(size, self._store.nodes(connection, size))
                    self._store.add_leaves(connection, frontier, found)
                more = len(found) >= _CHUNK
                waiting = None if more else self._checkpoint(connection)
        return waiting

    def _settled(self, connection: sa.Connection) -> bool:
        """Whether the newest checkpoint covers the whole tree and was published."""
        newest = self._store.newest_checkpoint(connection)
        size = self._store.size(connection)
        return size == 0 if newest is None else newest.published and newest.size == size

    def _checkpoint(self, connection: sa.Connection) -> tuple[int, bytes] | None:
        """The checkpoint that waits for the broker; else a new one, if the tree has grown."""
        size, newest = self._store.size(connection), self._store.newest_checkpoint(connection)
        if newest is not None and not newest.published:
            return newest.size, newest.note
        if size == (0 if newest is None else newest.size):
            return None
        signed = None if newest is None else open_checkpoint(newest.note, self._origin, self._keys)
        nodes = self._store.nodes(connection, *([size] if signed is None else [size, signed.size]))
        if signed is not None and (signed.size > size or merkle.root(signed.size, nodes) != signed.root):
            raise AuditBroken(f"the tree of {size} groups does not begin with its checkpoint of {signed.size}")
        note = Checkpoint(self._origin, size, merkle.root(size, nodes)).sign(self._signer)
        self._store.add_checkpoint(connection, size, note)
        return size, note
