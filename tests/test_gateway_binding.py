"""A token that is bound to a key counts for who holds the key: on every route, in every gateway, each proof once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey

from exchange.agreements.model import Constraint
from exchange.errors import StoreUnavailable
from exchange.store import UsedProofs
from exchange.store.database import reading
from exchange.wiring import client_secret
from gateway.dpop import Nonces
from gateway.tokens import DPOP_ALGORITHMS
from tests.support.gateway import CITIZEN, KEY, City, client
from tests.support.proofs import VIEW, bound, proof
from tests.support.site import Process, Site, free_port, gateway_process
from tests.support.stores import DATABASES
from tests.support.tokens import claims, sign

pytestmark = pytest.mark.anyio

HOLDER, THIEF = ECKey.generate_key("P-256"), ECKey.generate_key("P-256")
ALGS = f'algs="{" ".join(DPOP_ALGORITHMS)}"'


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    made = City(tmp_path)
    yield made
    made.close()


def nonce(city: City) -> str:
    return Nonces(b"the gateways' secret", city.clock).newest()


def constrained(city: City, how: Constraint | None) -> None:
    city.clients = [client("tax-desk", "tax", "view").model_copy(update={"sender_constrained": how})]
    city.make_bundle()


async def ask(
    city: City,
    token: str,
    text: str | None = None,
    *,
    scheme: str = "DPoP",
    url: str = VIEW,
    method: str = "POST",
    more: list[tuple[str, str]] | None = None,
    app: Any = None,
) -> httpx2.Response:
    headers = [("authorization", f"{scheme} {token}"), ("exchange-purpose", "tax-assessment"), *(more or [])]
    headers += [("dpop", text)] if text is not None else []
    transport = httpx2.ASGITransport(app or city.app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as http:
        body = {"json": {"id": CITIZEN}} if method == "POST" else {}
        return await http.request(method, url, headers=headers, **body)


def token(city: City, **changes: Any) -> str:
    return bound(KEY, HOLDER, city.clock(), **changes)


def good(city: City, text: str, **changes: Any) -> str:
    return proof(HOLDER, text, city.clock(), **{"nonce": nonce(city), **changes})


async def test_a_bound_token_with_its_proof_is_as_good_as_any(city: City) -> None:
    mine = token(city)
    answer = await ask(city, mine, good(city, mine))
    assert answer.status_code == 200
    assert "dpop-nonce" not in answer.headers
    assert len(city.disclosing.asked) == 1
    again = await ask(city, mine, good(city, mine))
    assert again.status_code == 200


REFUSED: dict[str, tuple[Callable[[City, str], dict[str, Any]], str, str, str]] = {
    # what is sent -> reason counted, error told, a word of the detail
    "sent as a bearer token": (
        lambda city, mine: {"scheme": "Bearer", "text": good(city, mine)}, "binding", "invalid_token", "bound to a key",
    ),
    "sent as a bearer token without proof": (
        lambda city, mine: {"scheme": "Bearer"}, "binding", "invalid_token", "bound to a key",
    ),
    "no proof": (lambda city, mine: {}, "proof", "invalid_dpop_proof", "one header"),
    "two proofs": (
        lambda city, mine: {"text": good(city, mine), "more": [("dpop", good(city, mine))]},
        "proof", "invalid_dpop_proof", "one header",
    ),
    "a thief's proof": (
        lambda city, mine: {"text": proof(THIEF, mine, city.clock(), nonce=nonce(city))},
        "binding", "invalid_token", "not bound to the key",
    ),
    "a proof for another token": (
        lambda city, mine: {"text": good(city, token(city, jti="another"))}, "proof", "invalid_dpop_proof", "ath",
    ),
    "a proof for another route": (
        lambda city, mine: {"text": good(city, mine, url="http://gateway/v1/enterprises/view")},
        "proof", "invalid_dpop_proof", "htu",
    ),
    "a proof for another server": (
        lambda city, mine: {"text": good(city, mine, url="https://evil.example/v1/citizens/view")},
        "proof", "invalid_dpop_proof", "htu",
    ),
    "a proof for another method": (
        lambda city, mine: {"text": good(city, mine, method="GET")}, "proof", "invalid_dpop_proof", "htm",
    ),
    "an old proof": (
        lambda city, mine: {"text": good(city, mine, iat=int(city.clock().timestamp()) - 61)},
        "proof", "invalid_dpop_proof", "iat",
    ),
    "no nonce": (
        lambda city, mine: {"text": good(city, mine, nonce=None)}, "nonce", "use_dpop_nonce", "DPoP-Nonce",
    ),
    "a nonce of somebody else": (
        lambda city, mine: {"text": good(city, mine, nonce=Nonces(b"other", city.clock).newest())},
        "nonce", "use_dpop_nonce", "DPoP-Nonce",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "reason", "error", "says"), REFUSED.values(), ids=REFUSED)
async def test_each_check_refuses_what_only_it_can_find(
    city: City, sent: Any, reason: str, error: str, says: str
) -> None:
    mine = token(city)
    answer = await ask(city, mine, **sent(city, mine))
    assert (answer.status_code, city.disclosing.asked) == (401, [])
    assert says in answer.json()["detail"]
    assert answer.headers["www-authenticate"] == f'DPoP realm="exchange", error="{error}", {ALGS}'
    assert answer.headers.get("dpop-nonce") == (nonce(city) if reason == "nonce" else None)
    assert mine not in answer.text
    assert city.identity.take_refused() == {reason: 1}


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v1/contracts"), ("GET", "/registry/subjects"), ("POST", "/v1/datasets/civil.person/records")],
)
async def test_every_route_asks_for_the_proof_and_says_the_nonce(city: City, method: str, path: str) -> None:
    mine = token(city, client_id="civil-push", sub="civil-push")
    url = f"http://gateway{path}"
    for text in (None, good(city, mine, method="PUT", url=url)):
        answer = await ask(city, mine, text, url=url, method=method)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith('DPoP realm="exchange", error="invalid_dpop_proof"')
    first = await ask(city, mine, good(city, mine, method=method, url=url, nonce=None), url=url, method=method)
    assert first.status_code == 401
    assert first.headers["www-authenticate"].startswith('DPoP realm="exchange", error="use_dpop_nonce"')
    told = first.headers["dpop-nonce"]
    answer = await ask(city, mine, good(city, mine, method=method, url=url, nonce=told), url=url, method=method)
    assert answer.status_code not in (401, 403)


async def test_a_bearer_token_with_a_proof_beside_it_is_a_bearer_token(city: City) -> None:
    plain = sign(KEY, claims(city.clock()))
    assert (await ask(city, plain, "whatever", scheme="Bearer")).status_code == 200


async def test_a_scope_that_lacks_is_told_in_the_scheme_that_was_used(city: City) -> None:
    mine, plain = token(city, scope="publish"), sign(KEY, claims(city.clock(), scope="publish"))
    for answer, scheme in (
        (await ask(city, mine, good(city, mine)), "DPoP"),
        (await ask(city, plain, scheme="Bearer"), "Bearer"),
    ):
        assert answer.status_code == 403
        assert (
            answer.headers["www-authenticate"] == f'{scheme} realm="exchange", error="insufficient_scope", scope="view"'
        )


async def test_a_token_that_is_not_bound_is_no_dpop_token(city: City) -> None:
    plain = sign(KEY, claims(city.clock()))
    answer = await ask(city, plain, good(city, plain))
    assert answer.status_code == 401
    assert "not bound to the key" in answer.json()["detail"]


@pytest.mark.parametrize(
    "cnf",
    [
        None, {}, [], "key", {"jwk": {"kty": "EC"}}, {"jkt": 7}, {"jkt": ""}, {"jkt": "short"}, {"jkt": None},
        {"jkt": HOLDER.thumbprint(), "x5t#S256": 7}, {"x5t#S256": "A" * 44}, {"jkt": HOLDER.thumbprint() + "\n"},
    ],
)  # fmt: skip
async def test_a_token_bound_in_a_way_that_is_not_known_is_refused_however_it_comes(city: City, cnf: Any) -> None:
    said = claims(city.clock()) | {"cnf": cnf}
    odd = sign(KEY, said)
    for scheme, text in (("Bearer", None), ("DPoP", good(city, odd))):
        answer = await ask(city, odd, text, scheme=scheme)
        assert answer.status_code == 401
        assert "cnf" in answer.json()["detail"]


async def test_the_nonce_changes_while_answers_say_the_next_one(city: City) -> None:
    """Who calls on meets no 401; who was silent for some minutes meets one."""
    mine = token(city, exp=int(city.clock().timestamp()) + 600)
    known = (await ask(city, mine, good(city, mine, nonce=None))).headers["dpop-nonce"]
    for _ in range(8):
        answer = await ask(city, mine, good(city, mine, nonce=known))
        assert answer.status_code == 200
        known = answer.headers.get("dpop-nonce", known)
        city.clock.move(45)
    city.clock.move(120)
    answer = await ask(city, mine, good(city, mine, nonce=known))
    assert "use_dpop_nonce" in answer.headers["www-authenticate"]


async def test_nonces_can_be_left_out(tmp_path: Path) -> None:
    city = City(tmp_path, nonces=False)
    mine = token(city)
    answer = await ask(city, mine, good(city, mine, nonce=None))
    assert answer.status_code == 200
    assert "dpop-nonce" not in answer.headers
    city.close()


async def test_a_proof_counts_once_in_all_gateways_and_after_a_restart(city: City) -> None:
    mine = token(city)
    text = good(city, mine)
    others = [city.make_app() for _ in range(3)]
    answers = await asyncio.gather(*(ask(city, mine, text, app=app) for app in (city.app, *others) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
    refused = next(answer for answer in answers if answer.status_code == 401)
    assert "used before" in refused.json()["detail"]
    assert 'error="invalid_dpop_proof"' in refused.headers["www-authenticate"]
    assert len(city.disclosing.asked) == 1
    for seconds in (0, 30, 29):  # as long as its iat would let it count
        city.clock.move(seconds)
        assert (await ask(city, mine, text, app=city.make_app())).status_code == 401
    assert len(city.disclosing.asked) == 1


async def test_where_it_cannot_be_told_whether_a_proof_is_new_nothing_is_shown(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = token(city)
    text = good(city, mine)
    use = UsedProofs.use

    def stored_and_lost(self: UsedProofs, proofs: Any) -> list[bool]:
        use(self, proofs)
        raise StoreUnavailable("away")

    with monkeypatch.context() as patched:
        patched.setattr(UsedProofs, "use", stored_and_lost)
        assert (await ask(city, mine, text)).status_code == 503
    assert not city.disclosing.asked
    assert (await ask(city, mine, text)).status_code == 401
    assert (await ask(city, mine, good(city, mine))).status_code == 200


async def test_who_sends_no_proof_costs_the_store_nothing(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UsedProofs, "use", None)
    plain = sign(KEY, claims(city.clock()))
    assert (await ask(city, plain, scheme="Bearer")).status_code == 200
    for text in (None, "x", proof(THIEF, token(city), city.clock()), good(city, token(city), nonce=None)):
        assert (await ask(city, token(city), text)).status_code == 401


@pytest.mark.parametrize("how", ["dpop", "mtls"])
async def test_a_client_of_which_it_is_demanded_has_no_bearer_tokens(city: City, how: Constraint) -> None:
    constrained(city, how)
    plain = sign(KEY, claims(city.clock()))
    answer = await ask(city, plain, scheme="Bearer")
    assert answer.status_code == 401
    assert city.identity.take_refused() == {"unbound": 1}
    assert answer.headers["www-authenticate"].startswith("DPoP" if how == "dpop" else "Bearer")
    mine = token(city)
    assert (await ask(city, mine, good(city, mine))).status_code == (200 if how == "dpop" else 401)
    constrained(city, None)
    assert (await ask(city, plain, scheme="Bearer")).status_code == 200


async def test_a_bundle_without_it_is_what_it_was(city: City) -> None:
    before = city.bundle
    assert b"sender_constrained" not in before.to_bytes()
    constrained(city, "dpop")
    assert b'"sender_constrained":"dpop"' in city.bundle.to_bytes()
    assert type(before).from_bytes(city.bundle.to_bytes(), city.bundle.version) == city.bundle


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.binary(max_size=200).filter(lambda text: not {10, 13, 0} & set(text)),
    st.sampled_from(["DPoP", "Bearer", "dpop"]),
    st.booleans(),
)
async def test_no_header_is_a_5xx(city: City, text: bytes, scheme: str, is_bound: bool) -> None:
    mine = token(city) if is_bound else sign(KEY, claims(city.clock()))
    headers = [(b"authorization", f"{scheme} {mine}".encode()), (b"dpop", text), (b"client-cert", text)]
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(city.app), base_url="http://gateway") as http:
        answer = await http.post(VIEW, json={"id": CITIZEN}, headers=headers)
    assert answer.status_code < 500


@pytest.mark.parametrize("store", [pytest.param("sqlite", marks=pytest.mark.slow), DATABASES[1]])
async def test_a_stolen_proof_is_no_use_at_another_process_nor_after_a_restart(
    request: pytest.FixtureRequest, tmp_path: Path, store: str
) -> None:
    """Tokens of the built-in issuer, two gateways behind one address, then a third that was not there before."""
    url = "sqlite:///data/store.db" if store == "sqlite" else request.getfixturevalue("fresh_postgres")()
    site = Site.made(tmp_path, url)
    here = f"http://localhost:{free_port()}"  # as a proxy in front of them is known
    secret = ("tax-desk", client_secret(site.settings(), "tax-desk").read_text("ascii"))

    def at(gateway: Process, token: str, text: str) -> httpx2.Response:
        headers = {"authorization": f"DPoP {token}", "dpop": text, "exchange-purpose": "tax-assessment"}
        return httpx2.post(f"{gateway.url}/v1/citizens/view", json={"id": CITIZEN}, headers=headers)

    def made(token: str | None, path: str, **more: Any) -> str:
        return proof(HOLDER, token, datetime.now(UTC), url=f"{here}{path}", **more)

    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(gateway_process(site, writer, EXCHANGE_GATEWAY__PUBLIC_URL=here))
            for writer in ("gateway-1", "gateway-2")
        )
        asking = made(None, "/oauth/token")
        form = {"grant_type": "client_credentials"}
        granted = httpx2.post(f"{first.url}/oauth/token", data=form, auth=secret, headers={"dpop": asking})
        assert granted.json()["token_type"] == "DPoP"
        again = httpx2.post(f"{second.url}/oauth/token", data=form, auth=secret, headers={"dpop": asking})
        assert (again.status_code, again.json()["error"]) == (400, "invalid_dpop_proof")
        mine = granted.json()["access_token"]
        nonce = at(first, mine, made(mine, "/v1/citizens/view")).headers["dpop-nonce"]
        texts = [made(mine, "/v1/citizens/view", nonce=nonce) for _ in range(4)]
        assert at(second, mine, texts[0]).status_code == 200  # a nonce of the one counts at the other
        with ThreadPoolExecutor(8) as pool:
            sent = [(gateway, text) for text in texts[1:] for gateway in (first, second) for _ in range(3)]
            answers = Counter(pool.map(lambda one: (one[1], at(one[0], mine, one[1]).status_code), sent))
        assert answers == {(text, status): count for text in texts[1:] for status, count in ((200, 1), (401, 5))}
    with gateway_process(site, "gateway-1", EXCHANGE_GATEWAY__PUBLIC_URL=here) as third:
        assert [at(third, mine, text).status_code for text in texts] == [401] * 4
        assert at(third, mine, made(mine, "/v1/citizens/view", nonce=nonce)).status_code == 200


class TestMemory:
    """What is remembered of proofs is bounded in time, and of use to who reads it only as a hash."""

    async def test_it_ends(self, city: City) -> None:
        mine = token(city)
        for _ in range(3):
            assert (await ask(city, mine, good(city, mine))).status_code == 200
        assert rows(city) == 3
        city.clock.move(300)
        fresh = token(city)
        assert (await ask(city, fresh, good(city, fresh))).status_code == 200
        await city.replays.close()
        assert rows(city) == 1


def rows(city: City) -> int:
    with reading(city.store.engine) as connection:
        return int(connection.exec_driver_sql("SELECT count(*) FROM used_proofs").scalar_one())
