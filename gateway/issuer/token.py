"""The token endpoint: client credentials in, an access token out (RFC 6749 section 4.4, RFC 9068)."""

from __future__ import annotations

import binascii
import secrets
from base64 import b64decode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jwt
from joserfc.jwk import ECKey, Key, OKPKey

from exchange.clock import Clock
from exchange.errors import SettingWrong
from exchange.settings import IssuerSettings, SigningAlgorithm
from gateway import dpop, jws
from gateway.issuer.assertions import ASSERTION_TYPE, AssertionRefused, UsedAssertions, authenticate
from gateway.issuer.clients import DevClient
from gateway.keysets import FixedKeys
from gateway.tokens import DPOP_ALGORITHMS, ProofRefused, TrustedIssuer

SCOPES = ("view", "publish", "registry")
MAX_PARAMETERS = 16
TYP = "at+jwt"
_NOBODY = DevClient("", secret=bytes(32))


class OAuthError(Exception):
    """An answer of the token endpoint that is an error (RFC 6749 section 5.2). `description` names no value."""

    def __init__(self, error: str, description: str = "", *, challenge: bool = False) -> None:
        super().__init__(error)
        self.error = error
        self.description = description
        self.challenge = challenge  # the client used the Authorization header, so it gets WWW-Authenticate

    @property
    def status(self) -> int:
        return 401 if self.error == "invalid_client" else 400


class SigningKey:
    """The issuer's own key: Ed25519 or P-256, from a PEM file."""

    def __init__(self, pem: bytes) -> None:
        """Raises SettingWrong if this is no such key."""
        try:
            private = load_pem_private_key(pem, None)
        except (ValueError, TypeError):
            raise SettingWrong("dev_issuer.key: cannot be read as PEM without a password") from None
        self.algorithm: SigningAlgorithm
        self.key: Key
        if isinstance(private, Ed25519PrivateKey):
            self.algorithm, self.key = "Ed25519", OKPKey.import_key(pem)
        elif isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP256R1):
            self.algorithm, self.key = "ES256", ECKey.import_key(pem)
        else:
            raise SettingWrong("dev_issuer.key: must be an Ed25519 or P-256 key; `exchange init` makes one")
        self.kid = self.key.thumbprint()

    def public_jwk(self) -> dict[str, Any]:
        return {**self.key.as_dict(private=False), "kid": self.kid, "use": "sig", "alg": self.algorithm}


