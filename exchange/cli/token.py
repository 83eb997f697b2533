"""`exchange token`: an access token from the built-in issuer, for trying."""

from __future__ import annotations

from typing import Annotated

import httpx2
import typer

from exchange.cli.options import CONFIG, Config, Json, load, print_json, say
from exchange.errors import GatewayUnavailable, SettingWrong
from exchange.settings import Settings
from exchange.wiring import client_secret, gateway_url

app = typer.Typer()


@app.command()
def token(
    client: Annotated[str, typer.Argument(help="The client id, as in clients.toml.")],
    config: Config = CONFIG,
    scope: Annotated[str | None, typer.Option(help="Scopes, separated by blanks; unset: all.")] = None,
    json: Json = False,
) -> None:
    """Ask the running gateway's built-in issuer for a token, with the secret that `exchange init` made."""
    answer = fetch(load(config), client, scope)
    if json:
        print_json(answer)
    else:
        say(answer["access_token"])


def fetch(settings: Settings, client: str, scope: str | None = None) -> dict[str, str]:
    """The token endpoint's answer. Raises SettingWrong, GatewayUnavailable."""
    secret = client_secret(settings, client)
    try:
        password = secret.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        raise SettingWrong(f"{secret} cannot be read: is {client} in clients.toml? Then run `exchange init`") from None
    form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
    try:
        answer = httpx2.post(f"{gateway_url(settings)}/oauth/token", data=form, auth=(client, password), timeout=10)
    except httpx2.InvalidURL:
        raise SettingWrong("gateway.public_url: must be a URL such as https://exchange.city.example") from None
    except httpx2.TransportError:
        raise GatewayUnavailable(f"{gateway_url(settings)} does not answer; is `exchange up` running?") from None
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict) or (answer.status_code == 200 and "access_token" not in found):
        raise GatewayUnavailable(f"what answers at {gateway_url(settings)} is no token endpoint; see gateway.port")
    if answer.status_code != 200:
        raise SettingWrong(f"the issuer refused {client}: {found.get('error')} {found.get('error_description', '')}")
    return found
