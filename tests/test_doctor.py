"""`exchange doctor`: every finding fires, none hides another, nothing is changed, and nothing takes for ever."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from exchange import sqlite
from exchange.cli import build
from exchange.cli.administration import open_audit
from exchange.clock import system_clock
from exchange.doctor import CHECKS, Check, Finding, Means, contents, examine, machine
from exchange.doctor.servers import judged
from exchange.errors import UnsafeSQLite
from exchange.records import Message
from exchange.settings import Settings
from exchange.store import tables
from exchange.store.database import writing
from exchange.wiring import open_broker, open_store
from gateway.doctor.command import document, look
from tests.support.doctor import made, quiet
from tests.support.site import Site

__all__ = ["made", "quiet"]

TOPIC = "civil.person.v1"


@pytest.fixture
def site(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An installation on SQLite that is well; nothing of it runs."""
    monkeypatch.setattr(contents, "WATCH_SECONDS", 0.05)
    shutil.copytree(made, tmp_path / "site")
    return Site(tmp_path / "site")


def found(site: Site, **changes: Any) -> list[Finding]:
    """What is found with these settings changed."""
    means = Means(site.settings(**changes), system_clock)
    return [finding for result in examine(CHECKS, means) for finding in result.findings]


def run(site: Site, *options: str, given: str | None = None) -> Any:
    given_options = [*options, "--config", str(site.config)]
    return CliRunner().invoke(build("doctor"), ["doctor", *given_options], input=given, env={"COLUMNS": "500"})


def told(findings: list[Finding]) -> str:
    return "\n".join(f"{each.where}: {each.what} -> {each.do}" for each in findings)


# --- as it should be --------------------------------------------------------------------------------------------------


def test_a_sound_installation_is_well_and_stays_as_it_is(site: Site) -> None:
    before = picture(site.folder)
    answer = run(site)
    assert (answer.exit_code, answer.exception) == (0, None), answer.output
    assert answer.output.splitlines()[-1] == "in all: well"
    answer = run(site, "--json")
    assert answer.exit_code == 0
    said = json.loads(answer.output)
    assert said["well"] is True
    assert {each["check"] for each in said["checks"]} >= {check.name for check in CHECKS} | {"issuers", "clients"}
    assert not any(each["not_looked_at_for_want_of"] for each in said["checks"])
    assert picture(site.folder) == before


def picture(folder: Path) -> dict[str, str]:
    """Every file with its digest; what SQLite keeps beside a file that is open says nothing of its own."""
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file() and not file.name.endswith(("-wal", "-shm"))
    }


def test_before_anything_was_made_it_says_so_and_makes_nothing(site: Site) -> None:
    shutil.rmtree(site.folder / "data")
    (site.folder / "empty").mkdir()
    findings = found(site)
    assert [each.where for each in findings if "there is no file" in each.what] == [
        "broker.url",
        "store.url",
        "audit.url",
    ]
    assert not (site.folder / "data").exists()


def test_settings_that_cannot_be_read_are_told_one_by_one(site: Site) -> None:
    site.config.write_text(
        site.config.read_text("utf-8") + '[audit]\nwriter = "X Y"\n[rejects]\nkeep_days = 0\n', "utf-8"
    )
    answer = run(site)
    assert answer.exit_code == 1
    assert "audit.writer" in answer.output
    assert "rejects.keep_days" in answer.output
    site.config.unlink()
    assert "does not exist" in run(site).output


# --- how it looks -----------------------------------------------------------------------------------------------------


def means() -> Means:
    return Means(Settings(), system_clock)


def test_what_hangs_or_breaks_hides_nothing_and_costs_its_patience_only() -> None:
    def well(_: Means) -> Iterator[Any]:
        yield "a fact"

    def broken(_: Means) -> Iterator[Any]:
        yield Finding("before", "here", "do")
        raise RuntimeError("张三 110101190001010014")

    def hanging(_: Means) -> Iterator[Any]:
        yield Finding("before it hung", "there", "do")
        time.sleep(30)
        yield Finding("never", "there", "do")

    checks = [
        Check("hanging", "there", hanging), Check("broken", "here", broken), Check("after", "x", well, ("hanging",)),
        Check("well", "x", well), Check("behind", "x", well, ("well",)), Check("last", "x", well, ("after",)),
    ]  # fmt: skip
    began = time.monotonic()
    results = {result.name: result for result in examine(checks, means(), patience=0.3)}
    assert time.monotonic() - began < 20
    assert [each.what for each in results["hanging"].findings] == ["before it hung", "no answer within 0 seconds"]
    assert [each.what for each in results["broken"].findings] == ["before", "the check broke off (RuntimeError)"]
    assert "张三" not in told(results["broken"].findings)
    assert results["after"].skipped == ("hanging",)
    assert results["last"].skipped == ("after",)
    assert results["behind"].facts == ["a fact"]


