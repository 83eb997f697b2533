"""What is in broker, store and audit log, against what contracts and policies imply."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa

from exchange.agreements import Bundle
from exchange.audit import AuditStore
from exchange.cli.administration import bundle_in_force, whole_bundle
from exchange.cli.materialise import topics_to_read
from exchange.cli.policy import read_policies, topics
from exchange.contracts import load_catalogue
from exchange.decisions import without_effect
from exchange.doctor.findings import Check, Finding, Means, Said
from exchange.errors import Incompatible, PolicyRefused
from exchange.kafka import KafkaBroker
from exchange.registry import StoreRegistry
from exchange.store import Store
from exchange.store.database import reading
from exchange.store.tables import positions
from exchange.topics import Broker, TopicState
from exchange.wiring import key_maker

WATCH_SECONDS = 2.0  # a position that moves meanwhile has a reader
CHECKPOINT_AGE = timedelta(minutes=10)
STUCK = "docs/topics.md says what to do"


def look_at_policies(means: Means) -> Iterator[Said]:
    """A bundle is in force, whole, and is what the files say."""
    settings = means.settings
    with means.store() as store:
        versions = store.recent_bundle_versions()
        for version in versions:
            if whole_bundle(store, version) is not None:
                break
            yield Finding(
                f"the bundle {version[:12]} in the store has not the bytes of its version", "store.url",
                "run `exchange policy apply`, and find out who wrote to the store",
            )  # fmt: skip
        bundle = bundle_in_force(store)
    if bundle is None:
        yield Finding("no policies are in force", "policies", "run `exchange policy apply`")
    else:
        yield f"policy {bundle.version[:12]} is in force: {len(bundle.terms)} contracts, {len(bundle.clients)} clients"
    try:
        files = read_policies(settings)[1]
    except PolicyRefused as refused:
        for reason in refused.detail.split("\n"):
            yield Finding(reason, "policies", "mend the file; `exchange policy test` says the same")
        return
    if bundle is not None and files.version != bundle.version:
        yield Finding(
            "the files are not what is in force", "policies", "run `exchange policy apply`, or take the files back"
        )
    constrained = {client.client_id: client.sender_constrained for client in files.clients.values()}
    for locked in settings.gateway.locked_out(constrained):
        yield Finding(locked, "gateway", "set it, or take `sender_constrained` from the client")
    known = set(constrained)
    for warning in [*without_effect(files), *settings.gateway.without_effect(known)]:
        yield Finding(f"without effect: {warning}", "policies", "correct the name, or take the line away")


def look_at_schemas(means: Means) -> Iterator[Said]:
    """Each contract's schema is registered, or would be taken."""
    catalogue = load_catalogue(means.settings.path(means.settings.schemas))
    served = catalogue.served()
    with means.store() as store:
        registry = StoreRegistry(store.engine, means.clock)
        for contract in served:
            try:
                registry.check({contract.registry_subject: contract.schema_text})
            except Incompatible as incompatible:
                for line in incompatible.detail.split("\n"):
                    yield Finding(
                        line, f"schemas: {contract.name}", "make it a new major version, or take the change back"
                    )
                continue
            if registry.lookup(contract.registry_subject, contract.schema_text) is None:
                yield Finding(
                    "this version is not in the registry yet",
                    f"schemas: {contract.name}",
                    "run `exchange policy apply`",
                )
    yield f"{len(served)} contracts with a topic, {len(catalogue.contracts) - len(served)} withheld"


def look_at_bus_secret(means: Means) -> Iterator[Said]:
    """The facets are keyed by the bus secret of the settings."""
    with means.store() as store:
        keyed = store.keyed()
        store.check_keyed(key_maker(means.settings).mark)
    if keyed is None:
        yield Finding("the store does not know its bus secret yet", "store.url", "run `exchange policy apply`")
    else:
        yield "the store's subject keys were made under this bus secret"


def look_at_topics(means: Means) -> Iterator[Said]:
    """Every topic that the contracts imply is there, made as it should be."""
    catalogue = load_catalogue(means.settings.path(means.settings.schemas))
    served = catalogue.served()
    specs = topics(means.settings, served)
    with means.broker() as broker:
        if isinstance(broker, KafkaBroker):
            standing: Mapping[str, Mapping[str, tuple[str, str]]] = broker.access().wrong(specs)
        else:
            standing = {spec.name: {} for spec in specs if broker.state(spec.name) is not None}
    for spec in specs:
        if spec.name not in standing:
            yield Finding("the topic is missing", f"topic {spec.name}", "run `exchange policy apply`")
        for setting, (found, planned) in standing.get(spec.name, {}).items():
            do = STUCK if setting == "partitions" else "run `exchange broker apply --yes`"
            yield Finding(f"{setting} is {found}, planned {planned}", f"topic {spec.name}", do)
    yield f"{len(standing)} of {len(specs)} topics are there"
    if means.on_kafka:
        yield "who may write and read them is looked at by `exchange broker check`"


def look_at_positions(means: Means) -> Iterator[Said]:
    """Each position lies within its topic, and moves where there is something to read."""
    with means.store() as store, means.broker() as broker:
        read = set(topics_to_read(store))
        before = _positions(store)
        states = {topic: broker.state(topic) for topic in sorted(read | {topic for topic, _ in before})}
        yield from _misplaced(before, states)
        waiting = _waiting(before, states, read)
        if waiting:
            time.sleep(WATCH_SECONDS)
            after = _positions(store)
            for place, number in sorted(waiting.items()):
                if _next(after, place) == _next(before, place) and _still_there(broker, states, place):
                    yield Finding(
                        f"messages wait ({number}), and its position has not moved in {WATCH_SECONDS:.0f} seconds",
                        f"topic {place[0]} partition {place[1]}",
                        "see that `exchange materialise` runs; its log says what it waits for",
                    )
    yield f"{sum(waiting.values())} messages wait in {len(waiting)} of the partitions of {len(read)} topics"


