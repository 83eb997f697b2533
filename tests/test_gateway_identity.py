"""Who is calling: the header, the cache of verified tokens, the list of clients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import REGISTRY

from exchange.agreements import Bundle, Client
from exchange.errors import Forbidden, IssuerUnavailable, PolicyUnavailable
from gateway import identity
from gateway.identity import Identity, authorization, credentials
from gateway.limits import NOTES
from gateway.problems import InsufficientScope
from gateway.tokens import DPOP_ALGORITHMS, Token, TokenRefused
from tests.support.tokens import ISSUER, StandingClock, claims, ec, sign, verifier

pytestmark = pytest.mark.anyio

KEY = ec()


def client(client_id: str = "tax-desk", scopes: Sequence[Any] = ("view", "publish"), issuer: str = ISSUER) -> Client:
    return Client(issuer=issuer, client_id=client_id, name="Desk", department="tax", scopes=tuple(scopes), purposes=())


def bundle(*clients: Client) -> Bundle:
    return Bundle.make(
        zone="Asia/Shanghai", clients=clients, purposes=(), agreements=(), terms=(), guardrails=(), schema=""
    )


class Desk:
    """An Identity with a bundle that tests change, and a count of how many tokens were verified."""

    def __init__(self, *clients: Client) -> None:
        self.clock = StandingClock()
        self.bundle = bundle(*clients)
        self.verified = 0
        self.fails: Exception | None = None
        self._tokens = verifier(KEY, clock=self.clock)
        self.identity = Identity(self, lambda: self.bundle, self.clock, None)  # type: ignore[arg-type]

    async def verify(self, text: str) -> Token:
        self.verified += 1
        if self.fails is not None:
            raise self.fails
        return await self._tokens.verify(text)

    async def ask(self, token: str) -> identity.Caller:
        return await self.identity.caller(scope(token))


def scope(token: str) -> dict[str, Any]:
    return {"headers": [(b"authorization", b"Bearer " + token.encode())], NOTES: {}}


async def test_a_listed_client_with_a_good_token() -> None:
    desk = Desk(client())
    asked = scope(sign(KEY, claims()))
    caller = await desk.identity.caller(asked)
    assert caller.client == client()
    assert asked[identity.CALLER] is caller
    assert asked[NOTES] == {"client": "tax-desk", "department": "tax"}


async def test_a_client_is_issuer_and_name_together() -> None:
    for listed in (client(issuer=ISSUER + "/"), client("other"), client("Tax-Desk")):
        desk = Desk(listed)
        with pytest.raises(Forbidden, match="not in the list"):
            await desk.ask(sign(KEY, claims()))
        assert desk.identity.take_refused() == {"unlisted": 1}


async def test_a_scope_counts_if_token_and_list_give_it() -> None:
    desk = Desk(client(scopes=("view", "publish")))
    caller = await desk.ask(sign(KEY, claims(scope="view registry")))
    assert caller.scopes == {"view"}
    caller.require("view")
    for missing in ("publish", "registry"):
        with pytest.raises(InsufficientScope):
            caller.require(missing)
    bare = await desk.ask(sign(KEY, claims(scope=None)))
    assert bare.scopes == set()


async def test_a_token_is_verified_once_a_minute_and_not_past_its_end() -> None:
    desk = Desk(client())
    token = sign(KEY, claims())
    for _ in range(5):
        await desk.ask(token)
    assert desk.verified == 1
    desk.clock.move(60)
    await desk.ask(token)
    assert desk.verified == 2
    short = sign(KEY, claims(desk.clock(), exp=int(desk.clock().timestamp()) + 5))
    await desk.ask(short)
    desk.clock.move(5)
    with pytest.raises(TokenRefused, match="expired"):
        await desk.ask(short)


async def test_a_struck_client_is_out_at_once_though_its_token_is_remembered() -> None:
    desk = Desk(client())
    token = sign(KEY, claims())
    await desk.ask(token)
    desk.bundle = bundle(client("another"))
    with pytest.raises(Forbidden):
        await desk.ask(token)
    assert desk.verified == 1


async def test_the_memory_of_tokens_is_bounded_and_keeps_those_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "CACHE_SIZE", 3)
    desk = Desk(client())
    kept = sign(KEY, claims())
    await desk.ask(kept)
    for number in range(10):
        await desk.ask(sign(KEY, claims(jti=str(number))))
        await desk.ask(kept)
    assert desk.verified == 11
    assert len(desk.identity._verified) == 3


async def test_bad_tokens_are_not_remembered_and_are_counted_by_reason() -> None:
    desk = Desk(client())
    for _ in range(3):
        with pytest.raises(TokenRefused):
            await desk.ask("a.b.c")
    with pytest.raises(TokenRefused):
        await desk.identity.caller({"headers": [], NOTES: {}})
    assert not desk.identity._verified
    assert desk.identity.take_refused() == {"not_a_token": 3, "missing": 1}
    assert desk.identity.take_refused() == {}
    assert (REGISTRY.get_sample_value("exchange_token_failures_total", {"reason": "not_a_token"}) or 0) >= 3


async def test_parts_that_are_away_are_no_refusals() -> None:
    desk = Desk(client())
    desk.fails = IssuerUnavailable()
    with pytest.raises(IssuerUnavailable):
        await desk.ask(sign(KEY, claims()))
    desk.fails = None

    def away() -> Bundle:
        raise PolicyUnavailable

    gone = Identity(desk, away, desk.clock, None)  # type: ignore[arg-type]
    with pytest.raises(PolicyUnavailable):
        await gone.caller(scope(sign(KEY, claims())))
    assert desk.identity.take_refused() == {}


HEADERS: dict[str, tuple[list[bytes], str | None]] = {
    "none": ([], None),
    "two": ([b"Bearer a", b"Bearer a"], "invalid_request"),
    "scheme only": ([b"Bearer"], "invalid_request"),
    "scheme and a blank": ([b"Bearer "], "invalid_request"),
    "two blanks": ([b"Bearer  x"], "invalid_request"),
    "tab": ([b"Bearer\tx"], "invalid_request"),
    "two tokens": ([b"Bearer a, Bearer b"], "invalid_request"),
    "two words": ([b"Bearer a b"], "invalid_request"),
    "dpop with two tokens": ([b"DPoP a, DPoP b"], "invalid_request"),
    "another scheme": ([b"xDPoP a"], "invalid_request"),
    "basic": ([b"Basic YTpi"], "invalid_request"),
    "not ascii": ([b"Bearer \xe4"], "invalid_request"),
    "empty": ([b""], "invalid_request"),
    "line break": ([b"Bearer a\n"], "invalid_request"),
}


@pytest.mark.parametrize(("values", "error"), HEADERS.values(), ids=HEADERS)
async def test_the_authorization_header_is_read_strictly(values: list[bytes], error: str | None) -> None:
    with pytest.raises(TokenRefused) as caught:
        credentials(authorization([(b"authorization", value) for value in values]))
    known = 'Bearer realm="exchange"'
    algs = " ".join(DPOP_ALGORITHMS)
    wanted = f'{known}, error="{error}"' if error else f'{known}, DPoP realm="exchange", algs="{algs}"'
    assert caught.value.challenge == wanted


@pytest.mark.parametrize("scheme", [b"Bearer", b"bearer", b"BEARER", b"DPoP", b"dpop"])
async def test_the_scheme_is_read_in_any_case(scheme: bytes) -> None:
    sent = authorization([(b"accept", b"*/*"), (b"authorization", scheme + b" a.b-c_d~e+f/g==")])
    assert credentials(sent) == (scheme.lower(), b"a.b-c_d~e+f/g==")
