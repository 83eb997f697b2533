"""The checkers: what the run left behind, held against what the oracle knows.

Each checker is one function over `Evidence` and returns one `Finding`: how many were looked at, and what is wrong.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rig.desks import Desk
from rig.identities import Keys
from rig.leaks import Metrics, told
from rig.meddling import POISON, mark
from rig.offices import CONTRACTS, topic
from rig.oracle import Oracle, serial_in
from rig.pushers import Pusher
from rig.replay import replay
from rig.tables import Effect, Facet, Reject, Tables
from rig.topics import Message, Topics

REJECTS = ("market.rejects.v1", "tax.rejects.v1")


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise: what was looked at, how many, and every case in which it did not hold."""

    name: str
    of: int
    what: str
    wrong: Sequence[str] = field(default_factory=list)


@dataclass(frozen=True)
class Evidence:
    """Topics, tables and answers at the end of a run, each read once."""

    oracle: Oracle
    keys: Keys
    topics: Topics
    tables: Tables
    desks: Sequence[Desk]
    pushers: Sequence[Pusher]
    logs: Sequence[Path]
    metrics: Metrics = field(default_factory=Metrics)

    @cached_property
    def messages(self) -> dict[str, list[Message]]:
        """By contract, its topic in log order."""
        return {contract: self.topics.since(topic(contract), {}) for contract in CONTRACTS}

    @cached_property
    def facets(self) -> dict[tuple[str, str], Facet]:
        """By message key and contract."""
        return {(facet.key, facet.contract): facet for facet in self.tables.facets(CONTRACTS)}

    @cached_property
    def effects(self) -> list[Effect]:
        return self.tables.effects()

    @cached_property
    def rejects(self) -> list[Reject]:
        return self.tables.rejects()

    @cached_property
    def poison(self) -> set[tuple[str, int, int]]:
        """Where the rig's poison stands."""
        return {each.place for messages in self.messages.values() for each in messages if mark(each) == POISON}

    def good(self) -> Iterator[Message]:
        """Every message that is no poison, copies too."""
        for messages in self.messages.values():
            yield from (each for each in messages if each.place not in self.poison)


# --- what was said ----------------------------------------------------------------------------------------------------


def lost(evidence: Evidence) -> Finding:
    """Every identity stands as its last word says; every line that was acknowledged stands in its topic."""
    wrong = []
    identities = evidence.oracle.identities()
    for identity in identities:
        admitted = evidence.oracle.admitted(identity)
        facet = evidence.facets.get((evidence.keys.of(identity), identity.contract))
        stands = None if facet is None else facet.payload
        if admitted and stands not in [each.payload for each in admitted]:
            serials = sorted(each.serial for each in admitted)
            wrong.append(f"{identity.contract}: {_serial(stands)} stands where {serials} should")
    acknowledged = [each for pusher in evidence.pushers for each in pusher.acknowledged]
    there = {(each.topic, each.source, *each.number): each for each in evidence.good()}
    rejected = Counter((each.source, *each.number) for each in evidence.rejects)
    for each in acknowledged:
        number = each.source, each.epoch, each.sequence
        message = there.get((topic(each.contract), *number))
        if not each.line.takes:
            wrong += [] if rejected[number] == 1 else [f"{number}: its reject stands {rejected[number]} times"]
        elif message is None:
            wrong.append(f"{number}: acknowledged and not in the topic")
        elif (message.key, message.value is None) != (evidence.keys.of(each.line.identity), each.line.deletes):
            wrong.append(f"{number}: the topic has something else under its number")
    wrong += [f"{pusher.unanswered} pushes were never answered" for pusher in evidence.pushers if pusher.unanswered]
    return Finding("lost", len(identities) + len(acknowledged), "identities and acknowledged lines", wrong)


def twice(evidence: Evidence) -> Finding:
    """No effect was had twice, no number stands for two values, and nothing was rejected twice."""
    seen: Counter[tuple[object, ...]] = Counter(
        (each.table, each.target, each.source, each.number) for each in evidence.effects if each.source is not None
    )
    wrong = [
        f"{each[0]}: {each[2]} {each[3]} had its effect {count} times" for each, count in seen.items() if count > 1
    ]
    values: dict[tuple[object, ...], set[tuple[str, str, bytes | None]]] = defaultdict(set)
    for message in evidence.good():
        values[message.source, message.number].add((message.topic, message.key, message.value))
    wrong += [f"{number} stands for {len(found)} values" for number, found in values.items() if len(found) > 1]
    return Finding("twice", len(evidence.effects), "effects", wrong)


