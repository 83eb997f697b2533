"""Tasks that run for as long as the gateway does: one that breaks off is told, and begun again.

None of them ends by itself, and each takes what it expects to go wrong. What nobody expected must not leave a gateway
that serves on and has stopped looking for policies or keys. One that breaks off again and again is counted, and leaves
`/readyz` alone: old policies and unknown keys end that by themselves, and for the others' sake no view need be refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from exchange.logs import unexpected
from exchange.metrics import BACKGROUND_BREAKS

log = structlog.get_logger("gateway")

AGAIN_SECONDS = 1.0

Job = Callable[[], Coroutine[Any, Any, None]]


class Background:
    """The jobs of one event loop."""

    def __init__(self, jobs: Sequence[Job], again_s: float = AGAIN_SECONDS) -> None:
        self._jobs = jobs
        self._again_s = again_s
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin all of them."""
        self._tasks = [asyncio.create_task(self._keep(job), name=job.__qualname__) for job in self._jobs]

    async def end(self) -> None:
        """Cancel all of them, and wait until they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, job: Job) -> None:
        while True:
            try:
                await job()
                log.error("a background task ended by itself and is begun again", task=job.__qualname__)
            except Exception as error:  # noqa: BLE001  whatever it is, the others and the next attempt go on
                unexpected(error, task=job.__qualname__)
            BACKGROUND_BREAKS.inc()
            await asyncio.sleep(self._again_s)
