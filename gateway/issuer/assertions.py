"""private_key_jwt: a client shows a short-lived token that it signed itself (RFC 7523 section 3).

Whoever does not hold the key of a client is told nothing but that it failed, so nobody learns which clients exist; the
holder of the key is told which check failed.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from exchange import sqlite
from exchange.clock import Clock
from gateway import jws
from gateway.issuer.clients import DevClient
from gateway.tokens import MAX_NAME, SKEW_SECONDS

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_LIFETIME_SECONDS = 3600.0


class AssertionRefused(Exception):
    """The assertion does not show who the client is. `told` is for the holder of the key; empty for anyone else."""

    def __init__(self, told: str = "") -> None:
        super().__init__(told)
        self.told = told


class UsedAssertions:
    """Which assertions were used, in a small file: each counts once, also after a restart or in two processes.

    Only a hash of (client, jti) is kept, until the assertion's end. May be used by several threads.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._connection = sqlite.connect(path)
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS used (assertion BLOB PRIMARY KEY, ends REAL NOT NULL) WITHOUT ROWID"
        )

    def use(self, client_id: str, jti: str, ends: float, now: float) -> bool:
        """Mark the assertion as used, durably; False if it was used before."""
        assertion = hashlib.sha256(f"{client_id}\0{jti}".encode()).digest()
        with self._lock:
            self._connection.execute("DELETE FROM used WHERE ends < ?", (now - SKEW_SECONDS,))
            done = self._connection.execute("INSERT OR IGNORE INTO used VALUES (?, ?)", (assertion, ends))
            return bool(done.rowcount == 1)

    def close(self) -> None:
        self._connection.close()


def authenticate(
    text: str, clients: Mapping[str, DevClient], audiences: Collection[str], used: UsedAssertions, clock: Clock
) -> DevClient:
    """The client that signed this assertion for one of `audiences`. Raises AssertionRefused."""
    try:
        assertion = jws.unpack(text)
    except jws.NotAToken as error:
        raise AssertionRefused(f"client_assertion: {error.detail}") from None  # says nothing about any client
    name = assertion.claims.get("sub")
    client = clients.get(name) if isinstance(name, str) else None
    key = client.key if client is not None else None
    if client is None or key is None or not jws.fits(key, assertion.algorithm):
        raise AssertionRefused
    if assertion.kid not in (None, key.get("kid")) or not jws.holds(assertion, [key]):
        raise AssertionRefused
    _check(assertion.claims, client, audiences, used, clock().timestamp())
    return client


def _check(
    claims: Mapping[str, Any], client: DevClient, audiences: Collection[str], used: UsedAssertions, now: float
) -> None:
    if claims.get("iss") != client.client_id:
        raise AssertionRefused("client_assertion: iss is not the same as sub")
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(one, str) and one in audiences for one in named):
        raise AssertionRefused("client_assertion: aud names neither the token endpoint nor the issuer")
    try:
        expires = jws.numeric_date(claims, "exp")
        begins = [jws.numeric_date(claims, name) for name in ("iat", "nbf") if name in claims]
    except jws.NotAToken as error:
        raise AssertionRefused(f"client_assertion: {error.detail}") from None
    if expires <= now:
        raise AssertionRefused("client_assertion: it has expired (exp)")
    if expires > now + MAX_LIFETIME_SECONDS + SKEW_SECONDS:
        raise AssertionRefused("client_assertion: it lives longer than an hour (exp)")
    if any(begin > now + SKEW_SECONDS for begin in begins):
        raise AssertionRefused("client_assertion: it is not valid yet (iat or nbf)")
    jti = claims.get("jti")
    if not isinstance(jti, str) or not 0 < len(jti) <= MAX_NAME:
        raise AssertionRefused("client_assertion: jti is missing or not a short text")
    if not used.use(client.client_id, jti, expires, now):
        raise AssertionRefused("client_assertion: this jti was used before")
