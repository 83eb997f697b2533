"""Files over the days: still growing, delivered again, several together, appended to, gone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from connectors.mapping import Columns
from connectors.protocol import NotReady
from exchange.errors import SourceRefused
from exchange.publish import Batch, Keeps, Outcome
from exchange.records import Envelope
from tests.support.contracts import contract, field
from tests.support.desk import HEADER, TIME, Desk, line
from tests.support.publishing import MILLIS, NULLABLE_TEXT, citizen


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_file_that_still_grows_is_not_read(desk: Desk) -> None:
    file = desk.write(HEADER + line(1), age=0.5)
    connector = desk.connector()
    with pytest.raises(NotReady, match="still grows"):
        list(connector.read({}))
    desk.bench.passes(1)
    file.write_text(HEADER + line(1) + line(2))
    desk.age(file, 100)  # a copy that keeps the old time is still seen to change
    with pytest.raises(NotReady, match="still grows"):
        list(connector.read({}))
    desk.bench.passes(2)
    assert sum(len(batch.rows) for batch in connector.read({})) == 2


def test_no_file_is_nothing_to_read_and_no_empty_snapshot(desk: Desk) -> None:
    with pytest.raises(NotReady, match="is there yet"):
        list(desk.connector().read({}))


def test_a_file_that_changes_while_it_is_read_spoils_the_snapshot(desk: Desk) -> None:
    file = desk.write(HEADER + line(1) + line(2))
    desk.read()
    desk.write(HEADER + line(2) + line(3))
    batches: Iterator[Batch] = desk.connector(batch_size=1).read({})
    next(batches)
    file.write_text(HEADER)
    with pytest.raises(NotReady, match="changed while it was read"):
        list(batches)
    assert set(desk.names()) == {"1", "2"}


def test_known_bytes_are_known_under_any_name_and_other_bytes_under_the_same_name_are_new(desk: Desk) -> None:
    settings: dict[str, Any] = {"path": "*.csv", "mode": "append"}
    monday, tuesday = HEADER + line(1) + line(2), HEADER + line(3) + line(4)
    desk.write(monday)
    assert desk.read(**settings).published == 2
    desk.write(tuesday)
    assert desk.read(**settings).published == 2
    desk.write(monday, "again.csv")
    assert desk.read(**settings) == Outcome()
    desk.age(desk.folder / "again.csv", 30)
    assert desk.read(**settings) == Outcome()


def test_a_snapshot_may_go_back_to_an_older_state(desk: Desk) -> None:
    monday, tuesday = HEADER + line(1) + line(2), HEADER + line(1, "乙某") + line(3)
    for content, standing in ((monday, {"1", "2"}), (tuesday, {"1", "3"}), (monday, {"1", "2"})):
        desk.write(content)
        desk.read()
        assert set(desk.names()) == standing
    assert desk.names()["1"] == "甲某"
    file = desk.folder / "people.csv"
    desk.age(file, 20)
    assert desk.read() == Outcome()  # only the time changed
    assert desk.bench.watermarks()[-1].as_of == desk.bench.now - timedelta(seconds=20)


def test_another_mapping_makes_known_bytes_new(desk: Desk) -> None:
    desk.write("citizen_id,name,address,updated_at,other\r\n" + line(1).rstrip() + ",丁某\r\n")
    desk.read()
    assert desk.read(mapping={"name": "other"}).published == 1
    assert desk.names() == {"1": "丁某"}


def test_several_files_are_one_snapshot(desk: Desk) -> None:
    desk.write(HEADER + line(1) + line(2), "people-a.csv")
    desk.write(HEADER + line(3), "people-b.csv", age=90)
    settings: dict[str, Any] = {"path": "people-*.csv"}
    assert desk.read(**settings).published == 3
    assert desk.bench.watermarks()[-1].as_of == desk.bench.now - timedelta(seconds=90)
    desk.write(HEADER + line(1), "people-a.csv")
    assert desk.read(**settings).gone == 1
    assert set(desk.names()) == {"1", "3"}
    assert desk.read(files="newest", **settings).gone == 1
    assert set(desk.names()) == {"1"}


def test_a_bad_file_among_several_is_refused_before_any_row(desk: Desk) -> None:
    desk.write(HEADER + line(1), "people-a.csv")
    desk.write("nonsense\r\n", "people-b.csv")
    with pytest.raises(SourceRefused, match=r"people-b\.csv"):
        desk.read(path="people-*.csv")
    assert desk.bench.facets() == {}


def test_a_second_row_of_one_key_is_unchanged_or_a_reject(desk: Desk) -> None:
    desk.write(HEADER + line(1) + line(1) + line(1, "乙某") + line(2))
    assert desk.read() == Outcome(read=4, published=2, unchanged=1, rejected=1)
    assert desk.names() == {"1": "甲某", "2": "甲某"}
    assert desk.reasons()[0][2] == "another row of this snapshot has the same key and other values"


def test_a_row_that_cannot_be_divided_still_counts_as_present(desk: Desk) -> None:
    desk.write(HEADER + line(1) + line(2) + line(3))
    desk.read()
    desk.write(HEADER + line(1) + f"{citizen(2)},甲某,路,巷,{TIME}\r\n")
    assert desk.read() == Outcome(read=2, unchanged=1, rejected=1, gone=1)
    assert set(desk.names()) == {"1", "2"}


def test_if_only_the_subject_of_a_row_can_be_read_all_its_records_stay(desk: Desk) -> None:
    fines = contract(field("fine", "string"), field("text", "string"), record_key=["fine"])
    desk.write(f"citizen_id,text,fine\r\n{citizen(1)},a,F1\r\n{citizen(1)},b,F2\r\n{citizen(2)},c,F3\r\n")
    assert desk.read(fines).published == 3
    desk.write(f"citizen_id,text,fine\r\n{citizen(1)},a,b,F1\r\n")
    assert desk.read(fines) == Outcome(read=1, rejected=1, gone=1)
    assert len(desk.bench.facets()) == 2


APPEND: dict[str, Any] = {"mode": "append"}


def test_appended_rows_are_published_once_with_their_lines(desk: Desk) -> None:
    desk.write(HEADER + line(1) + line(2))
    assert desk.read(**APPEND).published == 2
    desk.append("\r\n" + line(3) + line(4, time="x"))
    assert desk.read(**APPEND) == Outcome(read=2, published=1, rejected=1)
    assert desk.reasons()[0][0] == "people.csv line 6 (record 4)"
    assert desk.read(**APPEND) == Outcome()


def test_a_last_line_without_end_that_gets_one_is_not_read_again(desk: Desk) -> None:
    desk.write((HEADER + line(1) + line(2)).rstrip())
    assert desk.read(**APPEND).published == 2
    desk.append("\r\n" + line(3, time="x"))
    assert desk.read(**APPEND) == Outcome(read=1, rejected=1)
    assert desk.reasons()[0][0] == "people.csv line 4 (record 3)"


def test_a_last_line_that_was_cut_is_read_again_when_it_is_whole(desk: Desk) -> None:
    whole = HEADER + line(1) + line(2)
    desk.write(whole[:-25])
    assert desk.read(**APPEND) == Outcome(read=2, published=1, rejected=1)
    desk.append(whole[-25:])
    assert desk.read(**APPEND).published == 1
    assert set(desk.names()) == {"1", "2"}


def test_a_copy_of_what_has_grown_is_known(desk: Desk) -> None:
    desk.write(HEADER + line(1), "monday.csv")
    assert desk.read(path="*.csv", **APPEND).published == 1
    desk.write(HEADER + line(1) + line(2), "tuesday.csv")
    assert desk.read(path="*.csv", **APPEND).published == 1
    assert desk.read(path="*.csv", **APPEND) == Outcome()


def test_a_large_file_goes_on_where_it_was_acknowledged(desk: Desk) -> None:
    desk.write(HEADER + "".join(line(number % 150, f"甲{number}") for number in range(400)))
    connector = desk.connector(batch_size=50, **APPEND)
    desk.bench.crash(connector, "unsent", batches=4)
    assert len(desk.bench.deliveries()) == 150
    assert desk.bench.read(desk.connector(batch_size=70, **APPEND)).read == 250
    assert sorted(desk.bench.sequences()) == list(range(1, 401))


def test_an_encoding_once_found_stays_while_the_file_grows(desk: Desk) -> None:
    desk.write((HEADER + line(1, "张某")).encode("gb18030"))
    desk.read(**APPEND)
    desk.append((line(2, "李某") + line(3, "王某")).encode("gb18030"))
    desk.read(**APPEND)
    assert desk.names() == {"1": "张某", "2": "李某", "3": "王某"}


def test_only_the_batch_in_flight_is_kept_of_a_stream(desk: Desk) -> None:
    desk.write(HEADER + line(1) + line(2, time="x"))
    desk.read(**APPEND)
    assert desk.bench.keeps is Keeps.FLIGHT
    with sqlite3.connect(desk.bench.cursor) as database:
        assert database.execute("SELECT count(*) FROM rows").fetchone() == (0,)
        assert database.execute("SELECT count(*) FROM rejects").fetchone() == (0,)


def test_a_line_can_delete_in_append_mode(desk: Desk) -> None:
    header = HEADER.rstrip() + ",state\r\n"
    deleted = {"deleted_when": {"column": "state", "values": ["D"]}}
    desk.write(header + line(1).rstrip() + ",\r\n" + line(2).rstrip() + ",\r\n")
    desk.read(**APPEND, **deleted)
    desk.append(line(2).rstrip() + ",D\r\n" + ",x,,,D\r\n")
    assert desk.read(**APPEND, **deleted) == Outcome(read=2, deleted=1, rejected=1)
    assert set(desk.names()) == {"1"}
    assert desk.reasons()[0][2] == "a deletion whose subject or record key cannot be read"


def test_event_time_is_the_field_or_the_time_of_the_file(desk: Desk) -> None:
    desk.write(HEADER + line(1))
    desk.read()
    assert Envelope.read(desk.bench.deliveries()[0].headers).event_time == datetime(2026, 3, 1, 2, tzinfo=UTC)
    timeless = contract(field("name", "string"))
    desk.bench.cursor = desk.folder / "other.cursor"
    desk.write(HEADER + line(2))
    desk.read(timeless)
    last = max(desk.bench.deliveries(), key=lambda delivery: Envelope.read(delivery.headers).origin.epoch)
    assert Envelope.read(last.headers).event_time == desk.bench.now - timedelta(seconds=60)


# -- rows that are known --


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The identifiers of the rows that were converted whole."""
    seen: list[str] = []
    read = Columns.read

    def counted(self: Columns, cells: Sequence[Any]) -> dict[str, Any]:
        seen.append(cells[0])
        return read(self, cells)

    monkeypatch.setattr(Columns, "read", counted)
    return seen


