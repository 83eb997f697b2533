"""The first verb without any source: the cursor file, its owner, what counts as unchanged, what a new one learns."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.config import Instance
from exchange.contracts import Contract, frame, unframe
from exchange.errors import (
    BrokerUnavailable,
    CursorHeld,
    CursorUnavailable,
    NotFound,
    Rejected,
    SettingWrong,
    TooManyRejects,
    TopicChanged,
    UnknownSchema,
)
from exchange.publish import AGAIN, Batch, CursorFile, End, Keeps, Outcome, Row, Tolerance, read_status
from exchange.publish.deciding import Decider
from exchange.publish.encoding import Encoder, form, shape
from exchange.publish.entries import COUNT, SET_ASIDE, TABLES, Entries, Entry
from exchange.publish.plan import Marks
from exchange.publish.text import normal, normal_value
from exchange.records import Envelope, Message, Origin
from exchange.sqlite import dbapi2, writing
from exchange.subjects import parse
from tests.support.contracts import contract, field, schema
from tests.support.publishing import CRASHES, KEYS, NOW, NULLABLE_TEXT, Bench, Died, citizen

VERSIONED = contract(field("name", "string"), field("revision", "long"), version="revision")
NAMED = contract(field("name", "string"))


class Given:
    """A connector that gives the rows it is told to give: a complete reading in batches of two."""

    Settings = Instance

    def __init__(self, *rows: Row, keeps: Keeps = Keeps.KEYS, as_of: datetime = NOW, complete: bool = True) -> None:
        self.rows = rows
        self.keeps = keeps
        self.as_of = as_of
        self.complete = complete

    def check(self) -> Sequence[Any]:
        return ()

    def read(self, position: Mapping[str, str]) -> Iterator[Batch]:
        for start in range(0, len(self.rows), 2):
            yield Batch(self.rows[start : start + 2])
        if self.complete:
            yield Batch((), {"applied": "yes"}, End(self.as_of, whole=self.keeps is not Keeps.FLIGHT))

    def ack(self, position: Mapping[str, str | None]) -> None:
        pass

    def close(self) -> None:
        pass


def row(number: int, name: str = "甲某", **more: Any) -> Row:
    return Row({"citizen_id": citizen(number), "name": name, **more}, f"line {number}", f"place {number}")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path, NAMED)


# -- whose file it is --


def test_files_are_private_and_held_by_one_process(bench: Bench) -> None:
    with closing(CursorFile(bench.cursor)):
        with pytest.raises(CursorHeld, match="is running already"):
            CursorFile(bench.cursor)
        for file in bench.cursor.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    CursorFile(bench.cursor).close()
    with pytest.raises(SettingWrong, match="folder"):
        CursorFile(bench.cursor.parent / "nowhere" / "x.cursor")


class Full:
    """A connection whose transactions cannot be committed."""

    def __init__(self, db: Any) -> None:
        self._db = db

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)

    def execute(self, statement: str, *given: Any) -> Any:
        if statement == "COMMIT":
            raise dbapi2.OperationalError("database or disk is full")
        return self._db.execute(statement, *given)


@pytest.mark.parametrize("where", ["open_reading", "write", "acknowledge", "close_reading"])
def test_a_full_disk_passes_and_no_number_stands_for_two_values(
    bench: Bench, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in a reading that is: the next one of the same process goes on from what the file has."""
    with closing(CursorFile(bench.cursor)) as cursor:
        publishing = bench.open(cursor)

        def read(*rows: Row) -> Outcome:
            reading = publishing.reading()
            assert all(reading.follow(Given(*rows).read(publishing.position)))
            return reading.outcome

        def full(*given: Any, **more: Any) -> Any:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(cursor, "_db", Full(cursor._db))
                return genuine(*given, **more)

        assert read(row(1), row(2), row(3)).published == 3
        genuine = getattr(cursor, where)
        with monkeypatch.context() as patch:
            patch.setattr(cursor, where, full)
            with pytest.raises(CursorUnavailable, match="disk is full"):
                read(row(1, "another"), row(2), row(4))
        assert read(row(1, "a third"), row(2), row(4)).accounted
        assert read(row(1, "a third"), row(2), row(4)) == Outcome(read=3, unchanged=3)
    bench.check_numbers()
    assert {number: value["name"] for number, value in bench.facets().items()} == {
        "1": "a third", "2": "甲某", "4": "甲某"
    }  # fmt: skip


