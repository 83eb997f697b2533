"""Access tokens: a table of bad ones, each refused with the same 401, and what must pass."""

from __future__ import annotations

import hmac
import json
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from gateway import jws
from gateway.tokens import TokenRefused
from tests.support.tokens import AUDIENCE, ISSUER, StandingClock, b64, claims, ec, okp, public, rsa, sign, verifier

pytestmark = pytest.mark.anyio

EC = ec()
OKP = okp()
RSA = rsa()
OTHER = ec()  # the same kid, another key
CANARY = "110101190001010014"


def _b64(value: Any) -> str:
    return b64(value if isinstance(value, bytes) else json.dumps(value).encode())


def _unsigned(header: dict[str, Any], payload: dict[str, Any], signature: str = "") -> str:
    return f"{_b64(header)}.{_b64(payload)}.{signature}"


def _confused() -> str:
    """HS256 keyed with the public key's bytes: the oldest trick (RFC 8725 section 2.1)."""
    signing_input = f"{_b64({'alg': 'HS256', 'typ': 'at+jwt', 'kid': 'e1'})}.{_b64(claims())}"
    return f"{signing_input}.{_b64(hmac.digest(EC.as_pem(private=False), signing_input.encode(), 'sha256'))}"


def _raw(**changes: str) -> bytes:
    """Claims as text, so that a member can hold what json.dumps would not write."""
    members = {name: json.dumps(value) for name, value in claims().items()} | changes
    return ("{" + ",".join(f'"{name}":{value}' for name, value in members.items()) + "}").encode()


def _flip(token: str) -> str:
    head, body, signature = token.split(".")
    return f"{head}.{body}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


AT = int(StandingClock()().timestamp())

