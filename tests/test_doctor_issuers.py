"""`exchange doctor` on issuers, and on one token: every reason at once, never the token, never a person."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import Key
from typer.testing import CliRunner

from exchange.cli import build
from exchange.clock import system_clock
from exchange.doctor import Finding, Means, examine
from gateway.doctor import issuers
from gateway.doctor.token import look_at_token
from gateway.keysets import FixedKeys
from gateway.tokens import TokenRefused, Tokens, TrustedIssuer
from tests.support.doctor import made, quiet
from tests.support.issuer import Issuer, serving_issuer
from tests.support.site import Site
from tests.support.tokens import claims, ec, okp, sign

__all__ = ["made", "quiet"]

KEY = ec("k1")
PERSON = "张三 110101190001010014"


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with serving_issuer(KEY) as serving:
        yield serving


@pytest.fixture
def site(made: Path, tmp_path: Path, issuer: Issuer) -> Site:
    """An installation whose clients are of `issuer`; the policies in force say so."""
    shutil.copytree(made, tmp_path / "site")
    site = Site(tmp_path / "site")
    clients = site.folder / "policies/clients.toml"
    clients.write_text(clients.read_text("utf-8").replace("https://issuer.exchange.invalid", issuer.issuer), "utf-8")
    trust(site, f'issuer = "{issuer.issuer}"')
    site.apply()
    return site


def trust(site: Site, *tables: str) -> None:
    """Name these issuers and no other."""
    text = site.config.read_text("utf-8").partition("\n[[issuers]]\n")[0].replace("enabled = true", "enabled = false")
    site.config.write_text(text + "".join(f"\n[[issuers]]\n{table}\n" for table in tables), "utf-8")


def found(site: Site, **changes: Any) -> list[Finding]:
    means = Means(site.settings(**changes), system_clock)
    return [finding for result in examine(issuers.CHECKS, means) for finding in result.findings]


def told(findings: list[Finding]) -> str:
    return "\n".join(f"{each.where}: {each.what} -> {each.do}" for each in findings)


# --- issuers ----------------------------------------------------------------------------------------------------------


def test_an_issuer_that_is_as_it_should_be(site: Site) -> None:
    assert not found(site)


def _no_endpoint(site: Site, issuer: Issuer) -> None:
    trust(site, f'issuer = "{issuer.issuer}"\ntoken_endpoint = "discovery"')


SPOILT: dict[str, tuple[Callable[[Site, Issuer], object], str]] = {
    "its clock is ahead": (lambda _, it: setattr(it, "ahead", 90.0), "seconds ahead of this machine's"),
    "its clock is behind": (lambda _, it: setattr(it, "ahead", -90.0), "seconds behind this machine's"),
    "another name": (lambda _, it: it.document.update(issuer=it.issuer + "/"), "names another issuer"),
    "no keys": (lambda _, it: it.jwks.update(keys=[]), "no key that can verify a token"),
    "no document": (lambda _, it: setattr(it, "answer", lambda __: None), "status 404"),
    "another algorithm": (
        lambda site, it: trust(site, f'issuer = "{it.issuer}"\nalgorithms = ["RS256"]'),
        "none of its 1 keys signs by RS256",
    ),
    "no token endpoint": (_no_endpoint, "names no token endpoint"),
    "twice": (
        lambda site, it: trust(site, f'issuer = "{it.issuer}"', f'issuer = "{it.issuer}"'), "stands there twice"
    ),
    "its name twice": (
        lambda site, it: trust(site, f'issuer = "{it.issuer}"\nname = "x"', 'issuer = "https://y"\nname = "x"'),
        "stands there twice",
    ),
    "no address": (
        lambda site, it: trust(site, f'issuer = "{it.issuer}"', 'issuer = "id.city"'), "must be a URL"
    ),
    "a secret in the clear": (
        lambda site, it: trust(site, f'issuer = "{it.issuer}"\ntoken_endpoint = "http://id.city.invalid/t"'),
        "secrets go there",
    ),
    "two for secrets": (
        lambda site, it: trust(site, *(f'issuer = "{it.issuer}{one}"\ntoken_endpoint = "https://a"' for one in "/x")),
        "more than one issuer has a token endpoint",
    ),
    "clients of a stranger": (
        lambda site, it: trust(site, f'issuer = "https://id.invalid"\njwks = "{it.issuer}/certs"'),
        "clients are of the issuer",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "expected"), SPOILT.values(), ids=SPOILT)
def test_what_is_wrong_with_an_issuer(
    site: Site, issuer: Issuer, spoil: Callable[[Site, Issuer], object], expected: str
) -> None:
    spoil(site, issuer)
    assert expected in told(found(site))


def test_one_issuer_that_hangs_or_is_away_hides_nothing_of_another(
    site: Site, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuers, "FETCH_SECONDS", 0.3)
    with serving_issuer(ec("other")) as other:
        other.ahead = 300
        trust(
            site, f'issuer = "{issuer.issuer}"', f'issuer = "{other.issuer}"', 'issuer = "http://127.0.0.1:1/realms/x"',
            'issuer = "http://id.city.invalid"',
        )  # fmt: skip
        issuer.silent.set()
        began = time.monotonic()
        text = told(found(site))
    assert time.monotonic() - began < 20
    assert f"issuers: {issuer.issuer}: its keys cannot be read: no answer within" in text
    assert f"issuers: {other.issuer}: its clock is 3" in text or f"issuers: {other.issuer}: its clock is 299" in text
    assert "issuers: http://127.0.0.1:1/realms/x: its keys cannot be read: ConnectError" in text
    assert "issuers: http://id.city.invalid: its keys come without TLS" in text
    assert "issuers: http://id.city.invalid: its keys cannot be read" in text


def test_the_built_in_issuer_beyond_loopback_and_without_its_clients(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "site")
    site = Site(tmp_path / "site")
    assert not found(site)
    assert "runs on loopback only, and gateway.host is not" in told(found(site, gateway={"host": "0.0.0.0"}))
    (site.folder / "dev-clients.toml").chmod(0o644)
    assert "dev_issuer: dev_issuer.clients" in told(found(site))


# --- one token --------------------------------------------------------------------------------------------------------


def token(issuer: Issuer, key: Key = KEY, header: dict[str, Any] | None = None, **changes: Any) -> str:
    good = {"iss": issuer.issuer, "client_id": "tax-connector", "sub": "tax-connector", "scope": "publish registry"}
    return sign(key, claims(system_clock(), **{**good, **changes}), header)


def ask(site: Site, text: str, *options: str) -> Any:
    asked = ["doctor", "--token", "-", *options, "--config", str(site.config)]
    return CliRunner().invoke(build("doctor"), asked, input=text, env={"COLUMNS": "500"})


def test_a_good_token_is_taken(site: Site, issuer: Issuer) -> None:
    for text in (token(issuer), f"Bearer {token(issuer)}\n"):
        answer = ask(site, text)
        assert answer.exit_code == 0, answer.output
        assert "the gateway takes it" in answer.output
    file = site.folder / "token"
    file.write_text(token(issuer))
    answer = CliRunner().invoke(build("doctor"), ["doctor", "--token", str(file), "--config", str(site.config)])
    assert answer.exit_code == 0
    assert ask(site, token(issuer, scope="publish registry view")).exit_code == 0, (
        "more than the list gives is no fault"
    )


def now() -> int:
    return int(time.time())


BAD: dict[str, tuple[Callable[[Issuer], str], str]] = {
    "no token": (lambda _: "geheim", "not a signed token"),
    "account": (lambda it: token(it, aud="account"), "its audience is account (Keycloak's own"),
    "for another": (lambda it: token(it, aud=["account", "other"]), "its audience is account, other, and it must have"),
    "no audience": (lambda it: token(it, aud=None), "it names no audience"),
    "an odd audience": (lambda it: token(it, aud=["exchange", 7]), "its audience is not a text"),
    "issuer with a slash": (lambda it: token(it, iss=it.issuer + "/"), "differ only in a slash"),
    "issuer by https": (lambda it: token(it, iss=it.issuer.replace("http:", "https:")), "http/https"),
    "another issuer": (lambda it: token(it, iss="http://keycloak:8080/realms/city"), "none that the settings name"),
    "no issuer": (lambda it: token(it, iss=None), "it names no issuer"),
    "typ JWT": (lambda it: token(it, header={"typ": "JWT"}), "its typ is JWT, and at+jwt is asked for"),
    "no typ": (lambda it: token(it, header={"typ": None}), "its typ is missing"),
    "another algorithm": (lambda it: token(it, KEY, {"alg": "ES384"}), "signed by ES384"),
    "expired": (lambda it: token(it, iat=now() - 700, exp=now() - 100), "it expired 10"),
    "from the future": (lambda it: token(it, iat=now() + 100, exp=now() + 200), "not valid for another"),
    "nbf": (lambda it: token(it, nbf=now() + 500), "not valid for another"),
    "long": (lambda it: token(it, exp=now() + 7_200), "and 600 are allowed"),
    "no end": (lambda it: token(it, exp=None), "exp is missing"),
    "no client": (lambda it: token(it, client_id=None), "it names no client"),
    "a stranger": (lambda it: token(it, client_id="nobody"), "nobody is not in the policies in force"),
    "no scope": (lambda it: token(it, scope="openid"), "the scope publish of clients.toml is not in the token"),
    "an odd scope": (lambda it: token(it, scope={"a": 1}), "its scope is neither"),
    "another key": (lambda it: token(it, ec("k1")), "its signature is not by its issuer's key"),
    "an unknown key": (lambda it: token(it, ec("k2")), "publishes no key of this id"),
    "an odd subject": (lambda it: token(it, sub=7), "the gateway refuses it: the token's sub is not a name"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "expected"), BAD.values(), ids=BAD)
def test_why_a_token_is_refused(site: Site, issuer: Issuer, make: Callable[[Issuer], str], expected: str) -> None:
    answer = ask(site, make(issuer))
    assert answer.exit_code == 1
    assert answer.exception is None or isinstance(answer.exception, SystemExit)
    assert expected in answer.output
    assert "broke off" not in answer.output


def test_every_reason_is_told_at_once_and_neither_the_token_nor_a_person(site: Site, issuer: Issuer) -> None:
    text = token(
        issuer, okp("k9"), {"typ": "JWT"}, aud="account", iss=issuer.issuer.upper(), sub=PERSON, name=PERSON,
        preferred_username=PERSON, email="zhang@city.example", client_id="tax-desk", scope="profile", exp=now() - 5,
        iat=now() - 90_000,
    )  # fmt: skip
    answer = ask(site, text, "--json")
    (check,) = json.loads(answer.output)["checks"]
    where = [finding["where"] for finding in check["findings"]]
    assert {"token: iss", "token: typ", "token: exp", "token: aud", "token: client"} <= set(where)
    assert where.count("token: exp") == 2, "expired, and too long"
    plain = ask(site, text).output
    for output in (answer.output, plain):
        assert PERSON not in output
        assert "张三" not in output
        assert "zhang" not in output
        assert not any(part in output for part in text.split("."))


def test_a_client_that_is_listed_and_not_applied_or_of_another_issuer(site: Site, issuer: Issuer) -> None:
    clients = site.folder / "policies/clients.toml"
    clients.write_text(clients.read_text("utf-8").replace('"tax-connector"', '"tax-machine"'), "utf-8")
    answer = ask(site, token(issuer, client_id="tax-machine"))
    assert "tax-machine is not in the policies in force" in answer.output
    assert "is not in clients.toml" not in answer.output
    with serving_issuer(ec("x")) as other:
        trust(site, f'issuer = "{issuer.issuer}"', f'issuer = "{other.issuer}"')
        answer = ask(site, sign(ec("x"), claims(system_clock(), iss=other.issuer, client_id="tax-desk")))
    assert f"of {issuer.issuer} there is one of this name" in answer.output


@pytest.mark.parametrize(("demanded", "claim"), [("dpop", "jkt"), ("mtls", "x5t#S256")])
def test_a_token_that_should_be_bound_to_its_sender(site: Site, issuer: Issuer, demanded: str, claim: str) -> None:
    clients = site.folder / "policies/clients.toml"
    named = 'client_id = "tax-connector"\n'
    text = clients.read_text("utf-8").replace(named, f'{named}sender_constrained = "{demanded}"\n')
    clients.write_text(text, "utf-8")
    site.apply()
    other = "mtls" if demanded == "dpop" else "dpop"
    for bound in ({}, {"cnf": {"x5t#S256" if other == "mtls" else "jkt": "A" * 43}}):
        answer = ask(site, token(issuer, **bound))
        assert answer.exit_code == 1
        assert f"demands a token that is bound to its sender by {demanded}" in answer.output
    answer = ask(site, token(issuer, cnf={claim: "A" * 43}))
    assert answer.exit_code == 0, answer.output
    assert "each request needs" in answer.output


def test_what_cannot_be_asked_is_told_beside_the_rest(
    site: Site, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(issuers, "FETCH_SECONDS", 0.3)
    issuer.silent.set()
    shutil.rmtree(site.folder / "data")
    (site.folder / "policies/purposes.toml").write_text("x = ", "utf-8")
    answer = ask(site, token(issuer, aud="account"))
    assert "its signature cannot be checked: no answer within" in answer.output
    assert "the policies in force cannot be read" in answer.output
    assert "clients.toml cannot be read" in answer.output
    assert "its audience is account" in answer.output


def test_a_token_of_the_built_in_issuer_whose_key_is_gone(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "site")
    site = Site(tmp_path / "site")
    (site.folder / "keys/issuer.pem").unlink()
    text = sign(KEY, claims(system_clock(), iss="https://issuer.exchange.invalid", client_id="tax-desk", scope="view"))
    assert "its signature cannot be checked: dev_issuer.key" in ask(site, text).output


def test_it_is_never_milder_than_the_gateway(site: Site, issuer: Issuer) -> None:
    """Whatever is changed of a token: where the gateway's verifier refuses it, there is a finding."""
    settings = site.settings()
    verifier = Tokens([TrustedIssuer(settings.issuers[0], FixedKeys([KEY]))], "exchange", system_clock)
    given = Means(settings, system_clock)
    refused = 0
    for name in ("iss", "aud", "client_id", "sub", "iat", "exp", "nbf", "scope"):
        for value in (None, "", 7, ["exchange"], 1e300):
            text = token(issuer, **{name: value})
            findings = [said for said in look_at_token(text, given) if isinstance(said, Finding)]
            try:
                asyncio.run(verifier.verify(text))
            except TokenRefused:
                refused += 1
                assert findings, (name, value)
    assert refused > 20
