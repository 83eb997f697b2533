"""The gateway as its settings make it: what is refused at the start, and the whole of it over a real socket."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from exchange import sqlite
from exchange.agreements import Bundle
from exchange.audit import AuditStore, PublicKeys, Receipt, verify_receipt
from exchange.errors import AuditUnavailable, PolicyUnavailable, SettingWrong
from exchange.settings import IssuerSettings, Settings
from gateway import trail
from gateway.discovery import is_loopback
from gateway.parts import create_app
from gateway.trail import Trail
from tests.support.gateway import Log
from tests.support.server import serving
from tests.support.site import CITIZEN, Site, bearer, view
from tests.support.tokens import StandingClock


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site.made(tmp_path_factory.mktemp("site"))


@pytest.fixture(scope="module")
def url(site: Site) -> Iterator[str]:
    with serving(create_app(site.settings()), lifespan=True) as port:
        yield f"http://127.0.0.1:{port}"


# --- what is refused at the start -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"gateway": {"host": "0.0.0.0"}}, "gateway.host"),
        ({"gateway": {"host": "::"}}, "gateway.host"),
        ({"gateway": {"host": "exchange.city.example"}}, "gateway.host"),
        ({"gateway": {"metrics_host": "10.0.0.1"}}, "gateway.metrics_host"),
        ({"materialise": {"metrics_host": "0.0.0.0"}}, "materialise.metrics_host"),
        ({"gateway": {"public_url": "https://exchange.city.example"}}, "gateway.public_url"),
    ],
)
def test_the_built_in_issuer_runs_on_loopback_only(site: Site, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingWrong, match=rf"dev_issuer\.enabled.*{re.escape(named)}"):
        create_app(site.settings(**changes))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "localhost.evil.example", "127.0.0.1.nip.io", "", None, "1"])
def test_loopback_is_not(host: str | None) -> None:
    assert not is_loopback(host)


def test_some_issuer_is_needed_and_each_once(site: Site) -> None:
    off = site.settings(dev_issuer={"enabled": False})
    with pytest.raises(SettingWrong, match="name an OIDC issuer"):
        create_app(off)
    issuer = {"issuer": "https://id.example"}
    twice = Settings(issuers=[issuer, issuer], dev_issuer={"enabled": False}, root=site.folder)  # type: ignore[list-item, arg-type]
    with pytest.raises(SettingWrong, match="twice"):
        create_app(twice)
    one_name = [{"issuer": f"https://id{n}.example", "name": "https://one.invalid"} for n in range(2)]
    named_as = [issuer, {"issuer": "https://other.example", "name": "https://id.example"}]
    for issuers in (one_name, named_as):
        with pytest.raises(SettingWrong, match="twice"):
            create_app(Settings(issuers=issuers, dev_issuer={"enabled": False}, root=site.folder))  # type: ignore[arg-type]
    built_in = site.settings().dev_issuer.issuer
    with pytest.raises(SettingWrong, match="twice"):
        create_app(site.settings().model_copy(update={"issuers": [IssuerSettings(**issuer, name=built_in)]}))
    for wrong in ({"issuer": "id.example"}, {"issuer": "https://id.example", "jwks": "file:///etc/passwd"}):
        with pytest.raises(SettingWrong, match="URL"):
            create_app(Settings(issuers=[wrong], dev_issuer={"enabled": False}, root=site.folder))  # type: ignore[list-item, arg-type]
    for algorithm in ("HS256", "none"):
        with pytest.raises(ValueError, match="algorithms"):
            Settings(issuers=[issuer | {"algorithms": [algorithm]}])  # type: ignore[list-item]


def test_keys_and_clients_are_there_or_the_setting_is_named(site: Site, tmp_path: Path) -> None:
    shutil.copytree(site.folder, tmp_path / "copy")
    copy = Site(tmp_path / "copy")
    for file, named in (("keys/signing.pem", "keys.signing"), ("dev-clients.toml", "dev_issuer.clients")):
        (copy.folder / file).chmod(0o644)
        with pytest.raises(SettingWrong, match=named):
            create_app(copy.settings())
        (copy.folder / file).unlink()
        with pytest.raises(SettingWrong, match=named):
            create_app(copy.settings())
        shutil.copy2(site.folder / file, copy.folder / file)


# --- the whole --------------------------------------------------------------------------------------------------------


def test_a_view_with_a_receipt_that_verifies(site: Site, url: str) -> None:
    answer = view(url, bearer(site, url, "tax-desk"))
    assert answer.status_code == 200
    assert answer.json() == {"values": {}, "records": {}, "not_available": []}
    keys = PublicKeys.from_jwks(httpx2.get(f"{url}/.well-known/exchange-keys.json").json())
    receipt = Receipt.decode(answer.headers["exchange-receipt"])
    assert verify_receipt(receipt, answer.content, keys).last >= receipt.number
    # In a process of its own: opening and closing SQLite's files here would drop the locks that the gateway holds.
    assert subprocess.run(["grep", "-rlF", CITIZEN, site.folder / "data"], capture_output=True).stdout == b""


def test_unknown_and_forbidden_look_alike(site: Site, url: str) -> None:
    headers = bearer(site, url, "tax-desk")
    answer = view(url, headers, contracts=["health.record", "no.such"])
    assert answer.json()["not_available"] == ["health.record", "no.such"]


def test_ready_and_documented(url: str) -> None:
    assert httpx2.get(f"{url}/readyz").json() == {
        "ready": True,
        "checks": {"audit": True, "policy": True, "issuer": True},
    }
    assert "澜汀" in httpx2.get(f"{url}/docs").text or "Lanting" in httpx2.get(f"{url}/docs").text


def test_the_token_endpoint(site: Site, url: str) -> None:
    metadata = httpx2.get(f"{url}/.well-known/openid-configuration").json()
    assert metadata["issuer"] == site.settings().dev_issuer.issuer
    wrong = httpx2.post(f"{url}/oauth/token", data={"grant_type": "client_credentials"}, auth=("tax-desk", "wrong"))
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert wrong.headers["www-authenticate"] == 'Basic realm="exchange"'
    assert wrong.headers["cache-control"] == "no-store"
    assert httpx2.post(f"{url}/oauth/token", json={}).status_code == 415
    keys = httpx2.get(f"{url}/oauth/jwks.json").json()["keys"]
    assert [(key["kty"], "d" in key) for key in keys] == [("OKP", False)]
    narrow = bearer(site, url, "tax-desk", scope="publish")
    assert view(url, narrow).json()["type"] == "/errors/insufficient-scope"


def test_a_refusal_is_in_the_audit_log_of_the_store(site: Site, url: str) -> None:
    answer = httpx2.post(f"{url}/v1/datasets/civil.person/records", json=[], headers=bearer(site, url, "tax-desk"))
    assert answer.status_code == 403
    log = AuditStore.open(site.settings().audit_url)
    with log.reading() as connection:
        entries = [json.loads(each.entry) for each in log.walk_entries(connection)]
    log.close()
    (found,) = [entry for entry in entries if entry.get("request") == answer.headers["x-request-id"]]
    assert found["act"] == "POST /v1/datasets/{dataset}/records"
    assert (found["outcome"], found["reason"], found["client"]) == ("refused", "insufficient-scope", "tax-desk")


def test_a_push_reaches_the_topic(site: Site, url: str) -> None:
    headers = bearer(site, url, "civil-connector") | {"Idempotency-Key": "one"}
    answer = httpx2.post(f"{url}/v1/datasets/civil.person/records", json=[{"citizen_id": "x"}], headers=headers)
    assert answer.status_code == 200
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (0, 1)


def test_a_struck_client_is_out_within_two_seconds(site: Site, url: str) -> None:
    headers = bearer(site, url, "housing-desk")
    purpose = {"Exchange-Purpose": "housing-allocation"}
    assert view(url, headers | purpose).status_code == 200
    before = view(url, headers | purpose).headers["exchange-policy"]
    site.strike("housing-desk")
    began = time.monotonic()
    while view(url, headers | purpose).status_code != 403:
        assert time.monotonic() - began < 2
        time.sleep(0.05)
    other = view(url, bearer(site, url, "tax-desk"))
    assert other.headers["exchange-policy"] != before


def test_a_stop_closes_everything_and_a_start_finds_it(site: Site) -> None:
    settings = site.settings(audit={"writer": "gateway-9"})
    for _ in range(2):
        with serving(create_app(settings), lifespan=True) as port:
            url = f"http://127.0.0.1:{port}"
            assert view(url, bearer(site, url, "tax-desk")).status_code == 200


def test_a_store_that_is_away_is_no_reason_not_to_start(site: Site, tmp_path: Path) -> None:
    settings = site.settings(
        store={"url": "postgresql://nobody@127.0.0.1:1/none"}, audit={"url": "postgresql://nobody@127.0.0.1:1/none"}
    )
    with serving(create_app(settings), lifespan=True) as port:
        url = f"http://127.0.0.1:{port}"
        assert httpx2.get(f"{url}/healthz").status_code == 200
        ready = httpx2.get(f"{url}/readyz")
        assert (ready.status_code, ready.json()["checks"]) == (503, {"audit": False, "policy": False, "issuer": True})
        answer = view(url, bearer(site, url, "tax-desk"))
        assert (answer.status_code, answer.json()["type"]) == (503, "/errors/policy-unavailable")
        assert answer.headers["retry-after"]


def test_no_view_is_shown_while_somebody_holds_the_audit_logs_lock(site: Site, url: str) -> None:
    headers = bearer(site, url, "tax-desk")
    assert view(url, headers).status_code == 200
    blocker = sqlite.connect(site.settings().path(site.settings().data) / "audit.db")
    blocker.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        answer = view(url, headers)
        assert (answer.status_code, answer.json()["type"]) == (503, "/errors/audit-unavailable")
        assert not answer.json().keys() & {"values", "records"}
    assert httpx2.get(f"{url}/readyz").json()["checks"]["audit"] is False
    blocker.execute("ROLLBACK")
    blocker.close()
    began = time.monotonic()
    while view(url, headers).status_code != 200:
        assert time.monotonic() - began < 30
        time.sleep(0.05)


def test_a_gateway_that_knows_no_key_of_its_issuer_is_not_ready(site: Site) -> None:
    """A rolling restart while the issuer is away goes no further than its first gateway."""
    away = IssuerSettings(issuer="https://id.example", jwks="http://127.0.0.1:1/keys")
    settings = site.settings(dev_issuer={"enabled": False}, audit={"writer": "gateway-8"})
    with serving(create_app(settings.model_copy(update={"issuers": [away]})), lifespan=True) as port:
        ready = httpx2.get(f"http://127.0.0.1:{port}/readyz")
        assert (ready.status_code, ready.json()["checks"]) == (503, {"audit": True, "policy": True, "issuer": False})


# --- counts of those who were not known -------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_refused_tokens_are_counted_by_minute_and_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "COUNT_SECONDS", 0.02)
    log = Log()

    def bundle() -> Bundle:
        raise PolicyUnavailable

    counts = [{"expired": 3, "missing": 1}, {}, {"issuer": 2}]
    task = asyncio.create_task(
        Trail(log, bundle, StandingClock()).count(lambda: counts.pop(0) if counts else {})  # type: ignore[arg-type]
    )
    await asyncio.sleep(0.15)
    log.broken = True
    counts.append({"key": 1})
    await asyncio.sleep(0.05)
    task.cancel()
    assert [entry.details for entry in log.entries] == [
        {"requests": {"expired": 3, "missing": 1}}, {"requests": {"issuer": 2}},
    ]  # fmt: skip
    assert {(entry.act, entry.outcome, entry.client) for entry in log.entries} == {
        ("unauthenticated", "refused", "gateway")
    }
    with pytest.raises(AuditUnavailable):
        await Trail(log, bundle, StandingClock()).unknown({"key": 1})  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_counts_that_could_not_be_written_are_added_to_the_next() -> None:
    def bundle() -> Bundle:
        raise PolicyUnavailable

    log = Log()
    kept = Trail(log, bundle, StandingClock())  # type: ignore[arg-type]
    log.broken = True
    for _ in range(3):
        with pytest.raises(AuditUnavailable):
            await kept.unknown({"key": 1, "missing": 2})
    log.broken = False
    await kept.unknown({"key": 1})
    await kept.unknown({})
    assert [entry.details for entry in log.entries] == [{"requests": {"key": 4, "missing": 6}}]