def test_a_postgresql_that_accepts_and_says_nothing(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://exchange:hidden-password@127.0.0.1:{silent.getsockname()[1]}/exchange"
        given = Means(site.settings(store={"url": url}, audit={"url": url}), system_clock)
        began = time.monotonic()
        results = {result.name: result for result in examine(CHECKS, given, patience=1.0)}
    assert time.monotonic() - began < 20
    for name in ("store", "audit"):
        assert results[name].findings, name
    assert results["policies"].skipped == ("migrations of the store",)
    assert results["topics"].ended, "what does not need the store is looked at"
    assert "hidden-password" not in str(results)


# --- this machine -----------------------------------------------------------------------------------------------------


def _drop(folder: str) -> Callable[[Site], object]:
    return lambda site: shutil.rmtree(site.folder / folder)


def _config(old: str, new: str) -> Callable[[Site], object]:
    def change(site: Site) -> None:
        text = site.config.read_text("utf-8")
        assert old in text
        site.config.write_text(text.replace(old, new), "utf-8")

    return change


def _age(site: Site) -> None:
    old = time.time() - (machine.KEY_DAYS + 1) * 86_400
    for name in ("signing.pem", "audit.key", "bus.key"):
        os.utime(site.folder / "keys" / name, (old, old))


MACHINE: dict[str, tuple[Callable[[Site], object], list[str]]] = {
    "no contracts": (_config('schemas = "', 'schemas = "/nowhere'), ["schemas: there is no folder"]),
    "no policies": (_drop("policies"), ["policies: there is no folder"]),
    "nobody gives tokens": (_config("enabled = true", "enabled = false"), ["issuers: no issuer of tokens is named"]),
    "a key is missing": (lambda site: (site.folder / "keys/bus.key").unlink(), ["keys.bus: A setting is wrong"]),
    "a key others can read": (lambda site: (site.folder / "keys/audit.key").chmod(0o644), ["keys.audit: ", "0644"]),
    "a key that is none": (lambda site: (site.folder / "keys/signing.pem").write_text("x"), ["keys.signing: "]),
    "the issuer's key is missing": (lambda site: (site.folder / "keys/issuer.pem").unlink(), ["dev_issuer.key: "]),
    "a former key is missing": (
        _config("[gateway]", '[keys]\nformer_signing = ["file:keys/gone.pem"]\n[gateway]'), ["keys.former_signing: "]
    ),
    "old keys": (_age, ["keys.audit: it is 731 days old", "keys.signing: it is 731 days old"]),
}  # fmt: skip


@pytest.mark.parametrize(("spoil", "expected"), MACHINE.values(), ids=MACHINE)
def test_of_this_machine(site: Site, spoil: Callable[[Site], object], expected: list[str]) -> None:
    spoil(site)
    text = told(found(site))
    for part in expected:
        assert part in text
    assert "keys.bus: it is" not in text, "its age alone is no finding"


def test_a_folder_that_cannot_be_written_a_full_disk_and_a_dangerous_library(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsafe() -> None:
        raise UnsafeSQLite("SQLite 3.40.0 is in use")

    monkeypatch.setattr(machine.os, "access", lambda *_: False)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(total=10 << 40, free=200 << 30))
    monkeypatch.setattr(machine.sqlite, "check_build", unsafe)
    means = Means(site.settings(), system_clock)
    text = told([finding for result in examine(machine.MACHINE, means) for finding in result.findings])
    assert "cannot be written" in text
    assert "data: only 200.0 GiB of 10240 are free" in text
    assert "pysqlite3: SQLite 3.40.0 is in use" in text
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: SimpleNamespace(total=8 << 30, free=(1 << 30) - 1))
    assert "data: only 1.0 GiB of 8 are free" in told(list_of(machine.look_at_disk, means))


def list_of(look_at: Callable[[Means], Iterator[Any]], means: Means) -> list[Finding]:
    return [said for said in look_at(means) if isinstance(said, Finding)]


# --- servers ----------------------------------------------------------------------------------------------------------


def test_an_old_postgresql_and_clocks_that_differ() -> None:
    now = datetime(2026, 6, 1, tzinfo=UTC)
    assert not list(judged(150_008, "15.8", now, now, now, "store.url"))
    assert not list(judged(150_008, "15.8", now + timedelta(seconds=9), now, now, "store.url"))
    text = told([each for each in judged(130_011, "13.11", now - timedelta(seconds=75), now, now, "store.url")
                 if isinstance(each, Finding)])  # fmt: skip
    assert "PostgreSQL 13.11 is older than 14" in text
    assert "its clock is 75 seconds behind this machine's" in text
    (ahead,) = judged(150_008, "15.8", now + timedelta(seconds=60), now, now, "audit.url")
    assert isinstance(ahead, Finding)
    assert "60 seconds ahead" in ahead.what