def test_a_row_whose_text_is_known_is_not_converted_again(desk: Desk, converted: list[str]) -> None:
    desk.write(HEADER + line(1) + line(2) + line(3))
    desk.read()
    converted.clear()
    desk.write(HEADER + line(1) + line(2, "乙某") + line(4))
    assert desk.read() == Outcome(read=3, published=2, unchanged=1, gone=1)
    assert converted == [citizen(2), citizen(4)]
    assert set(desk.names()) == {"1", "2", "4"}


def test_another_spelling_of_the_same_record_is_known_from_then_on(desk: Desk, converted: list[str]) -> None:
    desk.write(HEADER + line(1))
    desk.read()
    for ending in ("\r\n", "\r\n\r\n"):
        converted.clear()
        desk.write(HEADER + line(1, " 甲某 ") + ending)
        assert desk.read() == Outcome(read=1, unchanged=1)
    assert converted == []


def test_what_may_not_have_reached_the_topic_is_not_taken_for_known(desk: Desk) -> None:
    desk.write(HEADER + line(1))
    desk.read()
    desk.write(HEADER + line(1) + line(2))
    desk.bench.crash(desk.connector(), "unsent")
    assert desk.read() == Outcome(read=2, published=1, unchanged=1)
    assert set(desk.names()) == {"1", "2"}


