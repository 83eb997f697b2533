"""Access tokens: JWTs from a known issuer, checked as RFC 9068 section 4 and RFC 8725 ask.

Times stand against two clocks: one that goes ahead by up to ten seconds is forgiven (`iat`, `nbf`), an end that is past
never is (`exp`). A token that nobody known has signed is refused in one and the same sentence; an authentic one is told
which claim fails, so that its owner can mend it. No claim's value is repeated anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from exchange.clock import Clock
from exchange.errors import Unauthenticated
from exchange.settings import IssuerSettings
from gateway import jws
from gateway.keysets import Keys

SKEW_SECONDS = 10.0
MAX_NAME = 255
# Of DPoP proofs: with a public key only, and of those what clients have.
DPOP_ALGORITHMS = ("ES256", "ES384", "EdDSA", "Ed25519", "PS256", "RS256")

_THUMBPRINTS = ("jkt", "x5t#S256")
_THUMBPRINT = re.compile("[A-Za-z0-9_-]{43}")

Reason = Literal[
    "missing", "malformed", "not_a_token", "issuer", "type", "algorithm", "key", "signature",
    "expired", "not_yet", "time", "lifetime", "audience", "client", "subject", "scope", "unlisted", "secret",
    "proof", "nonce", "replay", "binding", "certificate", "unbound",
]  # fmt: skip


class TokenRefused(Unauthenticated):
    """The access token is missing or not valid"""

    def __init__(self, reason: Reason, detail: str = "the access token is not valid", error: str | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self._error = error if reason == "missing" else error or "invalid_token"

    @property
    def challenge(self) -> str:
        """The WWW-Authenticate header (RFC 6750 section 3): no error code where no credentials were sent."""
        if self.reason == "secret":
            return 'Basic realm="exchange", charset="UTF-8"'  # RFC 7617
        if self.reason == "missing":
            return f'Bearer realm="exchange", DPoP realm="exchange", algs="{" ".join(DPOP_ALGORITHMS)}"'
        return f'Bearer realm="exchange", error="{self._error}"'


class ProofRefused(TokenRefused):
    """The access token is bound to a key, and the request does not show that its sender holds it"""

    def __init__(self, reason: Reason, detail: str, error: str | None = None) -> None:
        error = error or ("invalid_dpop_proof" if reason in ("proof", "replay") else "invalid_token")
        super().__init__(reason, detail, error)

    @property
    def challenge(self) -> str:
        """The WWW-Authenticate header of RFC 9449 section 7.1."""
        return f'DPoP realm="exchange", error="{self._error}", algs="{" ".join(DPOP_ALGORITHMS)}"'


@dataclass(frozen=True, slots=True)
class Token:
    """What a verified token says. `person` is its `sub` where the issuer's `sub` names an officer.

    `good_until` (Unix time): its end, or when the keys stop counting by which it was verified, if that is sooner.
    `jkt` and `x5t`: the thumbprints of the key (RFC 9449) and of the certificate (RFC 8705) to which it is bound.
    """

    issuer: str
    client_id: str
    person: str | None
    scopes: frozenset[str]
    good_until: float
    jkt: str | None = None
    x5t: str | None = None


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer whose tokens are accepted, with its keys."""

    settings: IssuerSettings
    keys: Keys