BAD: dict[str, str] = {
    "empty": "",
    "one part": "abc",
    "two parts": "a.b",
    "four parts": "a.b.c.d",
    "five parts (JWE)": "a.b.c.d.e",
    "blank header": "." + _b64(claims()) + ".x",
    "not base64": "%%%.%%%.%%%",
    "padded base64": _b64({"alg": "ES256"}) + "==." + _b64(claims()) + ".x",
    "header no object": _b64([1]) + "." + _b64(claims()) + ".x",
    "claims no object": sign(EC, b"[1,2]"),
    "claims no json": sign(EC, b"hello"),
    "claims not utf-8": sign(EC, b'{"iss":"\xff"}'),
    "claims nested": sign(EC, b'{"iss":"x","a":' + b"[" * 60 + b"]" * 60 + b"}"),
    "over 8 KiB": sign(EC, claims(pad="x" * 9000)),
    "header over 2 KiB": sign(EC, claims(), {"x": "y" * 2000}),
    "no signature": sign(EC, claims()).rsplit(".", 1)[0] + ".",
    "signature of another token": sign(EC, claims()).rsplit(".", 1)[0] + "." + sign(EC, claims(jti="2")).rsplit(".")[2],
    "one bit of the signature": _flip(sign(EC, claims())),
    "claims changed": sign(EC, claims()).split(".")[0] + "." + _b64(claims(client_id="x")) + "." + "AA" * 43,
    "another key under the kid": sign(OTHER, claims()),
    "unknown kid": sign(ec("zz"), claims()),
    "empty kid": sign(EC, claims(), {"kid": ""}),
    "kid a number": _unsigned({"alg": "ES256", "typ": "at+jwt", "kid": 1}, claims(), "AAAA"),
    "alg none": _unsigned({"alg": "none", "typ": "at+jwt", "kid": "e1"}, claims()),
    "alg None": _unsigned({"alg": "None", "typ": "at+jwt", "kid": "e1"}, claims(), "AA"),
    "alg missing": _unsigned({"typ": "at+jwt", "kid": "e1"}, claims(), "AA"),
    "alg a list": _unsigned({"alg": ["ES256"], "typ": "at+jwt"}, claims(), "AA"),
    "alg HS256 with the public key": _confused(),
    "alg HS512": _unsigned({"alg": "HS512", "typ": "at+jwt"}, claims(), "AA"),
    "alg ES256K": _unsigned({"alg": "ES256K", "typ": "at+jwt"}, claims(), "AA"),
    "alg of another kind of key": _unsigned({"alg": "RS256", "typ": "at+jwt", "kid": "e1"}, claims(), "AA"),
    "alg not pinned": sign(RSA, claims(), {"alg": "RS256"}),
    "key in the header": sign(OTHER, claims(), {"jwk": public(OTHER), "kid": None}),
    "key address in the header": sign(OTHER, claims(), {"jku": "https://evil.example/jwks", "kid": "evil"}),
    "crit": sign(EC, claims(), {"crit": ["exp"], "exp": 1}),
    "crit empty": _unsigned({"alg": "ES256", "typ": "at+jwt", "crit": []}, claims(), "AA"),
    "b64 false": _unsigned({"alg": "ES256", "typ": "at+jwt", "b64": False, "crit": ["b64"]}, claims(), "AA"),
    "duplicate alg": _b64(b'{"alg":"ES256","alg":"none"}') + ".e30.AA",
    "duplicate sub": sign(EC, b'{"sub":"a",' + _raw()[1:]),
    "duplicate client_id": sign(EC, b'{"client_id":"admin",' + _raw()[1:]),
    "typ missing": sign(EC, claims(), {"typ": None}),
    "typ JWT": sign(EC, claims(), {"typ": "JWT"}),
    "typ id token": sign(EC, claims(), {"typ": "id+jwt"}),
    "typ logout": sign(EC, claims(), {"typ": "logout+jwt"}),
    "typ a number": sign(EC, claims(), {"typ": 7}),
    "iss missing": sign(EC, claims(iss=None)),
    "iss other": sign(EC, claims(iss="https://id.city.example/realms/other")),
    "iss with slash": sign(EC, claims(iss=ISSUER + "/")),
    "iss in capitals": sign(EC, claims(iss=ISSUER.upper())),
    "iss a list": sign(EC, claims(iss=[ISSUER])),
    "iss a number": sign(EC, claims(iss=1)),
    "aud missing": sign(EC, claims(aud=None)),
    "aud account": sign(EC, claims(aud="account")),
    "aud [account]": sign(EC, claims(aud=["account"])),
    "aud with slash": sign(EC, claims(aud=AUDIENCE + "/")),
    "aud empty list": sign(EC, claims(aud=[])),
    "aud list with a number": sign(EC, claims(aud=[AUDIENCE, 1])),
    "aud an object": sign(EC, claims(aud={AUDIENCE: 1})),
    "aud in azp only": sign(EC, claims(aud=None, azp=AUDIENCE)),
    "aud part of a word": sign(EC, claims(aud=AUDIENCE + "x")),
    "exp missing": sign(EC, claims(exp=None)),
    "exp null": sign(EC, _raw(exp="null")),
    "exp text": sign(EC, claims(exp=str(AT + 300))),
    "exp true": sign(EC, claims(exp=True)),
    "exp 1e300": sign(EC, _raw(exp="1e300")),
    "exp 1e400": sign(EC, _raw(exp="1e400")),
    "exp Infinity": sign(EC, _raw(exp="Infinity")),
    "exp NaN": sign(EC, _raw(exp="NaN")),
    "exp of 30 digits": sign(EC, _raw(exp="9" * 30)),
    "exp negative": sign(EC, claims(exp=-1)),
    "exp now": sign(EC, claims(exp=AT)),
    "exp past": sign(EC, claims(iat=AT - 700, exp=AT - 100)),
    "exp a list": sign(EC, claims(exp=[AT + 300])),
    "lives too long": sign(EC, claims(exp=AT + 601)),
    "lives for ten days": sign(EC, claims(exp=AT + 864_000)),
    "iat missing": sign(EC, claims(iat=None)),
    "iat text": sign(EC, claims(iat="now")),
    "iat true": sign(EC, claims(iat=True)),
    "iat +61": sign(EC, claims(iat=AT + 61)),
    "iat +11": sign(EC, claims(iat=AT + 11)),
    "iat 1e300": sign(EC, _raw(iat="1e300")),
    "nbf +61": sign(EC, claims(nbf=AT + 61)),
    "nbf text": sign(EC, claims(nbf="later")),
    "nbf null": sign(EC, _raw(nbf="null")),
    "client missing": sign(EC, claims(client_id=None)),
    "client empty": sign(EC, claims(client_id="")),
    "client a number": sign(EC, claims(client_id=7)),
    "client null": sign(EC, _raw(client_id="null", azp='"tax-desk"')),
    "client of 256 signs": sign(EC, claims(client_id="x" * 256)),
    "client with a line break": sign(EC, claims(client_id="a\nb")),
    "sub a number": sign(EC, claims(sub=7)),
    "sub null": sign(EC, _raw(sub="null")),
    "sub of 10,000 signs": sign(EC, claims(sub="x" * 4000)),
    "scope a number": sign(EC, claims(scope=7)),
    "scope an object": sign(EC, claims(scope={"view": True})),
    "scope list with a number": sign(EC, claims(scope=["view", 7])),
}


