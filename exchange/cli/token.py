"""`exchange token`: an access token for a client of ours, for trying."""

from __future__ import annotations

from typing import Annotated, Any

import httpx2
import typer

from exchange.cli.options import CONFIG, Config, Json, load, print_json, say
from exchange.credentials import ClientCredentials, ClientKey, ClientSecret
from exchange.errors import GatewayUnavailable, IssuerUnavailable, SettingWrong
from exchange.settings import IssuerSettings, Settings, read_secret
from exchange.wiring import client_key, client_secret, gateway_url

app = typer.Typer()

_DOCUMENT = "/.well-known/openid-configuration"


@app.command()
def token(
    client: Annotated[str, typer.Argument(help="The client id, as in clients.toml.")],
    config: Config = CONFIG,
    scope: Annotated[str | None, typer.Option(help="Scopes, separated by blanks; unset: all.")] = None,
    issuer: Annotated[str | None, typer.Option(help="Which of the settings' issuers, where there are several.")] = None,
    json: Json = False,
) -> None:
    """Ask the issuer for a token.

    The running gateway's built-in one, with the secret that `exchange init` made; another one, with the key that
    `exchange client key` made.
    """
    answer = fetch(load(config), client, scope, issuer)
    if json:
        print_json(answer)
    else:
        say(answer["access_token"])


def fetch(settings: Settings, client: str, scope: str | None = None, issuer: str | None = None) -> dict[str, Any]:
    """The token endpoint's answer. Raises SettingWrong, GatewayUnavailable, IssuerUnavailable."""
    if settings.dev_issuer.enabled and issuer in (None, settings.dev_issuer.issuer):
        return _from_the_gateway(settings, client, scope)
    named = [each for each in settings.issuers if issuer in (None, each.issuer, each.name)]
    if len(named) != 1:
        known = ", ".join(each.issuer for each in settings.issuers) or "none"
        raise SettingWrong(f"name one of the settings' issuers with --issuer: {known}")
    file = client_key(settings, client)
    key = ClientKey(client, read_secret(f"the key of {client}", f"file:{file}", settings.root), named[0].issuer)
    return ClientCredentials(_endpoint(named[0]), key, scope).fetch()


def _from_the_gateway(settings: Settings, client: str, scope: str | None) -> dict[str, Any]:
    file = client_secret(settings, client)
    try:
        secret = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingWrong(f"{file} cannot be read: is {client} in clients.toml? Then run `exchange init`") from None
    try:
        httpx2.URL(gateway_url(settings))
        return ClientCredentials(f"{gateway_url(settings)}/oauth/token", ClientSecret(client, secret), scope).fetch()
    except IssuerUnavailable as away:
        raise GatewayUnavailable(f"{away.detail}; is `exchange up` running? See gateway.port") from None
    except httpx2.InvalidURL:
        raise SettingWrong("gateway.public_url: must be a URL such as https://exchange.city.example") from None


def _endpoint(issuer: IssuerSettings) -> str:
    """The issuer's token endpoint, by its discovery document (OpenID Connect Discovery, section 4)."""
    address = issuer.discovery or issuer.issuer.removesuffix("/") + _DOCUMENT
    try:
        document = httpx2.get(address, timeout=10).json()
        named, endpoint = document.get("issuer"), document.get("token_endpoint")
    except httpx2.InvalidURL:
        raise SettingWrong(f"issuers.discovery: {address} is no URL") from None
    except httpx2.HTTPError as error:
        raise IssuerUnavailable(f"{address} ({type(error).__name__})") from None
    except (ValueError, AttributeError):
        raise IssuerUnavailable(f"{address} is no discovery document") from None
    if named != issuer.issuer or not isinstance(endpoint, str):
        raise SettingWrong(f"issuers.issuer: the document at {address} is that of another issuer, or has no endpoint")
    return endpoint
