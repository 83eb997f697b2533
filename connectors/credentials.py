"""The access token with which a connector calls the schema registry: OAuth 2, client credentials (RFC 6749, 4.4)."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx2

from exchange.errors import RegistryUnavailable, SettingWrong

_SPARE_SECONDS = 30.0  # a token is renewed so long before it ends
_TIMEOUT = 10.0


class ClientCredentials:
    """Gives an access token, and fetches a new one before it ends. Raises RegistryUnavailable, SettingWrong."""

    def __init__(
        self,
        token_url: str,
        client_id: str,
        secret: bytes,
        *,
        scope: str = "registry",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = token_url
        self._auth = (client_id, secret.decode("utf-8").strip())
        self._scope = scope
        self._monotonic = monotonic
        self._token = ""
        self._ends = 0.0

    def __call__(self) -> str:
        """The token."""
        if self._monotonic() >= self._ends - _SPARE_SECONDS:
            self._fetch()
        return self._token

    def _fetch(self) -> None:
        form = {"grant_type": "client_credentials", "scope": self._scope}
        try:
            answer = httpx2.post(self._url, data=form, auth=self._auth, timeout=_TIMEOUT)
        except httpx2.HTTPError as error:
            raise RegistryUnavailable(f"the token endpoint {self._url} ({type(error).__name__})") from None
        if answer.status_code >= 500 or answer.status_code == 429:
            raise RegistryUnavailable(f"the token endpoint {self._url} answers {answer.status_code}")
        try:
            found = answer.json()
            token, lifetime = found.get("access_token"), float(found.get("expires_in", 60))
        except (ValueError, AttributeError):
            raise RegistryUnavailable(f"the token endpoint {self._url} answers something else than JSON") from None
        if answer.status_code != 200 or not isinstance(token, str):
            raise SettingWrong(
                f"[registry] the token endpoint refuses the client {self._auth[0]} ({found.get('error', 'no token')}): "
                "check client_id, client_secret and token_url"
            )
        self._token, self._ends = token, self._monotonic() + lifetime