def test_tables_of_another_version(site: Site) -> None:
    change(site, "UPDATE store_version SET version_num = 'v9999'")
    findings = found(site)
    assert "store.url: The database's tables are not those of this version" in told(findings)
    with closing(sqlite.connect(site.folder / "data/audit.db")) as audit:
        audit.execute("DELETE FROM audit_version")
    text = told(found(site))
    assert "store.url: The database's tables are not those of this version" in text
    assert "audit.url: The database's tables are not those of this version" in text


def change(site: Site, statement: str, *values: Any, file: str = "store.db") -> None:
    with closing(sqlite.connect(site.folder / "data" / file)) as connection:
        connection.execute(statement, values)


def test_another_bus_secret_than_the_stores(site: Site) -> None:
    change(site, "UPDATE bus_secret SET mark = 'k1.another'")
    assert "keys.bus: A setting is wrong: keys.bus: the store's subject keys were made under another" in told(
        found(site)
    )
    change(site, "UPDATE bus_secret SET whole = 0")
    assert "`exchange keys rotate bus` goes on with it" in told(found(site))
    change(site, "DELETE FROM bus_secret")
    assert "store.url: the store does not know its bus secret yet -> run `exchange policy apply`" in told(found(site))
    site.apply()
    assert not found(site)


# --- contents ---------------------------------------------------------------------------------------------------------


def test_no_policies_in_force(site: Site) -> None:
    change(site, "DELETE FROM bundle_applications")
    assert "policies: no policies are in force -> run `exchange policy apply`" in told(found(site))


def test_a_damaged_bundle_and_files_that_are_not_in_force(site: Site) -> None:
    clients = site.folder / "policies/clients.toml"
    clients.write_text(clients.read_text("utf-8").replace("Tax assessment desk", "Tax desk"), "utf-8")
    assert "policies: the files are not what is in force" in told(found(site))
    site.apply()
    assert not found(site)
    with closing(open_store(site.settings(), system_clock)) as store:
        newest = store.newest_bundle_version()
    change(site, "UPDATE bundles SET body = CAST('x' AS BLOB) WHERE version = ?", newest)
    text = told(found(site))
    assert "has not the bytes of its version" in text
    assert "policies: the files are not what is in force" in text, "the one before is"


def test_policies_that_are_refused_are_told_reason_by_reason(site: Site) -> None:
    (site.folder / "policies/tax/notes.txt").write_text("x")
    (site.folder / "policies/purposes.toml").write_text("x = ", "utf-8")
    text = told(found(site))
    assert "notes.txt" in text
    assert "purposes.toml" in text


def test_clients_that_can_never_come_in(site: Site) -> None:
    clients = site.folder / "policies/clients.toml"
    text = clients.read_text("utf-8")
    for client, how in (("tax-desk", "mtls"), ("credit-office", "dpop")):
        named = f'client_id = "{client}"\n'
        text = text.replace(named, f'{named}sender_constrained = "{how}"\n')
    clients.write_text(text, "utf-8")
    site.apply()
    told_now = told(found(site))
    assert "client tax-desk must show a certificate, and gateway.client_cert_peers names no proxy" in told_now
    assert "credit-office" not in told_now
    told_now = told(found(site, gateway={"host": "0.0.0.0", "client_cert_peers": ["10.0.0.1"]}))
    assert "client credit-office must prove its key for an address, and gateway.public_url names none" in told_now
    assert "tax-desk" not in told_now


def test_what_is_without_effect(site: Site) -> None:
    text = told(found(site, gateway={"subjects_per_day_of": {"nobody": 5}}))
    assert "policies: without effect: gateway.subjects_per_day_of: there is no client nobody" in text


def test_schemas_that_are_new_or_would_break_readers(site: Site) -> None:
    schemas = site.folder / "schemas"
    shutil.copytree(site.settings().schemas, schemas)
    _config(f'schemas = "{site.settings().schemas}"', 'schemas = "schemas"')(site)
    person = schemas / "civil/person.avsc"
    person.write_text(person.read_text("utf-8").replace('"level": 1', '"level": 2', 1), "utf-8")
    registration = schemas / "market/registration.avsc"
    document = json.loads(registration.read_text("utf-8"))
    document["fields"] = [field for field in document["fields"] if field["name"] != "currency"]
    del document["exchange"]["fields"]["currency"]
    registration.write_text(json.dumps(document), "utf-8")
    text = told(found(site))
    assert "schemas: civil.person: this version is not in the registry yet" in text
    assert "schemas: market.registration: market.registration.v1-value: against version 1" in text