def look_at_watermarks(means: Means) -> Iterator[Said]:
    """Each source has told everything within the cycle that its contract promises."""
    with means.store() as store:
        bundle = bundle_in_force(store)
        told = store.watermarks()
    if bundle is None:
        return
    cycles = _cycles(bundle)
    now = means.clock()
    for each in told:
        cycle = cycles.get(each.contract)
        if cycle is not None and now - each.as_of > cycle:
            yield Finding(
                f"it has told nothing since {each.as_of:%Y-%m-%d %H:%M} UTC; the contract promises every {cycle}",
                f"{each.contract}, source {each.source}",
                "see that its connector runs: `exchange connector status` says how its readings ended",
            )
    silent = sorted(set(cycles) - {each.contract for each in told})
    if silent:
        yield f"no source has told everything yet of {', '.join(silent)}"
    yield f"{len(told)} sources of {len(cycles)} contracts have told until when they have told everything"


def look_at_checkpoints(means: Means) -> Iterator[Said]:
    """What is in the audit log is sealed, and its checkpoints have left."""
    with means.audit() as store:
        with store.reading() as connection:
            for group in store.unsealed(connection, 1):
                entry = store.entry(connection, group.writer, group.first)
                age = means.clock() - _time_of(entry.entry) if entry is not None else timedelta(0)
                if age > CHECKPOINT_AGE:
                    yield Finding(
                        f"entry {group.first} of {group.writer} has waited {age} for its checkpoint", "audit.url",
                        "start a gateway, whose sealer makes checkpoints; its log says what keeps it from that",
                    )  # fmt: skip
        sealed, left = _checkpoints(store)
        if sealed > left:
            time.sleep(WATCH_SECONDS)  # one leaves within a second of being made
            _, left = _checkpoints(store)
        if sealed > left:
            yield Finding(
                f"checkpoints have not left the store: they cover {sealed} groups of entries, those that left {left}",
                "broker.url",
                "see that a gateway runs and the broker takes them; until then nobody could see that the log was cut",
            )
        yield f"the newest checkpoint covers {sealed} groups of entries"


# --- inside -----------------------------------------------------------------------------------------------------------

Place = tuple[str, int]
_Row = tuple[int, str]  # the offset to read next, and the id of the topic that was read


def _positions(store: Store) -> dict[Place, _Row]:
    with reading(store.engine) as connection:
        rows = connection.execute(sa.select(positions))
        return {(row.topic, row.partition): (row.next, row.topic_id) for row in rows}


def _next(found: Mapping[Place, _Row], place: Place) -> int:
    return found[place][0] if place in found else 0


def _misplaced(found: Mapping[Place, _Row], states: Mapping[str, TopicState | None]) -> Iterator[Finding]:
    for (topic, partition), (offset, topic_id) in sorted(found.items()):
        state = states[topic]
        where = f"topic {topic} partition {partition}"
        if offset == 0:
            continue
        if state is None:
            yield Finding(f"it was read up to {offset}, and there is no such topic any more", where, STUCK)
        elif state.id != topic_id:
            yield Finding(f"it was read up to {offset} of another topic of this name", where, STUCK)
        elif partition not in state.bounds:
            yield Finding(f"it was read up to {offset}, and there is no such partition any more", where, STUCK)
        else:
            earliest, end = state.bounds[partition]
            if not earliest <= offset <= end:
                yield Finding(f"it was read up to {offset}, and it has {earliest} to {end}", where, STUCK)


def _waiting(found: Mapping[Place, _Row], states: Mapping[str, TopicState | None], read: set[str]) -> dict[Place, int]:
    """How many messages wait in each partition that is read and has any."""
    waiting = {}
    for topic, state in states.items():
        for partition, (earliest, end) in (state.bounds if state is not None and topic in read else {}).items():
            number = end - max(earliest, _next(found, (topic, partition)))
            if number > 0:
                waiting[topic, partition] = number
    return waiting


def _still_there(broker: Broker, states: Mapping[str, TopicState | None], place: Place) -> bool:
    """Whether the topic is the one of the first look: one that was made anew meanwhile says nothing of its reader."""
    topic, _ = place
    first, now = states[topic], broker.state(topic)
    return first is not None and now is not None and first.id == now.id


def _cycles(bundle: Bundle) -> dict[str, timedelta]:
    return {terms.contract: terms.cycle for terms in bundle.served() if terms.cycle is not None}


def _checkpoints(store: AuditStore) -> tuple[int, int]:
    """The size of the newest checkpoint, and of the newest that has left."""
    with store.reading() as connection:
        newest = store.newest_checkpoint(connection)
        return 0 if newest is None else newest.size, store.newest_published(connection)


def _time_of(entry: bytes) -> datetime:
    return datetime.fromisoformat(json.loads(entry)["time"])


CONTENTS = (
    Check("policies", "policies", look_at_policies, ("migrations of the store",)),
    Check("schemas", "schemas", look_at_schemas, ("migrations of the store",)),
    Check("bus secret", "keys.bus", look_at_bus_secret, ("keys", "migrations of the store")),
    Check("topics", "broker.url", look_at_topics, ("broker",)),
    Check("positions", "broker.url", look_at_positions, ("broker", "migrations of the store")),
    Check("watermarks", "store.url", look_at_watermarks, ("migrations of the store",)),
    Check("checkpoints", "audit.url", look_at_checkpoints, ("migrations of the audit log",)),
)
