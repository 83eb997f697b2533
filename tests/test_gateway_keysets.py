"""Issuers' keys: discovery, rotation, floods, and an issuer that is away."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from joserfc.jwk import Key

from exchange.errors import IssuerUnavailable
from exchange.settings import IssuerSettings
from gateway import keysets
from gateway.keysets import IssuerKeys
from tests.support.tokens import ISSUER, StandingClock, ec, okp, public, rsa

pytestmark = pytest.mark.anyio

DISCOVERY = f"{ISSUER}/.well-known/openid-configuration"
JWKS = f"{ISSUER}/certs"


class Issuer:
    """An issuer's web server: counts what is fetched, and can be told to be away or to lie."""

    def __init__(self, *keys: Key) -> None:
        self.jwks: Any = {"keys": [public(key) for key in keys]}
        self.document: Any = {"issuer": ISSUER, "jwks_uri": JWKS}
        self.fetched: list[str] = []
        self.away = False
        self.answer: Callable[[httpx2.Request], httpx2.Response] | None = None

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.fetched.append(str(request.url))
        if self.away:
            raise httpx2.ConnectError("away")
        if self.answer is not None:
            return self.answer(request)
        found = {DISCOVERY: self.document, JWKS: self.jwks}.get(str(request.url))
        return httpx2.Response(200, json=found) if found is not None else httpx2.Response(404)

    def keys(self, clock: StandingClock, **settings: Any) -> IssuerKeys:
        http = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        return IssuerKeys(IssuerSettings(issuer=ISSUER, **settings), http, clock)


async def test_keys_are_found_by_discovery_and_chosen_by_kid() -> None:
    one, two = ec("a"), ec("b")
    issuer = Issuer(one, okp("c"), two)
    keys = issuer.keys(StandingClock())
    assert await keys.refresh()
    assert [key.get("kid") for key in await keys.fitting("ES256", "b")] == ["b"]
    assert [key.get("kid") for key in await keys.fitting("ES256", None)] == ["a", "b"]
    assert issuer.fetched == [DISCOVERY, JWKS]


async def test_discovery_may_be_fetched_elsewhere_but_the_issuer_is_one_string() -> None:
    inside = "http://keycloak.internal:8080/realms/city/.well-known/openid-configuration"
    issuer = Issuer(ec("a"))
    issuer.answer = lambda request: httpx2.Response(
        200, json=issuer.document if str(request.url) == inside else issuer.jwks
    )
    assert await issuer.keys(StandingClock(), discovery=inside).refresh()
    for other in (ISSUER + "/", "http://keycloak.internal:8080/realms/city", ISSUER.upper(), None, 7):
        issuer.document["issuer"] = other
        assert not await issuer.keys(StandingClock(), discovery=inside).refresh()


OAUTH = "https://id.city.example/.well-known/oauth-authorization-server/realms/city"  # RFC 8414 section 3.1


async def test_an_issuer_that_knows_only_rfc_8414_is_found_too() -> None:
    issuer = Issuer(ec("a"))
    pages = {OAUTH: issuer.document, JWKS: issuer.jwks}
    issuer.answer = lambda request: (
        httpx2.Response(200, json=pages[str(request.url)]) if str(request.url) in pages else httpx2.Response(404)
    )
    keys = issuer.keys(StandingClock())
    assert await keys.refresh()
    assert issuer.fetched == [DISCOVERY, OAUTH, JWKS]
    issuer.document["issuer"] = ISSUER + "/"
    assert not await keys.refresh(), "there too it is one string"


@pytest.mark.parametrize("status", [500, 503, 302])
async def test_a_server_that_is_ill_is_not_passed_by(status: int) -> None:
    issuer = Issuer(ec("a"))
    issuer.answer = lambda request: (
        httpx2.Response(status) if str(request.url) == DISCOVERY else httpx2.Response(200, json=issuer.document)
    )
    assert not await issuer.keys(StandingClock()).refresh()
    assert issuer.fetched == [DISCOVERY]


async def test_where_the_address_is_set_no_other_is_tried() -> None:
    issuer = Issuer(ec("a"))
    issuer.answer = lambda _: httpx2.Response(404)
    assert not await issuer.keys(StandingClock(), discovery="https://inside.example/config").refresh()
    assert issuer.fetched == ["https://inside.example/config"]