def test_a_file_that_the_disk_has_no_room_for_is_waited_for(bench: Bench) -> None:
    with closing(CursorFile(bench.cursor)) as cursor:
        publishing = bench.open(cursor)
        cursor._db.execute("PRAGMA max_page_count = 20")
        with pytest.raises(CursorUnavailable, match="disk is full"):
            list(publishing.reading().follow([Batch([row(number) for number in range(1, 900)])]))
        cursor._db.execute("PRAGMA max_page_count = 10000")
        list(publishing.reading().follow([Batch([row(number) for number in range(1, 900)])]))
    assert len(bench.deliveries()) == 899


def test_a_file_belongs_to_one_source_one_topic_and_one_secret(bench: Bench) -> None:
    bench.read(Given(row(1)))
    bench.source = "civil/other"
    with pytest.raises(SettingWrong, match="belongs to source civil/test, not civil/other"):
        bench.read(Given(row(1)))
    bench.source = "civil/test"
    bench.keeps = Keeps.ROWS
    with pytest.raises(SettingWrong, match="a `cursor` file of its own"):
        bench.read(Given(row(1)))


def test_a_topic_that_was_made_again_is_an_alarm(bench: Bench) -> None:
    bench.read(Given(row(1)))
    bench.broker.recreate(NAMED.topic)
    with pytest.raises(TopicChanged, match="remove the cursor file"):
        bench.read(Given(row(1)))
    bench.cursor.unlink()
    assert bench.read(Given(row(1))).published == 1


def test_only_the_owner_publishes_and_nobody_what_is_withheld(bench: Bench) -> None:
    bench.source = "tax/test"
    with pytest.raises(SettingWrong, match="which civil owns"):
        bench.read(Given())
    bench.contract = contract(sharing="withheld", reason="secret")
    bench.source = "civil/test"
    with pytest.raises(SettingWrong, match="withheld"):
        bench.read(Given())


# -- what is unchanged --


def test_what_is_only_said_of_a_schema_publishes_nothing_again(bench: Bench) -> None:
    bench.read(Given(row(1)))
    text = schema(field("name", "string"), fields={"name": {"level": 3}})
    text["doc"] = "Persons."
    bench.contract = Contract.from_text(json.dumps(text))
    assert bench.read(Given(row(1))) == Outcome(read=1, unchanged=1)
    assert len(bench.registry.texts) == 2


def test_another_field_publishes_every_row_under_the_new_schema(bench: Bench) -> None:
    bench.read(Given(row(1)))
    bench.contract = contract(field("name", "string"), field("phone", NULLABLE_TEXT, default=None))
    assert bench.read(Given(row(1))).published == 1
    assert bench.facets()["1"]["phone"] is None


def test_the_same_bytes_under_another_order_of_symbols_are_another_value() -> None:
    def of(*symbols: str) -> bytes:
        kind = {"type": "enum", "name": "Kind", "doc": "A kind.", "symbols": list(symbols)}
        return shape(json.dumps(schema(field("kind", kind))))

    assert of("a", "b") != of("b", "a")
    assert of("a", "b") == of("a", "b")


def test_a_deletion_carries_the_greatest_version_that_is_known(tmp_path: Path) -> None:
    bench = Bench(tmp_path, VERSIONED, keeps=Keeps.ROWS)
    bench.read(Given(row(1, revision=7), row(2, revision=4), keeps=Keeps.ROWS))
    gone = Row({"citizen_id": citizen(1), "revision": 9}, "", "place 1", deleted=True)
    older = Row({"citizen_id": citizen(2), "revision": 3}, "", "place 2", deleted=True)
    assert bench.read(Given(gone, older, keeps=Keeps.ROWS)).deleted == 2
    versions = {Envelope.read(d.headers).version for d in bench.deliveries() if d.value is None}
    assert versions == {9, 4}
    assert bench.read(Given(gone, keeps=Keeps.ROWS)) == Outcome(read=1, unchanged=1)


