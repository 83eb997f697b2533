"""`exchange materialise`: the second verb's process."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from functools import partial

import typer

from exchange.agreements import Terms
from exchange.cli.administration import bundle_in_force
from exchange.cli.options import CONFIG, Config, load
from exchange.clock import system_clock
from exchange.materialise import Effects, Materialiser
from exchange.metrics import CYCLE, MATERIALISER
from exchange.records import WATERMARKS_TOPIC, rejects_topic
from exchange.registry import StoreRegistry
from exchange.settings import Settings
from exchange.store import PushLedger, Store
from exchange.store.database import is_postgres
from exchange.topics import Broker
from exchange.wiring import (
    key_maker,
    metrics_listener,
    open_broker,
    open_store,
    process_name,
    refuse_while_restoring,
    spare_the_collector,
    standing_name,
)

app = typer.Typer()

# SQLite has one writer at a time: a transaction is kept short, so that the gateway's pushes and the registry get their
# turn.
SQLITE_ROWS = 1_000


@app.command()
def materialise(config: Config = CONFIG) -> None:
    """Read every contract's topic into the store until stopped (SIGTERM finishes the batch in hand)."""
    settings = load(config)
    refuse_while_restoring(settings)
    watched = settings.materialise
    with ExitStack() as stack:
        if watched.metrics_port:
            stack.enter_context(
                metrics_listener(watched.metrics_host, watched.metrics_port, "materialise.metrics_port", MATERIALISER)
            )
        member = stack.enter_context(closing(standing_name(settings, "materialise")))
        _run(settings, stack.enter_context(closing(open_broker(settings, member.name))))


def _run(settings: Settings, broker: Broker) -> None:
    store = open_store(settings, system_clock)
    store.check()
    keys = key_maker(settings)
    store.check_keyed(keys.mark)
    materialiser = Materialiser(
        broker,
        store,
        Effects(StoreRegistry(store.engine), keys, system_clock),
        lambda: topics_to_read(store),
        group=settings.materialise.group,
        owner=process_name("materialise"),
        batch=settings.materialise.batch if is_postgres(store.engine) else min(settings.materialise.batch, SQLITE_ROWS),
        housekeeping=partial(housekeep, store, broker, timedelta(days=settings.rejects.keep_days)),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: materialiser.stop())
    spare_the_collector()
    materialiser.run()


def housekeep(store: Store, broker: Broker, keep: timedelta) -> None:
    """Let go what is kept for a time only: rejects, answers to pushes, messages of topics with a retention."""
    store.purge_rejects(system_clock() - keep)
    PushLedger(store.engine, system_clock).purge()
    broker.tidy()


def topics_to_read(store: Store) -> Sequence[str]:
    """What the newest policy bundle implies: each contract's topic, each department's rejects, the watermarks.

    Raises StoreUnavailable; PolicyUnavailable if the bundle cannot be read: then what was known before goes on.
    """
    bundle = bundle_in_force(store)
    if bundle is None:
        return []
    terms = bundle.served()
    _tell_cycles(terms)
    topics = {each.topic for each in terms}
    return sorted(topics | {rejects_topic(each.owner) for each in terms} | {WATERMARKS_TOPIC})


def _tell_cycles(terms: Sequence[Terms]) -> None:
    """What each contract promises, its newest major's, beside the watermarks that are held against it."""
    promised = {each.contract: each.cycle for each in sorted(terms, key=lambda each: each.major)}
    for contract, cycle in promised.items():
        if cycle is not None:
            CYCLE.labels(contract).set(cycle.total_seconds())