@pytest.mark.parametrize("token", BAD.values(), ids=BAD)
async def test_a_bad_token_is_refused(token: str) -> None:
    tokens = verifier(EC, OKP, RSA, clock=StandingClock(), algorithms=["ES256", "Ed25519"])
    with pytest.raises(TokenRefused) as caught:
        await tokens.verify(token)
    assert caught.value.challenge == 'Bearer realm="exchange", error="invalid_token"'
    for word in (CANARY, "evil", "admin", "x" * 50, ISSUER):
        assert word not in str(caught.value)


# Which check it is that refuses: by the beginning of the case's name; the longest one counts.
REASONS = {
    "": {"not_a_token"}, "signature": {"signature"}, "one bit": {"signature"}, "claims changed": {"signature"},
    "another key": {"signature"}, "unknown kid": {"key"}, "key": {"signature", "key"}, "alg of": {"algorithm"},
    "alg not": {"algorithm"}, "typ": {"type"}, "iss": {"issuer"}, "aud": {"audience"}, "exp": {"time", "not_a_token"},
    "exp now": {"expired"}, "exp past": {"expired"}, "lives": {"lifetime"}, "iat": {"time"}, "iat +": {"not_yet"},
    "nbf": {"time"}, "nbf +": {"not_yet"}, "client": {"client"}, "sub": {"subject"}, "scope": {"scope"},
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
async def test_it_is_refused_for_its_own_reason(name: str) -> None:
    tokens = verifier(EC, OKP, RSA, clock=StandingClock(), algorithms=["ES256", "Ed25519"])
    with pytest.raises(TokenRefused) as caught:
        await tokens.verify(BAD[name])
    assert caught.value.reason in REASONS[max((start for start in REASONS if name.startswith(start)), key=len)]


async def test_a_token_that_nobody_known_signed_is_told_nothing() -> None:
    tokens = verifier(EC, clock=StandingClock())
    texts = set()
    for name in ("one bit of the signature", "unknown kid", "typ JWT", "iss other", "alg none", "two parts"):
        with pytest.raises(TokenRefused) as caught:
            await tokens.verify(BAD[name])
        texts.add(str(caught.value))
    assert len(texts) == 1


async def test_an_authentic_token_is_told_which_claim_is_missing() -> None:
    with pytest.raises(TokenRefused, match="claim client_id or azp"):
        await verifier(EC, clock=StandingClock()).verify(BAD["client missing"])


GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": (sign(EC, claims()), {}),
    "Ed25519": (sign(OKP, claims()), {}),
    "RS256": (sign(RSA, claims()), {}),
    "PS256": (sign(RSA, claims(), {"alg": "PS256"}), {}),
    "EdDSA": (sign(OKP, claims(), {"alg": "EdDSA"}), {}),
    "typ with application/": (sign(EC, claims(), {"typ": "application/at+jwt"}), {}),
    "typ in capitals": (sign(EC, claims(), {"typ": "AT+JWT"}), {}),
    "typ JWT where the issuer is set so": (sign(EC, claims(), {"typ": "JWT"}), {"typ": ["JWT"]}),
    "unknown header members": (sign(EC, claims(), {"x": "y", "x5t": "abc"}), {}),
    "header of 1 KiB": (sign(EC, claims(), {"x": "y" * 1000}), {}),
    "no kid": (sign(EC, claims(), {"kid": None}), {}),
    "aud list": (sign(EC, claims(aud=["account", AUDIENCE])), {}),
    "iat +5": (sign(EC, claims(iat=AT + 5, exp=AT + 305)), {}),
    "iat +10": (sign(EC, claims(iat=AT + 10, exp=AT + 310)), {}),
    "nbf +10": (sign(EC, claims(nbf=AT + 10)), {}),
    "exp +1": (sign(EC, claims(exp=AT + 1)), {}),
    "exp a fraction": (sign(EC, claims(exp=AT + 0.5)), {}),
    "no sub": (sign(EC, claims(sub=None)), {}),
    "no sub, azp": (sign(EC, claims(sub=None, client_id=None, azp="tax-desk")), {}),
    "longer where the issuer is set so": (sign(EC, claims(exp=AT + 3600)), {"max_lifetime_s": 3600}),
}


