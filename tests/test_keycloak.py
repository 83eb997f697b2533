"""A real Keycloak with the realm of deploy/keycloak: tokens, a merged view, its key replaced, a client that is out."""

from __future__ import annotations

import json
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from joserfc.jwk import Key
from typer.testing import CliRunner

from exchange.cli import client
from exchange.cli.materialise import topics_to_read
from exchange.cli.token import fetch
from exchange.clock import system_clock
from exchange.errors import SettingWrong
from exchange.materialise import Effects, Materialiser
from exchange.registry import StoreRegistry
from exchange.settings import Settings
from exchange.wiring import key_maker, open_broker, open_store
from gateway.doctor.command import look
from tests.support.bus import Running
from tests.support.keycloak import Keycloak
from tests.support.site import Process, Site, gateway_process
from tests.support.tokens import ec, okp, rsa

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]  # the first start builds the server

TEA = "91290101429607868H"
DEPARTMENTS: dict[str, Key] = {
    "tax-desk": ec("tax-1"),
    "tax-connector": okp("tax-2"),
    "market-connector": rsa("market-1"),
}
REDIRECT = "http://127.0.0.1:8080/console/callback"
REGISTERED = {
    "uscc": TEA, "name": "澜汀茶叶有限公司", "kind": "limited", "currency": "CNY", "registered_on": "2020-05-06",
    "address": "茶园路1号", "status": "active",
}  # fmt: skip
ASSESSED = {
    "uscc": TEA, "name": "澜汀茶叶有限公司", "address": "茶园路1号之二", "taxpayer_type": "general",
    "filing_status": "normal", "arrears": "0.00", "revision": "1", "updated_at": "2026-03-01T08:00:00.000000Z",
}  # fmt: skip


@dataclass
class City:
    """The reference city, whose clients get their tokens of this Keycloak."""

    keycloak: Keycloak
    site: Site
    gateway: Process

    def token(self, client_id: str) -> str:
        return self.keycloak.token(client_id, DEPARTMENTS[client_id])

    def ask(self, token: str) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}", "Exchange-Purpose": "tax-assessment"}
        return httpx2.post(f"{self.gateway.url}/v1/enterprises/view", json={"id": TEA}, headers=headers, timeout=30)

    def push(self, token: str, contract: str, record: dict[str, Any]) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx2.post(
            f"{self.gateway.url}/v1/datasets/{contract}/records", json=[record], headers=headers, timeout=30
        )


