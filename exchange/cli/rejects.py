"""`exchange rejects`: what was set aside, where and why; values only with --reveal, and then the audit log says so."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from exchange.cli.administration import note
from exchange.cli.options import CONFIG, Config, Json, load, print_json, say
from exchange.clock import system_clock
from exchange.contracts import Contract, load_catalogue
from exchange.errors import NotFound
from exchange.publish import replay as publish_again
from exchange.records import rfc3339
from exchange.registry import StoreRegistry
from exchange.settings import Settings
from exchange.store import SetAside
from exchange.wiring import key_maker, open_broker, open_store

app = typer.Typer(no_args_is_help=True, help=__doc__)
Which = Annotated[str, typer.Argument(metavar="ID", help="As `exchange rejects list` shows it.")]


@app.command("list")
def list_command(
    config: Config = CONFIG,
    department: Annotated[str | None, typer.Option(help="Only this department's.")] = None,
    contract: Annotated[str | None, typer.Option(help="Only this contract's.")] = None,
    after: Annotated[str | None, typer.Option(help="Only those behind this id: the next page.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    json: Json = False,
) -> None:
    """The newest first, without values."""
    store = open_store(load(config), system_clock)
    try:
        found = store.list_rejects(department, contract, after, limit)
    finally:
        store.close()
    if json:
        print_json([_document(each) for each in found])
        return
    for each in found:
        reject = each.reject
        replayed = f"  (published again {rfc3339(each.replayed_at)})" if each.replayed_at else ""
        field = f"{reject.field}: " if reject.field else ""
        say(each.id)
        say(f"    {reject.contract}, {reject.place}: {field}{reject.reason}{replayed}")
    if not found:
        say("nothing is set aside")


@app.command()
def show(
    reject_id: Which,
    config: Config = CONFIG,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show the values; the audit log notes it.")] = False,
    json: Json = False,
) -> None:
    """One reject; its values only with --reveal."""
    settings = load(config)
    store = open_store(settings, system_clock)
    try:
        hidden = store.reject(reject_id)
        if reveal:  # first the entry, then the values: no look without a trace
            note(settings, "rejects show --reveal", details={"reject": reject_id, "contract": hidden.reject.contract})
        found = store.reject(reject_id, reveal=reveal)
    finally:
        store.close()
    document = _document(found) | ({"payload": found.reject.payload} if reveal else {})
    if json:
        print_json(document)
    else:
        for name, value in document.items():
            say(f"{name:12} {'' if value is None else value}")


@app.command()
def replay(reject_id: Which, config: Config = CONFIG, json: Json = False) -> None:
    """Publish it again under its original number, so that a newer record stays; the audit log notes it."""
    settings = load(config)
    store = open_store(settings, system_clock)
    broker = open_broker(settings)
    try:
        found = store.reject(reject_id, reveal=True).reject
        contract = load_catalogue(settings.path(settings.schemas)).newest(found.contract)
        if contract is None:
            raise NotFound(f"there is no contract {found.contract} in schemas")
        schema_id = _registered(settings, StoreRegistry(store.engine), contract)
        note(settings, "rejects replay", details={"reject": reject_id, "contract": found.contract})
        partition, offset = publish_again(
            contract, found, keys=key_maker(settings), publisher=broker.publisher(), schema_id=schema_id
        )
        store.mark_replayed(reject_id)
    finally:
        broker.close()
        store.close()
    if json:
        print_json({"id": reject_id, "topic": contract.topic, "partition": partition, "offset": offset})
    else:
        say(f"published again: {contract.topic} partition {partition} offset {offset}")


def _registered(settings: Settings, registry: StoreRegistry, contract: Contract) -> int:
    """The id of the contract's schema. Registering a new one is an act of its own, with its entry before it."""
    subject, text = contract.registry_subject, contract.schema_text
    found = registry.lookup(subject, text)
    if found is not None:
        return found
    registry.check({subject: text})
    note(settings, "register", details={"subject": subject})
    return registry.register(subject, text)


def _document(found: SetAside) -> dict[str, Any]:
    reject = found.reject
    return {
        "id": found.id,
        "department": reject.department,
        "contract": reject.contract,
        "place": reject.place,
        "field": reject.field,
        "reason": reject.reason,
        "at": rfc3339(reject.at),
        "schema_id": reject.schema_id,
        "replayed_at": rfc3339(found.replayed_at) if found.replayed_at else None,
    }
