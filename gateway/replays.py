"""That a DPoP proof counts once: in whichever process, and after a restart.

Proofs that come while one transaction is under way share the next one, as entries of the audit log do: it is flushed
when the one before has ended, and waits for no timer. Nothing is kept in this process, and a process that meets no
proof writes nothing.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from exchange.clock import Clock
from exchange.errors import ExchangeError, StoreUnavailable
from exchange.store import UsedProofs

AT_ONCE = 500
TIDY_SECONDS = 30.0
SPARE = timedelta(seconds=60)  # kept so much longer than it counts: gateways' clocks may differ by that


class Replays:
    """Remembers proofs until they would be refused for their age."""

    def __init__(self, used: UsedProofs, clock: Clock) -> None:
        self._used = used
        self._clock = clock
        self._waiting: list[tuple[str, int, asyncio.Future[bool]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._tidied = float("-inf")

    async def first(self, mark: str, until: float) -> bool:
        """Whether this is the first use; when it answers, the use is durable. `until` (Unix time): it counts no longer.

        Raises StoreUnavailable: the use may have been stored all the same, so that only a new proof can succeed.
        """
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((mark, int(until + SPARE.total_seconds()) + 1, answer))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return await answer

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
                await self._flush(batch)
                if not self._waiting:
                    await self._tidy()
        finally:
            self._writer = None

    async def _flush(self, batch: list[tuple[str, int, asyncio.Future[bool]]]) -> None:
        try:
            fresh = await asyncio.to_thread(self._used.use, [(mark, until) for mark, until, _ in batch])
        except BaseException as error:
            stopped = not isinstance(error, Exception)
            for *_, answer in batch:
                if not answer.done():
                    answer.set_exception(StoreUnavailable("the gateway stops") if stopped else error)
            if stopped:
                raise
            return
        for (*_, answer), first in zip(batch, fresh, strict=True):
            if not answer.done():  # whoever asked may have gone
                answer.set_result(first)

    async def _tidy(self) -> None:
        """Forget what no longer counts, twice a minute at most; what fails is done the next time."""
        now = self._clock().timestamp()
        if 0 <= now - self._tidied < TIDY_SECONDS:
            return
        self._tidied = now
        try:
            await asyncio.to_thread(self._used.forget, int(now))
        except ExchangeError:
            return
