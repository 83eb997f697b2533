"""The built-in issuer: who gets a token, who is told what, and that nothing is told to strangers."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from joserfc.jwk import ECKey, OKPKey

from exchange.errors import SettingWrong
from gateway import jws
from gateway.issuer import DevClient, DevIssuer, OAuthError, SigningKey, UsedAssertions, hash_secret, load_clients
from gateway.issuer.assertions import ASSERTION_TYPE
from gateway.tokens import Tokens
from tests.support.proofs import proof
from tests.support.tokens import StandingClock, ec, okp, public, rsa, sign

pytestmark = pytest.mark.anyio

URL = "http://127.0.0.1:8080"
NAME = "https://issuer.exchange.invalid"
SECRET = "s3cret with + and : and 中"
KEY = okp("c1")
GRANT = {"grant_type": "client_credentials"}


@pytest.fixture
def clock() -> StandingClock:
    return StandingClock()


@pytest.fixture
def issuer(tmp_path: Path, clock: StandingClock) -> Iterator[DevIssuer]:
    used = UsedAssertions(tmp_path / "issuer.db")
    clients = {
        "tax-desk": DevClient("tax-desk", secret=bytes.fromhex(hash_secret(SECRET)[7:])),
        "health:desk": DevClient("health:desk", key=jws.public_key(public(KEY))),
    }
    key = SigningKey(OKPKey.generate_key("Ed25519").as_pem(private=True))
    yield DevIssuer(NAME, URL, "exchange", key, clients, used, 600, clock)
    used.close()


def basic(client_id: str = "tax-desk", secret: str = SECRET) -> str:
    return "Basic " + base64.b64encode(f"{quote_plus(client_id)}:{quote_plus(secret)}".encode()).decode()


def assertion(clock: StandingClock, header: dict[str, Any] | None = None, key: Any = KEY, **changes: Any) -> bytes:
    at = int(clock().timestamp())
    claims = {"iss": "health:desk", "sub": "health:desk", "aud": NAME, "jti": "1", "iat": at, "exp": at + 60} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    text = sign(key, claims, {"typ": "JWT", **(header or {})})
    return urlencode(GRANT | {"client_assertion_type": ASSERTION_TYPE, "client_assertion": text}).encode()


def form(**changes: str) -> bytes:
    return urlencode(GRANT | changes).encode()


async def test_a_secret_gets_a_token_that_the_gateway_takes(issuer: DevIssuer, clock: StandingClock) -> None:
    answer = issuer.token(basic(), form(scope="view publish"))
    assert answer["token_type"] == "Bearer"
    assert (answer["expires_in"], answer["scope"]) == (600, "view publish")
    tokens = Tokens([issuer.trusted()], "exchange", clock)
    found = await tokens.verify(answer["access_token"])
    assert (found.issuer, found.client_id, found.person) == (NAME, "tax-desk", None)
    assert found.scopes == {"view", "publish"}
    assert found.good_until == clock().timestamp() + 600
    assert jws.unpack(answer["access_token"]).header["typ"] == "at+jwt"


@pytest.mark.parametrize("audience", [NAME, f"{URL}/oauth/token", ["https://other.example", NAME]])
async def test_an_assertion_gets_a_token(issuer: DevIssuer, clock: StandingClock, audience: Any) -> None:
    answer = issuer.token(None, assertion(clock, aud=audience))
    found = await Tokens([issuer.trusted()], "exchange", clock).verify(answer["access_token"])
    assert found.client_id == "health:desk"
    assert found.scopes == {"view", "publish", "registry"}


@pytest.mark.parametrize("key", [ECKey.generate_key("P-256"), OKPKey.generate_key("Ed25519")], ids=["P-256", "Ed25519"])
async def test_both_kinds_of_signing_key_serve(issuer: DevIssuer, clock: StandingClock, key: Any) -> None:
    signing = SigningKey(key.as_pem(private=True))
    mine = DevIssuer(NAME, URL, "exchange", signing, issuer.clients, issuer.used, 600, clock)
    await Tokens([mine.trusted()], "exchange", clock).verify(mine.token(basic(), form())["access_token"])
    assert "d" not in mine.jwks()["keys"][0]


NAMED: dict[str, tuple[dict[str, Any], str]] = {
    "aud with another scheme": ({"aud": "https://" + NAME}, "aud"),
    "aud missing": ({"aud": None}, "aud"),
    "aud a number": ({"aud": 7}, "aud"),
    "expired": ({"exp": 1}, "expired"),
    "exp missing": ({"exp": None}, "exp"),
    "exp text": ({"exp": "soon"}, "exp"),
    "exp true": ({"exp": True}, "exp"),
    "lives a day": ({"exp": int(StandingClock()().timestamp()) + 86_400}, "hour"),
    "not yet": ({"iat": int(StandingClock()().timestamp()) + 61}, "not valid yet"),
    "iss not sub": ({"iss": "tax-desk"}, "iss"),
    "jti missing": ({"jti": None}, "jti"),
    "jti a number": ({"jti": 7}, "jti"),
}


@pytest.mark.parametrize(("changes", "word"), NAMED.values(), ids=NAMED)
def test_the_holder_of_the_key_is_told_which_check_failed(
    issuer: DevIssuer, clock: StandingClock, changes: dict[str, Any], word: str
) -> None:
    with pytest.raises(OAuthError) as caught:
        issuer.token(None, assertion(clock, **changes))
    assert caught.value.error == "invalid_client"
    assert word in caught.value.description


def test_strangers_are_all_told_the_same(issuer: DevIssuer, clock: StandingClock) -> None:
    strange = {
        "unknown client": (None, assertion(clock, sub="nobody", iss="nobody")),
        "client with a secret": (None, assertion(clock, sub="tax-desk", iss="tax-desk")),
        "another key": (None, assertion(clock, key=okp("c1"))),
        "another kind of key": (None, assertion(clock, key=ec("c1"))),
        "wrong kid": (None, assertion(clock, {"kid": "zz"})),
        "sub missing": (None, assertion(clock, sub=None)),
        "sub a list": (None, assertion(clock, sub=["health:desk"])),
        "wrong secret": (basic(secret="wrong"), form()),
        "no such client": (basic("nobody"), form()),
        "client with a key": (basic("health:desk", ""), form()),
        "empty client": (basic("", ""), form()),
    }
    told = set()
    for authorization, body in strange.values():
        with pytest.raises(OAuthError) as caught:
            issuer.token(authorization, body)
        told.add((caught.value.error, caught.value.description))
    assert told == {("invalid_client", "client authentication failed")}


def test_an_assertion_counts_once_also_after_a_restart(issuer: DevIssuer, clock: StandingClock, tmp_path: Path) -> None:
    issuer.token(None, assertion(clock))
    with pytest.raises(OAuthError, match="invalid_client") as caught:
        issuer.token(None, assertion(clock))
    assert "used before" in caught.value.description
    other = UsedAssertions(tmp_path / "issuer.db")
    assert not other.use("health:desk", "1", clock().timestamp() + 60, clock().timestamp())
    assert other.use("tax-desk", "1", clock().timestamp() + 60, clock().timestamp())
    clock.move(120)
    issuer.token(None, assertion(clock))  # the old one could not be replayed any more
    other.close()


def test_one_of_many_at_once_gets_a_token(issuer: DevIssuer, clock: StandingClock) -> None:
    body, answers = assertion(clock), []

    def ask() -> None:
        try:
            answers.append(issuer.token(None, body)["token_type"])
        except OAuthError as error:
            answers.append(error.error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == ["Bearer"] + ["invalid_client"] * 7


MALFORMED: dict[str, tuple[str | None, bytes, str]] = {
    "no grant": (basic(), b"", "invalid_request"),
    "other grant": (basic(), b"grant_type=password", "unsupported_grant_type"),
    "twice": (basic(), b"grant_type=client_credentials&scope=view&scope=publish", "invalid_request"),
    "not a form": (basic(), b"\xff", "invalid_request"),
    "json": (basic(), b'{"grant_type":"client_credentials"}', "invalid_request"),
    "too many": (basic(), b"&".join(b"a%d=1" % n for n in range(20)), "invalid_request"),
    "nothing shown": (None, form(), "invalid_client"),
    "secret in the body": (None, form(client_id="tax-desk", client_secret=SECRET), "invalid_client"),
    "two ways": (basic(), form(client_assertion="x"), "invalid_request"),
    "bearer": ("Bearer x", form(), "invalid_client"),
    "not base64": ("Basic %%%", form(), "invalid_client"),
    "no colon": ("Basic " + base64.b64encode(b"tax-desk").decode(), form(), "invalid_client"),
    "scope unknown": (basic(), form(scope="view admin"), "invalid_scope"),
    "scope blank": (basic(), form(scope=" "), "invalid_scope"),
    "assertion no token": (
        None,
        form(client_assertion_type=ASSERTION_TYPE, client_assertion="a.b.c"),
        "invalid_client",
    ),
    "assertion of another type": (None, form(client_assertion_type="saml", client_assertion="x"), "invalid_client"),
}


@pytest.mark.parametrize(("authorization", "body", "error"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_requests(issuer: DevIssuer, authorization: str | None, body: bytes, error: str) -> None:
    with pytest.raises(OAuthError) as caught:
        issuer.token(authorization, body)
    assert caught.value.error == error
    assert SECRET not in caught.value.description


def test_client_id_beside_an_assertion_must_agree(issuer: DevIssuer, clock: StandingClock) -> None:
    with pytest.raises(OAuthError):
        issuer.token(None, assertion(clock) + b"&client_id=tax-desk")
    issuer.token(None, assertion(clock, jti="2") + b"&client_id=health%3Adesk")


def test_the_clients_file(tmp_path: Path) -> None:
    file = tmp_path / "dev-clients.toml"
    jwk = ", ".join(f'{name} = "{text}"' for name, text in public(KEY).items())
    file.write_text(f'[clients.a]\nsecret = "{hash_secret("x")}"\n[clients.b]\njwk = {{ {jwk} }}\n')
    file.chmod(0o600)
    clients = load_clients(file)
    assert clients["a"].knows("x")
    assert not clients["a"].knows("y")
    assert not clients["b"].knows("")


BAD_FILES = {
    "secret itself": '[clients.a]\nsecret = "hunter2"',
    "short hash": '[clients.a]\nsecret = "sha256:abc"',
    "both": f'[clients.a]\nsecret = "{hash_secret("x")}"\njwk = {{}}',
    "neither": "[clients.a]",
    "unknown member": '[clients.a]\nsecret_hash = "x"',
    "no table": "clients = 7",
    "other table": "[client.a]",
    "private key": f'[clients.a]\njwk = {{ kty = "OKP", crv = "Ed25519", x = "{KEY["x"]}", d = "{KEY["d"]}" }}',
    "weak key": '[clients.a]\njwk = { kty = "RSA", n = "AQAB", e = "AQAB" }',
    "secret key": '[clients.a]\njwk = { kty = "oct", k = "eA" }',
    "not toml": "[clients",
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
def test_a_wrong_clients_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "dev-clients.toml"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(SettingWrong, match=r"dev_issuer\.clients") as caught:
        load_clients(file)
    assert "hunter2" not in str(caught.value)


def test_a_clients_file_for_everyone_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "dev-clients.toml"
    file.write_text("")
    file.chmod(0o644)
    with pytest.raises(SettingWrong, match="chmod 600"):
        load_clients(file)
    with pytest.raises(SettingWrong, match="exchange init"):
        load_clients(tmp_path / "missing.toml")


def test_other_signing_keys_are_refused() -> None:
    for pem in (b"nonsense", rsa().as_pem(private=True), ECKey.generate_key("P-384").as_pem(private=True)):
        with pytest.raises(SettingWrong, match=r"dev_issuer\.key"):
            SigningKey(pem)


HOLDER = ec()
ENDPOINT = f"{URL}/oauth/token"


async def test_a_proof_binds_the_token_to_its_key(issuer: DevIssuer, clock: StandingClock) -> None:
    answer = issuer.token(basic(), form(), proof(HOLDER, None, clock(), url=ENDPOINT))
    assert answer["token_type"] == "DPoP"
    found = await Tokens([issuer.trusted()], "exchange", clock).verify(answer["access_token"])
    assert (found.jkt, found.x5t) == (HOLDER.thumbprint(), None)
    assert issuer.metadata()["dpop_signing_alg_values_supported"]


def test_a_proof_counts_once_at_the_token_endpoint_and_only_there(
    issuer: DevIssuer, clock: StandingClock, tmp_path: Path
) -> None:
    text = proof(HOLDER, None, clock(), url=ENDPOINT)
    assert refused_proof(issuer, proof(HOLDER, None, clock(), url=f"{URL}/v1/citizens/view")) == "htu"
    assert refused_proof(issuer, proof(HOLDER, None, clock(), url=ENDPOINT, method="GET")) == "htm"
    with pytest.raises(OAuthError) as caught:
        issuer.token(basic(secret="wrong"), form(), text)
    assert caught.value.error == "invalid_client"
    issuer.token(basic(), form(), text)
    assert refused_proof(issuer, text) == "before"
    again = UsedAssertions(tmp_path / "issuer.db")  # after a restart
    restarted = DevIssuer(NAME, URL, "exchange", issuer.key, issuer.clients, again, 600, clock)
    assert refused_proof(restarted, text) == "before"
    again.close()


def refused_proof(issuer: DevIssuer, text: str) -> str:
    with pytest.raises(OAuthError) as caught:
        issuer.token(basic(), form(), text)
    assert (caught.value.error, caught.value.status) == ("invalid_dpop_proof", 400)
    return next(word for word in ("htu", "htm", "before") if word in caught.value.description)
