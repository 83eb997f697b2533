"""Who is calling: the Authorization header, the token behind it, and the client in our own list.

A verified token is remembered by the hash of the header that brought it, at most a minute, never past its end, and no
longer than its issuer's keys count. The list of clients is looked up on every request, so a client that is struck from
it is out with the next one.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from starlette.types import Scope

from exchange.agreements import Bundle, Client
from exchange.clock import Clock
from exchange.errors import Forbidden
from exchange.metrics import TOKEN_CACHE, TOKEN_FAILURES
from gateway.basic import Secrets, is_basic
from gateway.limits import note
from gateway.problems import InsufficientScope
from gateway.tokens import Reason, Token, TokenRefused, Tokens

CALLER = "exchange.caller"
CACHE_SIZE = 4096
CACHE_SECONDS = 60.0
_HIT, _MISS = TOKEN_CACHE.labels("hit"), TOKEN_CACHE.labels("miss")
_WANTED = "send one header `Authorization: Bearer <token>`"
# RFC 6750 section 2.1, with the single blank of RFC 9110's credentials.
_BEARER = re.compile(rb"bearer ([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caller:
    """A listed client with a valid token. `scopes` are those that both the token and our list give."""

    client: Client
    scopes: frozenset[str]
    person: str | None

    def require(self, scope: str) -> None:
        """Raises InsufficientScope."""
        if scope not in self.scopes:
            raise InsufficientScope(scope)


class Identity:
    """Finds out who is calling, and counts those who cannot show it."""

    def __init__(
        self, tokens: Tokens, bundle: Callable[[], Bundle], clock: Clock, secrets: Secrets | None = None
    ) -> None:
        self._tokens = tokens
        self._bundle = bundle
        self._secrets = secrets if secrets is not None and secrets.taken else None
        self._clock = clock
        self._verified: OrderedDict[bytes, tuple[float, Token]] = OrderedDict()
        self._refused: Counter[str] = Counter()

    async def caller(self, scope: Scope, *, basic: bool = False) -> Caller:
        """Who sent this request; from now on it stands in the scope and in the request's log line.

        `basic`: client id and secret are taken in the place of a token. Raises TokenRefused (401), Forbidden (a client
        that is not listed), PolicyUnavailable, IssuerUnavailable; Busy if too many secrets are being checked.
        """
        try:
            header = authorization(scope["headers"])
            if basic and self._secrets is not None and is_basic(header):
                token = await self._by_secret(header, self._secrets)
            else:
                token = await self._token(header)
        except TokenRefused as error:
            self._count(error.reason)
            raise
        client = self._bundle().client(token.issuer, token.client_id)
        if client is None:
            self._count("unlisted")
            raise Forbidden("this client is not in the list of clients")
        caller = scope[CALLER] = Caller(client, token.scopes.intersection(client.scopes), token.person)
        note(scope, client=client.client_id, department=client.department)
        return caller

    def take_refused(self) -> dict[str, int]:
        """How many were refused since the last call, by reason."""
        counts, self._refused = dict(self._refused), Counter()
        return counts

    async def _by_secret(self, header: bytes, secrets: Secrets) -> Token:
        text = await secrets.token(header)
        try:
            return await self._token(b"Bearer " + text)
        except TokenRefused:
            secrets.forget(header)
            raise

    async def _token(self, header: bytes) -> Token:
        key = hashlib.sha256(header).digest()  # what was read once need not be read again
        found = self._verified.get(key)
        now = self._clock().timestamp()
        if found is not None and now < found[0]:
            self._verified.move_to_end(key)
            _HIT.inc()
            return found[1]
        _MISS.inc()
        token = await self._tokens.verify(bearer(header).decode("ascii"))
        self._verified[key] = (min(token.good_until, now + CACHE_SECONDS), token)
        self._verified.move_to_end(key)
        if len(self._verified) > CACHE_SIZE:
            self._verified.popitem(last=False)
        return token

    def _count(self, reason: Reason) -> None:
        TOKEN_FAILURES.labels(reason).inc()
        self._refused[reason] += 1


def authorization(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The value of the one Authorization header. Raises TokenRefused if there is none, or more than one."""
    found = None
    for name, text in headers:
        if name == b"authorization":
            if found is not None:
                raise TokenRefused("malformed", _WANTED, error="invalid_request")
            found = text
    if found is None:
        raise TokenRefused("missing", _WANTED)
    return found


def bearer(header: bytes) -> bytes:
    """The token of an Authorization header. Raises TokenRefused if it is not exactly of that form."""
    match = _BEARER.fullmatch(header)
    if match is None:
        raise TokenRefused("malformed", _WANTED, error="invalid_request")
    return match[1]
