"""HTTP Basic at the registry: client id and secret are exchanged for an access token, which is checked as any other.

Many registry clients know no other way. They are exchanged by the built-in issuer, where it runs and knows the client,
else at the token endpoint of the one issuer that has `issuers.token_endpoint` (an address, or the one that its
discovery document names); nothing else can be known about a secret
here. The token is remembered until it ends, a wrong secret for a few seconds, each by a hash; who sends wrong secrets
on and on is not asked about any more for a while, so that neither this processor nor the issuer can be flooded.
"""

from __future__ import annotations

import asyncio
import binascii
import hashlib
from base64 import b64decode, b64encode
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote_plus

import httpx2

from exchange.clock import Clock
from exchange.errors import IssuerUnavailable
from gateway import strictjson
from gateway.issuer import DevIssuer, OAuthError
from gateway.problems import Busy
from gateway.tokens import MAX_NAME, TokenRefused

SCOPE = "registry"
FORM = b"grant_type=client_credentials&scope=registry"
MAX_HEADER = 4096
REMEMBERED = 1024
WRONG_SECONDS = 5.0  # a wrong secret is wrong for so long
EARLY_SECONDS = 5.0  # a token is exchanged anew so long before it ends
MAX_SECONDS = 3600.0
AT_ONCE = 8  # exchanges under way
WINDOW_SECONDS = 60.0
MAX_WRONG = 120  # in one window: after that nobody new is let in until the next one
MAX_WRONG_OF_ONE = 20  # of one client id
FETCH_SECONDS = 5.0
DOCUMENT_BYTES = 64 * 1024


class WrongSecret(Exception):
    """The issuer does not take this client id with this secret."""


@dataclass(frozen=True, slots=True)
class Granted:
    """An access token and how many seconds it lives."""

    token: str
    seconds: float


class Exchange(Protocol):
    """Where a secret is exchanged. Raises WrongSecret, IssuerUnavailable."""

    async def __call__(self, client_id: str, secret: str) -> Granted: ...


class BuiltIn:
    """The issuer of this process."""

    def __init__(self, issuer: DevIssuer) -> None:
        self._issuer = issuer

    def knows(self, client_id: str) -> bool:
        return client_id in self._issuer.clients

    async def __call__(self, client_id: str, secret: str) -> Granted:
        try:
            found = await asyncio.to_thread(self._issuer.token, authorization(client_id, secret), FORM)
        except OAuthError:
            raise WrongSecret from None
        return Granted(found["access_token"], found["expires_in"])


class TokenEndpoint:
    """The token endpoint of another issuer (RFC 6749 sections 2.3.1 and 4.4)."""

    def __init__(self, address: Callable[[], str | None], http: httpx2.AsyncClient) -> None:
        """`address`: where it is now; None while that is not known."""
        self._address = address
        self._http = http

    async def __call__(self, client_id: str, secret: str) -> Granted:
        address = self._address()
        if address is None:
            raise IssuerUnavailable(
                "its discovery document names no token endpoint that can be used, or was not read yet"
            )
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                status, document = await self._ask(address, authorization(client_id, secret))
        except (TimeoutError, httpx2.HTTPError, httpx2.InvalidURL) as error:
            raise IssuerUnavailable(f"its token endpoint ({type(error).__name__})") from None
        if status in (400, 401, 403) and document.get("error") in ("invalid_client", "unauthorized_client"):
            raise WrongSecret
        token, seconds = document.get("access_token"), document.get("expires_in", WRONG_SECONDS + EARLY_SECONDS)
        if status != 200 or not isinstance(token, str) or isinstance(seconds, bool):
            raise IssuerUnavailable(f"its token endpoint answers {status}")
        if not isinstance(seconds, int | float) or not token.isascii():
            raise IssuerUnavailable("its token endpoint answers with no token of a known life")
        return Granted(token, float(seconds))

    async def _ask(self, address: str, header: str) -> tuple[int, dict[str, Any]]:
        headers = {
            "authorization": header, "content-type": "application/x-www-form-urlencoded", "accept": "application/json"
        }  # fmt: skip
        body = bytearray()
        async with self._http.stream("POST", address, content=FORM, headers=headers) as response:
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > DOCUMENT_BYTES:
                    raise IssuerUnavailable("its token endpoint answers too much")
        try:
            found = strictjson.read(bytes(body))
        except strictjson.Malformed:
            found = None
        return response.status_code, found if isinstance(found, dict) else {}


