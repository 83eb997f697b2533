"""`exchange restored`: what must be said after a backup of the store was put back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any

import typer

from exchange.cli.administration import note
from exchange.cli.options import CONFIG, Config, Json, load, print_json, say
from exchange.clock import system_clock
from exchange.settings import Settings
from exchange.store import PushLedger
from exchange.wiring import open_store

app = typer.Typer()


@app.command()
def restored(config: Config = CONFIG, json: Json = False) -> None:
    """After a backup of the store was put back, before the gateways start: pushes begin a new epoch.

    The store has forgotten which numbers it gave since the backup; given again, they would pass for repeats of records
    that stand in the topics, and be dropped. The audit log notes it.
    """
    epoch = renewed(load(config), {})
    if json:
        print_json({"push_epoch": epoch})
    else:
        say(f"pushes go on in epoch {epoch}")


def renewed(settings: Settings, details: Mapping[str, Any]) -> int:
    """Begin the next epoch of pushes, and note it; which. Raises AuditUnavailable, StoreUnavailable, SchemaOutdated."""
    with closing(open_store(settings, system_clock)) as store:
        store.check()
        ledger = PushLedger(store.engine, system_clock)
        note(settings, "restored", details={"push_epoch": str(ledger.epoch()), **details})
        return ledger.renew_epoch()
