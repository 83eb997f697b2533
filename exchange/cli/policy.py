"""`exchange policy`: apply, test and explain who may see what. docs/policies.md has more."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from exchange import erasure
from exchange.agreements import Bundle
from exchange.audit import checkpoints
from exchange.cli.administration import bundle_in_force, note, whole_bundle
from exchange.cli.options import CONFIG, Config, Json, load, print_json, say
from exchange.clock import system_clock
from exchange.contracts import Catalogue, Contract, load_catalogue
from exchange.decisions import Decider, explain, load_bundle, without_effect
from exchange.errors import Conflict, NotFound, PolicyRefused, SettingWrong
from exchange.publish import Layout
from exchange.records import CHECKPOINTS_TOPIC
from exchange.registry import StoreRegistry
from exchange.settings import Settings
from exchange.store import Store
from exchange.topics import Broker, TopicSpec
from exchange.wiring import key_maker, open_broker, open_store

app = typer.Typer(no_args_is_help=True, help=__doc__)

ATTEMPTS = 5  # while others apply at the same moment


@dataclass(frozen=True, slots=True)
class ClientsEdit:
    """clients.toml as it is about to be: `text`, written by `write` as soon as nothing but the bundle is left to do.

    `before` is the version that the files make now. What else in them is not in force yet is applied with it only if
    `others`.
    """

    text: str
    before: str
    details: Mapping[str, Any]
    write: Callable[[], None]
    others: bool


@app.command()
def apply(config: Config = CONFIG, json: Json = False) -> None:
    """Check policies/ and schemas/, run every case, then write one immutable bundle, or nothing."""
    settings = load(config)
    applied = apply_policies(settings)
    if json:
        print_json(applied)
    else:
        say(
            f"policy {applied['policy'][:12]} applied: {applied['contracts']} contracts, {applied['clients']} clients, "
            f"{applied['agreements']} agreements"
        )
        for warning in applied["without_effect"]:
            say(f"without effect: {warning}", fg=typer.colors.YELLOW, err=True)


@app.command("test")
def check(config: Config = CONFIG, json: Json = False) -> None:
    """Check policies/ and schemas/ and run every case; nothing is written."""
    settings = load(config)
    found = _summary(bundle := read_policies(settings)[1], settings)
    if json:
        print_json(found)
    else:
        say(f"policy {bundle.version[:12]} is sound: {len(bundle.guardrails)} guardrails, all cases pass")
        for warning in found["without_effect"]:
            say(f"without effect: {warning}", fg=typer.colors.YELLOW, err=True)


@app.command("explain")
def explain_command(
    client: Annotated[str, typer.Argument(help="The client id, as in clients.toml.")],
    purpose: Annotated[str, typer.Argument(help="The purpose, as in purposes.toml.")],
    contract: Annotated[str, typer.Argument(help="The contract, <department>.<dataset>.")],
    config: Config = CONFIG,
    case: Annotated[bool, typer.Option("--case", help="As if a case were given.")] = False,
    issuer: Annotated[str | None, typer.Option(help="Where several issuers have a client of this name.")] = None,
    files: Annotated[bool, typer.Option("--files", help="As the files stand, before they are applied.")] = False,
    json: Json = False,
) -> None:
    """What this client sees of this contract for this purpose, field by field, and who said so, or why not.

    Under the policies in force, as gateways decide; `--files` shows what the files would make of it.
    """
    settings = load(config)
    bundle = read_policies(settings)[1] if files else _in_force(settings)
    named = [one for one in bundle.clients.values() if one.client_id == client and issuer in (None, one.issuer)]
    if not named:
        raise NotFound(f"there is no client {client}" + (f" of {issuer}" if issuer else ""))
    if len(named) > 1:
        raise NotFound(f"{len(named)} issuers have a client {client}: name one with --issuer")
    if purpose not in bundle.purposes:
        raise NotFound(f"there is no purpose {purpose}")
    if not bundle.majors(contract):
        raise NotFound(f"there is no contract {contract}")
    told = explain(Decider(bundle), named[0], purpose, contract, case, system_clock())
    if json:
        print_json(told)
    else:
        _print(told)


def _in_force(settings: Settings) -> Bundle:
    with closing(open_store(settings, system_clock)) as store:
        store.check()
        bundle = bundle_in_force(store)
    if bundle is None:
        raise NotFound("no policies are in force; run `exchange policy apply`, or explain the files with --files")
    return bundle


def read_policies(settings: Settings, clients: str | None = None) -> tuple[Catalogue, Bundle]:
    """The contracts and the bundle that the folders make, or would make with `clients` as clients.toml.

    Raises ContractRefused, PolicyRefused.
    """
    catalogue = load_catalogue(settings.path(settings.schemas))
    return catalogue, load_bundle(settings.path(settings.policies), catalogue, settings.timezone, clients)


def apply_policies(settings: Settings, edit: ClientsEdit | None = None) -> dict[str, Any]:
    """Make what the folders say true: tables, schemas, topics, and last the bundle that gateways look for.

    Everything is checked before anything is written; what comes before the bundle only adds, so that a failure half-way
    leaves every decision as it was. An `edit` of clients.toml is written before the bundle, so that a client that was
    struck in the one is not let in again by the other. Where others apply at the same moment, the files are read again:
    what was read before theirs never takes the place of it. Raises ContractRefused, PolicyRefused, Incompatible,
    Conflict, StoreUnavailable, BrokerUnavailable.
    """
    with closing(open_store(settings, system_clock)) as store, closing(open_broker(settings)) as broker:
        for _ in range(ATTEMPTS):
            read_policies(settings, edit.text if edit else None)  # nothing is made for files that are refused
            store.migrate()
            store.adopt(key_maker(settings).mark)
            with suppress(_Overtaken):
                return _apply(settings, edit, store, broker)
            edit = None  # the file has it by now
    raise Conflict("others apply policies again and again; try it once more")


class _Overtaken(Exception):
    """Another bundle came while this one was made."""


def _apply(settings: Settings, edit: ClientsEdit | None, store: Store, broker: Broker) -> dict[str, Any]:
    newest = store.newest_bundle_version()  # before the files are read: one that comes later may know more of them
    catalogue, bundle = read_policies(settings, edit.text if edit else None)
    served = catalogue.served()
    specs = topics(settings, served)
    registry = StoreRegistry(store.engine)
    registry.check({contract.registry_subject: contract.schema_text for contract in served})
    new = [
        contract.registry_subject
        for contract in served
        if registry.lookup(contract.registry_subject, contract.schema_text) is None
    ]
    if edit is not None and newest not in (None, edit.before) and not edit.others:
        raise PolicyRefused(
            "policies/ or schemas/ hold other changes, which are not in force yet and would be applied too: see "
            "`exchange policy test`, then `exchange policy apply`, or give --with-other-changes"
        )
    stands = newest == bundle.version and whole_bundle(store, newest) is not None
    if new or not stands:
        note(
            settings,
            "policy apply",
            bundle=bundle.version,
            details={"registers": new, **(edit.details if edit else {})},
        )
    for contract in served:
        registry.register(contract.registry_subject, contract.schema_text)
    for spec in specs:
        broker.ensure(spec)
    if edit is not None:
        edit.write()
    if not stands:
        try:
            store.save_bundle(bundle.version, bundle.to_bytes(), newest)
        except Conflict:
            raise _Overtaken from None
    return _summary(bundle, settings)


def topics(settings: Settings, contracts: Iterable[Contract]) -> list[TopicSpec]:
    """Every topic that these contracts imply, each once. Raises SettingWrong for an inbox of none of them."""
    layout, inboxes, contracts = Layout.of(settings), settings.broker.inboxes, list(contracts)
    if unknown := sorted(set(inboxes).difference(contract.name for contract in contracts)):
        raise SettingWrong(f"broker.inboxes: no contract that is shared is called {', '.join(unknown)}")
    needed = [spec for contract in contracts for spec in layout.topics(contract.topic, contract.department)]
    needed.append(checkpoints.topic(CHECKPOINTS_TOPIC, layout.replication))
    needed.append(erasure.topic(layout.replication))
    needed += [layout.inbox(name) for name in inboxes]
    return list({spec.name: spec for spec in needed}.values())


def _summary(bundle: Bundle, settings: Settings) -> dict[str, Any]:
    constrained = {client.client_id: client.sender_constrained for client in bundle.clients.values()}
    return {
        "policy": bundle.version,
        "contracts": len(bundle.terms),
        "clients": len(bundle.clients),
        "purposes": len(bundle.purposes),
        "agreements": len(bundle.agreements),
        "guardrails": len(bundle.guardrails),
        "without_effect": [
            *without_effect(bundle),
            *settings.gateway.without_effect(set(constrained)),
            *settings.gateway.locked_out(constrained),
        ],
    }


def _print(told: dict[str, Any]) -> None:
    say(f"{told['client']} of {told['department']} for {told['purpose']}, policy {told['policy'][:12]}")
    for major in told["majors"]:
        verdict = f"permitted by {major['rests_on']}" if major["allowed"] else "refused"
        say()
        say(f"{told['contract']} v{major['major']}: {verdict}. {major['reason'] or ''}")
        if major["agreement"]:
            say(f"  agreement {major['agreement']['id']}, approved by {major['agreement']['approved_by']}")
        for condition in major["condition"]:
            say(f"  only where {' '.join(str(part) for part in condition)}")
        for field in major["fields"]:
            shown = (field["mask"] or "shown") if field["shown"] else "-"
            say(f"  {field['name']:28} level {field['level']}  {shown:10} {'' if field['shown'] else field['why']}")
