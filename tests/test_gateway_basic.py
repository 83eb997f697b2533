"""HTTP Basic at the registry: a secret counts as the token that it is exchanged for; no flood of them is passed on."""

from __future__ import annotations

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from exchange.errors import IssuerUnavailable, SettingWrong
from exchange.settings import Settings
from gateway.basic import (
    AT_ONCE,
    MAX_WRONG,
    MAX_WRONG_OF_ONE,
    WRONG_SECONDS,
    BuiltIn,
    Granted,
    Secrets,
    TokenEndpoint,
    WrongSecret,
    authorization,
)
from gateway.parts import _Issuers
from gateway.problems import Busy
from gateway.tokens import TokenRefused, Tokens
from tests.support.gateway import City
from tests.support.registry_site import SECRET, built_in
from tests.support.tokens import StandingClock, claims, ec, sign

pytestmark = pytest.mark.anyio


def header(client_id: str = "civil-push", secret: str = SECRET) -> bytes:
    return b"Basic " + b64encode(f"{client_id}:{secret}".encode())


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    made = City(tmp_path)
    issuer = built_in(tmp_path, made.clock)
    tokens = Tokens([issuer.trusted()], "exchange", made.clock)
    made.app = made.make_app(tokens, Secrets(BuiltIn(issuer), None, made.clock))
    yield made
    issuer.used.close()
    made.close()


async def get(city: City, authorization_: bytes, path: str = "/registry/subjects") -> httpx2.Response:
    async with city.http(None) as http:
        return await http.get(path, headers={"authorization": authorization_.decode()})


# --- through the gateway ----------------------------------------------------------------------------------------------


async def test_a_secret_opens_the_registry_and_nothing_else(city: City) -> None:
    assert (await get(city, header())).status_code == 200
    assert (await get(city, header().replace(b"Basic", b"bAsIc"))).status_code == 200
    assert (await get(city, header("tax-desk"))).status_code == 403, "its scopes are those of the list of clients"
    assert (await get(city, header(), "/v1/contracts")).status_code == 401
    async with city.http(None) as http:
        body = json.dumps({"schema": '"string"'})
        headers = {"authorization": header().decode(), "content-type": "application/json"}
        made = await http.post("/registry/subjects/civil.x/versions", content=body, headers=headers)
        foreign = await http.post("/registry/subjects/tax.x/versions", content=body, headers=headers)
    assert made.status_code == 200
    assert foreign.status_code == 403
    assert [entry.client for entry in city.log.entries if entry.act == "register"] == ["civil-push"]


