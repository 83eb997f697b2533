"""What the store promises the materialiser, on SQLite and on PostgreSQL: effects and position are one, and fenced."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from exchange.errors import Fenced, NotFound, PolicyRefused, StoreUnavailable, TopicChanged
from exchange.records import Facet, Origin, Reject, Said, Watermark, heard
from exchange.store import Applied, Batch, Position, Store, Told
from exchange.store.facets import COPY_ROWS
from tests.support.stores import NOW, Stores, expected, facet, stored, stores

__all__ = ["stores"]

TOPIC = "civil.person.v1"


def batch(position: Position, next_: int, facets: Sequence[Facet] = (), **more: Any) -> Batch:
    return Batch(TOPIC, 0, position.epoch, position.offset, next_, facets, **more)


def place(offset: int, /, **changes: Any) -> Reject:
    values: dict[str, Any] = {
        "department": "civil",
        "contract": "civil.person",
        "place": f"{TOPIC} partition 0 offset {offset}",
        "field": "name",
        "reason": "is missing",
        "at": NOW + timedelta(seconds=offset),
        "topic": TOPIC,
        "partition": 0,
        "offset": offset,
        "schema_id": 7,
        "payload": f'{{"secret":{offset}}}',
    }
    return Reject(**values | changes)


def from_connector(sequence: int, **changes: Any) -> Reject:
    origin = Origin("civil/people", 2, sequence)
    return place(sequence, topic=None, partition=None, offset=None, origin=origin, **changes)


# --- positions --------------------------------------------------------------------------------------------------------


def test_a_partition_that_nobody_read_begins_at_0(stores: Stores) -> None:
    store = stores.open()
    assert store.take(TOPIC, 0, "a", "id-1") == Position(0, 1)
    assert store.take(TOPIC, 1, "a", "id-1") == Position(0, 1)
    assert store.take(TOPIC, 0, "b", "id-1") == Position(0, 2)


def test_the_next_owner_goes_on_where_the_one_before_stopped(stores: Stores) -> None:
    store = stores.open()
    store.apply([batch(store.take(TOPIC, 0, "a", "id-1"), 5, [facet(4)])])
    assert stores.open().take(TOPIC, 0, "b", "id-1") == Position(5, 2)


def test_a_fenced_owner_writes_nothing(stores: Stores) -> None:
    old, new = stores.open(), stores.open()
    mine = old.take(TOPIC, 0, "old", "id-1")
    other = old.take("civil.household.v1", 0, "old", "id-2")
    position = new.take(TOPIC, 0, "new", "id-1")
    good = Batch("civil.household.v1", 0, other.epoch, 0, 1, [facet(0, contract="civil.household")])
    with pytest.raises(Fenced, match=r"civil\.person\.v1 partition 0"):
        old.apply([good, batch(mine, 1, [facet(0)], rejects=[place(0)])])
    assert stored(new) == {}
    assert new.list_rejects() == []
    assert new.take("civil.household.v1", 0, "new", "id-2").offset == 0
    assert new.apply([batch(position, 1, [facet(0)])]) == [Applied(1, 0)]


def test_an_owner_that_is_fenced_half_way_writes_nothing(stores: Stores) -> None:
    """The take-over comes between two batches of the old owner that follow each other."""
    old, new = stores.open(), stores.open()
    first = old.take(TOPIC, 0, "old", "id-1")
    old.apply([batch(first, 3, [facet(0)])])
    assert new.take(TOPIC, 0, "new", "id-1") == Position(3, 2)
    with pytest.raises(Fenced):
        old.apply([batch(Position(3, first.epoch), 6, [facet(3)])])
    assert stored(new) == expected(facet(0))


def test_two_owners_that_race_leave_one_winner(stores: Stores) -> None:
    """Whatever the interleaving: a batch is applied before the take-over or not at all."""
    old, new = stores.open(), stores.open()
    position = old.take(TOPIC, 0, "old", "id-1")
    written: list[int] = []

    def write() -> None:
        at = position.offset
        for _ in range(200):
            try:
                old.apply([batch(Position(at, position.epoch), at + 1, [facet(at)])])
            except Fenced:
                return
            except StoreUnavailable:
                continue
            at += 1
            written.append(at)

    writer = threading.Thread(target=write)
    writer.start()
    while len(written) < 5 and writer.is_alive():
        time.sleep(0.001)
    taken = new.take(TOPIC, 0, "new", "id-1")
    writer.join()
    assert stored(new) == expected(facet(taken.offset - 1))
    assert new.take(TOPIC, 0, "new", "id-1").offset == taken.offset
    assert taken.offset == len(written)


def test_a_gap_and_a_step_back_are_fenced(stores: Stores) -> None:
    store = stores.open()
    position = store.take(TOPIC, 0, "a", "id-1")
    store.apply([batch(position, 5, [facet(4)])])
    for previous, next_ in ((6, 7), (4, 6), (0, 3)):
        with pytest.raises(Fenced):
            store.apply([batch(Position(previous, position.epoch), next_, [facet(next_ - 1)])])
    assert stored(store) == expected(facet(4))


def test_a_batch_of_a_partition_that_was_never_taken_is_fenced(stores: Stores) -> None:
    with pytest.raises(Fenced, match="was never taken"):
        stores.open().apply([batch(Position(0, 1), 1, [facet(0)])])


def test_of_many_partitions_those_move_that_were_not_moved_yet(stores: Stores) -> None:
    """All in one transaction, in any order; one partition in two batches, and one that is another's."""
    store = stores.open()
    taken = {number: store.take(TOPIC, number, "a", "id-1") for number in range(5)}

    def of(number: int, begin: int, end: int) -> Batch:
        last = facet(end - 1, partition=number, record_key=f"{number}.{end}")
        return Batch(TOPIC, number, taken[number].epoch, begin, end, [last])

    assert store.apply([of(3, 0, 2), of(1, 0, 1)]) == [Applied(1, 0), Applied(1, 0)]
    again = [of(4, 0, 7), of(3, 0, 2), of(0, 0, 3), of(1, 1, 5)]
    assert [outcome.applied for outcome in store.apply(again)].count(0) == 1
    assert store.apply([of(2, 0, 1), of(0, 3, 4), of(2, 1, 9)])[1:] == [Applied(1, 0), Applied(1, 0)]
    before = stored(store)
    stores.open().take(TOPIC, 3, "b", "id-1")
    with pytest.raises(Fenced, match="partition 3"):
        store.apply([of(4, 7, 8), of(3, 2, 3), of(0, 4, 5)])
    assert stored(store) == before
    found = [stores.open().take(TOPIC, number, "b", "id-1").offset for number in range(5)]
    assert found == [4, 5, 9, 2, 7]