@dataclass(frozen=True, slots=True)
class DevIssuer:
    """The built-in issuer: `name` is its issuer string, `url` where it is; `audience` is whom its tokens are for."""

    name: str
    url: str
    audience: str
    key: SigningKey
    clients: Mapping[str, DevClient]
    used: UsedAssertions
    lifetime_s: int
    clock: Clock

    @property
    def endpoint(self) -> str:
        return f"{self.url}/oauth/token"

    def token(self, authorization: str | None, body: bytes, proof: str | None = None) -> dict[str, Any]:
        """Answer a token request: its Authorization header, if any, its form, and its DPoP proof. Raises OAuthError.

        Writes to disk when an assertion or a proof is used: call it from a thread.
        """
        form = _form(body)
        if form.get("grant_type") != "client_credentials":
            missing = "grant_type" not in form
            raise OAuthError("invalid_request" if missing else "unsupported_grant_type", "grant: client_credentials")
        client = self._authenticate(authorization, form)
        scope = _scope(form.get("scope"))
        bound = {} if proof is None else {"cnf": {"jkt": self._thumbprint(proof)}}
        now = int(self.clock().timestamp())
        claims = {
            "iss": self.name,
            "sub": client.client_id,
            "client_id": client.client_id,
            "aud": self.audience,
            "iat": now,
            "exp": now + self.lifetime_s,
            "jti": secrets.token_urlsafe(16),
            "scope": scope,
            **bound,
        }
        header = {"typ": TYP, "alg": self.key.algorithm, "kid": self.key.kid}
        token = jwt.encode(header, claims, self.key.key, algorithms=[self.key.algorithm])
        kind = "DPoP" if bound else "Bearer"
        return {"access_token": token, "token_type": kind, "expires_in": self.lifetime_s, "scope": scope}

    def metadata(self) -> dict[str, Any]:
        """The discovery document (OpenID Connect Discovery 1.0, RFC 8414)."""
        return {
            "issuer": self.name,
            "token_endpoint": self.endpoint,
            "jwks_uri": f"{self.url}/oauth/jwks.json",
            "response_types_supported": [],
            "grant_types_supported": ["client_credentials"],
            "scopes_supported": list(SCOPES),
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "private_key_jwt"],
            "token_endpoint_auth_signing_alg_values_supported": sorted(jws.ALGORITHMS),
            "dpop_signing_alg_values_supported": list(DPOP_ALGORITHMS),
        }

    def jwks(self) -> dict[str, Any]:
        """The issuer's public key as a JWK Set."""
        return {"keys": [self.key.public_jwk()]}

    def trusted(self) -> TrustedIssuer:
        """How this gateway trusts its own issuer."""
        return trusted(self.name, self.key, self.lifetime_s)

    def _thumbprint(self, text: str) -> str:
        """The key that the token is for (RFC 9449 section 5); its proof counts once, also after a restart."""
        now = self.clock().timestamp()
        try:
            proof = dpop.read(text, "POST", dpop.normalised(self.endpoint) or "", None, now)
        except ProofRefused as error:
            raise OAuthError("invalid_dpop_proof", error.detail) from None
        if not self.used.use("\0dpop", proof.mark, proof.issued + dpop.MAX_AGE_SECONDS, now):
            raise OAuthError("invalid_dpop_proof", "the DPoP proof was used before")
        return proof.jkt

    def _authenticate(self, authorization: str | None, form: Mapping[str, str]) -> DevClient:
        if authorization is not None and "client_assertion" in form:
            raise OAuthError("invalid_request", "one way of authentication, not two")
        if authorization is not None:
            return self._by_secret(authorization)
        if form.get("client_assertion_type") != ASSERTION_TYPE or "client_assertion" not in form:
            raise OAuthError("invalid_client", "authenticate by client_secret_basic or private_key_jwt")
        audiences: Collection[str] = {self.name, self.endpoint}
        try:
            client = authenticate(form["client_assertion"], self.clients, audiences, self.used, self.clock)
        except AssertionRefused as error:
            raise OAuthError("invalid_client", error.told or "client authentication failed") from None
        if form.get("client_id", client.client_id) != client.client_id:
            raise OAuthError("invalid_client", "client_id is not the sub of the assertion")
        return client

    def _by_secret(self, authorization: str) -> DevClient:
        client_id, secret = _basic(authorization)
        client = self.clients.get(client_id, _NOBODY)
        if not client.knows(secret):
            raise OAuthError("invalid_client", "client authentication failed", challenge=True)
        return client


def trusted(name: str, key: SigningKey, lifetime_s: int) -> TrustedIssuer:
    """How the built-in issuer of this name is trusted: its one key and algorithm, short tokens of type at+jwt."""
    settings = IssuerSettings(
        issuer=name,
        typ=[TYP],
        algorithms=[key.algorithm],
        max_lifetime_s=lifetime_s,
        client_claims=["client_id"],
    )
    public = jws.public_key(key.public_jwk())
    return TrustedIssuer(settings, FixedKeys([public] if public is not None else []))


def _form(body: bytes) -> dict[str, str]:
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=bool(body), errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )  # fmt: skip
    except ValueError:
        raise OAuthError("invalid_request", "the body is not a form of a few parameters") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthError("invalid_request", "a parameter stands there twice")  # RFC 6749 section 3.2
    return form


def _basic(authorization: str) -> tuple[str, str]:
    """Client id and secret, each form-encoded before they were joined (RFC 6749 section 2.3.1)."""
    refused = OAuthError("invalid_client", "the Authorization header is not Basic", challenge=True)
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        raise refused
    try:
        client_id, colon, secret = b64decode(credentials, validate=True).decode("utf-8").partition(":")
        parts = unquote_plus(client_id, errors="strict"), unquote_plus(secret, errors="strict")
    except (binascii.Error, ValueError):
        raise refused from None
    if not colon:
        raise refused
    return parts


def _scope(asked: str | None) -> str:
    """The scopes of the token: those asked for, else all. What a client may do is decided by the gateway's own list."""
    words = list(SCOPES) if asked is None else [word for word in dict.fromkeys(asked.split(" ")) if word]
    if not words or not set(words) <= set(SCOPES):
        raise OAuthError("invalid_scope", f"scopes: {', '.join(SCOPES)}")
    return " ".join(words)
