"""Who is calling: the Authorization header, the token behind it, and the client in our own list.

A verified token is remembered by the hash of the header that brought it, at most a minute, never past its end, and no
longer than its issuer's keys count. A proof that comes with it, and the list of clients, are looked at on every
request, so that a client that is struck from the list is out with the next one.
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
from gateway.binding import Binding, demand
from gateway.limits import note
from gateway.problems import InsufficientScope
from gateway.tokens import Reason, Token, TokenRefused, Tokens

CALLER = "exchange.caller"
CACHE_SIZE = 4096
CACHE_SECONDS = 60.0
_HIT, _MISS = TOKEN_CACHE.labels("hit"), TOKEN_CACHE.labels("miss")
_WANTED = "send one header `Authorization: Bearer <token>`"
# RFC 6750 section 2.1 and RFC 9449 section 7.1, with the single blank of RFC 9110's credentials.
_TOKEN = re.compile(rb"(bearer|dpop) ([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Caller:
    """A listed client with a valid token. `scopes` are those that both the token and our list give."""

    client: Client
    scopes: frozenset[str]
    person: str | None
    scheme: str = "Bearer"

    def require(self, scope: str) -> None:
        """Raises InsufficientScope."""
        if scope not in self.scopes:
            raise InsufficientScope(scope, self.scheme)


@dataclass(frozen=True, slots=True)
class _Known:
    """A verified token: until when it is remembered, whether it is one of the bearer's, its text if it came as DPoP."""

    until: float
    token: Token
    of_bearer: bool
    proven: str | None


class Identity:
    """Finds out who is calling, and counts those who cannot show it."""

    def __init__(
        self,
        tokens: Tokens,
        bundle: Callable[[], Bundle],
        clock: Clock,
        binding: Binding,
        secrets: Secrets | None = None,
    ) -> None:
        self._tokens = tokens
        self._bundle = bundle
        self._binding = binding
        self._secrets = secrets if secrets is not None and secrets.taken else None
        self._clock = clock
        self._verified: OrderedDict[bytes, _Known] = OrderedDict()
        self._refused: Counter[str] = Counter()

    async def caller(self, scope: Scope, *, basic: bool = False) -> Caller:
        """Who sent this request; from now on it stands in the scope and in the request's log line.

        `basic`: client id and secret are taken in the place of a token. Raises TokenRefused (401), Forbidden (a client
        that is not listed), PolicyUnavailable, IssuerUnavailable; Busy if too many secrets are being checked;
        StoreUnavailable if it cannot be told whether a proof is new.
        """
        try:
            header = authorization(scope["headers"])
            if basic and self._secrets is not None and is_basic(header):
                known = await self._by_secret(header, self._secrets)
            else:
                known = await self._token(header)
            token = known.token
            client = self._bundle().client(token.issuer, token.client_id)
            if client is not None and not known.of_bearer:  # a proof is noted for who may come in only
                await self._binding.check(scope, token, known.proven)
            if client is not None and client.sender_constrained is not None:
                demand(client, token, known.proven)
        except TokenRefused as error:
            self._count(error.reason)
            raise
        if client is None:
            self._count("unlisted")
            raise Forbidden("this client is not in the list of clients")
        caller = scope[CALLER] = Caller(
            client, token.scopes.intersection(client.scopes), token.person, "DPoP" if known.proven else "Bearer"
        )
        note(scope, client=client.client_id, department=client.department)
        return caller

    def take_refused(self) -> dict[str, int]:
        """How many were refused since the last call, by reason."""
        counts, self._refused = dict(self._refused), Counter()
        return counts

    async def _by_secret(self, header: bytes, secrets: Secrets) -> _Known:
        text = await secrets.token(header)
        try:
            return await self._token(b"Bearer " + text)
        except TokenRefused:
            secrets.forget(header)
            raise

    async def _token(self, header: bytes) -> _Known:
        key = hashlib.sha256(header).digest()  # what was read once need not be read again
        found = self._verified.get(key)
        now = self._clock().timestamp()
        if found is not None and now < found.until:
            self._verified.move_to_end(key)
            _HIT.inc()
            return found
        _MISS.inc()
        scheme, sent = credentials(header)
        text = sent.decode("ascii")
        token = await self._tokens.verify(text)
        proven = text if scheme == b"dpop" else None
        of_bearer = proven is None and token.jkt is None and token.x5t is None
        known = self._verified[key] = _Known(min(token.good_until, now + CACHE_SECONDS), token, of_bearer, proven)
        self._verified.move_to_end(key)
        if len(self._verified) > CACHE_SIZE:
            self._verified.popitem(last=False)
        return known

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


def credentials(header: bytes) -> tuple[bytes, bytes]:
    """Scheme (in small letters) and token of an Authorization header. Raises TokenRefused if it is not of that form."""
    match = _TOKEN.fullmatch(header)
    if match is None:
        raise TokenRefused("malformed", _WANTED, error="invalid_request")
    return match[1].lower(), match[2]
