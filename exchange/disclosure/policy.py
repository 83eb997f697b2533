"""The policy bundle in force, as a gateway process sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from exchange.agreements import Bundle, has_version
from exchange.decisions import Decider
from exchange.errors import ExchangeError, NotFound, PolicyUnavailable
from exchange.metrics import POLICY_AGE, POLICY_DAMAGED
from exchange.store import FacetReader

log = structlog.get_logger("disclosure")

INTERVAL_S = 0.5
PATIENCE_S = 2.0
"""A bundle that was not confirmed for so long may have been replaced: nothing is decided on it."""


class PolicyWatch:
    """Looks for the newest bundle every half second and keeps the Decider that rests on it.

    A request takes `decider` once and uses nothing else, so no answer mixes two versions. A new bundle is made ready in
    a thread, so that no request waits for it.

    What comes into the store as a bundle and has not the bytes of its version was never applied: it changes nothing and
    alarms, and the newest that is whole is in force. For who begins it may have been whole once and have taken a right
    away: nothing is decided until a newer one is whole. One that is whole and that this program cannot read may take a
    right away too: what was in force before it is decided on for the patience, and no longer.

    `mark` is that of the bus secret (`KeyMaker.mark`). In a store that is keyed by another one nobody would be found:
    nothing is decided there.
    """

    def __init__(
        self,
        reader: FacetReader,
        mark: str | None = None,
        *,
        interval_s: float = INTERVAL_S,
        patience_s: float = PATIENCE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reader = reader
        self._mark = mark
        self._interval = interval_s
        self._patience = patience_s
        self._monotonic = monotonic
        self._decider: Decider | None = None
        self._confirmed = float("-inf")

    @property
    def fresh(self) -> bool:
        """Whether there is a bundle that was confirmed within the patience."""
        return self._decider is not None and self._monotonic() - self._confirmed <= self._patience

    @property
    def decider(self) -> Decider:
        """What to decide with now. Raises PolicyUnavailable."""
        if self._decider is None:
            raise PolicyUnavailable("there is no whole policy bundle yet; `exchange policy apply` makes one")
        if not self.fresh:
            raise PolicyUnavailable(f"the newest bundle could not be looked for in {self._patience:.0f} s")
        return self._decider

    @property
    def version(self) -> str | None:
        """The version that was in force last, though it may be too old to decide with; None before there was one."""
        return None if self._decider is None else self._decider.bundle.version

    @property
    def bundle(self) -> Bundle:
        """The bundle in force. Raises PolicyUnavailable."""
        return self.decider.bundle

    async def look(self) -> None:
        """Look once. Raises StoreUnavailable, PolicyUnavailable; what was in force stays until it is too old."""
        asked = self._monotonic()
        await self._check_keyed()
        damaged = 0
        for version in await self._reader.recent_bundles():
            if self._decider is not None and self._decider.bundle.version == version:
                break
            body = await self._whole(version)
            if body is not None:
                self._decider = await asyncio.to_thread(_decider, body, version)
                log.info("policy in force", policy=version)
                break
            damaged += 1
            POLICY_DAMAGED.set(damaged)
            log.error("a bundle in the store is damaged; apply the policies again", policy=version)
            if self._decider is None:
                raise PolicyUnavailable("the newest bundle in the store is damaged; `exchange policy apply` mends it")
        else:
            if damaged:
                raise PolicyUnavailable("no recent bundle in the store has the bytes of its version")
        POLICY_DAMAGED.set(damaged)
        self._confirmed = asked

    async def _check_keyed(self) -> None:
        keyed = None if self._mark is None else await self._reader.keyed()
        if keyed is not None and (refusal := keyed.refusal(str(self._mark))) is not None:
            raise PolicyUnavailable(refusal)

    async def _whole(self, version: str) -> bytes | None:
        """A bundle's bytes; None if they are missing or not those of the version."""
        try:
            body = await self._reader.bundle(version)
        except NotFound:
            return None
        return body if await asyncio.to_thread(has_version, body, version) else None

    async def run(self) -> None:
        """Look every half second until cancelled."""
        while True:
            try:
                await self.look()
            except ExchangeError as error:
                log.warning("the newest policy cannot be read", error=str(error))
            except Exception as error:  # noqa: BLE001  what one bundle meets must not keep the next one out
                log.warning("the newest policy cannot be read", error=type(error).__name__)
            POLICY_AGE.set(max(0.0, self._monotonic() - self._confirmed) if self._decider is not None else float("inf"))
            await asyncio.sleep(self._interval)


def _decider(body: bytes, version: str) -> Decider:
    """What a bundle decides. Parsing it and its policies takes milliseconds: never on the event loop."""
    return Decider(Bundle.from_bytes(body, version))
