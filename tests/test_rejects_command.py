"""`exchange rejects`: what it prints is data from a topic, and what it does is in the audit log first."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from exchange.audit import AuditStore
from exchange.cli import rejects
from exchange.cli.init import initialise
from exchange.cli.policy import apply_policies
from exchange.clock import system_clock
from exchange.errors import Unprocessable
from exchange.records import Origin, Reject
from exchange.settings import Settings
from exchange.store.database import writing
from exchange.store.rejects import put
from exchange.wiring import open_store

ROOT = Path(__file__).parent.parent
CITIZEN = "110101190001010014"
STEERING = "\x1b[2J\x9b31m\r\nall is well\u202e\x7f"


class Office:
    """An operator's folder with one department's contract and what was set aside."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "exchange.toml"
        shutil.copytree(ROOT / "policies", folder / "policies")
        shutil.copytree(ROOT / "schemas", folder / "schemas")
        initialise(self.config, Path("schemas"), Path("policies"))
        self.settings = Settings.load(self.config)
        apply_policies(self.settings)

    def set_aside(self, **changes: Any) -> None:
        members: dict[str, Any] = {
            "department": "civil", "contract": "civil.person", "place": "people.csv line 2", "field": "name",
            "reason": "missing", "at": system_clock(), "origin": Origin("civil/people", 1, 7), "payload": None,
        } | changes  # fmt: skip
        with closing(open_store(self.settings, system_clock)) as store, writing(store.engine) as connection:
            put(connection, [Reject(**members)])

    def command(self, *arguments: str) -> Result:
        return CliRunner().invoke(rejects.app, [*arguments, "-c", str(self.config)])

    def acts(self) -> list[tuple[str, Any]]:
        with closing(AuditStore.open(self.settings.audit_url, {})) as store, store.reading() as connection:
            entries = [json.loads(stored.entry) for stored in store.walk_entries(connection)]
        return [(entry["act"], entry.get("details", {})) for entry in entries]

    def redocument(self) -> None:
        """Change the contract in what no decision looks at: a new schema under the same policies."""
        file = self.settings.path(self.settings.schemas) / "civil/person.avsc"
        file.write_text(file.read_text("utf-8").replace("Full name as registered", "The name as registered"), "utf-8")


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    monkeypatch.setattr(rejects, "load", Settings.load)  # without setting up this process's logs
    return Office(tmp_path)


def test_what_a_topic_brought_steers_no_terminal(office: Office) -> None:
    office.set_aside(place=STEERING, field=STEERING, reason=STEERING, payload=json.dumps({"name": STEERING}))
    for arguments in (("list",), ("show", "civil/people/1/7"), ("show", "civil/people/1/7", "--reveal")):
        for form in ((), ("--json",)):
            result = office.command(*arguments, *form)
            assert result.exit_code == 0, result.output
            assert all(line.isprintable() for line in result.output.split("\n")), (arguments, form)
            assert "\\u001b[2J" in result.output
    (listed,) = json.loads(office.command("list", "--json").output)
    assert listed["place"] == STEERING
    assert len(office.command("list").output.splitlines()) == 2


def test_a_replay_that_registers_a_schema_says_so_in_the_audit_log(office: Office) -> None:
    person = {
        "citizen_id": CITIZEN, "name": "Li", "former_name": None, "gender": "male", "birth_date": "1990-01-01",
        "ethnicity": None, "marital_status": None, "address": None, "district": "290101",
        "registered_on": "1990-01-02", "revision": "1", "updated_at": "2026-06-01T12:00:00.000Z",
    }  # fmt: skip
    office.set_aside(payload=json.dumps(person))
    office.redocument()
    for _ in range(2):
        result = office.command("replay", "civil/people/1/7")
        assert result.exit_code == 0, (result.output, result.exception)
    replayed = ("rejects replay", {"reject": "civil/people/1/7", "contract": "civil.person"})
    assert office.acts()[1:] == [("register", {"subject": "civil.person.v1-value"}), replayed, replayed]


def test_what_is_of_another_department_is_not_replayed(office: Office) -> None:
    office.set_aside(contract="tax.enterprise", payload="{}")
    result = office.command("replay", "civil/people/1/7")
    assert isinstance(result.exception, Unprocessable)
    assert "civil, which does not own tax.enterprise" in str(result.exception)


def test_applying_policies_that_only_register_a_schema_is_an_entry_too(office: Office) -> None:
    office.redocument()
    apply_policies(office.settings)
    apply_policies(office.settings)
    (_, before), (act, details) = office.acts()
    assert (act, details) == ("policy apply", {"registers": ["civil.person.v1-value"]})
    assert len(before["registers"]) > 1
