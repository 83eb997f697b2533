"""How a client of ours shows who it is: by a secret, or by a key of its own (RFC 7523)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from exchange.credentials import ASSERTION, ClientCredentials, ClientKey, ClientSecret
from exchange.errors import IssuerUnavailable, SettingWrong

ISSUER = "https://login.city.example/realms/city"


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")  # EdDSA is an old name, the one that all know
@pytest.mark.parametrize(
    ("pem", "algorithm"),
    [
        (ClientKey.generated(), "ES256"),
        (ECKey.generate_key("P-384").as_pem(private=True), "ES384"),
        (OKPKey.generate_key("Ed25519").as_pem(private=True), "EdDSA"),
        (RSAKey.generate_key(2048).as_pem(private=True), "RS256"),
    ],
)
def test_an_assertion_holds_against_the_public_half(pem: bytes, algorithm: str) -> None:
    client = ClientKey("tax-desk", pem, ISSUER)
    (told,) = client.jwks["keys"]
    assert "d" not in told
    assert (told["alg"], told["use"]) == (algorithm, "sig")
    form, basic = client.shown()
    assert basic is None
    assert form["client_assertion_type"] == ASSERTION
    read = jwt.decode(form["client_assertion"], KeySet.import_key_set(client.jwks), algorithms=[algorithm])
    now = time.time()
    assert (read.claims["iss"], read.claims["sub"], read.claims["aud"]) == ("tax-desk", "tax-desk", ISSUER)
    assert now - 5 < read.claims["iat"] <= now < read.claims["exp"] <= now + 60
    assert read.header["kid"] == told["kid"]
    again = jws.extract_compact(client.shown()[0]["client_assertion"].encode()).payload
    assert again != jws.extract_compact(form["client_assertion"].encode()).payload, "each has a number of its own"


@pytest.mark.parametrize(
    "pem",
    [
        b"",
        b"secret",
        ECKey.generate_key("P-256").as_pem(private=False),
        ECKey.generate_key("secp256k1").as_pem(private=True),
        OKPKey.generate_key("X25519").as_pem(private=True),
    ],
    ids=["empty", "text", "public", "another curve", "for agreement"],
)
def test_a_key_that_is_none(pem: bytes) -> None:
    with pytest.raises(SettingWrong, match="private key"):
        ClientKey("tax-desk", pem, ISSUER)


def test_a_secret_is_in_no_text() -> None:
    assert "s3cret" not in repr(ClientSecret("civil", "s3cret"))


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[dict[str, Any]]]:
    def answering(answer: Any) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []

        def post(url: str, **call: Any) -> httpx2.Response:
            calls.append({"url": url, **call})
            if isinstance(answer, Exception):
                raise answer
            status, body = answer
            return httpx2.Response(status, text=body) if isinstance(body, str) else httpx2.Response(status, json=body)

        monkeypatch.setattr(httpx2, "post", post)
        return calls

    return answering


def test_a_key_goes_with_the_form_and_no_scope_is_asked_for_unless_one_is_given(
    endpoint: Callable[[Any], list[dict[str, Any]]],
) -> None:
    calls = endpoint((200, {"access_token": "t", "expires_in": 60}))
    client = ClientKey("tax-desk", ClientKey.generated(), ISSUER)
    assert ClientCredentials("https://x/token", client, None)() == "t"
    assert calls[0]["auth"] is None
    assert calls[0]["data"]["grant_type"] == "client_credentials"
    assert "scope" not in calls[0]["data"]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((400, {"error": "invalid_scope"}), SettingWrong),
        ((401, {"error": "<b>not a word</b>"}), SettingWrong),
        ((200, {"access_token": 5}), IssuerUnavailable),
        ((200, {"access_token": "t", "expires_in": "soon"}), IssuerUnavailable),
        ((200, []), IssuerUnavailable),
        ((429, {}), IssuerUnavailable),
        (httpx2.ReadTimeout("slow"), IssuerUnavailable),
        (httpx2.InvalidURL("none"), SettingWrong),
    ],
)
def test_what_a_token_endpoint_answers_otherwise(
    endpoint: Callable[[Any], list[dict[str, Any]]], answer: Any, kind: type[Exception]
) -> None:
    endpoint(answer)
    with pytest.raises(kind) as refused:
        ClientCredentials("https://x/token", ClientSecret("civil", "s3cret"), "registry")()
    assert "s3cret" not in str(refused.value)
    assert "<b>" not in str(refused.value)