async def test_the_token_endpoint_is_the_newest_documents() -> None:
    issuer = Issuer(ec("a"))
    keys = issuer.keys(
        StandingClock(), token_endpoint="discovery", jwks=JWKS
    )  # keys elsewhere: it is read all the same
    assert keys.token_endpoint is None
    for place in ("https://id.city.example/token", "https://id2.city.example/token"):
        issuer.document["token_endpoint"] = place
        assert await keys.refresh()
        assert keys.token_endpoint == place


@pytest.mark.parametrize(
    "place", ["http://id.city.example/t", "http://127.0.0.1/t", "ftp://x/t", "https://", "https://[", 7]
)
async def test_no_secret_goes_where_a_document_by_https_has_no_https(place: Any) -> None:
    issuer = Issuer(ec("a"))
    issuer.document["token_endpoint"] = place
    keys = issuer.keys(StandingClock(), token_endpoint="discovery")
    assert await keys.refresh()
    assert keys.token_endpoint is None


async def test_on_loopback_a_token_endpoint_may_be_by_http() -> None:
    local = "http://127.0.0.1:8081/realms/city"
    pages = {
        f"{local}/.well-known/openid-configuration": {
            "issuer": local, "jwks_uri": f"{local}/certs", "token_endpoint": f"{local}/token"
        },
        f"{local}/certs": {"keys": [public(ec("a"))]},
    }  # fmt: skip
    http = httpx2.AsyncClient(
        transport=httpx2.MockTransport(lambda request: httpx2.Response(200, json=pages[str(request.url)]))
    )
    keys = IssuerKeys(IssuerSettings(issuer=local, token_endpoint="discovery"), http, StandingClock())
    assert await keys.refresh()
    assert keys.token_endpoint == f"{local}/token"


async def test_keys_may_be_fetched_without_discovery() -> None:
    issuer = Issuer(ec("a"))
    assert await issuer.keys(StandingClock(), jwks=JWKS).refresh()
    assert issuer.fetched == [JWKS]