class Secrets:
    """Tokens for client ids with secrets."""

    def __init__(self, built_in: BuiltIn | None, other: Exchange | None, clock: Clock) -> None:
        self._built_in = built_in
        self._other = other
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, str | None]] = OrderedDict()  # until when, and the token
        self._asking: dict[bytes, asyncio.Task[str]] = {}
        self._wrong: Counter[str] = Counter()  # by client id, in this window
        self._window = 0.0

    @property
    def taken(self) -> bool:
        """Whether there is an issuer that can be asked."""
        return self._built_in is not None or self._other is not None

    async def token(self, header: bytes) -> bytes:
        """The access token behind an Authorization header. Raises TokenRefused, IssuerUnavailable, Busy."""
        key = hashlib.sha256(header).digest()
        until, found = self._known.get(key, (0.0, None))
        if self._clock().timestamp() < until:
            self._known.move_to_end(key)
            if found is None:
                raise _refused()
            return found.encode()
        client_id, secret = credentials(header)
        task = self._asking.get(key)
        if task is None:
            self._spare(client_id)
            task = self._asking[key] = asyncio.create_task(self._ask(key, client_id, secret))
            task.add_done_callback(lambda done: self._asked(key, done))
        return (await asyncio.shield(task)).encode()

    def forget(self, header: bytes) -> None:
        """The token that it was exchanged for is not taken: it is exchanged anew, but not at once again."""
        self._remember(hashlib.sha256(header).digest(), self._clock().timestamp() + WRONG_SECONDS, None)

    async def _ask(self, key: bytes, client_id: str, secret: str) -> str:
        exchange: Exchange | None = self._other
        if self._built_in is not None and (exchange is None or self._built_in.knows(client_id)):
            exchange = self._built_in
        try:
            granted = None if exchange is None else await exchange(client_id, secret)
        except WrongSecret:
            granted = None
        now = self._clock().timestamp()
        if granted is None:
            self._wrong[client_id] += 1
            self._remember(key, now + WRONG_SECONDS, None)
            raise _refused()
        self._remember(key, now + min(granted.seconds, MAX_SECONDS) - EARLY_SECONDS, granted.token)
        return granted.token

    def _asked(self, key: bytes, task: asyncio.Task[str]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever waited for it has it

    def _spare(self, client_id: str) -> None:
        """Raises Busy, TokenRefused for what is too much to be asked about."""
        now = self._clock().timestamp()
        if not 0 <= now - self._window < WINDOW_SECONDS:
            self._window = now
            self._wrong.clear()
        if self._wrong[client_id] >= MAX_WRONG_OF_ONE:
            raise _refused()
        if len(self._asking) >= AT_ONCE or self._wrong.total() >= MAX_WRONG:
            raise Busy("secrets that are checked")

    def _remember(self, key: bytes, until: float, token: str | None) -> None:
        self._known[key] = (until, token)
        self._known.move_to_end(key)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def is_basic(header: bytes) -> bool:
    """Whether an Authorization header is of this scheme (RFC 7617)."""
    return header[:6].lower() == b"basic "


def credentials(header: bytes) -> tuple[str, str]:
    """Client id and secret of a header. Raises TokenRefused."""
    if len(header) > MAX_HEADER:
        raise _refused()
    try:
        client_id, colon, secret = b64decode(header[6:].strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        raise _refused() from None
    if not colon or not 0 < len(client_id) <= MAX_NAME or not client_id.isprintable() or not secret:
        raise _refused()
    return client_id, secret


def authorization(client_id: str, secret: str) -> str:
    """The header that a token endpoint takes: both form-encoded before they are joined (RFC 6749 section 2.3.1)."""
    return f"Basic {b64encode(f'{quote_plus(client_id)}:{quote_plus(secret)}'.encode()).decode()}"


def _refused() -> TokenRefused:
    return TokenRefused("secret", "the client id or its secret is not valid")
