"""A DPoP proof is read strictly: each check of RFC 9449 section 4.3 refuses what only it can find."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey

from gateway import dpop, jws
from gateway.dpop import Nonces, hash_of, normalised
from gateway.tokens import DPOP_ALGORITHMS, ProofRefused
from tests.support.proofs import METHOD, VIEW, jwk, proof
from tests.support.tokens import NOW, StandingClock, b64, public, sign

KEY = ECKey.generate_key("P-256")
OTHER = ECKey.generate_key("P-256")
RSA = RSAKey.generate_key(2048)
TOKEN = "header.claims.signature"
AT = int(NOW.timestamp())


def read(text: str, method: str = METHOD, target: str = VIEW, token: str | None = TOKEN) -> dpop.Proof:
    return dpop.read(text, method, target, token, NOW.timestamp())


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (KEY, "ES256"),
        (ECKey.generate_key("P-384"), "ES384"),
        (OKPKey.generate_key("Ed25519"), "Ed25519"),
        (OKPKey.generate_key("Ed25519"), "EdDSA"),
        (RSA, "RS256"),
        (RSA, "PS256"),
    ],
)
def test_a_proof_of_each_algorithm_holds(key: Key, algorithm: str) -> None:
    found = read(proof(key, TOKEN, NOW, header={"alg": algorithm}, jti="one", nonce="n"))
    assert (found.jkt, found.jti, found.issued, found.nonce) == (key.thumbprint(), "one", AT, "n")
    assert algorithm in DPOP_ALGORITHMS


def test_each_algorithm_of_the_list_can_be_read() -> None:
    assert set(DPOP_ALGORITHMS) <= jws.ALGORITHMS


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    """The example of its section 3.1, and a jwk whose other members must not count."""
    n = (
        "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMst"
        "n64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn"
        "1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    )
    key = dpop._key({"kty": "RSA", "n": n, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"})
    assert key.thumbprint() == "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"


def _unsigned(header: dict[str, Any]) -> str:
    claims = {"jti": "1", "htm": METHOD, "htu": VIEW, "iat": AT, "ath": hash_of(TOKEN)}
    return f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}.{b64(b'x')}"


def _by_another() -> str:
    return proof(OTHER, TOKEN, NOW, header={"jwk": jwk(KEY)})


def _changed(at: int) -> str:
    parts = proof(KEY, TOKEN, NOW).split(".")
    parts[at] = proof(KEY, TOKEN, NOW).split(".")[at][:-2] + "AA"
    return ".".join(parts)


def of(header: dict[str, Any] | None = None, key: Key = KEY, **changes: Any) -> str:
    return proof(key, TOKEN, NOW, header=header, **changes)


SECRET = OctKey.generate_key(256)
PUBLIC = jwk(KEY)
REFUSED: dict[str, tuple[str, str]] = {
    "nothing": ("", "three parts"),
    "two parts": ("a.b", "three parts"),
    "no json": ("a.b.c", "base64url"),
    "too long": ("a" * 9000, "8192"),
    "a member twice": (b64(b'{"typ":"dpop+jwt","typ":"dpop+jwt"}') + ".e30.AA", "duplicate"),
    "typ missing": (of({"typ": None}), "typ"),
    "typ of an access token": (of({"typ": "at+jwt"}), "typ"),
    "typ JWT": (of({"typ": "JWT"}), "typ"),
    "typ in capitals": (of({"typ": "DPOP+JWT"}), "typ"),
    "alg none": (_unsigned({"typ": "dpop+jwt", "alg": "none", "jwk": PUBLIC}), "algorithm"),
    "alg HS256": (_unsigned({"typ": "dpop+jwt", "alg": "HS256", "jwk": SECRET.as_dict()}), "algorithm"),
    "alg not of the list": (of({"alg": "RS512"}, RSA), "algorithm"),
    "alg of another kind of key": (_unsigned({"typ": "dpop+jwt", "alg": "RS256", "jwk": PUBLIC}), "signature"),
    "alg of another curve": (_unsigned({"typ": "dpop+jwt", "alg": "ES384", "jwk": PUBLIC}), "signature"),
    "crit": (of({"crit": ["exp"]}), "extension"),
    "jwk missing": (of({"jwk": None}), "jwk"),
    "jwk a text": (of({"jwk": "key"}), "jwk"),
    "jwk a list": (of({"jwk": [PUBLIC]}), "jwk"),
    "jwk without its kind": (of({"jwk": {**PUBLIC, "kty": None}}), "jwk"),
    "jwk of a kind that is a list": (of({"jwk": {**PUBLIC, "kty": ["EC"]}}), "jwk"),
    "jwk symmetric": (of({"jwk": SECRET.as_dict()}), "jwk"),
    "jwk private": (of({"jwk": KEY.as_dict(private=True)}), "private"),
    **{
        f"jwk private RSA: {name}": (of({"jwk": {**jwk(RSA), name: RSA.as_dict(private=True)[name]}}, RSA), "private")
        for name in ("d", "p", "q", "dp", "dq", "qi")
    },
    "jwk private RSA of many primes": (of({"jwk": {**jwk(RSA), "oth": []}}, RSA), "private"),
    "jwk with an empty private member": (of({"jwk": {**PUBLIC, "d": ""}}), "private"),
    "jwk with a secret beside it": (of({"jwk": {**PUBLIC, "k": "AAAA"}}), "private"),
    "jwk with a number": (of({"jwk": {**PUBLIC, "x": 7}}), "jwk"),
    "jwk not on its curve": (of({"jwk": {**PUBLIC, "y": PUBLIC["x"]}}), "jwk"),
    "jwk of an unknown curve": (of({"jwk": {**PUBLIC, "crv": "P-999"}}), "jwk"),
    "jwk that agrees only": (of({"jwk": public(OKPKey.generate_key("X25519"))}), "jwk"),
    "RSA too short": (of(key=RSAKey.generate_key(1024)), "jwk"),
    "RSA of an exponent that costs": (of({"jwk": {**jwk(RSA), "e": jwk(RSA)["n"]}}, RSA), "jwk"),
    "signed by another key": (_by_another(), "signature"),
    "signature changed": (_changed(2), "signature"),
    "jti missing": (of(jti=None), "jti"),
    "jti empty": (of(jti=""), "jti"),
    "jti long": (of(jti="x" * 256), "jti"),
    "jti a number": (of(jti=7), "jti"),
    "htm missing": (of(htm=None), "htm"),
    "htm another": (of(method="GET"), "htm"),
    "htm in small letters": (of(method="post"), "htm"),
    "htm a list": (of(htm=["POST"]), "htm"),
    "htu missing": (of(htu=None), "htu"),
    "htu another path": (of(url="http://gateway/v1/enterprises/view"), "htu"),
    "htu another host": (of(url="http://gateway.example/v1/citizens/view"), "htu"),
    "htu another port": (of(url="http://gateway:8080/v1/citizens/view"), "htu"),
    "htu another scheme": (of(url="https://gateway/v1/citizens/view"), "htu"),
    "htu a path only": (of(url="/v1/citizens/view"), "htu"),
    "htu in other letters": (of(url="http://gateway/v1/Citizens/view"), "htu"),
    "htu with a user": (of(url="http://gateway@evil/v1/citizens/view"), "htu"),
    "htu with a slash more": (of(url=f"{VIEW}/"), "htu"),
    "htu a list": (of(htu=[VIEW]), "htu"),
    "iat missing": (of(iat=None), "iat"),
    "iat a text": (of(iat=str(AT)), "iat"),
    "iat true": (of(iat=True), "iat"),
    "iat too old": (of(iat=AT - 61), "iat"),
    "iat ahead": (of(iat=AT + 11), "iat"),
    "iat no date": (of(iat=-1), "iat"),
    "ath missing": (of(ath=None), "ath"),
    "ath of another token": (of(ath=hash_of("another")), "ath"),
    "ath padded": (of(ath=hash_of(TOKEN) + "="), "ath"),
    "nonce a number": (of(nonce=7), "nonce"),
}


@pytest.mark.parametrize(("text", "says"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_hold_is_refused_by_its_own_check(text: str, says: str) -> None:
    with pytest.raises(ProofRefused, match=says) as caught:
        read(text)
    assert caught.value.reason == "proof"
    assert caught.value.challenge == (
        f'DPoP realm="exchange", error="invalid_dpop_proof", algs="{" ".join(DPOP_ALGORITHMS)}"'
    )


@pytest.mark.parametrize("iat", [AT - 60, AT + 10, AT + 0.5])
def test_clocks_may_differ_a_little(iat: float) -> None:
    assert read(of(iat=iat)).issued == iat


def test_without_a_token_none_is_looked_for() -> None:
    assert read(proof(KEY, None, NOW), token=None).jkt == KEY.thumbprint()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://Gateway/v1", "HTTP://gateway:80/v1"),
        ("https://gateway:443/v1?x=1#y", "https://gateway/v1"),
        ("http://gateway", "http://gateway/"),
        ("http://gateway:/a", "http://gateway/a"),
        ("http://gateway/a/./b/../c", "http://gateway/a/c"),
        ("http://gateway/a/b/..", "http://gateway/a/"),
        ("http://gateway/../a", "http://gateway/a"),
        ("http://gateway/%7euser", "http://gateway/~user"),
        ("http://gateway/%2e%2E/a", "http://gateway/a"),
        ("http://gateway/%e4", "http://gateway/%E4"),
        ("http://[::1]:80/a", "http://[::1]/a"),
    ],
)
def test_addresses_that_say_the_same_are_the_same(one: str, other: str) -> None:
    assert normalised(one) == normalised(other) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://gateway/a", "https://gateway/a"),
        ("http://gateway/a", "http://gateway/a/"),
        ("http://gateway/a", "http://gateway/A"),
        ("http://gateway/a%2Fb", "http://gateway/a/b"),
        ("http://gateway//a", "http://gateway/a"),
        ("http://gateway:81/a", "http://gateway/a"),
        ("http://gateway/%25%32%65", "http://gateway/."),
    ],
)
def test_addresses_that_differ_stay_different(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)
    assert None not in (normalised(one), normalised(other))


@pytest.mark.parametrize(
    "url",
    [
        "", "/v1", "gateway/v1", "ftp://gateway/", "http:///v1", "http://u@gateway/", "http://u:p@gateway/",
        "http://[::1/", "http://gateway:x/", "http://gateway:99999/", "http://gate way/", "http://gateway/\n",
        "http://gät/", "javascript:1",
    ],
)  # fmt: skip
def test_what_is_no_address_is_none(url: str) -> None:
    assert normalised(url) is None


@given(st.text(max_size=60))
def test_any_text_is_an_address_in_one_form_or_none(text: str) -> None:
    for url in (text, f"http://gateway/{text}", f"http://{text}/a"):
        found = normalised(url)
        assert found is None or normalised(found) == found


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_HEADER = st.fixed_dictionaries(
    {}, optional={"typ": st.just("dpop+jwt") | _JSON, "alg": st.sampled_from(DPOP_ALGORITHMS) | _JSON, "kid": _JSON}
)
_MEMBER = st.sampled_from([*PUBLIC.values(), *jwk(RSA).values(), "", "AA", "A" * 43]) | _JSON
_JWK = st.dictionaries(
    st.sampled_from(["kty", "crv", "x", "y", "n", "e", "d", "k", "use", "alg", "key_ops"]), _MEMBER, max_size=7
)
_CLAIMS = st.dictionaries(st.sampled_from(["jti", "htm", "htu", "iat", "ath", "nonce", "exp"]), _JSON, max_size=7)


@given(_HEADER, _JWK | _JSON, _CLAIMS, st.binary(max_size=70))
def test_whatever_comes_is_refused_as_a_proof(header: Any, key: Any, claims: Any, signature: bytes) -> None:
    parts = [b64(json.dumps(part).encode()) for part in ({**header, "jwk": key}, claims)]
    with pytest.raises(ProofRefused):
        read(".".join([*parts, b64(signature)]))


@given(_CLAIMS)
def test_whatever_is_signed_is_refused_or_holds(claims: Any) -> None:
    """Also of one who holds a key: what he writes into the claims ends in a refusal and in nothing else."""
    good = {"jti": "1", "htm": METHOD, "htu": VIEW, "iat": AT, "ath": hash_of(TOKEN)}
    text = sign(KEY, good | claims, {"typ": "dpop+jwt", "jwk": PUBLIC})
    try:
        found = read(text)
    except ProofRefused:
        return
    assert found.jkt == KEY.thumbprint()


@given(st.text(max_size=200))
def test_any_header_is_refused(text: str) -> None:
    with pytest.raises(ProofRefused):
        read(text)


def test_a_nonce_counts_a_minute_or_two_in_every_gateway_with_the_secret() -> None:
    clock = StandingClock()
    mine, others, strange = Nonces(b"secret", clock), Nonces(b"secret", clock), Nonces(b"another", clock)
    nonce = mine.newest()
    assert others.counts(nonce)
    assert not strange.counts(nonce)
    clock.move(60)
    assert others.counts(nonce)
    assert others.newest() != nonce
    clock.move(60)
    assert not others.counts(nonce)
    clock.move(-180)
    assert others.counts(nonce)  # of a gateway whose clock is ahead
    clock.move(-60)
    assert not others.counts(nonce)


@given(st.text(max_size=40))
def test_no_other_nonce_counts(text: str) -> None:
    nonces = Nonces(b"secret", StandingClock())
    assert not nonces.counts(text)