@pytest.mark.parametrize("keeps", [Keeps.ROWS, Keeps.KEYS])
def test_a_deletion_with_a_version_is_said_where_nothing_of_ours_stands(tmp_path: Path, keeps: Keeps) -> None:
    """What was said and deleted between two readings another source may say late: it must not stand then."""

    def gone(revision: int) -> Row:
        return Row({"citizen_id": citizen(1), "revision": revision}, "", "place 1", deleted=True)

    bench = Bench(tmp_path, VERSIONED, keeps=keeps)
    bench.read(Given(row(1, revision=1), keeps=keeps))
    for revision in (2, 4):
        assert bench.read(Given(gone(revision), keeps=keeps)).deleted == 1
        assert bench.read(Given(gone(revision), keeps=keeps)) == Outcome(read=1, unchanged=1)
    assert [Envelope.read(d.headers).version for d in bench.deliveries()] == [1, 2, 4]
    bench.crash(Given(gone(5), keeps=keeps), "stored")
    bench.read(Given(gone(5), keeps=keeps))
    bench.read(Given(gone(5), keeps=keeps))
    assert bench.sequences() == [1, 2, 3, 4, 4]
    assert bench.read(Given(row(1, revision=6), keeps=keeps)).published == 1
    assert bench.facets() == {"1": {"citizen_id": citizen(1), "name": "甲某", "revision": "6"}}


def test_a_deletion_that_nothing_stands_behind_is_not_said_under_the_key_of_another_row(tmp_path: Path) -> None:
    bench = Bench(tmp_path, VERSIONED, keeps=Keeps.ROWS)
    bench.read(Given(row(1, revision=1), keeps=Keeps.ROWS))
    other = Row({"citizen_id": citizen(1), "revision": 2}, "", "place 2", deleted=True)
    assert bench.read(Given(other, keeps=Keeps.ROWS)) == Outcome(read=1, unchanged=1)


@pytest.mark.parametrize("where", CRASHES)
def test_of_two_rows_under_one_key_the_one_that_stays_is_said_again_after_a_crash_too(
    tmp_path: Path, where: str
) -> None:
    bench = Bench(tmp_path, NAMED, keeps=Keeps.ROWS)
    one, other = row(1), replace(row(1), place="place 2")
    gone = replace(other, deleted=True)

    class Asked(Given):
        def read(self, position: Mapping[str, str]) -> Iterator[Batch]:
            if position.get(AGAIN):
                yield Batch([one], {AGAIN: None})
            yield from super().read(position)

    bench.read(Given(one, other, keeps=Keeps.ROWS))
    bench.crash(Given(gone, keeps=Keeps.ROWS), where)
    bench.read(Asked(keeps=Keeps.ROWS))  # the crash's batch may not be read again
    bench.read(Asked(gone, keeps=Keeps.ROWS))
    bench.read(Asked(keeps=Keeps.ROWS))
    assert bench.facets() == {"1": {"citizen_id": citizen(1), "name": "甲某"}}


def test_a_snapshot_that_no_longer_has_a_deleted_row_forgets_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, VERSIONED)
    gone = Row({"citizen_id": citizen(1), "revision": 2}, "", deleted=True)
    bench.read(Given(gone, row(2, revision=1)))
    assert bench.read(Given(row(2, revision=1))) == Outcome(read=1, unchanged=1)
    assert bench.read(Given(gone, row(2, revision=1))).deleted == 1


# -- readings --


def test_a_reading_that_breaks_off_deletes_nothing_and_has_no_watermark(bench: Bench) -> None:
    bench.read(Given(row(1), row(2)))
    with closing(bench.open()) as publishing:
        reading = publishing.reading()
        assert len(list(reading.follow(Given(row(1), complete=False).read({})))) == 1
        reading.close("stopped")
    assert set(bench.facets()) == {"1", "2"}
    assert len(bench.watermarks()) == 1
    status = read_status(bench.cursor)
    assert [(past.as_of is None, past.note) for past in status.readings] == [(True, "stopped"), (False, None)]