def order(evidence: Evidence) -> Finding:
    """What stands is what the topic says in its order, no effect came behind a later one, no desk saw time go back."""
    wrong, looked = [], 0
    for contract, messages in evidence.messages.items():
        stands = replay(messages, evidence.poison)
        looked += len(stands)
        for key, said in stands.items():
            facet = evidence.facets.get((key, contract))
            if facet is None or facet.place != (said.message.partition, said.message.offset):
                wrong.append(f"{contract}: {facet and facet.place} stands where {said.message.place} should")
        wrong += [f"{contract}: stands and was never written" for _ in _strangers(evidence, contract, stands)]
    last: dict[tuple[str, str | None], tuple[int, tuple[int, int]]] = {}
    for effect in evidence.effects:
        if effect.table == "facets":
            now = effect.version or 0, (effect.number[0] or 0, effect.number[1] or 0)
            before = last.get((effect.target, effect.source))
            if before is not None and now < before:
                wrong.append(f"{effect.source} {effect.number} had its effect behind a later one")
            last[effect.target, effect.source] = now
    wrong += [each for desk in evidence.desks for each in desk.backwards]
    return Finding("order", looked, "keys replayed", wrong)


def phantom(evidence: Evidence) -> Finding:
    """Nothing that was refused, or that nobody has said, stands anywhere or was shown."""
    wrong = [each for desk in evidence.desks for each in desk.phantoms]
    wrong += [each for pusher in evidence.pushers for each in pusher.wrong]
    for facet in evidence.facets.values():
        if facet.payload is None:
            continue
        serial = serial_in(facet.payload)
        said = None if serial is None else evidence.oracle.statement(serial)
        if said is None or said.refused or said.payload != facet.payload:
            wrong.append(f"{facet.contract}: {serial} stands and was never said so")
    return Finding("phantom", evidence.oracle.count(refused=True), "refused statements", wrong)


def poison(evidence: Evidence) -> Finding:
    """Each piece of poison is set aside once, with its place and a reason; of what is good nothing is."""
    places = Counter(reject.place for reject in evidence.rejects if reject.place[0] is not None)
    wrong = [
        f"poison at {place} was set aside {places[place]} times" for place in evidence.poison if places[place] != 1
    ]
    wrong += [f"{place} was set aside and is no poison" for place in places if place not in evidence.poison]
    wrong += [f"{reject.id} has no reason" for reject in evidence.rejects if not reject.reason]
    written = {(each.source, *each.number): each for name in REJECTS for each in evidence.topics.since(name, {})}
    stored = Counter((each.source, *each.number) for each in evidence.rejects if each.place[0] is None)
    wrong += [f"the reject {number} was written and is not stored" for number in written if not stored[number]]
    wrong += [f"the reject {number} is stored and was not written" for number in stored if number not in written]
    return Finding("poison", len(evidence.poison) + len(written), "bad records and rows", wrong)


# --- what was shown ---------------------------------------------------------------------------------------------------


def leaked(evidence: Evidence) -> Finding:
    """No answer, no log and no metric holds a level 3 value; no log and no metric holds a code."""
    wrong = [each for desk in evidence.desks for each in desk.leaks]
    wrong += [each for log in evidence.logs for each in told(log)]
    wrong += evidence.metrics.leaks
    looked = sum(len(desk.requests) for desk in evidence.desks) + evidence.metrics.pages
    return Finding("leaked", looked, "views and pages of metrics, and the logs", wrong)


def unaudited(evidence: Evidence) -> Finding:
    """Every view that was shown has one entry in the audit log, and a receipt that proves it."""
    entries = Counter(entry.get("request") for entry in evidence.tables.entries() if entry["act"] == "view")
    requests = [request for desk in evidence.desks for request in desk.requests]
    wrong = [f"request {each} has {entries[each]} entries" for each in requests if entries[each] != 1]
    wrong += [each for desk in evidence.desks for each in (*desk.unproven, *desk.odd)]
    return Finding("unaudited", len(requests), "views", wrong)


CHECKERS: Sequence[Callable[[Evidence], Finding]] = (lost, twice, order, phantom, poison, leaked, unaudited)


def _strangers(evidence: Evidence, contract: str, stands: Container[str]) -> Iterator[Facet]:
    yield from (facet for facet in evidence.facets.values() if facet.contract == contract and facet.key not in stands)


def _serial(payload: object) -> str:
    return "nothing" if payload is None else str(serial_in(payload)) if isinstance(payload, dict) else "?"
