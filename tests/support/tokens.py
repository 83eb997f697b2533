"""Keys and access tokens for tests, and a clock that stands until it is moved."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from exchange.settings import IssuerSettings
from gateway.keysets import FixedKeys
from gateway.tokens import Tokens, TrustedIssuer

ISSUER = "https://id.city.example/realms/city"
AUDIENCE = "exchange"
NOW = datetime(2026, 6, 1, 9, 0, tzinfo=UTC)


class StandingClock:
    """A clock that tests move."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def ec(kid: str = "e1") -> ECKey:
    return ECKey.generate_key("P-256", {"kid": kid, "use": "sig"})


def okp(kid: str = "o1") -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": kid, "use": "sig"})


def rsa(kid: str = "r1", bits: int = 2048) -> RSAKey:
    return RSAKey.generate_key(bits, {"kid": kid, "use": "sig"})


def public(key: Key, **changes: Any) -> dict[str, Any]:
    """A key's public JWK, with members changed; None takes a member away."""
    jwk = {**key.as_dict(private=False), **changes}
    return {name: value for name, value in jwk.items() if value is not None}


def claims(now: datetime = NOW, **changes: Any) -> dict[str, Any]:
    """The claims of a good token, with some of them changed; None takes one away."""
    at = int(now.timestamp())
    good = {
        "iss": ISSUER, "aud": AUDIENCE, "client_id": "tax-desk", "sub": "tax-desk", "iat": at, "exp": at + 600,
        "jti": "j1", "scope": "view publish registry",
    }  # fmt: skip
    return {name: value for name, value in (good | changes).items() if value is not None}


def sign(key: Key, payload: Mapping[str, Any] | bytes, header: Mapping[str, Any] | None = None) -> str:
    """A compact JWS over these claims (or these very bytes), with this header beside alg, kid and typ."""
    kid = key.get("kid")
    full = {"alg": algorithm(key), "typ": "at+jwt", **({"kid": kid} if kid else {}), **(header or {})}
    full = {name: value for name, value in full.items() if value is not None}
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signing_input = f"{b64(json.dumps(full).encode())}.{b64(body)}"
    signature = JWSRegistry.algorithms[full["alg"]].sign(signing_input.encode(), key)
    return f"{signing_input}.{b64(signature)}"


def b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def algorithm(key: Key) -> str:
    return "RS256" if isinstance(key, RSAKey) else "ES256" if isinstance(key, ECKey) else "Ed25519"


def verifier(*keys: Key, clock: StandingClock, **settings: Any) -> Tokens:
    """A verifier that trusts ISSUER with these keys."""
    trusted = TrustedIssuer(IssuerSettings(issuer=ISSUER, **settings), FixedKeys(keys))
    return Tokens([trusted], AUDIENCE, clock)