def test_over_the_limit_a_snapshot_does_not_count_as_read(bench: Bench) -> None:
    bench.read(Given(row(1), row(2)))
    bench.tolerance = Tolerance(0.3, 1)
    bad = Row({"citizen_id": "x"}, "line 2", rejected=Rejected("bad", "name"))
    with pytest.raises(TooManyRejects, match="nothing was deleted and the snapshot does not count as read"):
        bench.read(Given(row(1), bad))
    assert set(bench.facets()) == {"1", "2"}
    with closing(CursorFile(bench.cursor)) as cursor:
        assert cursor.position == {"applied": "yes"}  # of the first reading
    with pytest.raises(TooManyRejects):  # again, for the file is the same
        bench.read(Given(row(1), bad))
    assert len(bench.rejects()) == 1  # and its rejects were told


@pytest.mark.parametrize(("rejected", "read", "exceeded"), [(2, 2, False), (3, 4, True), (3, 30, False), (4, 30, True)])
def test_the_limit_is_a_share_once_there_are_a_few(rejected: int, read: int, exceeded: bool) -> None:
    assert Tolerance(0.1, 3).exceeded(rejected, read) is exceeded


def test_the_status_says_what_became_of_the_rows(bench: Bench) -> None:
    with pytest.raises(NotFound, match="never run"):
        read_status(bench.cursor)
    bench.read(Given(row(1), row(1, "乙某"), row(2)))
    bench.crash(Given(row(3)), "stored")
    status = read_status(bench.cursor)
    assert (status.source, status.topic, status.epoch) == ("civil/test", NAMED.topic, 1)
    assert (status.entries, status.doubtful) == (3, 1)
    assert status.complete is not None
    assert str(status.complete.outcome) == "3 rows in = 2 published + 0 unchanged + 0 deleted + 1 rejected"
    assert status.document()["readings"][1]["outcome"]["rejected"] == 1


PLACES = ["a", "b", "k1.x", "k1.x.y", "nul\0one", "nul\0two", "甲"]
ENTRIES = st.lists(
    st.builds(
        Entry,
        st.sampled_from(PLACES),
        st.sampled_from(["", "k1.x"]),
        st.integers(1, 9),
        st.none() | st.binary(max_size=16),
        st.integers(1, 1 << 62),
        st.none() | st.integers(-(1 << 62), 1 << 62),
        st.booleans(),
        st.none() | st.binary(max_size=16),
    ),
    max_size=5,
)
STEPS = st.lists(st.tuples(st.sampled_from(["put", "put", "put", "forget", "acknowledged", "fails", "open"]), ENTRIES))


class Held:
    """Entries in a database of their own."""

    def __init__(self) -> None:
        self.db: Any = dbapi2.connect(":memory:", isolation_level=None)
        self.db.executescript(TABLES)
        self.open()

    def open(self) -> None:
        self.entries = Entries(self.db, lambda: writing(self.db))
        self.entries.recall()

    def do(self, step: str, entries: list[Entry], *, fails: bool = False) -> None:
        with suppress(Died), writing(self.db):
            getattr(self.entries, step)(entries)
            if fails:
                raise Died
        if fails:
            self.entries.recall()

    def seen(self) -> Any:
        count = self.db.execute(COUNT, (1 << 61, SET_ASIDE)).fetchone()
        return count, {place: set(told) for place, told in self.entries.at(PLACES).items() if told}


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_entries_that_are_put_where_they_belong_later_are_what_they_would_be_at_once(
    steps: list[tuple[str, list[Entry]]],
) -> None:
    late, plain = Held(), Held()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("exchange.publish.entries._MOST_FRESH", 8)
        for step, entries in steps:
            if step == "open":
                late.open()
            elif step == "fails":
                late.do("put", entries, fails=True)
            else:
                late.do(step, entries)
                plain.do("put_plainly" if step == "put" else step, entries)
            assert late.seen() == plain.seen()
    assert [*late.entries.rest(lambda id_: id_ == 3, "k")] == [*plain.entries.rest(lambda id_: id_ == 3, "k")]
    rest = [entry for part in late.entries.rest(lambda id_: id_ == 3, size=2) for entry in part]
    everything = [entry for part in late.entries.rest(lambda _: False) for entry in part]
    assert rest == [entry for entry in everything if entry.id != 3]


