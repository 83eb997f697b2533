"""What an issuer says of itself: OpenID Connect Discovery 1.0 or, where an issuer knows only that, RFC 8414.

Both documents must name the configured issuer exactly: whoever can answer at another address is another issuer. What
came by https leads only to places by https, and a client's secret goes nowhere else, but for this machine's loopback.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, TypeGuard
from urllib.parse import urlsplit

import httpx2

from exchange.errors import SettingWrong
from exchange.settings import DISCOVERED, IssuerSettings
from gateway import strictjson

DOCUMENT_BYTES = 512 * 1024
OPENID = "/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server"


class Refused(Exception):
    """A document that cannot be used, with the reason. `status`: what the server answered, if it was not 200."""

    def __init__(self, reason: str, status: int = 200) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Metadata:
    """Where an issuer keeps its keys and, if it says so, where it gives tokens."""

    jwks_uri: str
    token_endpoint: str | None


def addresses(settings: IssuerSettings) -> list[str]:
    """Where an issuer's document may be, in the order in which they are tried.

    OpenID Connect appends its path to the issuer (section 4), RFC 8414 puts its own between host and path (section 3).
    """
    if settings.discovery is not None:
        return [settings.discovery]
    issuer = urlsplit(settings.issuer.removesuffix("/"))
    return [settings.issuer.removesuffix("/") + OPENID, issuer._replace(path=OAUTH + issuer.path).geturl()]


async def discover(settings: IssuerSettings, http: httpx2.AsyncClient) -> Metadata:
    """The issuer's metadata. Raises Refused, httpx2.HTTPError, httpx2.InvalidURL.

    The second address is asked only if the first says that there is nothing (4xx): none that is ill is passed by.
    """
    first, *more = addresses(settings)
    try:
        return _metadata(await fetch(first, http), settings, first)
    except Refused as refused:
        if not more or not 400 <= refused.status < 500:
            raise
        try:
            return _metadata(await fetch(more[0], http), settings, more[0])
        except Refused as second:
            if 400 <= second.status < 500:
                raise refused from None
            raise


async def fetch(address: str, http: httpx2.AsyncClient) -> dict[str, Any]:
    """A JSON object of bounded size, read strictly. Raises Refused, httpx2.HTTPError, httpx2.InvalidURL."""
    async with http.stream("GET", address, headers={"accept": "application/json"}) as response:
        if response.status_code != 200:
            raise Refused(f"status {response.status_code}", response.status_code)
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > DOCUMENT_BYTES:
                raise Refused(f"a document of more than {DOCUMENT_BYTES} bytes")
    try:
        value = strictjson.read(bytes(body))
    except strictjson.Malformed as error:
        raise Refused(f"a document that is {error.detail}") from None
    if not isinstance(value, dict):
        raise Refused("a document that is not a JSON object")
    return value


def check_addresses(issuer: IssuerSettings) -> bool:
    """Whether keys come over a network in the clear, where anyone on the way could choose them: who may read is theirs.

    Raises SettingWrong for addresses that are none, and for secrets that would leave in the clear.
    """
    for name, address in (("issuer", issuer.issuer), ("discovery", issuer.discovery), ("jwks", issuer.jwks)):
        if _scheme(address or "https://unset") not in ("https", "http"):
            raise SettingWrong(f"issuers.{name}: must be a URL that begins with https://")
    given = None if issuer.token_endpoint == DISCOVERED else issuer.token_endpoint
    if _scheme(given or "https://unset") != "https" and (given is None or not _is_local(given)):
        raise SettingWrong(
            "issuers.token_endpoint: must be a URL that begins with https:// (secrets go there), or `discovery`"
        )
    if issuer.token_endpoint == DISCOVERED and _in_the_clear(issuer.discovery or issuer.issuer):
        raise SettingWrong("issuers.token_endpoint: `discovery` needs a discovery document by https: secrets go there")
    return _in_the_clear(issuer.jwks or issuer.discovery or issuer.issuer)


def is_loopback(host: str | None) -> bool:
    """Whether this host can only be reached from this machine."""
    try:
        return host == "localhost" or (host is not None and ip_address(host).is_loopback)
    except ValueError:
        return False


def _scheme(address: str) -> str | None:
    """The scheme of a URL with a host; None for anything else."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    return parts.scheme if parts.hostname else None


def _is_local(address: str) -> bool:
    return _scheme(address) is not None and is_loopback(urlsplit(address).hostname)


def _in_the_clear(address: str) -> bool:
    return _scheme(address) == "http" and not _is_local(address)


def _metadata(document: dict[str, Any], settings: IssuerSettings, address: str) -> Metadata:
    if document.get("issuer") != settings.issuer:
        raise Refused("the discovery document names another issuer than the one configured")
    keys, endpoint = document.get("jwks_uri"), document.get("token_endpoint")
    if not isinstance(keys, str):
        raise Refused("the discovery document names no jwks_uri")
    scheme = _scheme(keys)
    if scheme is None:
        raise Refused("the discovery document's jwks_uri is no address")
    if urlsplit(address).scheme == "https" and scheme != "https":
        raise Refused("the discovery document came by https and names keys that do not")
    return Metadata(keys, endpoint if _takes_secrets(endpoint, address) else None)


def _takes_secrets(endpoint: Any, address: str) -> TypeGuard[str]:
    if not isinstance(endpoint, str):
        return False
    if _scheme(endpoint) == "http":  # in the clear only on this machine, and not where the document came by https
        return _is_local(endpoint) and urlsplit(address).scheme == "http"
    return _scheme(endpoint) == "https"
