"""deploy/keycloak/city-realm.json says of each client what policies/clients.toml says, as the gateway asks for it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from exchange.settings import GatewaySettings, IssuerSettings

ROOT = Path(__file__).parent.parent
REALM = json.loads((ROOT / "deploy/keycloak/city-realm.json").read_text("utf-8"))
LISTED = tomllib.loads((ROOT / "policies/clients.toml").read_text("utf-8"))["clients"]
CLIENTS = {client["clientId"]: client for client in REALM["clients"]}
CONSOLE = "exchange-console"


def test_the_realm_has_the_clients_of_the_list_and_a_console() -> None:
    assert set(CLIENTS) == {client["client_id"] for client in LISTED} | {CONSOLE}


@pytest.mark.parametrize("listed", LISTED, ids=lambda client: str(client["client_id"]))
def test_a_departments_client_shows_who_it_is_by_a_key_and_does_nothing_else(listed: dict[str, Any]) -> None:
    client = CLIENTS[listed["client_id"]]
    assert client["clientAuthenticatorType"] == "client-jwt"
    assert client["serviceAccountsEnabled"] is True
    assert not client["publicClient"]
    assert not any(client[each] for each in ("standardFlowEnabled", "implicitFlowEnabled", "directAccessGrantsEnabled"))
    assert client["attributes"]["access.token.header.type.rfc9068"] == "true"
    assert set(client["defaultClientScopes"]) == {"exchange", *listed["scopes"]}
    assert client["name"] == listed["name"]


def test_no_key_and_no_secret_is_in_the_file() -> None:
    text = json.dumps(REALM)
    assert '"secret"' not in text
    assert all(client["attributes"].get("jwks.string", '{"keys": []}') == '{"keys": []}' for client in CLIENTS.values())
    assert "users" not in REALM


def test_the_console_is_public_and_must_use_pkce() -> None:
    console = CLIENTS[CONSOLE]
    assert console["publicClient"] is True
    assert console["attributes"]["pkce.code.challenge.method"] == "S256"
    assert console["attributes"]["access.token.header.type.rfc9068"] == "true"
    assert not any("*" in address for address in console["redirectUris"])


def test_tokens_are_for_the_gateway_and_short() -> None:
    scopes = {scope["name"]: scope for scope in REALM["clientScopes"]}
    assert set(scopes) == {"exchange", "view", "publish", "registry"}
    (audience,) = [
        mapper["config"]["included.custom.audience"]
        for mapper in scopes["exchange"]["protocolMappers"]
        if mapper["protocolMapper"] == "oidc-audience-mapper"
    ]
    assert audience == GatewaySettings().audience
    assert all(
        scopes[name]["attributes"]["include.in.token.scope"] == "true" for name in ("view", "publish", "registry")
    )
    trusted = IssuerSettings(issuer="https://login.city.example/realms/city")
    assert REALM["accessTokenLifespan"] <= trusted.max_lifetime_s
    assert REALM["defaultSignatureAlgorithm"] in trusted.algorithms