def test_a_file_without_the_table_of_fresh_entries_gets_it(bench: Bench) -> None:
    bench.read(Given(row(1)))
    with closing(dbapi2.connect(bench.cursor)) as file:
        file.execute("DROP TABLE fresh")
        file.execute("PRAGMA user_version = 1")
    assert bench.read(Given(row(1), row(2))) == Outcome(read=2, published=1, unchanged=1)


@pytest.mark.parametrize("keeps", Keeps)
def test_a_row_of_which_nothing_is_known_is_told_as_any_other(
    tmp_path: Path, keeps: Keeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row(1), row(2), row(1), row(2, "乙某"), row(3), row(4)]
    told = []
    for name in ("quick", "plain"):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name, NAMED, keeps=keeps)
        outcomes = [bench.read(Given(*rows[:count], keeps=keeps)) for count in (4, 6)]
        with closing(CursorFile(bench.cursor)) as cursor:
            entries = list(cursor.rows.rest(lambda _: False))
        told.append((outcomes, [(d.key, d.value, d.headers) for d in bench.deliveries()], entries))
        monkeypatch.setattr(Decider, "_tell_new", Decider._tell)
    assert told[0] == told[1]
    assert len(told[0][1]) >= 4


def test_a_file_at_rest_keeps_no_large_log(tmp_path: Path) -> None:
    path = tmp_path / "cursor.db"
    log = path.with_name("cursor.db-wal")
    with closing(CursorFile(path)) as cursor:
        cursor.open_reading(NOW)
        entries = [Entry(f"k1.{number:022}", "", cursor.new_id(), bytes(16), number, None) for number in range(20_000)]
        cursor.write(entries, [], 20_000)
        assert log.stat().st_size > 1024 * 1024
        cursor.close_reading(NOW, as_of=NOW, note=None)
        assert log.stat().st_size < 64 * 1024
        assert read_status(path).entries == 20_000


def test_waiting_for_the_broker_ends_when_the_process_is_stopped(bench: Bench) -> None:
    bench.patience = 3
    bench.broker.faults.refuse(100)
    with pytest.raises(BrokerUnavailable):
        bench.read(Given(row(1)))
    assert bench.waits == [0.1, 0.2, 0.4, 0.8]


# -- learning --


def test_a_new_file_learns_its_own_keys_only(bench: Bench) -> None:
    bench.read(Given(row(1), row(2), row(3)))
    bench.read(Given(row(1), row(2)))
    other = Bench(bench.cursor.parent, NAMED, source="civil/other")
    other.cursor = bench.cursor.with_name("other.cursor")
    other.broker, other.registry = bench.broker, bench.registry
    other.read(Given(row(4), row(5)))
    bench.cursor.unlink()
    assert bench.read(Given(row(1), row(4))) == Outcome(read=2, published=1, unchanged=1, gone=1)
    facets = {Envelope.read(d.headers).origin.source for d in bench.deliveries() if d.value is None}
    assert facets == {"civil/test"}  # what others said is not ours to delete


def test_an_epoch_never_comes_again_not_even_one_in_which_only_rejects_were_told(bench: Bench) -> None:
    bad = Row({}, "line 1", rejected=Rejected("bad"))
    epochs = []
    for _ in range(3):
        bench.read(Given(bad))
        epochs.append(max(reject.origin.epoch for reject in bench.rejects() if reject.origin))
        bench.cursor.unlink()
    assert epochs == [1, 2, 3]
    bench.read(Given())
    bench.cursor.unlink()
    bench.read(Given(row(1)))
    assert Envelope.read(bench.deliveries()[0].headers).origin.epoch == 5  # the watermark alone told of 4


def test_what_was_written_under_a_schema_that_nobody_knows_is_published_again(bench: Bench) -> None:
    bench.read(Given(row(1)))
    bench.cursor.unlink()
    bench.registry.texts[0] = ("lost", "{}")
    bench.registry.schema = _unknown  # type: ignore[method-assign]
    with closing(bench.open()) as publishing:
        reading = publishing.reading()
        assert len(list(reading.follow(Given(row(1)).read({})))) == 2
    assert reading.outcome.published == 1


def _unknown(schema_id: int) -> str:
    raise UnknownSchema(str(schema_id))


