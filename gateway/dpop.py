"""DPoP proofs (RFC 9449): a signed statement, made for one request, that its sender holds the key that a token is for.

`read` is pure and checks everything of section 4.3 but that which needs a memory: whether the proof was used before
(`gateway.replays`), and whether its key is that of the token (`gateway.binding`). joserfc has nothing of DPoP; what
signs and verifies is its JWS.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from joserfc.jwk import Key, RSAKey

from exchange.audit.encoding import encoded
from exchange.clock import Clock
from gateway import jws
from gateway.tokens import DPOP_ALGORITHMS, MAX_NAME, SKEW_SECONDS, ProofRefused

TYP = "dpop+jwt"
MAX_AGE_SECONDS = 60.0
MAX_RSA_BITS = 4096
SLOT_SECONDS = 60  # a nonce counts in its own slot, in the one after it, and in the one before: clocks differ

# The members of a public key, by kind; a proof's jwk is taken to be these and nothing else (RFC 7518, RFC 8037).
_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


@dataclass(frozen=True, slots=True)
class Proof:
    """What a proof says that was found to be for this request: `jkt` is the RFC 7638 thumbprint of its key."""

    jkt: str
    jti: str
    issued: float
    nonce: str | None

    @property
    def mark(self) -> str:
        """What the proof is remembered by: the same jti under another key is another proof."""
        return hashlib.sha256(f"{self.jkt}\0{self.jti}".encode()).hexdigest()


def read(text: str, method: str, target: str, token: str | None, now: float) -> Proof:
    """The proof, if it holds for this method and this target (as `normalised` gives it), with this access token.

    Raises ProofRefused, saying which check failed and never what was sent.
    """
    try:
        proof = jws.unpack(text)
    except jws.NotAToken as error:
        raise _refused(error.detail) from None
    if proof.header.get("typ") != TYP:
        raise _refused(f"its typ is not {TYP}")
    if proof.algorithm not in DPOP_ALGORITHMS:
        raise _refused("its algorithm is none that is accepted")
    key = _key(proof.header.get("jwk"))
    if not jws.fits(key, proof.algorithm) or not jws.holds(proof, [key]):
        raise _refused("its signature is not that of its jwk")
    claims = proof.claims
    jti, nonce = claims.get("jti"), claims.get("nonce")
    if not isinstance(jti, str) or not 0 < len(jti) <= MAX_NAME:
        raise _refused("its jti is missing or not a short text")
    if claims.get("htm") != method:
        raise _refused("its htm is not the method of this request")
    htu = claims.get("htu")
    if not isinstance(htu, str) or normalised(htu) != target:
        raise _refused("its htu is not the address of this request, as the gateway knows it")
    if token is not None and claims.get("ath") != hash_of(token):
        raise _refused("its ath is not the hash of the access token")
    if nonce is not None and not isinstance(nonce, str):
        raise _refused("its nonce is not a text")
    return Proof(key.thumbprint(), jti, _issued(claims, now), nonce)


def hash_of(token: str) -> str:
    """What a proof's `ath` is: the hash of the access token that it comes with."""
    return encoded(hashlib.sha256(token.encode("ascii")).digest())


def _issued(claims: dict[str, Any], now: float) -> float:
    try:
        issued = jws.numeric_date(claims, "iat")
    except jws.NotAToken as error:
        raise _refused(f"its {error.detail}") from None
    if not now - MAX_AGE_SECONDS <= issued <= now + SKEW_SECONDS:
        raise _refused(f"its iat is not within {MAX_AGE_SECONDS:g} seconds of our clock")
    return issued


def _key(jwk: Any) -> Key:
    """The proof's public key. Raises ProofRefused: a jwk with a private part is one that no longer proves anything."""
    members = _MEMBERS.get(jwk["kty"]) if isinstance(jwk, dict) and isinstance(jwk.get("kty"), str) else None
    if members is None or not all(isinstance(jwk.get(name), str) for name in members):
        raise _refused("its jwk is not a public key of a kind that signs")
    if not _PRIVATE.isdisjoint(jwk):
        raise _refused("its jwk has a private part")
    key = jws.public_key({name: jwk[name] for name in members})
    if key is None or (isinstance(key, RSAKey) and not _bounded(key)):
        raise _refused("its jwk is not a public key of a kind and strength that counts")
    return key


def _bounded(key: RSAKey) -> bool:
    """Whether verifying costs no more than usual: the modulus is bounded, and the exponent one that is in use."""
    return key.raw_value.key_size <= MAX_RSA_BITS and key.get("e") in ("AQAB", "Aw")


# --- the address ------------------------------------------------------------------------------------------------------

_PRINTABLE = re.compile(r"[!-~]+")
_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_PORTS = {"http": 80, "https": 443}


def normalised(url: str) -> str | None:
    """An http URL without query and fragment, in the form in which two can be compared (RFC 3986 6.2.2 and 6.2.3).

    None for what is none, or names a user.
    """
    if not _PRINTABLE.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = parts.hostname
    if parts.scheme not in _PORTS or not host or "@" in parts.netloc:
        return None
    host = f"[{host}]" if ":" in host else host
    authority = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    return f"{parts.scheme}://{authority}{_without_dots(_ESCAPE.sub(_unescaped, parts.path))}"


def _unescaped(found: re.Match[str]) -> str:
    character = chr(int(found[1], 16))
    return character if character in _UNRESERVED else found[0].upper()


def _without_dots(path: str) -> str:
    """RFC 3986 section 5.2.4, for a path that begins with a slash or is empty."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments and segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


# --- nonces -----------------------------------------------------------------------------------------------------------


class Nonces:
    """Numbers of ours that a proof must hold, so that none can be made long before its use (RFC 9449 section 9).

    Nothing is kept: a nonce is an HMAC of the minute, so that every gateway with this secret takes it.
    """

    def __init__(self, secret: bytes, clock: Clock) -> None:
        self._key = hmac.digest(secret, b"exchange dpop nonce", "sha256")
        self._clock = clock

    def newest(self) -> str:
        """The nonce to use from now on."""
        return self._of(self._slot())

    def counts(self, nonce: str) -> bool:
        """Whether it is one that was handed out a moment ago."""
        slot = self._slot()
        return any(hmac.compare_digest(nonce.encode(), self._of(slot + away).encode()) for away in (0, -1, 1))

    def _slot(self) -> int:
        return int(self._clock().timestamp()) // SLOT_SECONDS

    def _of(self, slot: int) -> str:
        return encoded(hmac.digest(self._key, b"%d" % slot, "sha256")[:16])


def _refused(why: str) -> ProofRefused:
    return ProofRefused("proof", f"the DPoP proof does not hold: {why}")
