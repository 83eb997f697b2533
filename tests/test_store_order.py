"""Order: however deliveries are cut into batches, repeated, replayed or turned round, the same facets stand.

*Any log*, cut anywhere, ends as it does one delivery at a time. *An orderly log* ends the same in any order and after
any repetition: one in which an identity has its version always or never, and either one source, or sources each of
which ascends in the log. (Where two sources of one identity send old numbers late, "the source's number" and "the
place in the log" can disagree in a ring, and the log order of arrival is what decides.)
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange.records import Facet, Origin, newer
from exchange.store import Batch, Store
from tests.support.stores import NOW, Stores, facet, stored, stores

__all__ = ["stores"]

SOURCES = ("civil/people", "civil/push")
_subjects = (f"k1.{number:022d}" for number in itertools.count())
_topics = (f"t{number}" for number in itertools.count())

few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@st.composite
def any_logs(draw: st.DrawFn) -> list[Facet]:
    """Deliveries in log order, about two identities, whose numbers and versions make no sense at all."""
    said = st.tuples(
        st.sampled_from(["", "r"]),
        st.sampled_from(SOURCES),
        st.integers(1, 2),
        st.integers(1, 5),
        st.none() | st.integers(1, 3),
        st.booleans(),
    )
    return [
        _said(offset, record_key, Origin(source, epoch, sequence), version, deleted)
        for offset, (record_key, source, epoch, sequence, version, deleted) in enumerate(
            draw(st.lists(said, min_size=1, max_size=14))
        )
    ]


@st.composite
def orderly_logs(draw: st.DrawFn) -> list[Facet]:
    """Deliveries of one identity by one source in any order, or by several that each ascend; versions all or none."""
    versioned = draw(st.booleans())
    numbers = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 9)), min_size=1, max_size=10, unique=True))
    if draw(st.booleans()):
        origins = [Origin(SOURCES[0], epoch, sequence) for epoch, sequence in numbers]
    else:
        origins = [Origin(draw(st.sampled_from(SOURCES)), epoch, sequence) for epoch, sequence in sorted(numbers)]
    return [
        _said(offset, "", origin, draw(st.integers(1, 4)) if versioned else None, draw(st.booleans()))
        for offset, origin in enumerate(origins)
    ]


def _said(offset: int, record_key: str, origin: Origin, version: int | None, deleted: bool) -> Facet:
    return facet(
        offset,
        record_key=record_key,
        origin=origin,
        version=version,
        payload=None if deleted else f'{{"said":"{offset}"}}',
        event_time=NOW + timedelta(microseconds=offset),
    )


def one_by_one(log: Sequence[Facet]) -> dict[str, Facet]:
    """The definition: each delivery against what stands."""
    standing: dict[str, Facet] = {}
    for candidate in log:
        current = standing.get(candidate.record_key)
        if current is None or newer(candidate, current):
            standing[candidate.record_key] = candidate
    return standing


def apply(store: Store, subject: str, log: Sequence[Facet], cuts: Sequence[int]) -> None:
    """Apply these deliveries in this order, as batches of these sizes, under a subject of their own."""
    topic, rest = next(_topics), [_about(subject, one) for one in log]
    position = store.take(topic, 0, "a", "id")
    at, sizes = 0, itertools.chain(cuts, itertools.repeat(len(rest)))
    while at < len(rest):
        size = next(sizes)
        store.apply([Batch(topic, 0, position.epoch, at, min(at + size, len(rest)), rest[at : at + size])])
        at += size


def _about(subject: str, one: Facet) -> Facet:
    return facet(
        one.offset,
        subject_key=subject,
        record_key=one.record_key,
        origin=one.origin,
        version=one.version,
        payload=one.payload,
        event_time=one.event_time,
    )


def standing(store: Store, subject: str) -> dict[str, tuple[object, ...]]:
    return {identity[3]: row for identity, row in stored(store).items() if identity[0] == subject}


def rows(facets: dict[str, Facet]) -> dict[str, tuple[object, ...]]:
    return {
        key: (
            *(one.payload, one.schema_id, one.origin.source, one.origin.epoch, one.origin.sequence),
            *(one.partition, one.offset, one.version, one.event_time),
        )
        for key, one in facets.items()
    }


@few
@given(log=any_logs(), cuts=st.lists(st.integers(1, 6), max_size=6))
def test_any_log_cut_anywhere_ends_as_it_does_one_by_one(stores: Stores, log: list[Facet], cuts: list[int]) -> None:
    store, subject = stores.open(), next(_subjects)
    apply(store, subject, log, cuts)
    assert standing(store, subject) == rows(one_by_one(log))
    store.close()


@few
@given(log=orderly_logs(), data=st.data(), cuts=st.lists(st.integers(1, 6), max_size=6))
def test_an_orderly_log_ends_the_same_in_any_order_and_repetition(
    stores: Stores, log: list[Facet], data: st.DataObject, cuts: list[int]
) -> None:
    repeated = log + data.draw(st.lists(st.sampled_from(log), max_size=5))
    turned = data.draw(st.permutations(repeated))
    store, subject = stores.open(), next(_subjects)
    apply(store, subject, turned, cuts)
    assert standing(store, subject) == rows(one_by_one(log))
    apply(store, subject, log, cuts[::-1])  # and a replay of the whole changes nothing
    assert standing(store, subject) == rows(one_by_one(log))
    store.close()
