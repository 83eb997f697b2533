"""DPoP proofs and tokens that are bound to a key, for tests."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any

from joserfc.jwk import Key

from gateway.dpop import hash_of
from tests.support.tokens import algorithm, claims, public, sign

METHOD, VIEW = "POST", "http://gateway/v1/citizens/view"
_numbers = itertools.count()


def jwk(key: Key) -> dict[str, Any]:
    """The key as it stands in a proof."""
    return public(key, kid=None, use=None)


def bound(signing: Key, holder: Key, now: datetime, **changes: Any) -> str:
    """An access token, signed by its issuer, that counts only for who holds this key."""
    return sign(signing, claims(now, **{"cnf": {"jkt": holder.thumbprint()}, **changes}))


def proof(
    holder: Key,
    token: str | None,
    now: datetime,
    *,
    header: dict[str, Any] | None = None,
    method: str = METHOD,
    url: str = VIEW,
    **changes: Any,
) -> str:
    """A proof that holds, with members of its header and claims changed; None takes one away."""
    good = {"jti": f"p{next(_numbers)}", "htm": method, "htu": url, "iat": int(now.timestamp())}
    good |= {} if token is None else {"ath": hash_of(token)}
    said = {name: value for name, value in (good | changes).items() if value is not None}
    made = {"typ": "dpop+jwt", "alg": algorithm(holder), "jwk": jwk(holder), "kid": None, **(header or {})}
    return sign(holder, said, made)