def test_what_strangers_wrote_to_the_topic_disturbs_nobody(bench: Bench) -> None:
    bench.read(Given(row(1)))
    publisher = bench.broker.publisher()
    good = Envelope(Origin("civil/test", 1, 77), "x", NOW).headers()
    publisher.publish(
        NAMED.topic, [Message(b"k", b"no avro", good), Message(b"k2", None, {}), Message(b"k3", b"", good)]
    )
    bench.cursor.unlink()
    with closing(bench.open()) as publishing:
        assert publishing.cursor.epoch == 2


def test_a_value_under_a_foreign_key_is_no_row_of_ours_that_is_gone(bench: Bench) -> None:
    bench.read(Given(row(1)))
    (ours,) = bench.deliveries()
    other = KEYS.subject(parse("cn.ric", citizen(2))).encode()
    assert ours.value is not None
    spoilt = ours.value + b"\0"
    for number, value in enumerate((ours.value, spoilt), 77):
        headers = Envelope(Origin("civil/test", 1, number), NAMED.topic, NOW).headers()
        bench.broker.publisher().publish(NAMED.topic, [Message(other, value, headers)])
    bench.cursor.unlink()
    assert bench.read(Given(row(1))) == Outcome(read=1, unchanged=1)
    assert [delivery.key for delivery in bench.deliveries() if delivery.value is None] == []


def test_a_datum_of_another_contract_is_no_row_of_ours_that_is_gone(bench: Bench) -> None:
    """Without a record key the message key does not tell which contract a datum is of."""
    bench.read(Given(row(1)))
    other = contract(field("name", "string"), name="Pensioner")
    schema_id = bench.registry.register(other.registry_subject, other.schema_text)
    record = other.check({"citizen_id": citizen(2), "name": "乙"})
    headers = Envelope(Origin("civil/test", 1, 77), NAMED.topic, NOW).headers()
    stray = Message(KEYS.message_key(record.subject, other.name, ()), frame(schema_id, other.encode(record)), headers)
    bench.broker.publisher().publish(NAMED.topic, [stray])
    bench.cursor.unlink()
    assert bench.read(Given(row(1))) == Outcome(read=1, unchanged=1)
    assert [delivery.key for delivery in bench.deliveries() if delivery.value is None] == []


def test_a_value_under_a_made_up_schema_id_is_no_row_of_ours_that_is_gone(bench: Bench) -> None:
    bench.read(Given(row(1)))
    (ours,) = bench.deliveries()
    assert ours.value is not None
    other = KEYS.subject(parse("cn.ric", citizen(2))).encode()
    headers = Envelope(Origin("civil/test", 1, 77), NAMED.topic, NOW).headers()
    made_up = Message(other, frame(2**31, unframe(ours.value)[1]), headers)
    bench.broker.publisher().publish(NAMED.topic, [made_up])
    bench.cursor.unlink()
    assert bench.read(Given(row(1))) == Outcome(read=1, unchanged=1)
    assert [delivery.key for delivery in bench.deliveries() if delivery.value is None] == []


def test_a_key_that_no_connector_makes_is_passed_over_and_told_once(bench: Bench) -> None:
    bench.read(Given(row(1)))
    foreign = [
        Message(key, b"x", Envelope(Origin("civil/test", 1, 77 + number), "x", NOW).headers())
        for number, key in enumerate(("k1.\u94a5".encode(), b"\xff\xfe", b""))
    ]
    bench.broker._append(bench.broker._topic(NAMED.topic), foreign)  # what a producer that is not ours may write
    bench.cursor.unlink()
    with structlog.testing.capture_logs() as logged:
        assert bench.read(Given()) == Outcome(gone=1)
    told = [line for line in logged if "none that a connector writes" in line["event"]]
    place = next(d for d in bench.deliveries() if d.key in {m.key for m in foreign})
    assert [(line["topic"], line["partition"], line["offset"]) for line in told] == [
        (NAMED.topic, place.partition, place.offset)
    ]


