"""`exchange keys`: a new key or secret in the place of an old one, and what the old one made stays good."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner, Result

from exchange import erasure
from exchange.cli import audit, bus_secret, keys, rotation
from exchange.cli.administration import note
from exchange.clock import system_clock
from exchange.errors import AuditBroken, AuditUnavailable, Conflict, SettingWrong
from exchange.publish.cursor import CursorFile
from exchange.records import ERASURES_TOPIC, Erasure
from exchange.settings import Settings
from exchange.standing import StandingName
from exchange.subjects import parse
from exchange.wiring import audit_keys, key_maker, open_broker, open_store, public_keys, signer
from tests.support.drill import BACKINGS, Drill, places
from tests.support.site import CITIZEN, Site, bearer, gateway_process


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    for room in (keys, audit):
        monkeypatch.setattr(room, "load", Settings.load)  # without setting up this process's logs
    return Site.made(tmp_path)


def run(site: Site, *arguments: str) -> Result:
    return CliRunner().invoke(keys.app, [*arguments, "-c", str(site.config)])


def rotated(site: Site, which: str) -> dict[str, Any]:
    done = run(site, "rotate", which, "--json")
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def files(site: Site) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in site.folder.rglob("*") if file.is_file() and "data" not in file.parts}


def verify(site: Site) -> Result:
    return CliRunner().invoke(audit.app, ["verify", "-c", str(site.config)])


# --- the signing key --------------------------------------------------------------------------------------------------


def test_what_the_old_key_signed_verifies_and_the_old_private_half_may_go(site: Site) -> None:
    old = signer(site.settings())
    site.seal()
    told = rotated(site, "signing")
    new = signer(site.settings())
    assert (told["old"], told["new"]) == (old.kid, new.kid)
    assert old.kid != new.kid
    assert {key.kid for key in public_keys(site.settings())} == {old.kid, new.kid}
    note(site.settings(), "after")
    site.seal()
    assert verify(site).exit_code == 0, verify(site).output
    (site.folder / "keys" / "signing.pem").unlink()
    assert verify(site).exit_code == 0, "of the old key the public half is enough"
    forgotten = site.config.read_text("utf-8").replace("former_signing", "# former_signing")
    site.config.write_text(forgotten, "utf-8")
    assert isinstance(verify(site).exception, AuditBroken), "without it nothing says who signed"


def test_three_rotations_keep_all_of_them(site: Site) -> None:
    kids = [signer(site.settings()).kid]
    for _ in range(3):
        kids.append(rotated(site, "signing")["new"])
        note(site.settings(), "between")
        site.seal()
    assert {key.kid for key in public_keys(site.settings())} == set(kids)
    assert verify(site).exit_code == 0
    assert signer(site.settings()).kid == kids[-1]


# --- the audit secret -------------------------------------------------------------------------------------------------


def test_a_subjects_entries_are_found_under_every_secret(site: Site) -> None:
    citizen = parse("cn.ric", CITIZEN)
    written = []
    for expected in ("a2", "a3"):
        written.append(audit_keys(site.settings()).subject(citizen))
        note(site.settings(), "looked", subject=written[-1])
        assert rotated(site, "audit")["new"] == expected
    written.append(audit_keys(site.settings()).subject(citizen))
    note(site.settings(), "looked", subject=written[-1])
    assert [key.partition(".")[0] for key in written] == ["a1", "a2", "a3"]
    assert audit_keys(site.settings()).subjects(citizen) == [written[2], written[0], written[1]]
    found = CliRunner().invoke(audit.app, ["reads", "--json", "-c", str(site.config)], input=CITIZEN + "\n")
    assert [one["subject"] for one in json.loads(found.stdout) if one["act"] == "looked"] == written


# --- while gateways run -----------------------------------------------------------------------------------------------


def view(site: Site, url: str) -> tuple[str, bytes]:
    """Receipt and body of a view."""
    headers = {**bearer(site, url, "tax-desk"), "Exchange-Purpose": "tax-assessment"}
    answer = httpx2.post(f"{url}/v1/citizens/view", json={"id": CITIZEN}, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.headers["Exchange-Receipt"], answer.content


@pytest.mark.slow
def test_gateways_are_restarted_one_after_the_other_and_every_receipt_stays_good(site: Site) -> None:
    """A drill: both secrets are rotated under two gateways. Until the last has restarted, both pairs are in use."""
    given = []
    with gateway_process(site, "gateway-1") as old:
        given.append(view(site, old.url))
        former = signer(site.settings()).kid
        rotated(site, "signing")
        rotated(site, "audit")
        given.append(view(site, old.url))
        with gateway_process(site, "gateway-2") as new:
            given.append(view(site, new.url))
            given.append(view(site, old.url))
            published = httpx2.get(f"{new.url}/.well-known/exchange-keys.json").json()["keys"]
            assert {key["kid"] for key in published} == {former, signer(site.settings()).kid}
    with gateway_process(site, "gateway-1") as restarted:
        given.append(view(site, restarted.url))
    saved = {name: site.folder / name for name in ("receipt", "body", "keys.json")}
    saved["keys.json"].write_text(json.dumps({"keys": published}), "utf-8")
    signed = set()
    for receipt, body in given:
        saved["receipt"].write_text(receipt, "ascii")
        saved["body"].write_bytes(body)
        for more in ([], ["--keys", str(saved["keys.json"])]):
            command = ["receipt", str(saved["receipt"]), str(saved["body"]), "-c", str(site.config), *more]
            done = CliRunner().invoke(audit.app, command)
            assert done.exit_code == 0, done.output
        signed.add(receipt)
    assert len(signed) == 5
    assert verify(site).exit_code == 0, verify(site).output
    found = CliRunner().invoke(audit.app, ["reads", "--json", "-c", str(site.config)], input=CITIZEN + "\n")
    pseudonyms = [one["subject"].partition(".")[0] for one in json.loads(found.stdout) if one["act"] == "view"]
    assert sorted(pseudonyms) == ["a1", "a1", "a1", "a2", "a2"]


# --- files and settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["signing", "audit"])
def test_comments_and_all_other_settings_stay(site: Site, which: str) -> None:
    site.config.write_text(site.config.read_text("utf-8") + '\n[keys] # ours\nbus_kid = "k1" # never\n', "utf-8")
    site.config.chmod(0o640)
    before = site.config.read_text("utf-8")
    rotated(site, which)
    after = site.config.read_text("utf-8")
    assert after.startswith(before.rstrip("\n"))
    assert stat.S_IMODE(site.config.stat().st_mode) == 0o640
    for file in (site.folder / "keys").glob("*.*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("which", ["signing", "audit"])
def test_a_dry_run_writes_nothing(site: Site, which: str) -> None:
    before = files(site)
    done = run(site, "rotate", which, "--dry-run")
    assert done.exit_code == 0
    assert "would become" in done.output
    assert "restart" not in done.output
    assert files(site) == before


def test_the_settings_name_files_from_their_folder(site: Site) -> None:
    former = signer(site.settings()).kid[:8]
    assert rotated(site, "signing")["keys"] == {
        "signing": "file:keys/signing-2.pem",
        "former_signing": [f"file:keys/former-{former}.pem"],
    }
    assert rotated(site, "audit")["keys"]["former_audit"] == {"a1": "file:keys/audit.key"}


def test_a_rotation_that_broke_off_is_in_no_ones_way(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk was full when the settings were to be written: the files are there, and nobody reads them."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = site.config.read_bytes()
    monkeypatch.setattr(rotation, "replace", full)
    assert isinstance(run(site, "rotate", "signing").exception, SettingWrong)
    assert site.config.read_bytes() == before
    monkeypatch.undo()
    monkeypatch.setattr(keys, "load", Settings.load)
    told = rotated(site, "signing")
    assert told["keys"]["signing"] == "file:keys/signing-3.pem"
    assert len(told["keys"]["former_signing"]) == 1
    assert {key.kid for key in public_keys(site.settings())} == {told["old"], told["new"]}
    note(site.settings(), "after")


def test_nothing_is_rotated_that_the_audit_log_cannot_note(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object, **__: object) -> None:
        raise AuditUnavailable("the disk is full")

    before = files(site)
    monkeypatch.setattr(keys, "note", away)
    assert isinstance(run(site, "rotate", "audit").exception, AuditUnavailable)
    assert files(site) == before


def test_settings_that_were_changed_meanwhile_are_left_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def another_writes(*_: object, **__: object) -> None:
        site.config.write_text(site.config.read_text("utf-8") + "# mine\n", "utf-8")

    monkeypatch.setattr(keys, "note", another_writes)
    refused = run(site, "rotate", "audit")
    assert isinstance(refused.exception, Conflict)
    assert "audit-2.key" in str(refused.exception)
    assert site.config.read_text("utf-8").endswith("# mine\n")


@pytest.mark.parametrize(
    ("keys_table", "environment", "why"),
    [
        ('signing = "env:SIGNING"', {"SIGNING": ""}, "keys.signing"),
        ("", {"EXCHANGE_KEYS__SIGNING": "file:keys/signing.pem"}, "EXCHANGE_KEYS__SIGNING"),
        ('signing = "file:keys/none.pem"', {}, "keys.signing"),
        ('signing = "file:keys/bus.key"', {}, "signing key"),
    ],
)  # fmt: skip
def test_a_key_that_cannot_be_rotated_here(
    site: Site, monkeypatch: pytest.MonkeyPatch, keys_table: str, environment: dict[str, str], why: str
) -> None:
    pem = signer(site.settings()).pem().decode()
    for name, value in environment.items():
        monkeypatch.setenv(name, value or pem)
    site.config.write_text(site.config.read_text("utf-8") + f"\n[keys]\n{keys_table}\n", "utf-8")
    before = files(site)
    refused = run(site, "rotate", "signing")
    assert isinstance(refused.exception, SettingWrong), refused.output
    assert why in str(refused.exception)
    assert "PRIVATE" not in str(refused.exception)
    assert files(site) == before


def test_a_key_id_without_a_follower(site: Site) -> None:
    site.config.write_text(site.config.read_text("utf-8") + '\n[keys]\naudit_kid = "a9999999"\n', "utf-8")
    assert isinstance(run(site, "rotate", "audit").exception, Conflict)


def test_the_list_shows_ids_places_and_days_but_no_secret(site: Site) -> None:
    former = rotated(site, "signing")
    rotated(site, "audit")
    told = json.loads(run(site, "list", "--json").stdout)["keys"]
    assert [(one["setting"], one["reference"]) for one in told] == [
        ("keys.bus", "file:keys/bus.key"),
        ("keys.audit", "file:keys/audit-2.key"),
        ("keys.former_audit", "file:keys/audit.key"),
        ("keys.signing", "file:keys/signing-2.pem"),
        ("keys.former_signing", f"file:keys/former-{former['old'][:8]}.pem"),
    ]
    assert [one["kid"] for one in told] == ["k1", "a2", "a1", *(key.kid for key in public_keys(site.settings()))]
    plain = run(site, "list").output
    for file in (site.folder / "keys").glob("*.*"):
        secret = file.read_text("ascii")
        assert secret.strip() not in plain
        os.utime(file, (0, 0))
    assert {one["since"] for one in json.loads(run(site, "list", "--json").stdout)["keys"]} == {"1970-01-01"}


# --- the bus secret ---------------------------------------------------------------------------------------------------


@pytest.fixture(params=BACKINGS)
def town(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Drill]:
    for room in (keys, audit):
        monkeypatch.setattr(room, "load", Settings.load)
    folder = tmp_path / "town"
    folder.mkdir()
    with Drill(folder, places(request)) as town:
        yield town


def bus_rotated(config: Path, *more: str) -> Result:
    return CliRunner().invoke(keys.app, ["rotate", "bus", "--json", *more, "-c", str(config)])


def test_a_town_gets_another_bus_secret(town: Drill) -> None:
    """A drill: what was shown is shown, who has the old secret is told nothing, and the audit log goes on."""
    other = "11010119000101009X"
    town.begin()
    town.push("before")
    town.push("another", other)
    town.shows("before")
    town.shows("another", other)
    _, receipt, body = town.name()
    refused = bus_rotated(town.config).exception
    assert isinstance(refused, Conflict), "it runs"
    assert "stop everything" in str(refused)
    town.end()
    former, old = town.config.read_text("utf-8"), key_maker(town.settings)
    assert json.loads(bus_rotated(town.config, "--dry-run").stdout)["records"]["civil.person.v1"] == 2
    assert town.config.read_text("utf-8") == former
    done = bus_rotated(town.config)
    assert done.exit_code == 0, (done.output, done.exception)
    told = json.loads(done.stdout)
    assert (told["old"], told["new"], told["made"]) == ("k1", "k2", "file:keys/bus-2.key")
    assert told["records"]["civil.person.v1"] == 2
    secret = town.folder / "keys" / "bus-2.key"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert not (town.folder / "data" / "rekeying").exists()
    new = key_maker(Settings.load(town.config))
    assert new.mark != old.mark
    town.begin()
    town.shows("before")
    town.shows("another", other)
    assert town.holds(receipt, body)
    town.push("after")
    town.shows("after")
    town.end()
    with closing(open_broker(town.settings)) as broker:
        assert all((each.key or b"").startswith(b"k2.") for each in broker.read("civil.person.v1"))
    town.config.write_text(former, "utf-8")
    with closing(open_store(Settings.load(town.config), system_clock)) as store, pytest.raises(SettingWrong):
        store.check_keyed(old.mark)
    assert isinstance(bus_rotated(town.config).exception, SettingWrong)


@pytest.mark.slow
def test_a_gateway_with_another_bus_secret_shows_nothing_and_says_why(site: Site) -> None:
    """Under another secret nobody would be found: that is no answer."""
    with gateway_process(site) as gateway:
        headers = {**bearer(site, gateway.url, "tax-desk"), "Exchange-Purpose": "tax-assessment"}
        with closing(open_store(site.settings(), system_clock)) as store:
            store.begin_keying("k2.another")

        def status() -> int:
            asked = f"{gateway.url}/v1/citizens/view"
            return httpx2.post(asked, json={"id": CITIZEN}, headers=headers, timeout=30).status_code

        deadline = time.monotonic() + 30
        while status() != 503:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert httpx2.get(f"{gateway.url}/readyz").status_code == 503
    assert "rotate bus" in gateway.log.read_text("utf-8")


def listed_kid(site: Site) -> str:
    told = json.loads(run(site, "list", "--json").stdout)["keys"]
    return str(next(each["kid"] for each in told if each["setting"] == "keys.bus"))


def test_a_bus_rotation_that_was_killed_before_the_settings_were_written(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    monkeypatch.setattr(rotation, "replace", killed)
    with pytest.raises(Killed):
        bus_rotated(site.config)
    monkeypatch.undo()
    monkeypatch.setattr(keys, "load", Settings.load)
    assert listed_kid(site) == "k1"
    with closing(open_store(site.settings(), system_clock)) as store:
        with pytest.raises(SettingWrong):
            store.check_keyed(key_maker(site.settings()).mark)
        with pytest.raises(SettingWrong):
            site.apply()
    told = json.loads(bus_rotated(site.config).stdout)
    assert (told["new"], told["made"]) == ("k2", "file:keys/bus-2.key"), "the same secret, not one more"
    assert listed_kid(site) == "k2"
    site.apply()


def test_a_bus_rotation_that_was_killed_after_the_settings_were_written(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> None:
        raise Killed

    monkeypatch.setattr(bus_secret.shutil, "rmtree", lambda folder, **more: None if more else killed())
    with pytest.raises(Killed):
        bus_rotated(site.config)
    monkeypatch.undo()
    monkeypatch.setattr(keys, "load", Settings.load)
    assert listed_kid(site) == "k2"
    assert json.loads(bus_rotated(site.config).stdout)["new"] == "k2"
    assert listed_kid(site) == "k2"
    assert json.loads(bus_rotated(site.config).stdout)["new"] == "k3", "and then the next"


def test_a_bus_secret_is_not_changed_while_something_is_open(site: Site) -> None:
    before = files(site)
    holder = StandingName(site.folder / "data", "materialise")
    assert isinstance(bus_rotated(site.config).exception, Conflict)
    holder.close()
    cursors = site.folder / "data" / "cursors"
    cursors.mkdir()
    with closing(CursorFile(cursors / "civil.persons.db")):
        refused = bus_rotated(site.config).exception
        assert isinstance(refused, Conflict)
        assert "civil.persons" in str(refused)
    with closing(open_broker(site.settings())) as broker:
        broker.ensure(erasure.topic())
        order = Erasure(key_maker(site.settings()).mark, "a/1", system_clock())
        with closing(broker.publisher()) as publisher:
            publisher.publish(ERASURES_TOPIC, [order.message()])
    refused = bus_rotated(site.config).exception
    assert isinstance(refused, Conflict)
    assert "erase resume" in str(refused)
    assert files(site) == before


def test_a_bus_secret_in_the_environment_is_not_changed_there(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUS", (site.folder / "keys" / "bus.key").read_text("ascii"))
    site.config.write_text(site.config.read_text("utf-8") + '\n[keys]\nbus = "env:BUS"\n', "utf-8")
    before = files(site)
    refused = bus_rotated(site.config).exception
    assert isinstance(refused, SettingWrong)
    assert "keys.bus" in str(refused)
    assert files(site) == before