def test_a_known_row_that_comes_twice_is_unchanged_twice_and_with_other_values_a_reject(desk: Desk) -> None:
    desk.write(HEADER + line(1))
    desk.read()
    desk.write(HEADER + line(1) + line(1) + line(1, "乙某"))
    assert desk.read() == Outcome(read=3, unchanged=2, rejected=1)
    desk.write(HEADER + line(1, "乙某") + line(1))
    assert desk.read() == Outcome(read=2, published=1, rejected=1)
    assert desk.names() == {"1": "乙某"}


def test_a_rebuilt_cursor_file_converts_once_and_knows_again(desk: Desk, converted: list[str]) -> None:
    desk.write(HEADER + line(1) + line(2))
    desk.read()
    desk.bench.cursor.unlink()
    assert desk.read() == Outcome(read=2, unchanged=2)
    converted.clear()
    desk.write(HEADER + line(1) + line(2) + "\r\n")
    assert desk.read() == Outcome(read=2, unchanged=2)
    assert converted == []


def test_another_contract_converts_every_row_again(desk: Desk, converted: list[str]) -> None:
    desk.write(HEADER + line(1))
    desk.read()
    wider = contract(
        field("name", "string"), field("address", NULLABLE_TEXT, default=None), field("updated_at", MILLIS),
        field("phone", NULLABLE_TEXT, default=None), event_time="updated_at",
    )  # fmt: skip
    converted.clear()
    assert desk.read(wider).published == 1
    assert converted == [citizen(1)]