WRONG = [
    header(secret="x"),
    header("nobody"),
    header("civil-push", ""),
    b"Basic ",
    b"Basic !!!!",
    b"Basic " + b"x" * 9_000,
    b"Basic " + b64encode(b"\xff:\xff"),
    b"Basic " + b64encode(b"no colon"),
    b"Basic " + b64encode(b":" + SECRET.encode()),
    b"Basic " + b64encode(b"a\nb:c"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
async def test_every_wrong_secret_gets_the_same_401(city: City, wrong: bytes) -> None:
    answer = await get(city, wrong)
    assert answer.status_code == 401
    assert answer.json() == {
        "error_code": 401,
        "message": "The access token is missing or not valid: the client id or its secret is not valid",
    }
    assert answer.headers["www-authenticate"] == 'Basic realm="exchange", charset="UTF-8"'


async def test_a_struck_client_is_out_at_once(city: City) -> None:
    assert (await get(city, header())).status_code == 200
    city.clients = [each for each in city.clients if each.client_id != "civil-push"]
    city.make_bundle()
    assert (await get(city, header())).status_code == 403


async def test_two_headers_are_none(city: City) -> None:
    async with city.http(None) as http:
        pairs = [("authorization", header().decode()), ("authorization", header().decode())]
        assert (await http.get("/registry/subjects", headers=pairs)).status_code == 401


# --- what it costs ----------------------------------------------------------------------------------------------------


class Counting:
    """An exchange that knows one secret, and counts."""

    def __init__(self) -> None:
        self.asked = 0
        self.hold: asyncio.Event | None = None
        self.fails: Exception | None = None

    async def __call__(self, client_id: str, secret: str) -> Granted:
        self.asked += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.fails is not None:
            raise self.fails
        if secret != SECRET:
            raise WrongSecret
        return Granted(f"token-{self.asked}", 600)


async def test_a_token_is_exchanged_once_until_it_ends() -> None:
    clock, exchange = StandingClock(), Counting()
    secrets = Secrets(None, exchange, clock)
    assert [await secrets.token(header()) for _ in range(5)] == [b"token-1"] * 5
    clock.move(594)
    assert await secrets.token(header()) == b"token-1"
    clock.move(1)
    assert await secrets.token(header()) == b"token-2"
    secrets.forget(header())
    with pytest.raises(TokenRefused):
        await secrets.token(header())
    clock.move(WRONG_SECONDS)
    assert await secrets.token(header()) == b"token-3"


async def test_many_at_once_are_one_exchange() -> None:
    exchange = Counting()
    exchange.hold = asyncio.Event()
    secrets = Secrets(None, exchange, StandingClock())
    waiting = [asyncio.create_task(secrets.token(header())) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    exchange.hold.set()
    assert await asyncio.gather(*waiting[1:]) == [b"token-1"] * 19
    assert exchange.asked == 1


async def test_a_flood_of_wrong_secrets_is_not_passed_on() -> None:
    clock, exchange = StandingClock(), Counting()
    secrets = Secrets(None, exchange, clock)
    assert await secrets.token(header()) == b"token-1"
    for _ in range(50):
        with pytest.raises(TokenRefused):
            await secrets.token(header(secret="wrong"))
    assert exchange.asked == 2
    for number in range(200):
        with pytest.raises(TokenRefused):
            await secrets.token(header(secret=f"wrong {number}"))
    assert exchange.asked == 1 + MAX_WRONG_OF_ONE
    for number in range(MAX_WRONG - 1 - MAX_WRONG_OF_ONE + 1):
        with pytest.raises(TokenRefused):
            await secrets.token(header(f"client {number}", "wrong"))
    with pytest.raises(Busy):
        await secrets.token(header("one more", "wrong"))
    assert exchange.asked == 1 + MAX_WRONG
    assert await secrets.token(header()) == b"token-1", "who was known before goes on"
    clock.move(61)
    assert await secrets.token(header("another")) != b""


async def test_only_a_few_are_checked_at_once() -> None:
    exchange = Counting()
    exchange.hold = asyncio.Event()
    secrets = Secrets(None, exchange, StandingClock())
    waiting = [asyncio.create_task(secrets.token(header(f"client {number}"))) for number in range(AT_ONCE)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await secrets.token(header("one more"))
    exchange.hold.set()
    await asyncio.gather(*waiting)
    assert await secrets.token(header("one more"))


async def test_an_issuer_that_is_away_says_nothing_about_a_secret() -> None:
    exchange = Counting()
    exchange.fails = IssuerUnavailable("away")
    secrets = Secrets(None, exchange, StandingClock())
    for _ in range(MAX_WRONG + 5):
        with pytest.raises(IssuerUnavailable):
            await secrets.token(header())
    exchange.fails = None
    assert await secrets.token(header())


async def test_what_is_remembered_is_bounded_and_holds_no_secret() -> None:
    secrets = Secrets(None, Counting(), StandingClock())
    for number in range(2_000):
        await secrets.token(header(f"client {number}"))
    assert len(secrets._known) <= 1_024
    assert SECRET not in repr(vars(secrets))


async def test_nobody_to_ask() -> None:
    assert not Secrets(None, None, StandingClock()).taken


# --- another issuer ---------------------------------------------------------------------------------------------------


def endpoint(answer: Any) -> TokenEndpoint:
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(answer))
    return TokenEndpoint(lambda: "https://id.city.example/token", http)


async def test_a_secret_is_exchanged_at_the_token_endpoint() -> None:
    asked: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request)
        return httpx2.Response(200, json={"access_token": "t0ken", "token_type": "Bearer", "expires_in": 300})

    assert await endpoint(answer)("civil push", SECRET) == Granted("t0ken", 300.0)
    (request,) = asked
    assert request.method == "POST"
    assert request.content == b"grant_type=client_credentials&scope=registry"
    assert request.headers["authorization"] == authorization("civil push", SECRET)


@pytest.mark.parametrize(
    ("status", "document", "expected"),
    [
        (401, {"error": "invalid_client"}, WrongSecret),
        (400, {"error": "unauthorized_client"}, WrongSecret),
        (400, {"error": "invalid_scope"}, IssuerUnavailable),
        (429, {}, IssuerUnavailable),
        (500, {"error": "invalid_client"}, IssuerUnavailable),
        (200, {}, IssuerUnavailable),
        (200, {"access_token": 7}, IssuerUnavailable),
        (200, {"access_token": "t", "expires_in": "soon"}, IssuerUnavailable),
        (200, {"access_token": "t", "expires_in": True}, IssuerUnavailable),
        (200, {"access_token": "é", "expires_in": 5}, IssuerUnavailable),
        (200, ["x" * 100_000], IssuerUnavailable),
        (302, {}, IssuerUnavailable),
    ],
)
async def test_what_a_token_endpoint_may_answer(status: int, document: Any, expected: type[Exception]) -> None:
    with pytest.raises(expected) as caught:
        await endpoint(lambda _: httpx2.Response(status, json=document))("civil-push", SECRET)
    assert SECRET not in str(caught.value)


async def test_no_secret_leaves_before_it_is_known_where_to() -> None:
    def answer(_: httpx2.Request) -> httpx2.Response:
        raise AssertionError("nothing may be asked")

    unknown = TokenEndpoint(lambda: None, httpx2.AsyncClient(transport=httpx2.MockTransport(answer)))
    with pytest.raises(IssuerUnavailable, match="token endpoint"):
        await unknown("civil-push", SECRET)


async def test_a_token_endpoint_that_is_away() -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no", request=request)

    with pytest.raises(IssuerUnavailable):
        await endpoint(fail)("civil-push", SECRET)
    with pytest.raises(IssuerUnavailable):
        await endpoint(lambda _: httpx2.Response(200, content=b"{"))("civil-push", SECRET)


async def test_a_token_that_is_not_taken_is_exchanged_anew(tmp_path: Path) -> None:
    """The other issuer's key is not ours: 401, and a request asks again, but not each."""
    city, exchange, stranger = City(tmp_path), Counting(), ec("e1")

    async def strange(client_id: str, secret: str) -> Granted:
        await exchange(client_id, secret)
        return Granted(sign(stranger, claims(city.clock(), client_id=client_id)), 600)

    city.app = city.make_app(secrets=Secrets(None, strange, city.clock))
    for _ in range(3):
        assert (await get(city, header())).status_code == 401
    assert exchange.asked == 1
    city.clock.move(WRONG_SECONDS)
    assert (await get(city, header())).status_code == 401
    assert exchange.asked == 2
    city.close()


@pytest.mark.parametrize(
    "issuers",
    [
        [{"issuer": "https://a", "token_endpoint": "http://id.city.example/token"}],
        [{"issuer": "https://a", "token_endpoint": "ftp://id.city.example/token"}],
        [{"issuer": "https://a", "token_endpoint": "https:///token"}],
        [{"issuer": "http://id.city.example", "token_endpoint": "discovery"}],
        [{"issuer": "https://a", "discovery": "http://keycloak.internal/config", "token_endpoint": "discovery"}],
        [{"issuer": f"https://{one}", "token_endpoint": "discovery"} for one in "ab"],
        [{"issuer": f"https://{one}", "token_endpoint": "https://id.city.example/token"} for one in "ab"],
    ],
)
def test_secrets_go_to_one_issuer_and_never_in_the_clear(issuers: Any, tmp_path: Path) -> None:
    settings = Settings(issuers=issuers, dev_issuer={"enabled": False}, root=tmp_path)
    with pytest.raises(SettingWrong, match="token_endpoint"):
        _Issuers.of(settings, StandingClock()).secrets(settings, StandingClock())
