"""`exchange audit` as an operator calls it: what it says, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from exchange.audit import Receipt
from exchange.cli import audit
from exchange.cli.administration import note
from exchange.cli.options import exit_status
from exchange.errors import AuditBroken, BadRequest, InvalidIdentifier, SettingWrong
from exchange.settings import Settings
from exchange.subjects import parse
from exchange.wiring import audit_keys
from tests.support.site import CITIZEN, Site


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(audit, "load", Settings.load)  # without setting up this process's logs
    return Site.made(tmp_path)


def command(site: Site, *arguments: str) -> Result:
    return CliRunner().invoke(audit.app, [*arguments, "-c", str(site.config)])


def test_without_a_checkpoint_a_log_does_not_verify_unless_it_is_asked_for(site: Site) -> None:
    refused = command(site, "verify")
    assert isinstance(refused.exception, AuditBroken)
    assert exit_status(refused.exception) == 1
    assert "no checkpoint of this log is in the topic" in refused.output
    assert "verifies" not in refused.output
    told = command(site, "verify", "--without-checkpoints")
    assert told.exit_code == 0
    assert "a cut-off tail or a rewritten log would not be noticed" in told.output
    assert json.loads(command(site, "verify", "--without-checkpoints", "--json").output)["compared"] is False


def test_entries_younger_than_the_newest_checkpoint_are_named(site: Site) -> None:
    site.seal()
    assert "younger" not in command(site, "verify").output
    site.strike("tax-desk")  # applied: one more entry of the operator
    told = command(site, "verify")
    assert told.exit_code == 0
    assert "operator 2: younger than the newest checkpoint" in told.output
    assert json.loads(command(site, "verify", "--json").output)["younger"] == {"operator": {"first": 2, "last": 2}}


@pytest.mark.parametrize("missing", ["receipt", "body", "keys"])
def test_a_file_that_is_missing_is_one_line(site: Site, missing: str) -> None:
    files = {name: site.folder / f"saved-{name}" for name in ("receipt", "body", "keys")}
    for name, file in files.items():
        if name != missing:
            file.write_bytes(b"{}")
    if missing != "receipt":
        files["receipt"].write_text(Receipt("w", 1, bytes(32), bytes(16), (), b"a.b.c").encode(), "ascii")
    refused = command(site, "receipt", str(files["receipt"]), str(files["body"]), "--keys", str(files["keys"]))
    assert isinstance(refused.exception, BadRequest)
    assert str(refused.exception).endswith(f"{files[missing]} cannot be read (No such file or directory)")


def test_a_citizens_reads_are_found_under_every_audit_secret(site: Site) -> None:
    old = audit_keys(site.settings()).subject(parse("cn.ric", CITIZEN))
    note(site.settings(), "view", subject=old)
    keys = site.folder / "keys"
    (keys / "audit.key").rename(keys / "audit-1.key")
    (keys / "audit.key").write_text("another audit secret of 32 bytes!")
    (keys / "audit.key").chmod(0o600)
    with site.config.open("a") as settings:
        settings.write('\n[keys]\naudit_kid = "a2"\n')
    assert [entry["act"] for entry in reads(site)] == ["audit reads"]  # the look itself, under the new secret
    with site.config.open("a") as settings:
        settings.write('former_audit = { a1 = "file:keys/audit-1.key" }\n')
    found = reads(site)
    assert [entry["act"] for entry in found] == ["view", "audit reads", "audit reads"]
    assert {entry["subject"].partition(".")[0] for entry in found} == {"a1", "a2"}
    told = CliRunner().invoke(audit.app, ["reads", "-c", str(site.config)], input=CITIZEN + "\n")
    assert "view, done: exchange (operator)" in told.output
    assert CITIZEN not in told.output


def test_nobody_is_looked_for_under_what_is_no_identifier(site: Site) -> None:
    told = CliRunner().invoke(audit.app, ["reads", "-c", str(site.config)], input="1101011900\n")
    assert isinstance(told.exception, InvalidIdentifier)
    assert "1101011900" not in told.output + str(told.exception)


def test_a_secret_has_one_id(site: Site) -> None:
    site.config.write_text('keys.former_audit = { a1 = "file:keys/audit.key" }\n' + site.config.read_text("utf-8"))
    with pytest.raises(SettingWrong, match=r"keys\.former_audit: a1"):
        audit_keys(site.settings())


def reads(site: Site) -> list[dict[str, Any]]:
    told = CliRunner().invoke(audit.app, ["reads", "--json", "-c", str(site.config)], input=CITIZEN + "\n")
    assert told.exit_code == 0, told.output
    found: list[dict[str, Any]] = json.loads(told.output)
    return sorted(found, key=lambda entry: (entry["time"], entry["number"]))