def test_the_answer_to_a_commit_is_lost(stores: Stores) -> None:
    """Failed but stored: the same batches again are no effect twice and no fence."""
    store = stores.open()
    position = store.take(TOPIC, 0, "a", "id-1")
    work = [batch(position, 2, [facet(0), facet(1)], rejects=[place(0)])]
    assert store.apply(work) == [Applied(2, 0)]
    before = stored(store)
    assert store.apply(work) == [Applied(0, 2)]
    assert stored(store) == before
    assert len(store.list_rejects()) == 1
    assert store.apply([batch(Position(2, position.epoch), 3, [facet(2)])]) == [Applied(1, 0)]


def test_a_transaction_that_failed_left_nothing(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failed and lost: the same batches again do everything."""
    store = stores.open()
    position = store.take(TOPIC, 0, "a", "id-1")
    work = [batch(position, 2, [facet(0)], rejects=[place(1)])]

    def away(*_: object) -> None:
        raise StoreUnavailable("at the last moment")

    with monkeypatch.context() as patch:
        patch.setattr("exchange.store.watermarks.settle", away)
        with pytest.raises(StoreUnavailable):
            store.apply(work)
    assert stored(store) == {}
    assert store.list_rejects() == []
    assert store.apply(work) == [Applied(1, 0)]


def test_a_topic_made_anew_is_not_read_on(stores: Stores) -> None:
    store = stores.open()
    position = store.take(TOPIC, 0, "a", "id-1")
    assert store.take(TOPIC, 0, "a", "id-2").offset == 0, "nothing was read of the one before"
    position = store.take(TOPIC, 0, "a", "id-2")
    store.apply([batch(position, 1, [facet(0)])])
    with pytest.raises(TopicChanged, match=TOPIC):
        store.take(TOPIC, 0, "a", "id-3")
    assert store.apply([batch(Position(1, position.epoch), 2, [facet(1)])]), "the refused take-over fenced nobody"


# --- facets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [0, 3 * COPY_ROWS])
def test_every_column_comes_back(stores: Stores, others: int) -> None:
    """One by one and by COPY."""
    store = stores.open()
    odd = facet(
        0,
        record_key="r" * 22,
        payload='{"a":"一\\u0000\\n\\\\N","b":"\t𠮷"}',
        schema_id=2**32 - 1,
        origin=Origin("civil/人口", 2**62, 2**63 - 1),
        partition=11,
        offset=2**62,
        version=-(2**63),
        event_time=NOW.replace(year=9999, microsecond=999_999),
    )
    more = [facet(number, subject_key=f"k1.{number:022d}", payload=None, schema_id=None) for number in range(others)]
    store.apply([batch(store.take(TOPIC, 0, "a", "id-1"), 10**6, [*more, odd])])
    assert stored(store) == expected(odd, *more)


@pytest.mark.parametrize(("stand", "come"), [(2, COPY_ROWS), (COPY_ROWS, 2), (COPY_ROWS, COPY_ROWS)])
def test_what_is_new_and_what_replaces_come_together(stores: Stores, stand: int, come: int) -> None:
    """Also in one batch of many, where each goes its own way."""
    store = stores.open()
    keys = [f"k1.{number:022d}" for number in range(stand + come)]
    old = [facet(number, subject_key=key) for number, key in enumerate(keys[:stand])]
    new = [facet(1_000 + number, subject_key=key) for number, key in enumerate(reversed(keys))]
    position = store.take(TOPIC, 0, "a", "id-1")
    store.apply([batch(position, 1_000, old)])
    assert store.apply([batch(Position(1_000, position.epoch), 2_000, new)]) == [Applied(stand + come, 0)]
    assert stored(store) == expected(*new)


@pytest.mark.parametrize("many", [0, COPY_ROWS])
def test_each_identity_finds_its_own(stores: Stores, many: int) -> None:
    """Whatever else of the same subject, contract, major or record key is asked for in the same batch."""
    store = stores.open()
    subjects = [f"k1.{number:022d}" for number in range(max(2, many // 8 + 1))]
    identities = [
        {"subject_key": subject, "contract": contract, "major": major, "record_key": record}
        for subject in subjects
        for contract in ("civil.person", "tax.person")
        for major in (1, 2)
        for record in ("", "r" * 22)
    ]
    old = [facet(number, **identity) for number, identity in enumerate(identities)]
    late = [facet(1_000, version=None, origin=Origin("civil/people", 1, number), **identity)
            for number, identity in enumerate(identities)]  # fmt: skip
    position = store.take(TOPIC, 0, "a", "id-1")
    store.apply([batch(position, 1_000, old)])
    for part in (late[:1], late[1:2], late):
        offset = store.take(TOPIC, 0, "a", "id-1")
        assert store.apply([batch(offset, offset.offset + 1, part)]) == [Applied(0, len(part))], "repeats, all of them"
    newer = [facet(2_000 + number, **identity) for number, identity in enumerate(identities) if number % 3]
    offset = store.take(TOPIC, 0, "a", "id-1")
    store.apply([batch(offset, 9_000, newer)])
    assert stored(store) == expected(*[each for number, each in enumerate(old) if not number % 3], *newer)


def test_the_newer_record_stands_in_whatever_order_they_come(stores: Stores) -> None:
    store = stores.open()
    position = store.take(TOPIC, 0, "a", "id-1")
    newer, older = facet(0, version=2), facet(1, version=1)
    assert store.apply([batch(position, 2, [newer, older])]) == [Applied(1, 1)]
    again = facet(2, version=1)
    assert store.apply([batch(Position(2, position.epoch), 3, [again])]) == [Applied(0, 1)]
    assert stored(store) == expected(newer)


def test_a_deletion_leaves_a_tombstone_that_only_a_newer_record_lifts(stores: Stores) -> None:
    store = stores.open()
    position = store.take(TOPIC, 0, "a", "id-1")
    deletion = facet(3, payload=None, schema_id=None)
    late = facet(4, origin=Origin("civil/people", 1, 2))
    assert store.apply([batch(position, 5, [facet(0), deletion, late])]) == [Applied(2, 1)]
    assert stored(store) == expected(deletion)
    store.apply([batch(Position(5, position.epoch), 6, [facet(5)])])
    assert stored(store) == expected(facet(5))


def test_two_batches_of_one_call_are_folded_in_order(stores: Stores) -> None:
    store = stores.open()
    first, second = store.take(TOPIC, 0, "a", "id-1"), store.take(TOPIC, 1, "a", "id-1")
    there = facet(9, partition=1, origin=Origin("tax/people", 1, 1))
    work = [batch(first, 1, [facet(0)]), Batch(TOPIC, 1, second.epoch, 0, 10, [there])]
    assert store.apply(work) == [Applied(1, 0), Applied(1, 0)]
    assert stored(store) == expected(there._replace(heard='[["civil/people", null, 1, 0]]'))


def test_what_another_source_said_before_is_remembered(stores: Stores) -> None:
    store = stores.open()
    position = store.take(TOPIC, 0, "a", "id-1")
    snapshot, pushed = facet(0), facet(1, origin=Origin("civil/push", 1, 1))
    assert store.apply([batch(position, 2, [snapshot, pushed])]) == [Applied(2, 0)]
    again = facet(2, origin=snapshot.origin)  # in another transaction: what was heard came from the database
    later = Batch(TOPIC, 0, position.epoch, 2, 3, [again])
    assert store.apply([later]) == [Applied(0, 1)]
    assert stored(store) == expected(pushed._replace(heard=heard([Said("civil/people", None, 1, 0)])))


def test_what_lost_is_remembered_beside_what_stands(stores: Stores) -> None:
    store = stores.open()
    position = store.take(TOPIC, 0, "a", "id-1")
    stands, lost = facet(0, version=5), facet(1, version=4, origin=Origin("civil/push", 1, 7))
    store.apply([batch(position, 1, [stands])])
    assert store.apply([Batch(TOPIC, 0, position.epoch, 1, 2, [lost])]) == [Applied(0, 1)]
    assert stored(store) == expected(stands._replace(heard=heard([Said("civil/push", 4, 1, 7)])))
    late = facet(2, payload=None, origin=Origin("civil/push", 1, 6))
    assert store.apply([Batch(TOPIC, 0, position.epoch, 2, 3, [late])]) == [Applied(0, 1)]
    deletion = facet(3, payload=None, origin=Origin("civil/push", 1, 8))
    other = facet(4, version=1, origin=Origin("civil/other", 1, 1))
    assert store.apply([Batch(TOPIC, 0, position.epoch, 3, 5, [deletion, other])]) == [Applied(1, 1)]
    others = [Said("civil/people", 5, 1, 0), Said("civil/other", 1, 1, 1)]
    assert stored(store) == expected(deletion._replace(version=5, heard=heard(others)))


def test_one_version_with_two_values_is_a_clash_that_the_order_decides(stores: Stores) -> None:
    store = stores.open()
    position = store.take(TOPIC, 0, "a", "id-1")
    one, other = facet(0, version=7), facet(1, version=7)
    assert store.apply([batch(position, 2, [one, other])]) == [Applied(2, 0, clashes=1)], "within a batch"
    third = facet(2, version=7)
    assert store.apply([batch(Position(2, 1), 3, [third])]) == [Applied(1, 0, clashes=1)], "against what is stored"
    repeat = third._replace(offset=3)
    same = facet(4, version=7, payload=third.payload)
    deletion = facet(5, version=7, payload=None)
    assert store.apply([batch(Position(3, 1), 6, [repeat, same, deletion])]) == [Applied(2, 1)], "none of these is"
    assert stored(store) == expected(deletion)


# --- watermarks -------------------------------------------------------------------------------------------------------


def told(minutes: int, offsets: dict[int, int], epoch: int = 1) -> Watermark:
    return Watermark("civil.person", TOPIC, "civil/people", epoch, NOW + timedelta(minutes=minutes), offsets)


def test_a_watermark_waits_until_every_position_has_passed_it(stores: Stores) -> None:
    store = stores.open()
    marks = store.take("exchange.watermarks.v1", 0, "a", "id-w")
    zero, one = store.take(TOPIC, 0, "a", "id-1"), store.take(TOPIC, 1, "a", "id-1")
    store.apply([Batch("exchange.watermarks.v1", 0, marks.epoch, 0, 1, watermarks=[told(0, {0: 1, 1: 4})])])
    store.apply([batch(zero, 2)])
    store.apply([Batch(TOPIC, 1, one.epoch, 0, 4)])
    assert store.watermarks() == []
    store.apply([Batch(TOPIC, 1, one.epoch, 4, 5)])
    assert store.watermarks() == [Told("civil.person", "civil/people", NOW)]


def test_a_watermark_of_what_has_passed_stands_at_once(stores: Stores) -> None:
    store = stores.open()
    zero, marks = store.take(TOPIC, 0, "a", "id-1"), store.take("exchange.watermarks.v1", 0, "a", "id-w")
    arriving = Batch("exchange.watermarks.v1", 0, marks.epoch, 0, 2, watermarks=[told(5, {0: 1}), told(3, {})])
    store.apply([batch(zero, 2), arriving])
    assert [one.as_of for one in store.watermarks()] == [NOW + timedelta(minutes=5)]


def test_a_watermark_never_goes_back_but_for_a_new_epoch(stores: Stores) -> None:
    store = stores.open()
    position = store.take("exchange.watermarks.v1", 0, "a", "id-w")
    for number, (watermark, minutes) in enumerate(
        [(told(5, {}), 5), (told(3, {}), 5), (told(1, {}, epoch=2), 1), (told(9, {}), 1)]
    ):
        store.apply([Batch("exchange.watermarks.v1", 0, position.epoch, number, number + 1, watermarks=[watermark])])
        assert [one.as_of for one in store.watermarks()] == [NOW + timedelta(minutes=minutes)]


def test_newer_watermarks_do_not_keep_an_older_one_from_standing(stores: Stores) -> None:
    """A source that tells faster than we read still moves forward."""
    store = stores.open()
    zero, marks = store.take(TOPIC, 0, "a", "id-1"), store.take("exchange.watermarks.v1", 0, "a", "id-w")
    waiting = [told(minute, {0: 10 * minute}) for minute in range(1, 5)]
    store.apply([Batch("exchange.watermarks.v1", 0, marks.epoch, 0, 4, watermarks=waiting)])
    store.apply([batch(zero, 25)])
    assert [one.as_of for one in store.watermarks()] == [NOW + timedelta(minutes=2)]
    store.apply([batch(Position(25, zero.epoch), 41)])
    assert [one.as_of for one in store.watermarks()] == [NOW + timedelta(minutes=4)]


def test_what_two_processes_missed_of_each_other_is_settled_later(stores: Stores) -> None:
    store = stores.open()
    marks, zero = store.take("exchange.watermarks.v1", 0, "a", "id-w"), store.take(TOPIC, 0, "a", "id-1")
    store.apply([Batch("exchange.watermarks.v1", 0, marks.epoch, 0, 1, watermarks=[told(0, {0: 1})])])
    with store.engine.begin() as connection:  # as another process would have, unseen
        connection.execute(sa.text("UPDATE positions SET next = 2 WHERE topic = :topic"), {"topic": TOPIC})
    assert zero.offset == 0
    assert store.watermarks() == []
    store.settle()
    assert len(store.watermarks()) == 1
    store.settle()


# --- rejects ----------------------------------------------------------------------------------------------------------


def put(store: Store, *rejects: Reject) -> None:
    position = store.take("civil.rejects.v1", 0, "a", "id-r")
    store.apply(
        [Batch("civil.rejects.v1", 0, position.epoch, position.offset, position.offset + 1, rejects=list(rejects))]
    )


def test_a_reject_has_one_row_however_often_it_is_read(stores: Stores) -> None:
    store = stores.open()
    put(store, place(3), from_connector(3), place(3))
    put(store, place(3), from_connector(3))
    assert [one.id for one in store.list_rejects()] == ["civil/people/2/3", f"{TOPIC}/0/3"]


def test_the_payload_is_shown_only_where_it_is_asked_for(stores: Stores) -> None:
    store = stores.open()
    put(store, place(3))
    assert store.list_rejects()[0].reject == dataclasses.replace(place(3), payload=None)
    assert store.reject(f"{TOPIC}/0/3").reject.payload is None
    assert store.reject(f"{TOPIC}/0/3", reveal=True).reject == place(3)
    with pytest.raises(NotFound):
        store.reject("civil.person.v1/0/4")


def test_rejects_are_listed_newest_first_page_by_page(stores: Stores) -> None:
    store = stores.open()
    put(
        store, *(place(number) for number in range(7)), place(1, contract="civil.household", topic="civil.household.v1")
    )
    put(store, place(2, department="tax", contract="tax.person", topic="tax.person.v1"))
    seen: list[str] = []
    while page := store.list_rejects("civil", after=seen[-1] if seen else None, limit=3):
        seen += [one.id for one in page]
    assert seen == [f"{TOPIC}/0/{number}" for number in (6, 5, 4, 3, 2, 1)] + [
        "civil.household.v1/0/1",
        f"{TOPIC}/0/0",
    ]
    assert [one.id for one in store.list_rejects(contract="civil.household")] == ["civil.household.v1/0/1"]
    assert len(store.list_rejects()) == 9
    with pytest.raises(NotFound):
        store.list_rejects(after="civil.person.v1/0/99")


def test_a_replayed_reject_is_marked_until_it_is_rejected_again(stores: Stores) -> None:
    store = stores.open()
    put(store, from_connector(3))
    store.mark_replayed("civil/people/2/3")
    assert store.list_rejects()[0].replayed_at == NOW
    put(store, from_connector(3))
    assert store.list_rejects()[0].replayed_at == NOW, "a repeat"
    put(store, from_connector(3, at=NOW + timedelta(hours=1), reason="is still missing"))
    assert store.list_rejects()[0].replayed_at is None
    assert store.list_rejects()[0].reject.reason == "is still missing"
    with pytest.raises(NotFound):
        store.mark_replayed("civil/people/2/4")


def test_rejects_are_purged_by_age(stores: Stores) -> None:
    store = stores.open()
    put(store, place(1), place(2), place(3))
    assert store.purge_rejects(NOW + timedelta(seconds=3)) == 2
    assert [one.id for one in store.list_rejects()] == [f"{TOPIC}/0/3"]


def test_broken_text_does_not_stop_its_reject(stores: Stores) -> None:
    """U+0000 and a lone surrogate, which PostgreSQL and both drivers refuse (as JSON texts they have escapes)."""
    store = stores.open()
    put(store, place(1, payload='{"name":"a\ud800b\0"}', reason="not \ud800"), place(2))
    assert store.reject(f"{TOPIC}/0/1", reveal=True).reject.payload == '{"name":"a\\ud800b\\u0000"}'
    assert len(store.list_rejects()) == 2


# --- bundles ----------------------------------------------------------------------------------------------------------


def test_the_bundle_applied_last_is_the_newest(stores: Stores) -> None:
    store = stores.open()
    assert store.newest_bundle_version() is None
    store.save_bundle("v-b", b"\x00second")
    store.save_bundle("v-a", b"first")
    assert store.newest_bundle_version() == "v-a"
    store.save_bundle("v-b", b"\x00second")
    assert stores.open().newest_bundle_version() == "v-b"
    assert store.bundle("v-b") == b"\x00second"
    assert store.bundle("v-a") == b"first"
    with pytest.raises(NotFound):
        store.bundle("v-c")


def test_a_bundle_never_changes(stores: Stores) -> None:
    store = stores.open()
    store.save_bundle("v", b"body")
    with pytest.raises(PolicyRefused):
        store.save_bundle("v", b"another")
    assert store.bundle("v") == b"body"
