"""What a cluster must look like: the topics, and who may do what with them, that catalogue and agreements imply.

a department's connectors   write its contract topics, its rejects and the watermarks, and read them; read its inboxes
its own producers           write its inboxes, and nothing else
a department's readers      read a topic only if an agreement gives their department every field of it, always: without
                            mask, row condition or quota, and without a case that is named at each reading; never
                            one with a field of level 4, which may have been of another level before
materialise                 reads every topic of records, rejects and watermarks
the gateway                 writes what is pushed, and the checkpoints of the audit log
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from exchange.agreements import Agreement, Bundle, Terms
from exchange.decisions import Decider
from exchange.kafka.access import READ, WRITTEN, Acl
from exchange.records import CHECKPOINTS_TOPIC, ERASURES_TOPIC, WATERMARKS_TOPIC, rejects_topic
from exchange.settings import PrincipalSettings, QuotaSettings
from exchange.topics import INBOX, TopicSpec, inbox

READ_ONCE = "exchange.read"  # the group's name of those who read a topic outside any group


@dataclass(frozen=True, slots=True)
class Plan:
    """The topics, and each allowance with what implies it; `quotas` by user and kind (see exchange.kafka.quotas)."""

    topics: Sequence[TopicSpec]
    acls: Mapping[Acl, str]
    quotas: Mapping[tuple[str, str], float]


def plan(
    bundle: Bundle,
    specs: Sequence[TopicSpec],
    inboxes: Collection[str],
    names: PrincipalSettings,
    quotas: QuotaSettings,
    group: str,
    now: datetime,
) -> Plan:
    """What the bundle implies now. `specs` are all topics; `inboxes` the datasets that have an inbox among them.

    `group` is the consumer group of materialisers.
    """
    served = bundle.served()
    acls: dict[Acl, str] = {}
    for terms in served:
        for acl in _of_contract(terms, names):
            acls.setdefault(acl, f"{terms.owner} publishes {terms.contract}")
        if terms.contract in inboxes:
            for acl in _of_inbox(terms, names):
                acls.setdefault(acl, f"{terms.contract} has an inbox")
    for spec in specs:
        if spec.name not in (CHECKPOINTS_TOPIC, ERASURES_TOPIC) and not spec.name.endswith(INBOX):
            acls[Acl(names.materialise, "read", "topic", spec.name)] = "it stores what is published"
    acls[Acl(names.materialise, "read", "group", group)] = "it stores what is published"
    acls[Acl(names.gateway, "write", "topic", CHECKPOINTS_TOPIC)] = "it signs the audit log"
    whole = list(whole_topics(bundle, now))
    for agreement, terms in whole:
        reader = names.reader.format(department=agreement.consumer)
        why = f"agreement {agreement.id} gives {agreement.consumer} all of {terms.contract}"
        acls[Acl(reader, "read", "topic", terms.topic)] = why
        acls[Acl(reader, "read", "group", f"{agreement.consumer}.", prefixed=True)] = why
    # The departments' own programs, who are not ours to trust with the whole bus, have a bound each.
    writers = {terms.owner for terms in served if terms.contract in inboxes}
    readers = {agreement.consumer for agreement, _ in whole}
    limits = [(names.producer, writers, WRITTEN, quotas.written), (names.reader, readers, READ, quotas.read)]
    bounds = {
        (user_of(form.format(department=department)), key): float(rate)
        for form, departments, key, rate in limits
        for department in departments
        if rate is not None
    }
    return Plan(specs, acls, bounds)


def whole_topics(bundle: Bundle, now: datetime) -> Iterator[tuple[Agreement, Terms]]:
    """The agreements in force under which the consumer may read a contract's topic itself: see the module.

    The guardrails decide, as for a view without a case: what they would refuse or mask there, a topic does not give.
    """
    decider = Decider(bundle)
    clients = defaultdict(list)
    for client in bundle.clients.values():
        clients[client.department].append(client)
    for agreement in bundle.agreements.values():
        if agreement.quota is not None or not agreement.in_force(now):
            continue
        terms = bundle.terms[agreement.contract, agreement.major]
        if terms.sharing == "withheld":  # it has no topic
            continue
        for client in clients[agreement.consumer]:
            decision = decider.decide(client, agreement.purpose, terms.contract, terms.major, False, now)
            plain = {name for name, mask in decision.fields.items() if mask is None}
            if decision.agreement == agreement.id and not decision.condition and plain >= terms.fields.keys():
                yield agreement, terms
                break


def surplus(
    standing: Collection[Acl], planned: Plan, names: PrincipalSettings, departments: Collection[str]
) -> list[Acl]:
    """Allowances that nothing implies: on what is planned whoever has them, and whatever our own principals have.

    Among them is what lets somebody grant himself the rest.
    """
    ours = names.of(departments)
    topics = [spec.name for spec in planned.topics]
    groups = {acl.name for acl in planned.acls if acl.resource == "group" and not acl.prefixed}

    def concerns(acl: Acl) -> bool:
        if acl.resource == "cluster":
            return acl.operation in ("all", "alter")
        return any(acl.covers("topic", topic) for topic in topics) or any(acl.covers("group", one) for one in groups)

    return sorted(
        acl
        for acl in standing
        if acl not in planned.acls and acl.principal not in names.operators and (acl.principal in ours or concerns(acl))
    )


def _of_contract(terms: Terms, names: PrincipalSettings) -> Iterator[Acl]:
    topic, connector = terms.topic, names.connector.format(department=terms.owner)
    for name in (topic, rejects_topic(terms.owner), WATERMARKS_TOPIC):
        yield Acl(connector, "write", "topic", name)
        yield Acl(connector, "read", "topic", name)  # what it has told: a new cursor file is filled from all three
        yield Acl(names.gateway, "write", "topic", name)
    yield Acl(connector, "read", "group", READ_ONCE)


def _of_inbox(terms: Terms, names: PrincipalSettings) -> Iterator[Acl]:
    name = inbox(terms.contract)
    yield Acl(names.connector.format(department=terms.owner), "read", "topic", name)
    yield Acl(names.producer.format(department=terms.owner), "write", "topic", name)
    yield Acl(
        names.producer.format(department=terms.owner), "write", "transactional_id", f"{terms.owner}.", prefixed=True
    )


def user_of(principal: str) -> str:
    """The user's name in a principal `User:<name>`."""
    return principal.removeprefix("User:")
