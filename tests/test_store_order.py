"""Order: however deliveries are cut into batches, repeated, replayed or turned round, the same facets stand.

*Any log*, cut anywhere, ends as it does one delivery at a time. In a log in which an identity has its version always or
never, whatever the numbers, what stands is the latest word of its source, and a delivery that comes again later changes
nothing. *An orderly log* ends the same in any order and after any repetition: one source, or sources each of which
ascends in the log.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange.records import Facet, Origin
from exchange.store import Batch, Store
from exchange.store.order import HEARD, succeed
from rig.replay import Stands, replay
from rig.topics import Message
from tests.support.stores import NOW, Stores, expected, facet, stored, stores

__all__ = ["stores"]

SOURCES = ("civil/people", "civil/push", "civil/corrections")
_subjects = (f"k1.{number:022d}" for number in itertools.count())
_topics = (f"t{number}" for number in itertools.count())

few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@st.composite
def logs(draw: st.DrawFn, versions: st.SearchStrategy[int | None]) -> list[Facet]:
    """Deliveries in log order, about two identities, whose numbers and versions make no sense at all."""
    said = st.tuples(
        st.sampled_from(["", "r"]),
        st.sampled_from(SOURCES),
        st.integers(1, 2),
        st.integers(1, 5),
        versions,
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
        standing[candidate.record_key] = candidate if current is None else succeed(candidate, current)
    return standing


any_logs = logs(st.none() | st.integers(1, 3))
consistent_logs = logs(st.none()) | logs(st.integers(1, 3))


def own_order(one: Facet) -> tuple[int, int, int]:
    return (one.version or 0, one.origin.epoch, one.origin.sequence)


@given(log=consistent_logs)
def test_what_stands_is_the_latest_word_of_its_source(log: list[Facet]) -> None:
    for record_key, found in one_by_one(log).items():
        words = [one for one in log if (one.record_key, one.origin.source) == (record_key, found.origin.source)]
        assert own_order(found) == max(map(own_order, words))


@given(log=consistent_logs, data=st.data())
def test_a_delivery_that_comes_again_changes_nothing(log: list[Facet], data: st.DataObject) -> None:
    again = [
        one._replace(offset=len(log) + at)
        for at, one in enumerate(data.draw(st.lists(st.sampled_from(log), max_size=4)))
    ]
    assert one_by_one(log + again) == one_by_one(log)


def test_a_repeat_of_one_source_does_not_undo_what_another_has_said_since() -> None:
    """A connector repeats its last batch after a crash; a push has corrected a record of it meanwhile."""
    snapshot, pushed = Origin("civil/people", 1, 10), Origin("civil/push", 1, 1)
    log = [_said(offset, "", origin, None, False) for offset, origin in enumerate([snapshot, pushed, snapshot])]
    assert one_by_one(log)[""].origin == pushed
    log.append(_said(3, "", Origin("civil/people", 1, 9), None, False))  # a row set aside is published after all
    assert one_by_one(log)[""].origin == pushed
    log.append(_said(4, "", Origin("civil/people", 1, 11), None, False))
    assert one_by_one(log)[""].origin.sequence == 11


def test_a_deletion_without_a_version_lets_no_older_version_come_back() -> None:
    log = [
        _said(0, "", Origin("civil/people", 1, 1), 5, False),
        _said(1, "", Origin("civil/people", 1, 2), None, True),
        _said(2, "", Origin("civil/push", 1, 1), 4, False),
    ]
    assert one_by_one(log)[""].payload is None


def test_what_lost_by_its_version_is_its_sources_last_word_all_the_same() -> None:
    """A deletion without a version that was set aside is published after all; its source has said more meanwhile."""
    corrected, old, late = Origin("civil/push", 1, 1), Origin("civil/people", 1, 10), Origin("civil/people", 1, 9)
    log = [_said(0, "", corrected, 5, False), _said(1, "", old, 4, False), _said(2, "", late, None, True)]
    assert one_by_one(log)[""].origin == corrected
    log.append(_said(3, "", Origin("civil/people", 1, 11), None, True))
    assert one_by_one(log)[""].payload is None


@given(log=consistent_logs, data=st.data())
def test_in_any_order_the_last_word_of_each_source_is_known(log: list[Facet], data: st.DataObject) -> None:
    repeated = log + data.draw(st.lists(st.sampled_from(log), max_size=4))
    for record_key, found in one_by_one(data.draw(st.permutations(repeated))).items():
        words: dict[str, tuple[int, int, int]] = {}
        for one in log:
            if one.record_key == record_key:
                words[one.origin.source] = max(own_order(one), words.get(one.origin.source, own_order(one)))
        assert last_words(found) == words


@given(log=any_logs, data=st.data())
def test_the_rig_judges_alike(log: list[Facet], data: st.DataObject) -> None:
    again = [one._replace(offset=len(log) + at) for at, one in enumerate(data.draw(st.permutations(log)))]
    theirs = replay(map(_on_the_wire, log + again), poison=())
    ours = one_by_one(log + again)
    assert {key: (stands.message.offset, stands.version) for key, stands in theirs.items()} == {
        key: (found.offset, found.version) for key, found in ours.items()
    }
    assert {key: _judged(stands) for key, stands in theirs.items()} == {
        key: last_words(found) for key, found in ours.items()
    }


def last_words(found: Facet) -> dict[str, tuple[int, int, int]]:
    others = {said.source: (said.version or 0, said.epoch, said.sequence) for said in found.others}
    assert len(others) == len(found.others)
    assert found.origin.source not in others
    return others | {found.origin.source: own_order(found)}


def _on_the_wire(one: Facet) -> Message:
    said = [("ce_source", f"{one.origin.source}/{one.origin.epoch}"), ("ce_sequence", f"{one.origin.sequence:020}")]
    said += [] if one.version is None else [("exchange_version", str(one.version))]
    return Message("civil.person.v1", one.partition, one.offset, 0.0, one.record_key, None, tuple(said))


def _judged(stands: Stands) -> dict[str, tuple[int, int, int]]:
    return {source: (version or 0, *number) for source, (version, number) in stands.words.items()}


@given(log=any_logs)
def test_no_more_sources_are_remembered_than_the_bound(log: list[Facet]) -> None:
    many = [_said(at, "", Origin(f"civil/{at}", 1, 1), None, False) for at in range(len(log), len(log) + HEARD + 5)]
    assert len(one_by_one(log + many)[""].others) == HEARD


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


def rows(subject: str, facets: dict[str, Facet]) -> dict[str, tuple[object, ...]]:
    ours = [one._replace(subject_key=subject) for one in facets.values()]
    return {identity[3]: row for identity, row in expected(*ours).items()}


def shown(rows: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """With `heard` in no order: its order is that in which the last words came."""
    return {key: (*row[:-1], sorted(json.loads(str(row[-1] or "[]")))) for key, row in rows.items()}


@few
@given(log=any_logs, cuts=st.lists(st.integers(1, 6), max_size=6))
def test_any_log_cut_anywhere_ends_as_it_does_one_by_one(stores: Stores, log: list[Facet], cuts: list[int]) -> None:
    store, subject = stores.open(), next(_subjects)
    apply(store, subject, log, cuts)
    assert standing(store, subject) == rows(subject, one_by_one(log))
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
    assert shown(standing(store, subject)) == shown(rows(subject, one_by_one(log)))
    apply(store, subject, log, cuts[::-1])  # and a replay of the whole changes nothing
    assert shown(standing(store, subject)) == shown(rows(subject, one_by_one(log)))
    store.close()
