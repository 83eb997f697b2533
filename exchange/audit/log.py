"""AuditLog: the asynchronous append of the gateway, in natural groups.

One thread writes. While it makes one group durable, what arrives waits, and is the next group: no timer, so that a lone
entry waits for nobody and a flood makes large groups by itself. The thread keeps slow disks and locks out of the event
loop, and the store's code stays synchronous for both databases. What that costs on SQLite, p50 at 1, 8 and 64 appends
in flight on two cores: 0.8, 1.4 and 6 ms against 0.6, 0.8 and 3 ms in the loop itself, and nothing where the loop has
other work to do; but there one lock of another process would stop every request.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass

from exchange.audit.entries import Entry, Line
from exchange.audit.groups import MAX_ENTRIES
from exchange.audit.keys import Signer
from exchange.audit.receipts import Receipt
from exchange.audit.slots import PATIENCE_S, Holder
from exchange.audit.store import AuditStore
from exchange.audit.writer import Writer
from exchange.errors import AuditUnavailable, ExchangeError, Fenced
from exchange.metrics import AUDIT_WRITABLE
from exchange.randomness import piece

DEADLINE_S = 0.9
"""How long an append waits at most; with what else a request does, a view is refused within a second."""

_RETRY_S = 0.1


@dataclass(slots=True)
class _Waiting:
    line: Line
    future: asyncio.Future[Receipt]
    until: float


class AuditLog:
    """The audit log of one gateway process, bound to the event loop that opens it.

    *Durability*: `append` returns a receipt only after the entry's group is committed. *Failure*: while the log cannot
    be written, every append raises AuditUnavailable within the deadline, at once where that is known already; the log
    goes on by itself once the store is back. An entry whose append raised may be in the log all the same, if the
    store's answer was lost: then it tells of an answer that nobody got. *Fencing*: once another process has taken the
    name over, every append raises AuditUnavailable for good.
    """

    def __init__(
        self,
        store: AuditStore,
        signer: Signer,
        writer: str,
        holder: Holder,
        *,
        deadline_s: float = DEADLINE_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._writer = Writer(store, signer, writer, holder, patience_s=patience_s)
        self._deadline = deadline_s
        self._beat = patience_s / 4
        self._changed = threading.Condition()
        self._arrived: list[_Waiting] = []  # in this turn of the loop
        self._queue: deque[_Waiting] = deque()  # for the thread
        self._closing = False
        self._trouble: str | None = "it has not been opened"  # why nothing can be written now
        self._busy_since: float | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def writable(self) -> bool:
        """Whether an append would be tried now; false means not ready."""
        return self._trouble is None and not self._stalled()

    async def open(self) -> None:
        """Take the writer's slot and begin to write.

        Raises Fenced if a living process writes under this name; SettingWrong, SchemaOutdated. If the store is away the
        log opens all the same, not writable until the store is back.
        """
        self._loop = asyncio.get_running_loop()
        try:
            await asyncio.to_thread(self._writer.open)
            self._set_trouble(None)
        except Fenced as error:
            raise Fenced(
                f"{error.detail}; give this one another audit.writer (or EXCHANGE_AUDIT__WRITER), or stop that one"
            ) from None
        except AuditUnavailable as error:
            self._set_trouble(error.detail)
        opened = self._trouble is None
        self._thread = threading.Thread(target=self._run, args=(opened,), name="audit", daemon=True)
        self._thread.start()

    async def append(self, entry: Entry, body: bytes) -> Receipt:
        """Write an entry with the digest of the body that it lets out; wait until it is durable.

        Raises AuditUnavailable, ValueError for an entry that cannot be written (a defect).
        """
        if self._trouble is not None or self._closing or self._stalled():
            raise AuditUnavailable(self._trouble or "the store does not answer")
        line = Line.of(entry, body, piece())
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Receipt] = loop.create_future()
        if not self._arrived:  # what else this turn of the loop brings goes with it: fewer, larger groups
            loop.call_soon(self._hand_over)
        self._arrived.append(_Waiting(line, future, time.monotonic() + self._deadline))
        return await future

    async def close(self) -> None:
        """Write what waits, then free the slot. Every later append raises AuditUnavailable."""
        if self._thread is None:
            return
        self._hand_over(closing=True)
        await asyncio.to_thread(self._thread.join, 2 * self._deadline)

    def _hand_over(self, closing: bool = False) -> None:
        arrived, self._arrived = self._arrived, []
        if arrived:  # one timer for all of them
            asyncio.get_running_loop().call_later(self._deadline, _give_up, arrived)
        with self._changed:
            self._queue.extend(arrived)
            self._closing |= closing
            self._changed.notify()

    # --- the thread ---------------------------------------------------------------------------------------------------

    def _run(self, opened: bool) -> None:
        try:
            while (batch := self._take()) is not None:
                opened = self._step(batch, opened)
            self._writer.close()
        except Fenced as error:
            self._set_trouble(error.detail)
        except ExchangeError:
            pass  # the slot stays taken: the next process of this name waits for the patience
        finally:
            self._set_trouble(self._trouble or "its writer has ended")
            self._fail([])

    def _step(self, batch: list[_Waiting], opened: bool) -> bool:
        """Write a batch, or show life if it is empty; whether the slot is ours now. Raises Fenced."""
        try:
            if not opened:
                self._writer.open()
                opened = True
            if batch:
                self._write(batch)
            else:
                self._writer.beat()
        except ExchangeError as error:
            self._set_trouble(error.detail)
            self._fail(batch)
            if isinstance(error, Fenced):
                raise
        else:
            self._set_trouble(None)
        finally:
            self._busy_since = None
        return opened

    def _take(self) -> list[_Waiting] | None:
        """What waits, at most one group of it; [] when it is time to show life; None when all is done."""
        with self._changed:
            if not self._queue and not self._closing:
                self._changed.wait(self._beat if self._trouble is None else _RETRY_S)
            if not self._queue and self._closing:
                return None
            self._busy_since = time.monotonic()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_ENTRIES))]
        # Whoever has given up already must not be in the log: nobody was shown anything.
        return [waiting for waiting in batch if not waiting.future.done()]

    def _write(self, batch: list[_Waiting]) -> None:
        """Make a batch durable, again and again until its first deadline; then tell those who wait."""
        lines = [waiting.line for waiting in batch]
        give_up = min(waiting.until for waiting in batch) - _RETRY_S
        while True:
            try:
                receipts = self._writer.append(lines)
                break
            except AuditUnavailable:
                if time.monotonic() >= give_up:
                    raise
                time.sleep(_RETRY_S / 4)
        self._tell([(waiting.future, receipt) for waiting, receipt in zip(batch, receipts, strict=True)])

    def _fail(self, batch: list[_Waiting]) -> None:
        with self._changed:
            batch = batch + list(self._queue)
            self._queue.clear()
        self._tell([(waiting.future, AuditUnavailable(self._trouble or "")) for waiting in batch])

    def _tell(self, outcomes: list[tuple[asyncio.Future[Receipt], Receipt | AuditUnavailable]]) -> None:
        def settle() -> None:
            for future, outcome in outcomes:
                if future.done():
                    continue
                if isinstance(outcome, AuditUnavailable):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)

        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(settle)

    def _set_trouble(self, trouble: str | None) -> None:
        self._trouble = trouble
        AUDIT_WRITABLE.set(trouble is None)

    def _stalled(self) -> bool:
        since = self._busy_since
        return since is not None and time.monotonic() - since > self._deadline


def _give_up(waiting: list[_Waiting]) -> None:
    """Those whose entry is not durable by now are told so."""
    for one in waiting:
        if not one.future.done():
            one.future.set_exception(AuditUnavailable("the store does not answer"))
