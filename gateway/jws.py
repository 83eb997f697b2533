"""Signed tokens in their compact form (RFC 7515), opened strictly and verified by joserfc.

Opening reads what anyone could have written: nothing in it counts until `holds` has found the key that signed it.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry, deserialize_compact
from joserfc.util import urlsafe_b64decode

from exchange.errors import BadRequest
from exchange.settings import SigningAlgorithm
from gateway import strictjson

TOKEN_BYTES = 8 * 1024
HEADER_BYTES = 2 * 1024
# Asymmetric only: with HS* whoever can verify can sign, and `none` is no signature (RFC 8725 section 3.1).
ALGORITHMS: frozenset[str] = frozenset(get_args(SigningAlgorithm))
MIN_RSA_BITS = 2048
MAX_TIME = 253_402_300_799  # the last second of the year 9999: a greater number is no date


class NotAToken(BadRequest):
    """This is not a signed token that can be read"""


@dataclass(frozen=True, slots=True)
class Unverified:
    """A token's parts as they were sent. `algorithm` is one of ALGORITHMS."""

    text: str
    header: dict[str, Any]
    claims: dict[str, Any]

    @property
    def algorithm(self) -> str:
        return str(self.header["alg"])

    @property
    def kid(self) -> str | None:
        return self.header.get("kid")


def unpack(text: str) -> Unverified:
    """The header and the claims of a compact JWS. Raises NotAToken, saying what is wrong and never what was sent.

    Sizes are looked at before anything is decoded; duplicate members are refused in both parts; every `crit` is
    refused, because no extension is understood here (RFC 7515 section 4.1.11); `b64` would be one (RFC 7797).
    """
    if len(text) > TOKEN_BYTES or not text.isascii():
        raise NotAToken(f"not ASCII of at most {TOKEN_BYTES} bytes")
    segments = text.split(".")
    if len(segments) != 3 or not all(segments):
        raise NotAToken("not three parts between dots")
    if len(segments[0]) > HEADER_BYTES:
        raise NotAToken(f"its header is longer than {HEADER_BYTES} bytes")
    header, claims = (_object(segment) for segment in segments[:2])
    if "crit" in header or "b64" in header:
        raise NotAToken("its header has an extension that is not understood")
    if not isinstance(header.get("alg"), str) or header["alg"] not in ALGORITHMS:
        raise NotAToken("its algorithm is none that is accepted")
    kid = header.get("kid", "")
    if not isinstance(kid, str) or ("kid" in header and not kid):
        raise NotAToken("its key id is not a text")
    return Unverified(text, header, claims)


def holds(token: Unverified, keys: Iterable[Key]) -> bool:
    """Whether one of these keys made the signature. Each key must fit the token's algorithm."""
    registry = _Pinned(algorithms=[token.algorithm], strict_check_header=False)
    for key in keys:
        try:
            deserialize_compact(token.text, key, registry=registry)
        except (JoseError, ValueError, TypeError):
            continue
        return True
    return False


def fits(key: Key, algorithm: str) -> bool:
    """Whether this key can verify that algorithm: kind, curve, declared use and declared algorithm."""
    if key.get("alg") not in (None, algorithm):
        return False
    if "verify" not in (key.get("key_ops") or ["verify"]):
        return False
    try:
        _curve_and_kind(key, algorithm)
    except JoseError:
        return False
    return True


def public_key(jwk: Any) -> Key | None:
    """The public key of a JWK, None if it is of no kind that signs tokens or is too weak to count."""
    if not isinstance(jwk, dict) or jwk.get("kty") not in ("RSA", "EC", "OKP"):
        return None
    try:
        key = JWKRegistry.import_key(jwk)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if isinstance(key, RSAKey):
        return key if key.raw_value.key_size >= MIN_RSA_BITS else None
    return key if isinstance(key, ECKey | OKPKey) else None


def numeric_date(claims: Mapping[str, Any], name: str) -> float:
    """A time of RFC 7519 section 2, in seconds. Raises NotAToken for one that is missing, no number, or no date."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise NotAToken(f"{name} is missing or not a time")
    if not 0 <= value <= MAX_TIME:
        raise NotAToken(f"{name} is not a time")
    return float(value)


class _Pinned(JWSRegistry):
    """joserfc's registry, which takes exactly the algorithms given and longer headers (certificate thumbprints)."""

    max_header_length = HEADER_BYTES

    def get_alg(self, name: str) -> Any:
        if name not in (self.allowed or ()):
            raise JoseError("the algorithm is not pinned")
        return self.algorithms[name]


def _curve_and_kind(key: Key, algorithm: str) -> None:
    model = JWSRegistry.algorithms[algorithm]
    key.check_use("sig")
    if key.key_type != model.key_type:
        raise JoseError("another kind of key")
    curve = getattr(model, "curve", None) or ("Ed25519" if algorithm == "EdDSA" else None)
    if curve is not None and getattr(key, "curve_name", None) != curve:
        raise JoseError("another curve")


def _object(segment: str) -> dict[str, Any]:
    try:
        value = strictjson.read(urlsafe_b64decode(segment.encode()))
    except (binascii.Error, ValueError, strictjson.Malformed):
        raise NotAToken("a part of it is not base64url of JSON without duplicate members") from None
    if not isinstance(value, dict):
        raise NotAToken("a part of it is not a JSON object")
    return value