def test_a_file_of_any_name_can_be_named_in_a_reject(bench: Bench) -> None:
    bad = Rejected("no column 'na\x9bme'", "name")
    bench.read(Given(Row({}, "people\x1b[2J.csv line 1", rejected=bad), Row({}, "x" * 2_000, rejected=bad)))
    (place, field, reason), (long, _, _) = bench.reasons()
    assert (place, field, reason) == ("people\\u001b[2J.csv line 1", "name", "no column 'na\\u009bme'")
    assert len(long) == 1_000


# -- what was set aside and replayed --


def bad(number: int, place: int | None = None) -> Row:
    """A row that is rejected now and would keep the contract by the time it is replayed."""
    where = f"place {place or number}"
    return Row({"citizen_id": citizen(number), "name": "乙某"}, where, where, rejected=Rejected("not a name"))


def standing(bench: Bench) -> dict[str, str]:
    return {number: value["name"] for number, value in bench.facets().items()}


def test_a_replayed_row_that_is_no_longer_in_the_snapshot_is_deleted(bench: Bench) -> None:
    bench.read(Given(row(1), bad(2)))
    bench.replay()
    assert bench.read(Given(row(1), bad(2))).rejected == 1
    assert standing(bench) == {"1": "甲某", "2": "乙某"}
    with closing(bench.open()) as publishing:  # an incomplete reading proves nothing
        list(publishing.reading().follow([Batch((row(1),))]))
    assert bench.read(Given(row(1))) == Outcome(read=1, unchanged=1)  # no record of a row went
    assert standing(bench) == {"1": "甲某"}
    assert bench.read(Given(row(1))) == Outcome(read=1, unchanged=1)
    assert sum(delivery.value is None for delivery in bench.deliveries()) == 1


def test_a_row_that_is_replayed_after_it_has_left_the_snapshot_does_not_come_back(bench: Bench) -> None:
    bench.read(Given(row(1), bad(2)))
    assert read_status(bench.cursor).entries == 1
    bench.read(Given(row(1)))
    bench.replay()
    assert standing(bench) == {"1": "甲某"}


def test_a_replayed_row_that_is_mended_at_the_source_is_an_ordinary_row(bench: Bench) -> None:
    bench.read(Given(bad(1)))
    bench.replay()
    assert bench.read(Given(row(1))) == Outcome(read=1, published=1)
    assert standing(bench) == {"1": "甲某"}
    assert bench.read(Given()) == Outcome(gone=1)
    assert standing(bench) == {}


@pytest.mark.parametrize("keeps", [Keeps.KEYS, Keeps.ROWS])
def test_a_row_that_is_again_what_it_was_replaces_what_was_replayed_meanwhile(bench: Bench, keeps: Keeps) -> None:
    bench.keeps = keeps
    bench.read(Given(row(1), keeps=keeps))
    bench.read(Given(bad(1), keeps=keeps))
    bench.replay()
    assert standing(bench) == {"1": "乙某"}
    assert bench.read(Given(row(1), keeps=keeps)).published == 1
    assert standing(bench) == {"1": "甲某"}
    assert bench.read(Given(row(1), keeps=keeps)).published == 0


@pytest.mark.parametrize("before", [[], [row(1, revision=5)]])
def test_what_was_replayed_is_deleted_whatever_its_version(tmp_path: Path, before: list[Row]) -> None:
    bench = Bench(tmp_path, VERSIONED)
    bench.read(Given(*before))
    for revision in (6, 7):
        bench.read(Given(replace(row(1, revision=revision), rejected=Rejected("not a name"))))
    bench.replay()
    bench.read(Given())
    assert Envelope.read(bench.deliveries()[-1].headers).version == 7


@pytest.mark.parametrize("replayed", [True, False])
@pytest.mark.parametrize(("mended", "stands"), [(row(2), {"2": "甲某"}), (row(1), {})])
def test_a_replayed_row_of_a_table_that_leaves_its_key_is_deleted_there(
    bench: Bench, mended: Row, stands: dict[str, str], replayed: bool
) -> None:
    bench.keeps = Keeps.ROWS
    bench.read(Given(bad(1), keeps=Keeps.ROWS))
    if replayed:
        bench.replay()
    moved = replace(mended, place="place 1", deleted=not stands)
    bench.read(Given(moved, keeps=Keeps.ROWS))
    assert standing(bench) == stands
    bench.replay()
    assert standing(bench) == stands