BROKEN: dict[str, Callable[[Issuer], None]] = {
    "keys by http after discovery by https": lambda it: it.document.update(jwks_uri=JWKS.replace("https", "http")),
    "keys at no address": lambda it: it.document.update(jwks_uri="https://["),
    "no jwks_uri": lambda it: it.document.pop("jwks_uri"),
    "no list of keys": lambda it: setattr(it, "jwks", {"keys": "none"}),
    "no usable key": lambda it: setattr(it, "jwks", {"keys": [{"kty": "oct", "k": "eA"}, 7]}),
    "empty set": lambda it: setattr(it, "jwks", {"keys": []}),
    "not an object": lambda it: setattr(it, "jwks", []),
    "away": lambda it: setattr(it, "away", True),
    "status 500": lambda it: setattr(it, "answer", lambda _: httpx2.Response(500, json={})),
    "a redirect": lambda it: setattr(it, "answer", lambda _: httpx2.Response(302, headers={"location": JWKS})),
    "not json": lambda it: setattr(it, "answer", lambda _: httpx2.Response(200, text="<html>")),
    "duplicate members": lambda it: setattr(it, "answer", lambda _: httpx2.Response(200, text='{"a":1,"a":2}')),
    "too large": lambda it: setattr(it, "answer", lambda _: httpx2.Response(200, text=" " * 600_000)),
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
async def test_what_cannot_be_trusted_changes_nothing(spoil: Callable[[Issuer], None]) -> None:
    clock = StandingClock()
    issuer = Issuer(ec("a"))
    keys = issuer.keys(clock)
    assert await keys.refresh()
    spoil(issuer)
    assert not await keys.refresh()
    assert await keys.fitting("ES256", "a")


async def test_unknown_and_weak_keys_are_passed_over() -> None:
    issuer = Issuer(ec("a"))
    issuer.jwks["keys"] = [{"kty": "AKP"}, public(ec("e"), use="enc"), {"kty": "EC"}, *issuer.jwks["keys"]]
    keys = issuer.keys(StandingClock())
    assert await keys.refresh()
    assert [key.get("kid") for key in await keys.fitting("ES256", None)] == ["a"]


async def test_a_new_key_under_the_same_kid_counts_after_a_refresh() -> None:
    old, new = ec("a"), ec("a")
    issuer = Issuer(old)
    keys = issuer.keys(StandingClock())
    await keys.refresh()
    issuer.jwks = {"keys": [public(new)]}
    await keys.refresh()
    (found,) = await keys.fitting("ES256", "a")
    assert found.as_dict(private=False)["x"] == public(new)["x"]


async def test_a_flood_of_unknown_kids_is_one_fetch_in_thirty_seconds() -> None:
    clock = StandingClock()
    issuer = Issuer(ec("a"))
    keys = issuer.keys(clock)
    await keys.refresh()
    issuer.fetched.clear()
    for second in range(60):
        clock.now = StandingClock().now
        clock.move(second)
        await asyncio.gather(*(keys.fitting("ES256", f"x{second}-{number}") for number in range(50)))
    assert issuer.fetched.count(JWKS) == 1  # at second 30; the next one is due at 60


async def test_the_minutes_refresh_and_the_one_that_a_flood_causes_keep_their_distance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A flood that begins shortly before the background's turn: that turn comes a whole pause after the flood's."""
    monkeypatch.setattr(keysets, "UNKNOWN_KEY_GAP_SECONDS", 0.2)
    monkeypatch.setattr(keysets, "REFRESH_SECONDS", 0.3)
    issuer, times = Issuer(ec("a")), []
    clock = StandingClock()
    keys = issuer.keys(clock)
    loop = asyncio.get_running_loop()
    began = loop.time()

    def noted(request: httpx2.Request) -> httpx2.Response:
        if str(request.url) == JWKS:
            times.append(loop.time() - began)
        return httpx2.Response(200, json=issuer.jwks if str(request.url) == JWKS else issuer.document)

    issuer.answer = noted
    task = asyncio.create_task(keys.run())
    await asyncio.sleep(0.25)
    while loop.time() - began < 1.2:
        clock.now = StandingClock().now + timedelta(seconds=loop.time() - began)
        await keys.fitting("ES256", "x")
        await asyncio.sleep(0.005)
    task.cancel()
    assert len(times) >= 4
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) > 0.18


async def test_a_key_that_is_new_is_found_by_the_token_that_names_it() -> None:
    clock = StandingClock()
    issuer = Issuer(ec("a"))
    keys = issuer.keys(clock)
    await keys.refresh()
    issuer.jwks["keys"].append(public(rsa("b")))
    assert not await keys.fitting("RS256", "b")
    clock.move(31)
    assert await keys.fitting("RS256", "b")


async def test_last_known_good_keys_count_for_an_hour() -> None:
    clock = StandingClock()
    issuer = Issuer(ec("a"))
    keys = issuer.keys(clock)
    with pytest.raises(IssuerUnavailable):
        await keys.fitting("ES256", "a")
    await keys.refresh()
    issuer.away = True
    clock.move(3600)
    assert not await keys.refresh()
    assert await keys.fitting("ES256", "a")
    assert keys.known
    clock.move(1)
    assert not keys.known
    with pytest.raises(IssuerUnavailable):
        await keys.fitting("ES256", "a")
    issuer.away = False
    assert await keys.refresh()
    assert keys.known
    assert await keys.fitting("ES256", "a")


async def test_a_request_does_not_wait_for_an_issuer_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keysets, "WAIT_SECONDS", 0.05)
    monkeypatch.setattr(keysets, "FETCH_SECONDS", 0.3)
    clock = StandingClock()

    async def hang(_: httpx2.Request) -> httpx2.Response:
        await asyncio.sleep(60)
        raise AssertionError

    issuer = Issuer(ec("a"))
    keys = issuer.keys(clock)
    await keys.refresh()
    keys._http = httpx2.AsyncClient(transport=httpx2.MockTransport(hang))
    clock.move(31)
    async with asyncio.timeout(0.25):
        assert not await keys.fitting("ES256", "x")
        assert await keys.fitting("ES256", "a")


async def test_the_background_task_goes_on_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keysets, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(keysets, "REFRESH_SECONDS", 0.02)
    issuer = Issuer(ec("a"))
    issuer.away = True
    keys = issuer.keys(StandingClock())
    task = asyncio.create_task(keys.run())
    await asyncio.sleep(0.05)
    issuer.away = False
    await asyncio.sleep(0.1)
    assert await keys.fitting("ES256", "a")
    task.cancel()
