"""`exchange keys rotate bus`: another bus secret, while nothing runs (exchange.rekeying)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from exchange import erasure
from exchange.cli.administration import bundle_in_force, note
from exchange.cli.backup import cursors_aside, databases_of, nothing_runs
from exchange.cli.init import random_secret, write_private
from exchange.cli.options import print_json, say
from exchange.cli.rotation import edited, following, next_kid, put, reference, text_of
from exchange.clock import system_clock
from exchange.errors import Conflict, PolicyUnavailable, SettingWrong
from exchange.registry import StoreRegistry
from exchange.rekeying import Plan, Rekeying, of_contracts
from exchange.settings import Settings
from exchange.store import Store
from exchange.subjects import KeyMaker
from exchange.topics import Broker
from exchange.wiring import data_folder, key_maker, open_broker, open_store


def rotate_bus(settings: Settings, config: Path, *, dry_run: bool, json: bool) -> None:
    """Begin, or go on with what was killed. Raises Conflict if something runs, is unread, or is being erased."""
    nothing_runs(settings, databases_of(settings).values())
    folder = data_folder(settings) / "rekeying"
    plan = Plan.read(folder)
    with _parts(settings) as (store, broker):
        told = _would(store, broker, plan) if dry_run else _rotated(settings, config, folder, plan, store, broker)
    if json:
        print_json({"rotated": not dry_run, **told})
        return
    for topic, records in told["records"].items():
        say(f"{topic:40} {records:>10} records")
    if dry_run:
        say("these records would be put under the keys of another secret")
        return
    for aside in told["moved"]:
        say(f"moved aside: {aside}")
    say(f"keys.bus: {told['old']} is now {told['new']}, in {told['made']}")
    say("give the other machines this secret and [keys], and remove the cursor files there; then start everything")
    say("make a backup: those of before need the old secret, and are as secret as it is")


@contextmanager
def _parts(settings: Settings) -> Iterator[tuple[Store, Broker]]:
    with closing(open_store(settings, system_clock)) as store, closing(open_broker(settings)) as broker:
        store.check()
        yield store, broker


def _would(store: Store, broker: Broker, plan: Plan | None) -> dict[str, Any]:
    """What would be done, without looking at each record's key."""
    if plan is not None:
        return {"old": plan.old, "new": plan.new, "records": dict(plan.records), "moved": []}
    found = {topic: sum(1 for _ in broker.read(topic)) for topic in _topics(store) if broker.state(topic) is not None}
    return {"records": found, "moved": []}


def _rotated(
    settings: Settings, config: Path, folder: Path, plan: Plan | None, store: Store, broker: Broker
) -> dict[str, Any]:
    before = text_of(config)
    edited(config, before, {"bus": settings.keys.bus, "bus_kid": settings.keys.bus_kid})  # can it be edited at all?
    if plan is None:
        plan = _begun(settings, folder, store, broker)
    moved: list[str] = []
    if settings.keys.bus_kid != plan.new:  # else only the last step is missing
        new = KeyMaker(plan.new, settings.secret("keys.bus", plan.secret))
        _rekeying(store, broker, folder, new).carry_out(plan)
        moved = cursors_aside(settings, f"before-{system_clock():%Y%m%dT%H%M%SZ}")
        put(config, before, edited(config, before, {"bus": plan.secret, "bus_kid": plan.new}))
    shutil.rmtree(folder)
    return {"old": plan.old, "new": plan.new, "made": plan.secret, "records": dict(plan.records), "moved": moved}


def _begun(settings: Settings, folder: Path, store: Store, broker: Broker) -> Plan:
    """What stands is copied under new keys, the new secret is in its file, and the plan is written."""
    keys, old = settings.keys, key_maker(settings)
    store.check_keyed(old.mark)
    if waiting := [each for each in erasure.listed(broker).values() if each.done is None]:
        raise Conflict(f"{len(waiting)} erasures are open: `exchange erase resume` first, with a materialiser running")
    if settings.secret_file(keys.bus) is None:
        raise SettingWrong(f"keys.bus: {keys.bus} is no file; put the secret into one of mode 0600, and set that first")
    kid = next_kid("keys.bus_kid", keys.bus_kid, {keys.bus_kid})
    file = following(settings, "keys.bus", keys.bus)
    note(settings, "keys rotate", details={"keys": "bus", "old": keys.bus_kid, "new": kid})
    secret = random_secret()
    plan = _rekeying(store, broker, folder, KeyMaker(kid, secret)).copy(_topics(store), old, reference(settings, file))
    write_private(file, secret)
    plan.write(folder)
    return plan


def _rekeying(store: Store, broker: Broker, folder: Path, new: KeyMaker) -> Rekeying:
    return Rekeying(store, broker, StoreRegistry(store.engine), folder, new=new, clock=system_clock)


def _topics(store: Store) -> list[str]:
    bundle = bundle_in_force(store)
    if bundle is None:
        raise PolicyUnavailable("there are no policies yet; `exchange policy apply` applies them")
    return of_contracts((terms.topic for terms in bundle.served()), store)