class Tokens:
    """Verifies access tokens of the trusted issuers for one audience."""

    def __init__(self, issuers: Sequence[TrustedIssuer], audience: str, clock: Clock) -> None:
        self._issuers: Mapping[str, TrustedIssuer] = {issuer.settings.issuer: issuer for issuer in issuers}
        self._audience = audience
        self._clock = clock

    async def verify(self, text: str) -> Token:
        """What the token says. Raises TokenRefused; IssuerUnavailable if its issuer's keys are not to be had."""
        try:
            unverified = jws.unpack(text)
        except jws.NotAToken:
            raise TokenRefused("not_a_token") from None
        name = unverified.claims.get("iss")
        issuer = self._issuers.get(name) if isinstance(name, str) else None
        if issuer is None:
            raise TokenRefused("issuer")
        await self._authentic(unverified, issuer)
        return self._token(unverified.claims, issuer)

    async def _authentic(self, token: jws.Unverified, issuer: TrustedIssuer) -> None:
        typ = token.header.get("typ")
        if not isinstance(typ, str) or media_type(typ) not in map(media_type, issuer.settings.typ):
            raise TokenRefused("type")
        if token.algorithm not in issuer.settings.algorithms:
            raise TokenRefused("algorithm")
        keys = await issuer.keys.fitting(token.algorithm, token.kid)
        if not keys:
            raise TokenRefused("key")
        if not jws.holds(token, keys):
            raise TokenRefused("signature")

    def _token(self, claims: Mapping[str, Any], issuer: TrustedIssuer) -> Token:
        settings = issuer.settings
        now = self._clock().timestamp()
        issued, expires = _time(claims, "iat"), _time(claims, "exp")
        if expires <= now:
            raise TokenRefused("expired", "the token has expired")
        if issued > now + SKEW_SECONDS or ("nbf" in claims and _time(claims, "nbf") > now + SKEW_SECONDS):
            raise TokenRefused("not_yet", "the token is not valid yet (iat or nbf)")
        if expires - issued > settings.max_lifetime_s:
            raise TokenRefused("lifetime", f"the token lives longer than {settings.max_lifetime_s} seconds (exp, iat)")
        if not self._for_us(claims.get("aud")):
            raise TokenRefused("audience", "the token is not for this gateway (aud)")
        client_id = _client(claims, settings.client_claims)
        subject = _subject(claims)
        person = subject if settings.person_subjects and subject != client_id else None
        jkt, x5t = _confirmation(claims)
        return Token(settings.listed, client_id, person, _scopes(claims), min(expires, issuer.keys.until), jkt, x5t)

    def _for_us(self, audience: Any) -> bool:
        if isinstance(audience, list):
            return all(isinstance(one, str) for one in audience) and self._audience in audience
        return isinstance(audience, str) and audience == self._audience


def media_type(typ: str) -> str:
    """RFC 7515 section 4.1.9: compared without regard to case, and `application/` may be left out."""
    return typ.lower().removeprefix("application/")


def _time(claims: Mapping[str, Any], name: str) -> float:
    try:
        return jws.numeric_date(claims, name)
    except jws.NotAToken as error:
        raise TokenRefused("time", f"the token's {error.detail}") from None


def _client(claims: Mapping[str, Any], names: Sequence[str]) -> str:
    """The client id: the first of these claims that is there at all, so that none can be slipped in before another."""
    present = next((name for name in names if name in claims), None)
    if present is None:
        raise TokenRefused("client", f"the token names no client (claim {' or '.join(names)})")
    if not _is_name(claims[present]):
        raise TokenRefused("client", f"the token's {present} is not a name of at most {MAX_NAME} characters")
    return str(claims[present])


def _subject(claims: Mapping[str, Any]) -> str | None:
    if "sub" not in claims:
        return None
    if not _is_name(claims["sub"]):
        raise TokenRefused("subject", f"the token's sub is not a name of at most {MAX_NAME} characters")
    return str(claims["sub"])


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """The words of `scope`: a text split at blanks (RFC 6749 section 3.3), or a list of words."""
    value = claims.get("scope", "")
    if isinstance(value, str):
        return frozenset(value.split(" ")) - {""}
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return frozenset(value)
    raise TokenRefused("scope", "the token's scope is neither a text nor a list of words")


def _confirmation(claims: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The thumbprints of `cnf` (RFC 7800): of a key, of a certificate.

    A token that is bound in another way only must not pass for one that is not bound.
    """
    if "cnf" not in claims:
        return None, None
    cnf = claims["cnf"]
    found = [cnf[name] for name in _THUMBPRINTS if name in cnf] if isinstance(cnf, dict) else []
    if not found or not all(isinstance(one, str) and _THUMBPRINT.fullmatch(one) for one in found):
        raise TokenRefused("binding", "the token is bound (cnf) in a way that is not known here")
    return cnf.get("jkt"), cnf.get("x5t#S256")
