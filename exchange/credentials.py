"""How a client of ours gets its access tokens: OAuth 2, client credentials (RFC 6749, 4.4).

It shows who it is by a secret (2.3.1), or by a key of its own: private_key_jwt (RFC 7523, OpenID Connect Core 9), where
the issuer knows the public half only.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx2
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey

from exchange.errors import IssuerUnavailable, SettingWrong

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_SECONDS = 60
_SPARE_SECONDS = 30.0  # a token is renewed so long before it ends
_TIMEOUT = 10.0
_CURVES = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}


class Client(Protocol):
    """Who asks for a token. `shown` is what a request says of it: form fields, and HTTP Basic if any."""

    @property
    def client_id(self) -> str: ...

    def shown(self) -> tuple[Mapping[str, str], tuple[str, str] | None]: ...


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A client with a secret."""

    client_id: str
    secret: str = field(repr=False)

    def shown(self) -> tuple[Mapping[str, str], tuple[str, str] | None]:
        """See Client."""
        return {}, (self.client_id, self.secret)


class ClientKey:
    """A client with a key of its own (PEM: EC, Ed25519 or RSA). `audience`: the issuer, as it stands in its tokens.

    Raises SettingWrong for a key that is none.
    """

    def __init__(self, client_id: str, pem: bytes, audience: str) -> None:
        self.client_id = client_id
        self._audience = audience
        self._key = _imported(pem)

    @classmethod
    def generated(cls) -> bytes:
        """A new key (P-256), as PEM."""
        return ECKey.generate_key("P-256").as_pem(private=True)

    @property
    def jwks(self) -> dict[str, Any]:
        """The public half, as the issuer is told it (RFC 7517)."""
        public = {**self._key.as_dict(private=False), "use": "sig", "alg": self._algorithm}
        return {"keys": [{"kid": self._key.thumbprint(), **public}]}

    def shown(self) -> tuple[Mapping[str, str], tuple[str, str] | None]:
        """See Client. Each assertion has a number of its own, and counts for a minute."""
        now = int(time.time())
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": self._audience,
            "jti": secrets.token_urlsafe(16),
            "iat": now,
            "exp": now + ASSERTION_SECONDS,
        }
        header = {"alg": self._algorithm, "typ": "JWT", "kid": self._key.thumbprint()}
        assertion = jwt.encode(header, claims, self._key, algorithms=[self._algorithm])
        return {"client_id": self.client_id, "client_assertion_type": ASSERTION, "client_assertion": assertion}, None

    @property
    def _algorithm(self) -> str:
        if isinstance(self._key, ECKey):
            return _CURVES[self._key.curve_name]
        # Of RFC 9864's names for it issuers know neither all nor the same ones; the old name they all know.
        return "EdDSA" if isinstance(self._key, OKPKey) else "RS256"


class ClientCredentials:
    """Gives an access token, and fetches a new one before it ends. Raises IssuerUnavailable, SettingWrong."""

    def __init__(
        self, token_url: str, client: Client, scope: str | None, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = token_url
        self._client = client
        self._scope = scope
        self._monotonic = monotonic
        self._token = ""
        self._ends = 0.0

    def __call__(self) -> str:
        """The token."""
        if self._monotonic() >= self._ends - _SPARE_SECONDS:
            answer = self.fetch()
            self._token, self._ends = answer["access_token"], self._monotonic() + float(answer.get("expires_in", 60))
        return self._token

    def fetch(self) -> dict[str, Any]:
        """The token endpoint's answer (RFC 6749, 5.1)."""
        form, basic = self._client.shown()
        asked = {"grant_type": "client_credentials", **({"scope": self._scope} if self._scope else {}), **form}
        try:
            answer = httpx2.post(self._url, data=asked, auth=basic, timeout=_TIMEOUT)
        except httpx2.InvalidURL:
            raise SettingWrong(f"{self._url} is no URL of a token endpoint") from None
        except httpx2.HTTPError as error:
            raise IssuerUnavailable(f"{self._url} does not answer ({type(error).__name__})") from None
        if answer.status_code >= 500 or answer.status_code == 429:
            raise IssuerUnavailable(f"{self._url} answers {answer.status_code}")
        try:
            found = answer.json()
            float(found.get("expires_in", 60))
            if answer.status_code == 200:
                _text(found["access_token"])
        except (ValueError, TypeError, AttributeError, KeyError):
            raise IssuerUnavailable(f"what answers at {self._url} is no token endpoint") from None
        if answer.status_code != 200:
            raise SettingWrong(
                f"the token endpoint {self._url} refuses the client {self._client.client_id} "
                f"({_word(found.get('error'))}): check the client id, its secret or key, and its scopes"
            )
        return dict(found)


def _imported(pem: bytes) -> ECKey | OKPKey | RSAKey:
    for kind in (ECKey, OKPKey, RSAKey):
        try:
            key = kind.import_key(pem)
        except (ValueError, TypeError, AttributeError, JoseError):
            continue
        if key.is_private and (isinstance(key, RSAKey) or key.curve_name in (*_CURVES, "Ed25519")):
            return key
    raise SettingWrong("the client's key is no private key (PEM, without a password) of EC, Ed25519 or RSA")


def _text(value: Any) -> None:
    if not isinstance(value, str):
        raise TypeError


def _word(text: Any) -> str:
    """An error code of RFC 6749, 5.2; what else a stranger says is not repeated."""
    return (
        text
        if isinstance(text, str) and text.replace("_", "").isalpha() and len(text) < 40
        else "no reason that can be read"
    )
