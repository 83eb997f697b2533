"""One suite over every connector: what a department's rows become in the topic, through changes, crashes and loss.

A new kind of source is one more parameter here. What a source cannot do (a file to which lines are only added cannot
correct a number) is said in its class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from exchange.errors import TooManyRejects
from exchange.publish import Keeps, Outcome, Tolerance
from exchange.records import Envelope
from tests.support.publishing import CRASHES, Bench, citizen
from tests.support.sources import AvroInbox, CsvAppend, CsvSnapshot, JsonInbox, People, SqlPeople

KINDS = [
    "csv snapshot",
    "csv append",
    "sql sqlite",
    "kafka avro",
    "kafka json",
    pytest.param("sql postgres", marks=pytest.mark.services),
]


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[People]:
    """A source with its bench; nobody is in it yet."""
    bench = Bench(tmp_path)
    match request.param:
        case "csv snapshot":
            made: People = CsvSnapshot(tmp_path, bench)
        case "csv append":
            made = CsvAppend(tmp_path, bench)
        case "kafka avro":
            made = AvroInbox(tmp_path, bench)
        case "kafka json":
            made = JsonInbox(tmp_path, bench)
        case "sql sqlite":
            made = SqlPeople(tmp_path, bench)
        case _:
            fresh: Callable[[], str] = request.getfixturevalue("fresh_postgres")
            made = SqlPeople(tmp_path, bench, fresh())
            bench.now = _present()
    bench.keeps = made.keeps
    yield made
    if isinstance(made, SqlPeople):
        made.engine.dispose()


def _present() -> datetime:
    """A server's clock cannot be set: the bench goes by the real time."""
    now = datetime.now(UTC)
    return now.replace(microsecond=now.microsecond // 1000 * 1000) - timedelta(minutes=10)


def read(source: People) -> Outcome:
    connector = source.connector()
    try:
        return source.bench.read(connector)
    finally:
        connector.close()


def people(source: People, *numbers: int) -> None:
    for number in numbers:
        source.put(number)
    source.commit()


def standing(source: People) -> set[int]:
    return {int(number) for number in source.bench.facets()}


def test_every_row_is_published_with_key_headers_and_number(source: People) -> None:
    people(source, *range(1, 9))
    outcome = read(source)
    assert outcome == Outcome(read=8, published=8)
    bench = source.bench
    assert standing(source) == set(range(1, 9))
    assert bench.facets()["3"]["citizen_id"] == citizen(3)
    assert sorted(bench.sequences()) == list(range(1, 9))
    envelope = Envelope.read(bench.deliveries()[0].headers)
    assert envelope.origin.source == "civil/test"
    assert envelope.origin.epoch == 1
    assert envelope.event_time in {row["updated_at"] for row in source.rows.values()}


def test_the_watermark_comes_after_every_reading_and_names_the_last_offsets(source: People) -> None:
    people(source, 1, 2)
    read(source)
    last = {delivery.partition: delivery.offset for delivery in source.bench.deliveries()}
    first = source.bench.watermarks()[-1]
    assert (first.contract, first.source, first.epoch) == ("civil.person", "civil/test", 1)
    assert dict(first.offsets) == last
    read(source)
    assert len(source.bench.watermarks()) == 2
    assert source.bench.watermarks()[-1].as_of >= first.as_of


def test_what_is_unchanged_is_not_published_again(source: People) -> None:
    people(source, 1, 2, 3, 4)
    read(source)
    outcome = read(source)
    assert outcome.published == 0
    source.bench.passes(5)
    source.put(3, name="乙某")
    source.commit()
    outcome = read(source)
    assert outcome.published == 1
    assert len(source.bench.deliveries()) == 5
    assert source.bench.facets()["3"]["name"] == "乙某"


def test_a_row_that_goes_is_deleted(source: People) -> None:
    people(source, 1, 2, 3)
    read(source)
    source.bench.passes(5)
    source.remove(2)
    source.commit()
    outcome = read(source)
    assert (outcome.gone if source.deletes_by_absence else outcome.deleted) == 1
    assert standing(source) == {1, 3}
    assert read(source).published == 0


def test_a_row_that_comes_back_is_published_again(source: People) -> None:
    people(source, 1, 2)
    read(source)
    source.bench.passes(5)
    kept = dict(source.rows[2])
    source.remove(2)
    source.commit()
    read(source)
    source.bench.passes(5)
    source.rows[2] = kept
    source.put(2)
    source.commit()
    assert read(source).published == 1
    assert standing(source) == {1, 2}


def test_a_corrected_number_leaves_nothing_under_the_old_one(source: People) -> None:
    if source.keeps is Keeps.FLIGHT:
        pytest.skip("a file to which lines are only added does not say which row a line corrects")
    people(source, 1, 2)
    read(source)
    source.bench.passes(5)
    source.rename(2, to=7)
    source.commit()
    read(source)
    assert standing(source) == {1, 7}
    assert read(source).published == 0


@pytest.mark.parametrize("where", CRASHES)
@pytest.mark.parametrize("batch", [1, 2])
def test_a_crash_leads_to_the_same_topic(source: People, where: str, batch: int) -> None:
    people(source, *range(1, 8))
    source.bench.crash(source.connector(), where, batch)
    read(source)
    assert standing(source) == set(range(1, 8))
    told = source.bench.sequences()
    assert set(told) == set(range(1, 8))  # a repeat carries its old number
    assert read(source).published == 0


@pytest.mark.parametrize("where", CRASHES)
def test_a_crash_in_the_middle_of_a_change(source: People, where: str) -> None:
    people(source, 1, 2, 3, 4, 5)
    read(source)
    source.bench.passes(5)
    source.put(4, name="乙某")
    if source.keeps is not Keeps.FLIGHT:
        source.rename(2, to=9)
    source.remove(5)
    source.commit()
    source.bench.crash(source.connector(batch_size=10), where)
    read(source)
    assert standing(source) == ({1, 2, 3, 4} if source.keeps is Keeps.FLIGHT else {1, 3, 4, 9})
    assert source.bench.facets()["4"]["name"] == "乙某"
    assert read(source).published == 0


@pytest.mark.parametrize("where", CRASHES)
def test_a_row_that_changes_after_the_crash_gets_a_new_number(source: People, where: str) -> None:
    people(source, 1, 2)
    source.bench.crash(source.connector(), where)
    source.bench.passes(5)
    source.put(2, name="乙某")
    source.commit()
    read(source)
    assert source.bench.facets()["2"]["name"] == "乙某"
    assert source.bench.facets()["1"]["name"] == "甲某"


def test_rejects_are_set_aside_with_place_and_reason_and_never_stop_the_good_ones(source: People) -> None:
    people(source, 1, 2)
    source.spoil(3)
    people(source, 4)
    outcome = read(source)
    assert outcome == Outcome(read=4, published=3, rejected=1)
    assert standing(source) == {1, 2, 4}
    (place, field, reason), *rest = source.bench.reasons()
    assert not rest
    assert field == "name"
    assert citizen(3) not in place + reason
    payload = source.bench.rejects()[0].payload
    assert citizen(3) in str(payload)


def test_a_rejected_row_leaves_the_earlier_record(source: People) -> None:
    people(source, 1, 2, 3)
    read(source)
    source.bench.passes(5)
    source.spoil(2)
    source.commit()
    outcome = read(source)
    assert outcome.rejected == 1
    assert standing(source) == {1, 2, 3}
    source.bench.passes(5)
    source.put(2, name="乙某")
    source.commit()
    read(source)
    assert source.bench.facets()["2"]["name"] == "乙某"


@pytest.mark.parametrize("where", CRASHES)
def test_a_reject_that_is_repeated_carries_its_old_number(source: People, where: str) -> None:
    source.put(1)
    source.spoil(2)
    source.commit()
    source.bench.crash(source.connector(), where)
    read(source)
    assert len(source.bench.reasons()) == 1
    assert len({reject.origin for reject in source.bench.rejects()}) == 1


def test_a_reject_is_told_once(source: People) -> None:
    people(source, 1, 2)
    source.spoil(3)
    source.commit()
    read(source)
    read(source)
    read(source)
    assert len(source.bench.rejects()) == 1


def test_too_many_rejects_stop_the_connector_without_losing_the_good_rows(source: People) -> None:
    source.bench.tolerance = Tolerance(0.5, 3)
    for number in (1, 2, 3):
        source.spoil(number)
    people(source, 4)
    with pytest.raises(TooManyRejects, match="3 of 4 rows"):
        read(source)
    assert standing(source) == {4}
    assert source.bench.watermarks() == []


def test_a_lost_cursor_file_is_rebuilt_from_the_topic(source: People) -> None:
    people(source, 1, 2, 3, 4)
    source.spoil(5)
    source.commit()
    read(source)
    source.bench.cursor.unlink()
    source.bench.passes(5)
    source.put(3, name="乙某")
    source.remove(4)
    source.commit()
    outcome = read(source)
    assert standing(source) == {1, 2, 3}
    assert source.bench.facets()["3"]["name"] == "乙某"
    epochs = {Envelope.read(delivery.headers).origin.epoch for delivery in source.bench.deliveries()}
    assert epochs == {1, 2}
    if not source.repeats:
        assert outcome.published == 1  # what stands in the topic already is not said again
    assert read(source).published == 0


def test_a_correction_while_the_cursor_file_was_lost_leaves_nothing_under_the_old_key(source: People) -> None:
    if source.keeps is Keeps.FLIGHT:
        pytest.skip("a file to which lines are only added does not say which row a line corrects")
    people(source, 1, 2)
    read(source)
    source.bench.cursor.unlink()
    source.bench.passes(5)
    source.rename(2, to=6)
    source.commit()
    read(source)
    assert standing(source) == {1, 6}


def test_an_empty_source_is_a_complete_reading(source: People) -> None:
    if source.keeps is Keeps.KEYS:
        source.put(1)
        source.remove(1)
    source.commit()
    assert read(source) == Outcome()
    assert len(source.bench.watermarks()) == 1


def test_the_broker_may_be_away_for_a_while(source: People) -> None:
    people(source, 1, 2)
    source.bench.patience = 5
    connector = source.connector()
    source.bench.broker.faults.refuse(2)
    with closing(source.bench.open()) as publishing:
        reading = publishing.reading()
        assert list(reading.follow(connector.read(publishing.position)))
    connector.close()
    assert standing(source) == {1, 2}
    assert source.bench.waits[:2] == [0.1, 0.2]
