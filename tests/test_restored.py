"""`exchange restored`: after a backup was put back, no number of a push is given twice."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from exchange.audit import AuditStore
from exchange.cli import restored
from exchange.cli.init import initialise
from exchange.clock import system_clock
from exchange.settings import Settings
from exchange.store import PushLedger
from exchange.wiring import open_store

ROOT = Path(__file__).parent.parent


def test_pushes_begin_a_new_epoch_and_the_audit_log_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restored, "load", Settings.load)  # without setting up this process's logs
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas")
    config = tmp_path / "exchange.toml"
    initialise(config, Path("schemas"), Path("policies"))
    settings = Settings.load(config)
    with closing(open_store(settings, system_clock)) as store:
        store.migrate()
        ledger = PushLedger(store.engine, system_clock)
        given = ledger.next_sequences(5)
        result = CliRunner().invoke(restored.app, ["-c", str(config), "--json"])
        assert result.exit_code == 0, result.output
        epoch = json.loads(result.stdout)["push_epoch"]
        assert epoch > given[0]
        assert ledger.next_sequences(1) == (epoch, 1)
    with closing(AuditStore.open(settings.audit_url, {})) as log, log.reading() as connection:
        entries = [json.loads(stored.entry) for stored in log.walk_entries(connection)]
    assert [(entry["act"], entry["details"]) for entry in entries] == [("restored", {"push_epoch": str(given[0])})]