@pytest.fixture(scope="module")
def city(keycloak_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    keycloak = Keycloak(keycloak_url)
    for client_id, key in DEPARTMENTS.items():
        keycloak.give_key(client_id, key)
    inside = keycloak.root.replace("127.0.0.1", "localhost")  # where the gateway reaches it; tokens name the other
    site = Site.made(tmp_path_factory.mktemp("city"))
    site.config.write_text(
        site.config.read_text("utf-8").replace("[dev_issuer]\nenabled = true", "[dev_issuer]\nenabled = false")
        + f'[[issuers]]\nissuer = "{keycloak.issuer()}"\nname = "https://issuer.exchange.invalid"\n'
        f'discovery = "{inside}/realms/city/.well-known/openid-configuration"\ntoken_endpoint = "discovery"\n',
        "utf-8",
    )
    settings = site.settings()
    with ExitStack() as stack:
        store = stack.enter_context(closing(open_store(settings, system_clock)))
        broker = stack.enter_context(closing(open_broker(settings)))
        site.apply()
        effects = Effects(StoreRegistry(store.engine), key_maker(settings), system_clock)
        stack.enter_context(
            Running(Materialiser(broker, store, effects, lambda: topics_to_read(store), group="city", owner="city"))
        )
        yield City(keycloak, site, stack.enter_context(gateway_process(site)))


def until(condition: Callable[[], bool], seconds: float, what: str) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, what
        time.sleep(0.2)
    return time.monotonic() - began


def test_from_a_clients_key_to_a_merged_view(city: City) -> None:
    """Each department shows its own kind of key; what they push is merged for the one who may see both."""
    for client_id, contract, record in (
        ("market-connector", "market.registration", REGISTERED),
        ("tax-connector", "tax.enterprise", ASSESSED),
    ):
        pushed = city.push(city.token(client_id), contract, record)
        assert (pushed.status_code, pushed.json()["accepted"]) == (200, 1), pushed.text
    token = city.token("tax-desk")

    def said_by() -> list[tuple[str, str]]:
        answer = city.ask(token)
        assert answer.status_code == 200, answer.text
        value = answer.json()["values"].get("enterprise.address", {"said_by": []})
        return [(each["department"], each["value"]) for each in value["said_by"]]

    assert not [each for one in look(city.site.config, token) for each in one.findings], "and doctor says so"
    both = [("market", "茶园路1号"), ("tax", "茶园路1号之二")]
    until(lambda: said_by() == both, 30, "the view never showed both")
    # Its token has the scopes of the realm file, so it may read and nothing else.
    assert city.push(token, "tax.enterprise", ASSESSED).status_code == 403


def test_a_key_that_is_made_here_gets_a_token_there(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "load", Settings.load)
    told = [CliRunner().invoke(client.app, ["key", "housing-desk", "-c", str(city.site.config)]) for _ in range(2)]
    assert told[0].output == told[1].output, "the key stays"
    jwks = json.dumps(json.loads(told[0].stdout))
    city.keycloak.change("housing-desk", attributes={"use.jwks.string": "true", "jwks.string": jwks})
    token = fetch(city.site.settings(), "housing-desk")["access_token"]
    assert claims(token)["client_id"] == "housing-desk"
    headers = {"Authorization": f"Bearer {token}", "Exchange-Purpose": "housing-allocation"}
    asked = f"{city.gateway.url}/v1/enterprises/view"
    assert httpx2.post(asked, json={"id": TEA}, headers=headers, timeout=30).status_code in (200, 403)
    with pytest.raises(SettingWrong, match="social-casework"):
        fetch(city.site.settings(), "social-casework")


def test_only_the_holder_of_the_key_gets_a_token_and_only_for_its_scopes(city: City) -> None:
    stranger = city.keycloak.ask("tax-desk", ec("tax-1"))
    assert stranger.status_code in (400, 401)
    assert "access_token" not in stranger.text
    more = city.keycloak.ask("tax-desk", DEPARTMENTS["tax-desk"], scope="publish")
    assert more.json()["error"] == "invalid_scope"


def test_tokens_that_are_not_for_the_gateway_get_the_same_401(city: City) -> None:
    keycloak = city.keycloak
    # A client as Keycloak makes it where nobody says otherwise: typ JWT, and its audience is `account`.
    key = ec("plain")
    keycloak.admin("POST", "", {"realm": "plain", "enabled": True})
    plain = {
        "clientId": "plain",
        "publicClient": False,
        "serviceAccountsEnabled": True,
        "clientAuthenticatorType": "client-jwt",
    }
    keycloak.admin("POST", "/plain/clients", plain)
    keycloak.give_key("plain", key, "plain")
    # One of the realm's own that has lost the scope with the audience mapper.
    keycloak.admin("POST", "/city/clients", {**plain, "attributes": {"access.token.header.type.rfc9068": "true"}})
    keycloak.give_key("plain", key)
    (scope,) = [one for one in keycloak.admin("GET", "/city/client-scopes") if one["name"] == "exchange"]
    client = keycloak.client("plain")
    keycloak.admin("DELETE", f"/city/clients/{client['id']}/default-client-scopes/{scope['id']}")
    mapper = {
        "name": "audience", "protocol": "openid-connect", "protocolMapper": "oidc-audience-resolve-mapper",
        "config": {"access.token.claim": "true"},
    }  # fmt: skip
    keycloak.admin("POST", f"/city/clients/{client['id']}/protocol-mappers/models", mapper)
    keycloak.change("plain", fullScopeAllowed=True)
    tokens = {
        "of another realm, as Keycloak makes it": keycloak.token("plain", key, "plain"),
        "of the administrator": keycloak.admin_token(),
        "for `account`": keycloak.token("plain", key),
    }
    named = {
        "of another realm, as Keycloak makes it": {"token: iss", "token: typ", "token: aud", "token: client"},
        "of the administrator": {"token: iss", "token: typ", "token: aud", "token: client"},
        "for `account`": {"token: aud", "token: client"},
    }
    for what, token in tokens.items():
        answer = city.ask(token)
        assert answer.status_code == 401, what
        (explained,) = look(city.site.config, token)
        assert {each.where for each in explained.findings} == named[what], (what, explained)
        if what != "of the administrator":
            assert any("its audience is account" in each.what for each in explained.findings), what
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="exchange", error="invalid_token"'
    assert claims(tokens["for `account`"])["aud"] == "account"
    assert header(tokens["of another realm, as Keycloak makes it"])["typ"] == "JWT"


def test_a_person_signs_in_at_the_console_with_pkce_only(city: City) -> None:
    keycloak = city.keycloak
    refused = httpx2.get(keycloak.authorization("exchange-console", REDIRECT), timeout=30)
    assert "code_challenge" in refused.headers["location"], "without PKCE there is no code"
    officer = {
        "username": "officer", "enabled": True, "email": "officer@city.example", "emailVerified": True,
        "firstName": "An", "lastName": "Officer", "credentials": [{"type": "password", "value": "tea-and-ink"}],
    }  # fmt: skip
    keycloak.admin("POST", "/city/users", officer)
    granted = keycloak.sign_in("exchange-console", REDIRECT, "officer", "tea-and-ink")
    token = granted["access_token"]
    assert header(token)["typ"] == "at+jwt"
    assert (claims(token)["aud"], claims(token)["azp"]) == ("exchange", "exchange-console")
    assert "email" not in claims(token), "nothing of the person is in the token but a number"
    assert city.ask(token).status_code == 403, "the console is not in clients.toml"
    assert city.ask(granted["id_token"]).status_code == 401, "an ID token is no access token"


def test_a_client_secret_opens_the_registry(city: City) -> None:
    """Registry clients that know only HTTP Basic: the token endpoint is the one of the discovery document."""
    keycloak = city.keycloak
    keycloak.change("civil-connector", clientAuthenticatorType="client-secret", secret="tea-leaves-and-ink-1979")
    address = f"{city.gateway.url}/registry/subjects"
    assert httpx2.get(address, auth=("civil-connector", "tea-leaves-and-ink-1979"), timeout=30).status_code == 200
    assert httpx2.get(address, auth=("civil-connector", "wrong"), timeout=30).status_code == 401


def test_the_realms_key_is_replaced_and_clients_are_revoked(city: City) -> None:
    """A new key counts within the gateway's half minute and old tokens go on; who is out is out."""
    old = city.token("tax-desk")
    assert city.ask(old).status_code == 200
    city.keycloak.rotate()
    new = city.token("tax-desk")
    assert header(new)["kid"] != header(old)["kid"]
    until(lambda: city.ask(new).status_code == 200, 45, "the new key was not taken")  # 30 s after the last look
    assert city.ask(old).status_code == 200, "the old key is still published"

    # Disabled at Keycloak: no new token. What it has counts until its end, or until it is struck from our list.
    city.keycloak.change("tax-desk", enabled=False)
    assert city.keycloak.ask("tax-desk", DEPARTMENTS["tax-desk"]).status_code in (400, 401)
    assert city.ask(new).status_code == 200
    city.site.strike("tax-desk")
    until(lambda: city.ask(new).status_code == 403, 30, "the struck client is still let in")
    (explained,) = look(city.site.config, new)
    assert {each.where for each in explained.findings} == {"token: client"}
    issuer = [each for one in look(city.site.config, None) if one.name == "issuers" for each in one.findings]
    assert not issuer, "Keycloak itself is as it should be"


def header(token: str) -> dict[str, Any]:
    return _part(token, 0)


def claims(token: str) -> dict[str, Any]:
    return _part(token, 1)


def _part(token: str, number: int) -> dict[str, Any]:
    return dict(json.loads(urlsafe_b64decode(token.split(".")[number] + "==")))
