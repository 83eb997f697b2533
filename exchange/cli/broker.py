"""`exchange broker`: the topics of a Kafka cluster, and who may do what with them, as the policies in force imply.

docs/broker.md has more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from exchange.agreements import Bundle
from exchange.cli.administration import bundle_in_force, note
from exchange.cli.options import CONFIG, Config, Json, load, print_json, say
from exchange.cli.policy import topics
from exchange.clock import system_clock
from exchange.contracts import load_catalogue
from exchange.errors import NotFound, SettingWrong
from exchange.kafka import KafkaBroker
from exchange.kafka.access import Access, Acl
from exchange.principals import Plan, plan, surplus, user_of
from exchange.settings import QuotaSettings, Settings
from exchange.topics import TopicSpec
from exchange.wiring import open_broker, open_store

app = typer.Typer(no_args_is_help=True, help=__doc__)


@dataclass(slots=True)
class Difference:
    """What the cluster lacks of a plan, has otherwise, and has beyond it."""

    missing: list[TopicSpec] = field(default_factory=list)
    other: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)  # topic: setting: (found, planned)
    ungranted: list[Acl] = field(default_factory=list)
    surplus: list[Acl] = field(default_factory=list)
    quotas: dict[tuple[str, str], tuple[float | None, float | None]] = field(default_factory=dict)  # (found, planned)

    def __bool__(self) -> bool:
        return bool(self.missing or self.other or self.ungranted or self.surplus or self.quotas)

    def document(self) -> dict[str, Any]:
        return {
            "topics_missing": [spec.name for spec in self.missing],
            "topics_other": {
                name: {setting: {"found": found, "planned": planned} for setting, (found, planned) in settings.items()}
                for name, settings in self.other.items()
            },
            "access_missing": [acl._asdict() for acl in self.ungranted],
            "access_surplus": [acl._asdict() for acl in self.surplus],
            "quotas_other": [
                {"user": user, "quota": key, "found": found, "planned": planned}
                for (user, key), (found, planned) in self.quotas.items()
            ],
        }


@app.command("plan")
def plan_command(config: Config = CONFIG, json: Json = False) -> None:
    """Print topics and access rules that catalogue and agreements imply now; no cluster is asked."""
    settings = load(config)
    planned = _planned(settings, _bundle(settings))
    if json:
        print_json(_document(planned))
        return
    for spec in planned.topics:
        kept = "compacted" if spec.compacted else f"{spec.retention_days} days" if spec.retention_days else "kept"
        say(f"topic {spec.name}: {spec.partitions} partitions, {spec.replication} copies, {kept}")
    for acl, why in sorted(planned.acls.items()):
        say(f"{acl}  ({why})")
    for (user, key), rate in sorted(planned.quotas.items()):
        say(f"quota {key} of {user}: {rate:,.0f}")


@app.command()
def check(config: Config = CONFIG, json: Json = False) -> None:
    """Say what of the cluster differs from the plan. Exits with 1 if anything does."""
    settings = load(config)
    with _cluster(settings) as (broker, access, planned, bundle):
        found = _compared(broker, access, planned, settings, bundle)
    _tell(found, json)
    if found:
        raise typer.Exit(1)


@app.command("apply")
def apply_command(
    config: Config = CONFIG,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else it is only shown.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Take away access that nothing implies, too.")] = False,
    json: Json = False,
) -> None:
    """Make the cluster as planned: without --yes nothing is done, without --delete nothing is taken away.

    Topics are never deleted, nor their partitions changed: docs/topics.md says what that would do. Exits with 1 if
    something stays that differs.
    """
    settings = load(config)
    with _cluster(settings) as (broker, access, planned, bundle):
        found = _compared(broker, access, planned, settings, bundle)
        if yes and found:
            details = {
                "granted": [str(acl) for acl in found.ungranted],
                "revoked": [str(acl) for acl in found.surplus] if delete else [],
                "topics": [*(spec.name for spec in found.missing), *found.other],
                "quotas": [f"{key} of {user}: {_rate(planned)}" for (user, key), (_, planned) in found.quotas.items()],
            }
            note(settings, "broker apply", bundle=bundle.version, details=details)
            _make(broker, access, found, delete=delete)
            found = _compared(broker, access, planned, settings, bundle)
    _tell(found, json)
    if found:
        raise typer.Exit(1)


def _make(broker: KafkaBroker, access: Access, found: Difference, *, delete: bool) -> None:
    """What is taken away goes first: who must not read does not wait for topics to be made."""
    if delete:
        access.revoke(found.surplus)
    for spec in found.missing:
        broker.ensure(spec)
    for topic, settings in found.other.items():
        changed = {name: planned for name, (_, planned) in settings.items() if name != "partitions"}
        if changed:
            access.configure(topic, changed)
    # Bounds come before access, and none is lifted unless told.
    changed_quotas = {each: planned for each, (_, planned) in found.quotas.items() if planned is not None or delete}
    if changed_quotas:
        broker.quotas().set(changed_quotas)
    access.grant(found.ungranted)


def _compared(broker: KafkaBroker, access: Access, planned: Plan, settings: Settings, bundle: Bundle) -> Difference:
    standing = access.acls()
    wrong = access.wrong(planned.topics)
    departments = {terms.owner for terms in bundle.terms.values()} | {one.department for one in bundle.clients.values()}
    return Difference(
        [spec for spec in planned.topics if spec.name not in wrong],
        {name: settings for name, settings in wrong.items() if settings},
        sorted(planned.acls.keys() - standing),
        surplus(standing, planned, settings.broker.principals, departments),
        _other_quotas(broker, planned, settings, departments),
    )


def _other_quotas(
    broker: KafkaBroker, planned: Plan, settings: Settings, departments: set[str]
) -> dict[tuple[str, str], tuple[float | None, float | None]]:
    """Where the bounds of the departments' programs are not as planned; not looked at where none is in the settings."""
    if settings.broker.quotas == QuotaSettings():
        return {}
    ours = {user_of(principal) for principal in settings.broker.principals.of(departments)}
    standing = {
        (user, key): rate
        for user, rates in broker.quotas().standing().items()
        if user in ours
        for key, rate in rates.items()
    }
    return {
        each: (standing.get(each), planned.quotas.get(each))
        for each in sorted(standing.keys() | planned.quotas.keys())
        if standing.get(each) != planned.quotas.get(each)
    }