def test_a_row_that_was_set_aside_under_another_rows_key_takes_nothing_away(bench: Bench) -> None:
    bench.keeps = Keeps.ROWS
    bench.read(Given(row(2), bad(2, place=1), keeps=Keeps.ROWS))
    bench.read(Given(replace(row(1), place="place 1"), keeps=Keeps.ROWS))
    assert standing(bench) == {"1": "甲某", "2": "甲某"}
    assert all(delivery.value is not None for delivery in bench.deliveries())
    bench.replay()
    with closing(bench.open()) as publishing:
        assert publishing.position[AGAIN] == "place 2"  # whatever was replayed under its key, it is said again
    bench.read(Given(row(2), keeps=Keeps.ROWS))
    assert standing(bench) == {"1": "甲某", "2": "甲某"}
    bench.read(Given(bad(2, place=1), keeps=Keeps.ROWS))
    bench.read(Given(replace(row(2), deleted=True), keeps=Keeps.ROWS))
    assert standing(bench) == {"1": "甲某"}  # and it keeps nothing alive


# -- values --


def test_headers_are_cloudevents_in_binary_mode(bench: Bench) -> None:
    bench.read(Given(row(1)))
    headers = bench.deliveries()[0].headers
    assert headers == {
        "ce_specversion": b"1.0", "ce_id": b"00000000000000000001", "ce_source": b"civil/test/1",
        "ce_type": b"civil.person.v1", "ce_time": b"2026-06-01T12:00:00.000Z", "ce_sequence": b"00000000000000000001",
        "content-type": b"application/avro",
    }  # fmt: skip
    envelope = Envelope(Origin("civil/test", 1, 1), "civil.person.v1", NOW, 7, "00-0af7651916cd43dd8448eb211c80319c-1")
    assert Envelope.read(envelope.headers()) == envelope


def test_a_payload_takes_the_forms_of_a_push_so_that_it_can_be_tried_again() -> None:
    made = contract(
        field("count", "long"), field("at", {"type": "long", "logicalType": "timestamp-micros"}),
        field("day", {"type": "int", "logicalType": "date"}), field("raw", "bytes"), field("name", "string"),
    )  # fmt: skip
    value = {
        "citizen_id": citizen(1), "count": 5, "at": datetime(2026, 3, 1, 1, 2, 3, 45, tzinfo=UTC),
        "day": datetime(2026, 3, 1, tzinfo=UTC).date(), "raw": b"\xff", "name": "甲某",
    }  # fmt: skip
    payload = Encoder(made, KEYS, 1).payload(value)
    assert made.from_json(json.loads(str(payload))) == value
    assert json.loads(str(Encoder(made, KEYS, 1).payload({"name": "a\ud800", "day": "32.1.2026"}))) == {
        "name": "a?", "day": "32.1.2026"
    }  # fmt: skip


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(), st.lists))
def test_any_value_has_a_form_that_is_json(value: Any) -> None:
    Encoder(NAMED, KEYS, 1).payload({"name": value})
    json.dumps(form(value), allow_nan=False)


@given(st.text())
def test_one_spelling_is_one_spelling(text: str) -> None:
    assert normal(normal(text)) == normal(text)
    assert normal_value({"a": text, "b": [text, {"c": text}]}) == {
        "a": normal(text),
        "b": [normal(text), {"c": normal(text)}],
    }
    assert normal_value({"a": text, "b": "丙"})["a"] == normal(text)


@given(st.sets(st.integers(0, 100_000), max_size=50), st.integers(0, 100_000))
def test_marks_are_a_set(numbers: set[int], other: int) -> None:
    marks = Marks()
    for number in numbers:
        marks.add(number)
    assert all(number in marks for number in numbers)
    assert (other in marks) == (other in numbers)


def test_time_passes_between_readings_and_the_watermark_goes_with_it(bench: Bench) -> None:
    bench.read(Given(row(1), as_of=NOW))
    bench.read(Given(row(1), as_of=NOW + timedelta(hours=1)))
    assert [watermark.as_of for watermark in bench.watermarks()] == [NOW, NOW + timedelta(hours=1)]