def test_topics_that_are_missing(site: Site) -> None:
    for topic in (TOPIC, "tax.rejects.v1"):
        change(site, "DELETE FROM topics WHERE name = ?", topic, file="topics.db")
    text = told(found(site))
    assert f"topic {TOPIC}: the topic is missing" in text
    assert "topic tax.rejects.v1: the topic is missing" in text


POSITIONS = {
    "the topic is gone": ("civil.gone.v1", 0, 7, None, "there is no such topic any more"),
    "another topic": (TOPIC, 0, 7, "another", "of another topic of this name"),
    "no such partition": (TOPIC, 3, 7, None, "there is no such partition any more"),
    "past its end": (TOPIC, 0, 7, None, "it was read up to 7, and it has 0 to 0"),
}


@pytest.mark.parametrize(("topic", "partition", "following", "topic_id", "expected"), POSITIONS.values(), ids=POSITIONS)
def test_positions_that_lie_nowhere(
    site: Site, topic: str, partition: int, following: int, topic_id: str | None, expected: str
) -> None:
    with closing(open_broker(site.settings())) as broker:
        state = broker.state(TOPIC)
    assert state is not None
    with closing(open_store(site.settings(), system_clock)) as store, writing(store.engine) as connection:
        row = {"topic": topic, "partition": partition, "next": following, "epoch": 1, "owner": "x"}
        connection.execute(sa.insert(tables.positions).values(row | {"topic_id": topic_id or state.id}))
    (finding,) = found(site)
    assert finding.where == f"topic {topic} partition {partition}"
    assert expected in finding.what
    assert "docs/topics.md" in finding.do


def test_messages_that_nobody_reads(site: Site) -> None:
    with closing(open_broker(site.settings())) as broker, closing(broker.publisher()) as publisher:
        publisher.publish(TOPIC, [Message(b"k", b"v", {}), Message(b"k", b"v", {})])
    (finding,) = found(site)
    assert finding.where == f"topic {TOPIC} partition 0"
    assert "messages wait (2), and its position has not moved" in finding.what


def test_messages_that_are_being_read_are_no_finding(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(open_broker(site.settings())) as broker, closing(broker.publisher()) as publisher:
        publisher.publish(TOPIC, [Message(b"k", b"v", {}), Message(b"k", b"v", {})])
        state = broker.state(TOPIC)
    assert state is not None

    def read_one(_: float) -> None:
        change(site, "INSERT INTO positions VALUES (?, 0, 1, 1, 'x', ?)", TOPIC, state.id)

    monkeypatch.setattr(contents.time, "sleep", read_one)
    assert not found(site)


def test_a_source_that_has_fallen_silent(site: Site) -> None:
    long_ago = datetime.now(UTC) - timedelta(days=40)
    with closing(open_store(site.settings(), system_clock)) as store, writing(store.engine) as connection:
        row = {"contract": "civil.person", "source": "civil/register", "epoch": 1, "as_of": long_ago}
        connection.execute(sa.insert(tables.watermarks).values(row))
    (finding,) = found(site)
    assert finding.where == "civil.person, source civil/register"
    assert f"since {long_ago:%Y-%m-%d}" in finding.what


def test_an_audit_log_that_nobody_seals_and_checkpoints_that_have_not_left(site: Site) -> None:
    settings = site.settings()
    later = Means(settings, lambda: system_clock() + timedelta(hours=1))
    findings = [finding for result in examine(CHECKS, later) for finding in result.findings]
    assert "for its checkpoint" in told(findings)
    with open_audit(settings) as log, log.writing() as connection:
        log.add_checkpoint(connection, 7, b"a note")
    (finding,) = found(site)
    assert "they cover 7 groups of entries, those that left 0" in finding.what
    with open_audit(settings) as log, log.writing() as connection:
        log.mark_published(connection, 7)
    assert not found(site)


def test_the_whole_command_says_what_is_wrong_where_and_what_to_do(site: Site) -> None:
    (site.folder / "keys/audit.key").chmod(0o644)
    change(site, "DELETE FROM topics WHERE name = ?", TOPIC, file="topics.db")
    answer = run(site)
    assert answer.exit_code == 1
    assert f"  ! topic {TOPIC}: the topic is missing" in answer.output
    assert "    run `exchange policy apply`" in answer.output
    assert answer.output.splitlines()[-1] == "in all: 2 findings"
    said = document(look(site.config, None))
    assert said["well"] is False
    found_by = {each["check"]: [one["where"] for one in each["findings"]] for each in said["checks"]}
    assert found_by["topics"] == [f"topic {TOPIC}"]
    assert found_by["keys"] == ["keys.audit"]
