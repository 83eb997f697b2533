"""Attacks by token on the whole gateway: whatever is wrong, the same 401, and good requests never notice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import structlog
from prometheus_client import generate_latest

from exchange.settings import IssuerSettings
from gateway.keysets import IssuerKeys
from gateway.tokens import Tokens, TrustedIssuer
from tests.support.gateway import CITIZEN, KEY, City
from tests.support.tokens import AUDIENCE, ISSUER, claims, ec, sign
from tests.test_gateway_keysets import JWKS, Issuer
from tests.test_gateway_tokens import BAD, EC

pytestmark = pytest.mark.anyio

NO_TOKEN = 3  # of the bad ones: nothing, and signs that no token has
PURPOSE = {"Exchange-Purpose": "tax-assessment"}
ROUTES = [
    ("POST", "/v1/citizens/view"),
    ("POST", "/v1/enterprises/view"),
    ("GET", "/v1/contracts"),
    ("GET", "/v1/contracts/civil.person"),
    ("POST", "/v1/datasets/civil.person/records"),
    ("GET", "/registry/schemas/ids/1"),
    ("POST", "/registry/subjects/civil.person.v1-value/versions"),
]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    made = City(tmp_path_factory.mktemp("city"))
    yield made
    made.close()


async def begin(city: City, issuer: Issuer, **settings: Any) -> IssuerKeys:
    """Serve with keys that are fetched from this issuer; they are there, and a flood may cause a fetch at once."""
    keys = issuer.keys(city.clock)
    tokens = Tokens([TrustedIssuer(IssuerSettings(issuer=ISSUER, **settings), keys)], AUDIENCE, city.clock)
    await keys.refresh()
    city.app = city.make_app(tokens)
    return keys


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", **PURPOSE}


async def test_every_bad_token_gets_the_same_401_on_every_route(city: City) -> None:
    """Not one 5xx, nothing of the token in any byte that leaves, nothing in the audit log."""
    issuer = Issuer(EC)
    await begin(city, issuer)
    said: Counter[tuple[Any, ...]] = Counter()
    with structlog.testing.capture_logs() as logged:
        async with city.http(None) as http:
            for name, token in BAD.items():
                for method, path in ROUTES:
                    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **PURPOSE}
                    answer = await http.request(method, path, content=b'{"id":"x"}', headers=headers)
                    assert answer.status_code == 401, (name, path, answer.text)
                    assert len(answer.content) < 400
                    assert len(token) < 20 or token not in answer.text
                    problem = answer.json()  # the registry answers in Confluent's form
                    kind = problem.get("type") or problem["error_code"]
                    said[kind, frozenset(problem), answer.headers["www-authenticate"]] += 1
    ours = "/errors/unauthenticated", frozenset({"type", "title", "status", "detail", "request_id"})
    confluents = 401, frozenset({"error_code", "message"})
    for form, routes in ((ours, 5), (confluents, 2)):
        invalid, unread = (
            (*form, f'Bearer realm="exchange", error="{e}"') for e in ("invalid_token", "invalid_request")
        )
        assert (said.pop(invalid), said.pop(unread)) == (routes * (len(BAD) - NO_TOKEN), routes * NO_TOKEN)
    assert not said
    out = str(logged) + generate_latest().decode()
    assert not [name for name, token in BAD.items() if len(token) > 20 and token[-20:] in out]
    assert not city.log.entries
    assert issuer.fetched.count(JWKS) == 1


async def test_a_flood_of_unknown_keys_is_one_fetch_and_good_requests_pass(city: City) -> None:
    issuer = Issuer(KEY)
    await begin(city, issuer)
    city.clock.move(31)  # so that the flood may cause its one fetch
    stranger, flood = ec("k"), 600
    issuer.fetched.clear()
    async with city.http() as good, city.http(None) as bad:

        async def attack(number: int) -> int:
            token = sign(stranger, claims(city.clock()), {"kid": f"k{number}"})
            return int((await bad.get("/v1/contracts", headers=bearer(token))).status_code)

        found = await asyncio.gather(*(attack(n) if n % 4 else ask(good) for n in range(flood)))
    assert Counter(found) == {401: flood * 3 // 4, 200: flood // 4}
    assert issuer.fetched.count(JWKS) == 1


async def test_good_requests_pass_while_the_issuer_that_a_flood_asks_for_hangs(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flood waits for the fetch that it causes; a token with a known key does not."""
    await begin(city, Issuer(KEY))
    city.clock.move(31)
    never = asyncio.Event()
    monkeypatch.setattr("gateway.keysets.read_keys", lambda *_: never.wait())
    stranger = ec("k")
    async with city.http() as good, city.http(None) as bad:
        tokens = [sign(stranger, claims(city.clock()), {"kid": f"k{number}"}) for number in range(50)]
        flood = [asyncio.create_task(bad.get("/v1/contracts", headers=bearer(token))) for token in tokens]
        await asyncio.sleep(0)
        async with asyncio.timeout(1):
            for _ in range(20):
                assert await ask(good) == 200
        assert not any(task.done() for task in flood)
        for task in flood:
            task.cancel()
        await asyncio.gather(*flood, return_exceptions=True)


async def test_known_keys_serve_for_an_hour_without_their_issuer_and_then_nothing_is_shown(city: City) -> None:
    """After the hour 503 and not 401: the token may be good. One that was verified a moment before is no exception."""
    city.reset()
    issuer = Issuer(KEY)
    keys = await begin(city, issuer)
    issuer.away = True
    for _ in range(6):
        city.clock.move(600)
        assert not await keys.refresh()
        remembered = city.http()
        async with city.http() as fresh:
            assert (await ask(remembered), await ask(fresh)) == (200, 200)
    shown = len(city.disclosing.asked)
    city.clock.move(1)
    async with city.http() as fresh:
        for http in (remembered, fresh):
            answer = await http.post("/v1/citizens/view", json={"id": CITIZEN}, headers=PURPOSE)
            assert (answer.status_code, answer.json()["type"]) == (503, "/errors/issuer-unavailable")
            assert answer.headers["retry-after"]
        assert len(city.disclosing.asked) == shown
        issuer.away = False
        assert await keys.refresh()
        assert (await ask(remembered), await ask(fresh)) == (200, 200)
    await remembered.aclose()


async def test_an_id_token_is_no_access_token_even_where_access_tokens_have_its_type(city: City) -> None:
    """OIDC Core: an ID token's audience is the client that asked for it."""
    await begin(city, Issuer(KEY), typ=["JWT"])
    identity = claims(city.clock(), azp="tax-desk", client_id=None, nonce="n", at_hash="x", scope=None)
    async with city.http(None) as http:
        for audience in ("tax-desk", ["tax-desk"], ["tax-desk", "account"]):
            token = sign(KEY, identity | {"aud": audience}, {"typ": "JWT"})
            answer = await http.post("/v1/citizens/view", json={"id": CITIZEN}, headers=bearer(token))
            assert (answer.status_code, answer.json()["type"]) == (401, "/errors/unauthenticated")


async def ask(good: httpx2.AsyncClient) -> int:
    answer = await good.post("/v1/citizens/view", json={"id": CITIZEN}, headers=PURPOSE)
    return int(answer.status_code)
