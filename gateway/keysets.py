"""Issuers' public keys: found by discovery, refreshed in the background, kept while the issuer is away.

A refresh a minute after the last, whoever caused that, so that a key replaced under its old name counts within that
time. A token with an unknown key id asks for one at once, but never sooner than 30 seconds after the last: under a
flood of such tokens the issuer sees one fetch in 30 seconds. If the issuer cannot be reached, the last good keys count
for an hour; after that its tokens are answered 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import httpx2
import structlog
from joserfc.jwk import Key

from exchange.clock import Clock
from exchange.errors import IssuerUnavailable
from exchange.settings import DISCOVERED, IssuerSettings
from gateway import jws
from gateway.discovery import Metadata, Refused, discover, fetch

log = structlog.get_logger("gateway")

REFRESH_SECONDS = 60.0
RETRY_SECONDS = 5.0  # after a failure, doubled up to REFRESH_SECONDS
UNKNOWN_KEY_GAP_SECONDS = 30.0
LAST_GOOD_SECONDS = 3600.0
FETCH_SECONDS = 5.0
WAIT_SECONDS = 2.0  # how long a request waits for the fetch that it caused
MAX_KEYS = 64


class Keys(Protocol):
    """Where an issuer's public keys come from."""

    async def fitting(self, algorithm: str, kid: str | None) -> Sequence[Key]:
        """The keys that can have made such a signature; without a key id every key of the right kind.

        Raises IssuerUnavailable if no keys are known, or none that are fresh enough.
        """
        ...

    @property
    def until(self) -> float:
        """Until when (Unix time) the keys count, if they are not read again."""
        ...


def select(keys: Iterable[Key], algorithm: str, kid: str | None) -> list[Key]:
    """Those of the keys that fit: by id where there is one, else by kind, use and algorithm."""
    return [key for key in keys if (kid is None or key.get("kid") == kid) and jws.fits(key, algorithm)]


class FixedKeys:
    """Keys that are at hand: those of the built-in issuer."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._keys = tuple(keys)

    async def fitting(self, algorithm: str, kid: str | None) -> Sequence[Key]:
        return select(self._keys, algorithm, kid)

    @property
    def until(self) -> float:
        return math.inf


async def read_keys(settings: IssuerSettings, http: httpx2.AsyncClient) -> tuple[tuple[Key, ...], Metadata | None]:
    """An issuer's keys now, and what its discovery document says if that had to be read.

    Raises Refused, httpx2.HTTPError, httpx2.InvalidURL.
    """
    address, metadata = settings.jwks, None
    if address is None or settings.token_endpoint == DISCOVERED:
        metadata = await discover(settings, http)
        address = address or metadata.jwks_uri
    document = await fetch(address, http)
    jwks = document.get("keys")
    if not isinstance(jwks, list):
        raise Refused("the key set has no list of keys")
    keys = tuple(key for jwk in jwks[:MAX_KEYS] if (key := jws.public_key(jwk)) is not None)
    if not keys:
        raise Refused("the key set holds no key that can verify a token")
    return keys, metadata


class IssuerKeys:
    """The keys of one OIDC issuer. `run` refreshes them until it is cancelled."""

    def __init__(self, settings: IssuerSettings, http: httpx2.AsyncClient, clock: Clock) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock
        self._keys: tuple[Key, ...] = ()
        self._metadata: Metadata | None = None
        self._good_at: float | None = None
        self._tried_at: float | None = None
        self._renewed = float("-inf")  # when the keys were last read, on the loop's clock
        self._fetch: asyncio.Task[bool] | None = None

    async def fitting(self, algorithm: str, kid: str | None) -> Sequence[Key]:
        found = select(self._fresh(), algorithm, kid)
        if found or kid is None:
            return found
        await self._look_again()
        return select(self._fresh(), algorithm, kid)

    @property
    def until(self) -> float:
        return -math.inf if self._good_at is None else self._good_at + LAST_GOOD_SECONDS

    @property
    def known(self) -> bool:
        """Whether a token of this issuer could be verified now."""
        return self._now() <= self.until

    @property
    def token_endpoint(self) -> str | None:
        """Where the issuer gives tokens, as its newest discovery document says; None while that is not known."""
        return self._metadata.token_endpoint if self._metadata is not None else None

    async def run(self) -> None:
        """Refresh for ever: a minute after the last time, sooner after a failure."""
        delay = RETRY_SECONDS
        now = asyncio.get_running_loop().time
        while True:
            if (rest := self._renewed + REFRESH_SECONDS - now()) > 0:
                await asyncio.sleep(rest)
            elif await self.refresh():
                delay = RETRY_SECONDS
            else:
                await asyncio.sleep(delay)
                delay = min(2 * delay, REFRESH_SECONDS)

    async def refresh(self) -> bool:
        """Fetch the keys now, once however many ask at the same time. Answers whether it went well; never raises."""
        if self._fetch is None:
            self._tried_at = self._now()
            self._fetch = asyncio.create_task(self._renew())
            self._fetch.add_done_callback(self._fetched)
        return await asyncio.shield(self._fetch)

    def _fetched(self, _: asyncio.Task[bool]) -> None:
        self._fetch = None

    async def _look_again(self) -> None:
        running = self._fetch is not None
        if running or self._tried_at is None or self._now() - self._tried_at >= UNKNOWN_KEY_GAP_SECONDS:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.refresh(), WAIT_SECONDS)

    async def _renew(self) -> bool:
        issuer = self._settings.issuer
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                keys, metadata = await read_keys(self._settings, self._http)
        except Refused as error:
            log.warning("issuer keys not refreshed", issuer=issuer, reason=str(error))
            return False
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            log.warning("issuer keys not refreshed", issuer=issuer, reason=type(error).__name__)
            return False
        self._keys = keys
        self._metadata = metadata
        self._good_at = self._now()
        self._renewed = asyncio.get_running_loop().time()
        return True

    def _fresh(self) -> tuple[Key, ...]:
        if self._good_at is None:
            raise IssuerUnavailable("its keys have not been read yet")
        if not self.known:
            raise IssuerUnavailable("its keys could not be refreshed for an hour")
        return self._keys

    def _now(self) -> float:
        return self._clock().timestamp()
