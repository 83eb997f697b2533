"""The stages of a view, each alone, over and over on the same values: our way against its plain reference.

Processor time of the least of several runs: without what caches, threads and the garbage collector add in a process
that is at work. What both give is compared first, to the last byte; the reference is what the tests hold each stage to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import rfc8785

from bench import city
from bench.measuring import CannotMeasure, Measurement
from exchange import merkle
from exchange.agreements import Terms
from exchange.audit import Entry, Signer
from exchange.audit.encoding import encoded
from exchange.audit.entries import Line
from exchange.audit.groups import seal
from exchange.audit.receipts import Receipt
from exchange.audit.writer import receipts
from exchange.cli.policy import read_policies
from exchange.decisions import Decider, Decision
from exchange.views import Speller, Trimmer, merge
from exchange.wiring import key_maker

CITIZENS, GROUP, RUNS = 200, 16, 7

Way = Callable[[], Sequence[Any]]  # does it once for each of the values; what came out


def of_a_view(folder: Path, times: int) -> list[Measurement]:
    """Each stage, `times` runs of it over all values in a round. Raises CannotMeasure if two ways differ."""
    built = city.make(folder, "sqlite:///data/store.db", 1, 2)
    entries = [_entry(number) for number in range(GROUP)]
    lines = [Line.of(entry, bytes(9_000), bytes(16)) for entry in entries]
    leaves = [line.leaf for line in lines]
    group = receipts(seal("gateway-1", 1, None, leaves, Signer.generate()), lines)
    answers = _answers(built)
    decide = _decisions(built)
    stages: dict[str, tuple[Way, Way]] = {
        "trimmed facets into an answer's bytes": (answers[0], answers[1]),
        "the decisions on 8 contracts": (decide[0], decide[1]),
        "an audit entry's bytes": (
            lambda: [entry.to_bytes() for entry in entries],
            lambda: [rfc8785.dumps(orjson.loads(line.entry)) for line in lines],
        ),
        f"an audit path in a group of {GROUP}": (lambda: _paths(leaves), lambda: _proofs(leaves)),
        "a receipt's header value": (
            lambda: [one.encode() for one in group],
            lambda: [_spelled(one) for one in group],
        ),
    }
    found = []
    for name, ways in stages.items():
        ours, reference = (way() for way in ways)
        if list(ours) != list(reference):
            raise CannotMeasure(f"not the same: {name}")
        sides: dict[str, list[dict[str, float]]] = {"exchange": [], "reference": []}
        for _ in range(RUNS):
            for side, way in zip(sides, ways, strict=True):
                sides[side].append({"us": _took(way, times) / len(ours)})
        least = {side: [min(rounds, key=lambda one: one["us"])] for side, rounds in sides.items()}
        found.append(Measurement(f"stage: {name}", "us", least, {"values": len(ours), "times": times, "same": True}))
    return found


def _took(way: Way, times: int) -> float:
    """Microseconds of the processor for one run."""
    started = time.process_time()
    for _ in range(times):
        way()
    return (time.process_time() - started) / times * 1e6


def _answers(built: city.City) -> tuple[Way, Way]:
    terms = {(said.name, said.major): Terms.of(said) for said in built.contracts}
    trimmers = {
        pair: Trimmer(Decision(*pair, allowed=True, permit="agreement", fields=dict.fromkeys(city.GRANTED)), of)
        for pair, of in terms.items()
    }
    told = {(said.name, f"{said.department}/bench"): built.told[said.name] for said in built.contracts}
    by_citizen = zip(*built.facets(range(CITIZENS), key_maker(built.settings)), strict=True)
    now, speller = datetime.now(UTC), Speller(terms)
    views = [
        [found for one in facets if (found := trimmers[one.contract, one.major](one)) is not None]
        for facets in by_citizen
    ]
    return (
        lambda: [speller(view, told, now) for view in views],
        lambda: [orjson.dumps(merge(view, terms, told, now)) for view in views],
    )


def _decisions(built: city.City) -> tuple[Way, Way]:
    _, bundle = read_policies(built.settings)
    client = bundle.clients[city.ISSUER, city.CLIENT]
    kept, now = Decider(bundle), datetime.now(UTC)
    names = sorted({contract for contract, _ in bundle.terms})

    def whole() -> Sequence[Any]:
        return [list(kept.survey(client, city.PURPOSE, "citizen", False, now)) for _ in range(GROUP)]

    def one_by_one() -> Sequence[Any]:
        return [list(kept.survey(client, city.PURPOSE, "citizen", False, now, names)) for _ in range(GROUP)]

    return whole, one_by_one


def _entry(number: int) -> Entry:
    return Entry(
        time=datetime(2026, 11, 25, tzinfo=UTC),
        act="view",
        outcome="served",
        issuer=city.ISSUER,
        client=city.CLIENT,
        department=city.CONSUMER,
        purpose=city.PURPOSE,
        subject=f"a1.{number:022}",
        contracts={f"{each}.resident.v1": sorted(city.GRANTED) for each in city.DEPARTMENTS},
        policies=["agreement", *(f"{each}-{city.CONSUMER}" for each in city.DEPARTMENTS)],
        bundle="0" * 64,
        request=f"{number:032}",
    )


def _paths(leaves: Sequence[bytes]) -> Sequence[Any]:
    tree = merkle.Small(leaves)
    return [tree.path(index) for index in range(len(leaves))]


def _proofs(leaves: Sequence[bytes]) -> Sequence[Any]:
    nodes = merkle.levels(leaves)
    return [tuple(merkle.inclusion_proof(index, len(leaves), nodes)) for index in range(len(leaves))]


def _spelled(receipt: Receipt) -> str:
    members = {
        "writer": receipt.writer,
        "number": receipt.number,
        "entry": encoded(receipt.entry),
        "salt": encoded(receipt.salt),
        "path": [encoded(step) for step in receipt.path],
        "group": receipt.group.decode("ascii"),
    }
    return encoded(rfc8785.dumps(members))