def _planned(settings: Settings, bundle: Bundle) -> Plan:
    catalogue = load_catalogue(settings.path(settings.schemas))
    served = [each for each in catalogue.served() if (each.name, each.major) in bundle.terms]
    return plan(
        bundle,
        topics(settings, served),
        settings.broker.inboxes,
        settings.broker.principals,
        settings.broker.quotas,
        settings.materialise.group,
        system_clock(),
    )


def _bundle(settings: Settings) -> Bundle:
    with closing(open_store(settings, system_clock)) as store:
        store.check()
        bundle = bundle_in_force(store)
    if bundle is None:
        raise NotFound("no policies are in force; run `exchange policy apply`")
    return bundle


@contextmanager
def _cluster(settings: Settings) -> Iterator[tuple[KafkaBroker, Access, Plan, Bundle]]:
    bundle = _bundle(settings)
    planned = _planned(settings, bundle)
    with closing(open_broker(settings)) as broker:
        if not isinstance(broker, KafkaBroker):
            raise SettingWrong("broker.url: topics in a SQLite file have no access rules; this is for kafka://")
        yield broker, broker.access(), planned, bundle


def _document(planned: Plan) -> Mapping[str, Any]:
    return {
        "topics": [
            {
                "name": spec.name, "partitions": spec.partitions, "replication": spec.replication,
                "compacted": spec.compacted, "retention_days": spec.retention_days,
            }
            for spec in planned.topics
        ],
        "access": [{**acl._asdict(), "why": why} for acl, why in sorted(planned.acls.items())],
        "quotas": [
            {"user": user, "quota": key, "bytes_per_second": rate}
            for (user, key), rate in sorted(planned.quotas.items())
        ],
    }  # fmt: skip


def _tell(found: Difference, json: bool) -> None:
    if json:
        print_json(found.document())
        return
    for spec in found.missing:
        say(f"missing: topic {spec.name}")
    for name, settings in found.other.items():
        for setting, (stands, planned) in settings.items():
            say(f"other:   topic {name}: {setting} is {stands}, planned {planned}")
    for acl in found.ungranted:
        say(f"missing: {acl}")
    for acl in found.surplus:
        say(f"surplus: {acl}")
    for (user, key), (stands_at, planned_at) in found.quotas.items():
        say(f"other:   quota {key} of {user} is {_rate(stands_at)}, planned {_rate(planned_at)}")
    if not found:
        say("the cluster is as planned")


def _rate(rate: float | None) -> str:
    return "not set" if rate is None else f"{rate:,.0f}"