@pytest.mark.parametrize(("token", "settings"), GOOD.values(), ids=GOOD)
async def test_a_good_token_passes(token: str, settings: dict[str, Any]) -> None:
    found = await verifier(EC, OKP, RSA, clock=StandingClock(), **settings).verify(token)
    assert (found.issuer, found.client_id, found.person) == (ISSUER, "tax-desk", None)


async def test_one_verifier_serves_for_an_hour() -> None:
    clock = StandingClock()
    tokens = verifier(EC, clock=clock)
    token = sign(EC, claims())
    await tokens.verify(token)
    clock.move(3600)
    with pytest.raises(TokenRefused, match="expired"):
        await tokens.verify(token)
    await tokens.verify(sign(EC, claims(clock())))


async def test_without_a_kid_every_fitting_key_is_tried() -> None:
    first, second, third = ec("a"), ec("b"), ec("c")
    enc = ECKey.import_key(public(ec("x"), use="enc"))
    tokens = verifier(enc, rsa("r"), first, second, third, clock=StandingClock())
    for key in (first, second, third):
        assert (await tokens.verify(sign(key, claims(), {"kid": None}))).client_id == "tax-desk"


async def test_two_keys_of_one_kid_are_both_tried() -> None:
    tokens = verifier(OTHER, EC, clock=StandingClock())
    for key in (EC, OTHER):
        await tokens.verify(sign(key, claims()))


@pytest.mark.parametrize(
    "changes", [{"use": "enc"}, {"key_ops": ["sign"]}, {"alg": "ES384"}, {"alg": "ECDH-ES"}], ids=str
)
async def test_a_key_that_is_not_for_this_is_not_used(changes: dict[str, Any]) -> None:
    jwk = public(EC, **{"use": None, **changes})
    with pytest.raises(TokenRefused):
        await verifier(ECKey.import_key(jwk), clock=StandingClock()).verify(sign(EC, claims()))


@pytest.mark.filterwarnings("ignore::joserfc.errors.SecurityWarning")
def test_weak_and_foreign_keys_are_no_keys() -> None:
    assert jws.public_key(public(RSAKey.generate_key(1024))) is None
    assert jws.public_key({"kty": "oct", "k": "c2VjcmV0"}) is None
    assert jws.public_key({"kty": "AKP", "alg": "ML-DSA-65", "pub": "x"}) is None
    assert jws.public_key({"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}) is None
    for nonsense in (None, [], "x", {}, {"kty": 1}, {"kty": "EC"}, {"kty": "RSA", "n": "AQAB", "e": "AQAB"}):
        assert jws.public_key(nonsense) is None


@pytest.mark.parametrize(
    ("scope", "words"),
    [
        ("view", {"view"}),
        ("view publish", {"view", "publish"}),
        ("view  publish", {"view", "publish"}),
        (["view"], {"view"}),
        ("view_all", {"view_all"}),
        ("xview", {"xview"}),
        ("view\tpublish", {"view\tpublish"}),
        ("", set()),
        ([], set()),
        (None, set()),
    ],
)
async def test_scopes_are_whole_words(scope: Any, words: set[str]) -> None:
    found = await verifier(EC, clock=StandingClock()).verify(sign(EC, claims(scope=scope)))
    assert found.scopes == words


async def test_sub_is_a_person_only_where_the_issuer_is_set_so() -> None:
    clock = StandingClock()
    token = sign(EC, claims(sub="officer-7"))
    assert (await verifier(EC, clock=clock).verify(token)).person is None
    assert (await verifier(EC, clock=clock, person_subjects=True).verify(token)).person == "officer-7"
    own = await verifier(EC, clock=clock, person_subjects=True).verify(sign(EC, claims()))
    assert own.person is None
