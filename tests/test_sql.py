"""Tables as they are: equal times, texts as times, zones, nulls, corrected keys. Each once lost somebody's rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from connectors.protocol import Weight
from connectors.sql import SqlConnector, SqlSettings
from connectors.sqlcursor import freeze, thaw
from exchange.contracts import Contract
from exchange.errors import SettingWrong, SourceRefused, SourceUnavailable
from exchange.publish import Batch, Keeps, Outcome
from exchange.records import Envelope
from tests.support.contracts import contract, field
from tests.support.publishing import NULLABLE_TEXT, Bench, citizen

NAMED = contract(field("name", NULLABLE_TEXT, default=None))
PEOPLE = "create table people(row_id integer primary key, citizen_id text, name text, updated_at timestamp not null)"


class Office:
    """A SQLite file with a table `people`, and a sql instance that polls it."""

    def __init__(self, folder: Path, create: str = PEOPLE, contract: Contract = NAMED) -> None:
        self.folder = folder
        self.bench = Bench(folder, contract, keeps=Keeps.ROWS)
        self.bench.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        self.database = sqlite3.connect(folder / "office.db", isolation_level=None)
        self.database.execute(create)

    def insert(self, *rows: tuple[Any, ...], table: str = "people") -> None:
        for row in rows:
            self.database.execute(f"insert or replace into {table} values ({','.join('?' * len(row))})", row)

    def connector(self, **settings: Any) -> SqlConnector:
        table = {
            "name": "test", "connector": "sql", "contract": "civil.person", "url": "sqlite:///office.db",
            "table": "people", "updated_at": "updated_at", "timezone": "Asia/Shanghai", "safety_lag": "10s",
        }  # fmt: skip
        return SqlConnector(
            SqlSettings.model_validate(table | settings), self.bench.contract, self.bench.means(self.folder)
        )

    def read(self, **settings: Any) -> Outcome:
        return self.bench.read(self.connector(**settings))

    def refused(self, **settings: Any) -> str:
        """Why `check` refuses; it must, and reading must refuse for the same reason."""
        found = [each for each in self.connector(**settings).check() if each.weight is Weight.REFUSED]
        assert found
        with pytest.raises(SourceRefused) as refused:
            list(self.connector(**settings).read({}))
        assert refused.value.detail in [each.text for each in found]
        return refused.value.detail

    def notes(self, **settings: Any) -> str:
        found = self.connector(**settings).check()
        assert not [each for each in found if each.weight is Weight.REFUSED]
        return "\n".join(f"{each.subject}: {each.text}" for each in found)


def row(number: int, time: str, name: str = "甲某") -> tuple[int, str, str, str]:
    return number, citizen(number), name, time


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


# -- the cursor --


def test_many_rows_of_one_time_survive_a_crash_in_the_middle(office: Office) -> None:
    office.insert(*[row(number, "2026-03-01 10:00:00.000000") for number in range(1, 8)])
    office.bench.crash(office.connector(batch_size=3), "unsent", batches=2)
    assert len(office.bench.facets()) == 3
    office.read(batch_size=3)
    assert len(office.bench.facets()) == 7
    assert sorted(office.bench.sequences()) == list(range(1, 8))


def test_fractions_of_a_second_keep_all_their_digits(office: Office) -> None:
    office.insert(row(1, "2026-03-01 10:00:00.214365"))
    office.read(safety_lag=0)
    office.insert(row(2, "2026-03-01 10:00:00.214999"), row(3, "2026-03-01 10:00:00.214365"))
    assert office.read(safety_lag=0).published == 2
    assert office.read(safety_lag=0).published == 0
    with sqlite3.connect(office.bench.cursor) as database:
        (after,) = database.execute("SELECT value FROM position WHERE name = 'after'").fetchone()
    assert json.loads(after) == ["2026-03-01 10:00:00.214999", [2]]


def test_a_row_within_the_safety_lag_arrives_once_whenever_it_is_committed(office: Office) -> None:
    office.insert(row(1, "2026-03-01 10:00:00"), row(3, "2026-03-01 10:00:08"))
    office.read()
    office.insert(row(2, "2026-03-01 10:00:04"))  # stamped before row 3, committed after it
    assert office.read() == Outcome(read=3, published=1, unchanged=2)
    assert office.read().published == 0


def test_rows_inserted_with_falling_times_are_all_read(office: Office) -> None:
    office.insert(*[row(number, f"2026-03-01 10:00:{9 - number:02}") for number in range(1, 7)])
    assert office.read(batch_size=2).published == 6
    office.insert(row(9, "2026-03-01 10:00:05"))
    assert office.read(batch_size=2).published == 1
    assert office.read(batch_size=2).published == 0


def test_a_row_dated_into_the_future_hides_nothing_of_the_present(office: Office) -> None:
    office.insert(row(1, "2099-01-01 00:00:00"), row(2, "2026-03-01 19:59:59"))
    office.read()
    for number in range(3, 6):
        office.bench.passes(60)
        office.insert(row(number, f"2026-03-01 20:0{number - 2}:00"))
        assert office.read().published == 1
    assert len(office.bench.facets()) == 5


def test_a_large_batch_of_one_time_is_not_read_for_ever(office: Office) -> None:
    office.insert(*[row(number, "2026-03-01 19:59:59") for number in range(1, 8)])
    assert office.read(batch_size=3).read == 7
    assert office.read(batch_size=3).read == 7  # the safety lag has not passed
    office.bench.passes(11)
    assert office.read(batch_size=3).read == 7  # read once more after it has
    assert office.read(batch_size=3).read == 0
    office.insert(row(8, "2026-03-01 20:00:11"))
    assert office.read(batch_size=3).published == 1


class Meanwhile:
    """A connector, and what happens at the office while it reads: `then` by the number of the batch that was taken."""

    Settings = SqlSettings

    def __init__(self, connector: SqlConnector, then: Mapping[int, Callable[[], None]]) -> None:
        self._connector = connector
        self._then = then
        self.keeps = connector.keeps

    def read(self, position: Mapping[str, str]) -> Iterator[Batch]:
        for number, batch in enumerate(self._connector.read(position), 1):
            yield batch
            if number in self._then:
                self._then[number]()

    def check(self) -> Sequence[Any]:
        return ()

    def ack(self, position: Mapping[str, str | None]) -> None:
        pass

    def close(self) -> None:
        pass


def seconds(count: int) -> str:
    """A time at the office, so many seconds before or after the test begins."""
    return (datetime(2026, 3, 1, 20) + timedelta(seconds=count)).isoformat(" ")


def test_a_row_that_is_committed_late_is_read_although_the_first_reading_broke_off(office: Office) -> None:
    office.insert(*[row(number, seconds(number - 5)) for number in range(1, 5)])

    def late() -> None:
        office.bench.passes(60)
        office.insert(row(9, seconds(-4)), *[row(number, seconds(54 + number)) for number in (5, 6, 7)])

    office.bench.crash(Meanwhile(office.connector(batch_size=2), {2: late}), "unsent", batches=4)
    office.read(batch_size=2)
    assert set(office.bench.facets()) == {"1", "2", "3", "4", "5", "6", "7", "9"}


def test_a_row_that_is_committed_late_is_read_although_a_reading_behind_a_settled_one_broke_off(office: Office) -> None:
    office.insert(*[row(number, seconds(-1)) for number in range(1, 4)])
    for _ in range(4):
        office.read(batch_size=2)
        office.bench.passes(11)
    assert office.read(batch_size=2).read == 0
    office.insert(row(4, seconds(50)), row(5, seconds(51)))
    office.bench.passes(10)

    def late() -> None:
        office.bench.passes(60)
        office.insert(row(9, seconds(50)), *[row(number, seconds(104 + number)) for number in (6, 7, 8)])

    office.bench.crash(Meanwhile(office.connector(batch_size=2), {1: late}), "unsent", batches=3)
    office.read(batch_size=2)
    assert set(office.bench.facets()) == {"1", "2", "3", "4", "5", "6", "7", "8", "9"}


def test_a_long_reading_does_not_make_what_it_met_last_settle_early(office: Office) -> None:
    office.insert(*[row(number, seconds(-1)) for number in range(1, 4)])

    def meanwhile() -> None:
        office.bench.passes(60)
        office.insert(*[row(number, seconds(59)) for number in range(4, 8)])

    office.bench.read(Meanwhile(office.connector(batch_size=2), {1: meanwhile}))
    assert office.read(batch_size=2).published == 0  # begun within the safety lag of what was met last
    office.insert(row(9, seconds(58)))
    office.read(batch_size=2)
    assert "9" in office.bench.facets()


def test_the_order_is_that_of_the_database(tmp_path: Path) -> None:
    create = (
        "create table people(code text collate nocase primary key, citizen_id text, name text, updated_at timestamp)"
    )
    office = Office(tmp_path, create)
    codes = ["_z", "a1", "A2", "a3", "B1", "b2", "张", "李"]
    for number, code in enumerate(codes, 1):
        office.insert((code, citizen(number), "甲某", "2026-03-01 10:00:00"))
    assert office.read(batch_size=3, safety_lag=0).published == 8
    assert office.read(batch_size=3, safety_lag=0).published == 0


def test_a_key_of_two_columns(tmp_path: Path) -> None:
    create = (
        "create table people(a integer, b text, citizen_id text, name text, updated_at timestamp, primary key(a, b))"
    )
    office = Office(tmp_path, create)
    for number in range(1, 9):
        office.insert((number // 3, f"k{number}", citizen(number), "甲某", "2026-03-01 10:00:00"))
    assert office.read(batch_size=2).published == 8


@pytest.mark.parametrize(
    "value",
    [
        "张",
        7,
        2**70,
        None,
        1.5,
        b"\x00\xff",
        Decimal("1.10"),
        datetime(2026, 3, 1, 1, 2, 3, 4),
        datetime.now(UTC),
        True,
    ],
)
def test_what_a_cursor_holds_comes_back_as_it_was(value: Any) -> None:
    if isinstance(value, bool):
        with pytest.raises(TypeError):
            freeze(value)
        return
    found = thaw(json.loads(json.dumps(freeze(value))))
    assert found == value
    assert type(found) is type(value)


# -- what cannot be polled safely --


def test_without_an_update_time_a_table_is_refused_saying_why(office: Office) -> None:
    reason = office.refused(updated_at=None)
    assert "no column says when a row was written last" in reason
    assert "a smaller number can be committed after a greater one" in reason
    assert "there is no column changed" in office.refused(updated_at="changed")
    assert "there is no table persons" in office.refused(table="persons")


def test_a_table_without_key_is_refused(tmp_path: Path) -> None:
    office = Office(tmp_path, "create table people(citizen_id text, name text, updated_at timestamp)")
    assert "no primary key" in office.refused()
    office.insert((citizen(1), "甲某", "2026-03-01 10:00:00"))
    assert office.read(key="citizen_id").published == 1


def test_texts_of_several_forms_are_no_times(office: Office) -> None:
    office.insert(
        row(1, "2026-03-01 23:00:00"), row(2, "2026-03-01T09:00:00"), row(3, "2026-03-01T09:30:00Z"),
        row(4, "2026-03-01T10:00:00+08:00"),
    )  # fmt: skip
    assert "another form than the others" in office.refused()


def test_a_text_of_another_form_that_comes_later_is_seen(office: Office) -> None:
    office.insert(row(1, "2026-03-01 23:00:00"))
    office.read()
    office.insert(row(2, "2026-03-01T23:59:00"))
    with pytest.raises(SourceRefused, match="1 texts in updated_at have another form"):
        office.read()


@pytest.mark.parametrize(
    ("texts", "instants"),
    [
        (["2026-03-01 10:00:00", "2026-03-01 10:00:00.5"], ["02:00:00.000", "02:00:00.500"]),
        (["2026-03-01T10:00:00Z", "2026-03-01T10:00:01Z"], ["10:00:00.000", "10:00:01.000"]),
        (["2026-03-01T10:00:00.250Z", "2026-03-01T10:00:01.000Z"], ["10:00:00.250", "10:00:01.000"]),
        (["2026-03-01T10:00:00+02:00", "2026-03-01T10:00:01+02:00"], ["08:00:00.000", "08:00:01.000"]),
    ],
)
def test_texts_of_one_form_are(office: Office, texts: list[str], instants: list[str]) -> None:
    office.bench.now = datetime(2026, 3, 1, 10, 0, 5, tzinfo=UTC)
    office.insert(*[row(number, text) for number, text in enumerate(texts, 1)])
    office.read()
    told = sorted(Envelope.read(delivery.headers).event_time for delivery in office.bench.deliveries())
    assert [moment.strftime("%H:%M:%S.%f")[:-3] for moment in told] == instants
    assert office.read().published == 0
    office.insert(row(9, texts[-1], "乙某"))
    assert office.read().published == 1


def test_a_form_of_ones_own(tmp_path: Path) -> None:
    create = "create table people(row_id integer primary key, citizen_id text, name text, updated_at text not null)"
    office = Office(tmp_path, create)
    office.insert((1, citizen(1), "甲某", "20260301100000"), (2, citizen(2), "乙某", "20260301100001"))
    assert "unknown form" in office.refused()
    assert office.read(updated_at_format="%Y%m%d%H%M%S").published == 2
    assert "do not sort by time" in office.refused(updated_at_format="%d%m%Y%H%M%S")


def test_numbers_are_times_only_if_they_are_said_to_count_from_1970(tmp_path: Path) -> None:
    create = "create table people(row_id integer primary key, citizen_id text, name text, updated_at integer not null)"
    office = Office(tmp_path, create)
    office.insert((1, citizen(1), "甲某", 1772330400123))
    assert "a number of another kind does not say when" in office.refused()
    assert office.read(updated_at_format="epoch_ms").published == 1
    assert Envelope.read(office.bench.deliveries()[0].headers).event_time == datetime(
        2026, 3, 1, 2, 0, 0, 123000, tzinfo=UTC
    )


def test_local_times_need_a_zone_whose_clock_is_not_set_back(office: Office) -> None:
    office.insert(row(1, "2025-11-02 01:50:00"))
    assert "set `timezone`" in office.refused(timezone=None)
    assert "whose clock is set back each year" in office.refused(timezone="America/New_York")
    assert office.read().published == 1


def test_days_need_a_lag_of_a_day(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.insert(row(1, "2026-03-01"))
    assert "unknown form" in office.refused()
    assert office.read(updated_at_format="%Y-%m-%d", safety_lag="1d").published == 1
    assert "counts in steps of 1 day" in office.refused(updated_at_format="%Y-%m-%d")


def test_rows_without_update_time_are_counted_and_read_once_they_have_one(tmp_path: Path) -> None:
    office = Office(tmp_path, PEOPLE.replace(" not null", ""))
    office.insert(row(1, "2026-03-01 10:00:00"), (2, citizen(2), "乙某", None))
    assert "1 rows have no updated_at" in office.notes()
    notes = [note for batch in office.connector().read({}) for note in batch.notes]
    assert notes == ["1 rows have no updated_at and are not read"]
    assert office.read().published == 1
    office.insert(row(2, "2026-03-01 10:00:01", "乙某"))
    assert office.read().published == 1


def test_a_table_in_which_nothing_has_a_time_yet(office: Office) -> None:
    assert office.read() == Outcome()
    assert office.bench.watermarks()[-1].as_of == office.bench.now - timedelta(seconds=10)


def test_check_says_what_polling_cannot_see(office: Office) -> None:
    assert "polling cannot see a row that is deleted" in office.notes()
    assert "no index begins with updated_at" in office.notes()
    assert "polling cannot see" not in office.notes(deleted_when={"column": "name", "values": ["gone"]})
    office.insert(row(1, "2026-03-01 10:00:00"))
    office.read()
    office.database.execute("delete from people")
    for _ in range(3):
        office.read()
    assert set(office.bench.facets()) == {"1"}


def test_a_source_that_is_not_there(office: Office) -> None:
    with pytest.raises(SourceUnavailable):
        office.connector(url="sqlite:///nowhere.db").check()
    with pytest.raises(SettingWrong, match="url"):
        office.connector(url="no url")


# -- keys --


def test_a_corrected_number_deletes_under_the_old_key_first(office: Office) -> None:
    office.insert((7, citizen(1), "甲某", "2026-03-01 10:00:00"))
    office.read()
    office.insert((7, citizen(2), "甲某", "2026-03-01 11:00:00"))
    for where in ("unsent", "half", "stored", "unmarked"):
        office.bench.crash(office.connector(), where)
    office.read()
    assert set(office.bench.facets()) == {"2"}
    told = {(Envelope.read(d.headers).origin.sequence, d.value is None) for d in office.bench.deliveries()}
    assert told == {(1, False), (2, True), (3, False)}


def test_two_rows_that_exchange_their_numbers_both_stay(office: Office) -> None:
    office.insert((1, citizen(1), "甲某", "2026-03-01 10:00:00"), (2, citizen(2), "乙某", "2026-03-01 10:00:00"))
    office.read()
    office.insert((1, citizen(2), "甲某", "2026-03-01 11:00:00"), (2, citizen(1), "乙某", "2026-03-01 11:00:01"))
    for batch_size in (1, 10):
        office.read(batch_size=batch_size)
        names = {number: value["name"] for number, value in office.bench.facets().items()}
        assert names == {"1": "乙某", "2": "甲某"}


def test_a_number_that_was_wrong_for_a_while_gives_its_owner_his_record_back(office: Office) -> None:
    office.insert((1, citizen(1), "甲某", "2026-03-01 10:00:00"), (2, citizen(2), "乙某", "2026-03-01 10:00:00"))
    office.read()
    office.insert((1, citizen(2), "甲某", "2026-03-01 11:00:00"))
    office.read()
    office.insert((1, citizen(1), "甲某", "2026-03-01 12:00:00"))
    office.read()
    assert {value["name"] for value in office.bench.facets().values()} == {"甲某"}  # never a value under another's key
    office.read()
    names = {number: value["name"] for number, value in office.bench.facets().items()}
    assert names == {"1": "甲某", "2": "乙某"}


def test_a_row_that_was_corrected_to_nonsense_leaves_the_earlier_record(office: Office) -> None:
    office.insert((7, citizen(1), "甲某", "2026-03-01 10:00:00"))
    office.read()
    office.insert((7, "110101190001010000", "甲某", "2026-03-01 11:00:00"))
    assert office.read().rejected == 1
    assert set(office.bench.facets()) == {"1"}
    assert office.bench.reasons()[0][0] == "people row_id 7"


def test_a_reject_that_is_mended_and_spoilt_again_is_told_again(office: Office) -> None:
    for time, number in (("10", "x"), ("11", citizen(1)), ("12", "x")):
        office.insert((7, number, "甲某", f"2026-03-01 {time}:00:00"))
        office.read()
    assert len(office.bench.rejects()) == 2


def test_the_place_of_a_reject_never_shows_whose_it_is(tmp_path: Path) -> None:
    create = "create table people(citizen_id text primary key, name text, updated_at timestamp)"
    office = Office(tmp_path, create, contract(field("name", "string")))
    office.insert((citizen(1), None, "2026-03-01 10:00:00"))
    office.read()
    assert office.bench.reasons()[0][0] == "people (the key is in the payload)"
    assert citizen(1) in str(office.bench.rejects()[0].payload)


# -- values --


def typed(tmp_path: Path, column: str, type_: Any, found: list[Any], **settings: Any) -> tuple[list[Any], Office]:
    """What the view will show of a column, or the reasons for which its rows were rejected, in the rows' order."""
    made = contract(field("x", type_, **({"default": None} if isinstance(type_, list) else {})))
    create = f"create table people(row_id integer primary key, citizen_id text, x {column}, updated_at timestamp)"
    office = Office(tmp_path, create, made)
    for number, value in enumerate(found, 1):
        office.insert((number, citizen(number), value, "2026-03-01 10:00:00"))
    office.read(**settings)
    facets = office.bench.facets()
    reasons = {int(place.split()[-1]): reason for place, _, reason in office.bench.reasons()}
    shown = [facets[str(n)]["x"] if str(n) in facets else reasons[n] for n in range(1, len(found) + 1)]
    return shown, office


DECIMAL = ["null", {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}]


def test_decimals_never_pass_through_a_float(tmp_path: Path) -> None:
    shown, office = typed(tmp_path, "text", DECIMAL, ["12345678901234567.89", "1.100", 7])
    assert shown == ["12345678901234567.89", "1.10", "7.00"]
    assert "keeps 15 digits" not in office.notes()


def test_a_column_that_cannot_keep_the_digits_is_named_and_its_rows_rejected(tmp_path: Path) -> None:
    shown, office = typed(tmp_path, "numeric(20,2)", DECIMAL, ["12345678901234567.89", "1.1", "0.10"])
    assert shown[1:] == ["1.10", "0.10"]
    assert "more digits than the source's floating-point column keeps" in shown[0]
    assert "x: a column that keeps 15 digits for a decimal field" in office.notes()


def test_a_date_of_zeros_is_null_or_a_reject_and_never_1970(tmp_path: Path) -> None:
    day = {"type": "int", "logicalType": "date"}
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert typed(tmp_path / "a", "date", ["null", day], ["0000-00-00 00:00:00", "2026-03-01"])[0] == [
        None,
        "2026-03-01",
    ]
    shown, _ = typed(tmp_path / "b", "date", day, ["0000-00-00", "2026-03-01"])
    assert shown == ["a date of zeros (0000-00-00), which is no date", "2026-03-01"]


def test_whole_numbers_are_no_texts(tmp_path: Path) -> None:
    office = Office(
        tmp_path, "create table people(row_id integer primary key, citizen_id text, x integer, updated_at timestamp)",
        contract(field("x", "string")),
    )  # fmt: skip
    found = [each for each in office.connector().check() if each.weight is Weight.REFUSED]
    assert [each.subject for each in found] == ["x"]
    assert "leading zeros are lost already" in found[0].text
    office.insert((1, citizen(1), 571, "2026-03-01 10:00:00"))
    assert office.read().rejected == 1  # were it run all the same, 571 would not become '571'


def test_large_whole_numbers_keep_their_digits(tmp_path: Path) -> None:
    assert typed(tmp_path, "integer", "long", [9007199254740993])[0] == ["9007199254740993"]


def test_booleans_by_mapping(tmp_path: Path) -> None:
    mapping = {"x": {"column": "x", "values": {"1": True, "0": False}}}
    shown, _ = typed(tmp_path, "integer", "boolean", [1, 0, 2], mapping=mapping)
    assert shown == [True, False, "a word that is not in the value mapping"]


def test_bytes_that_are_no_text_cost_their_row_only(tmp_path: Path) -> None:
    office = Office(tmp_path)
    office.insert(row(1, "2026-03-01 10:00:00"))
    office.database.execute(
        "insert into people values (2, ?, cast(x'ff41' as text), '2026-03-01 10:00:00')", (citizen(2),)
    )
    assert office.read() == Outcome(read=2, published=1, rejected=1)


def test_a_query_instead_of_a_table(office: Office) -> None:
    office.insert(row(1, "2026-03-01 10:00:00"), row(2, "2026-03-01 10:00:00"))
    query = "select row_id, citizen_id, upper(name) as name, updated_at from people where row_id > 1"
    assert office.read(table=None, query=query, key="row_id").published == 1
    assert "no primary key" in office.refused(table=None, query=query)


def test_columns_that_are_not_mapped_are_not_read(tmp_path: Path) -> None:
    create = (
        "create table people(row_id integer primary key, citizen_id text, name text, note text, updated_at timestamp)"
    )
    sealed = contract(
        field("name", "string"), field("note", NULLABLE_TEXT, default=None), fields={"note": {"level": 4}}
    )
    office = Office(tmp_path, create, sealed)
    office.insert(
        (1, citizen(1), "甲某", "secret", "2026-03-01 10:00:00"), (2, citizen(2), None, "secret", "2026-03-01 10:00:00")
    )
    office.read()
    assert "4 of 5 columns are read" in office.notes()
    everything = [str(delivery.value) for delivery in office.bench.deliveries()] + [str(office.bench.rejects())]
    assert not any("secret" in text for text in everything)


def test_credentials_come_by_reference(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.insert(row(1, "2026-03-01 10:00:00"))
    monkeypatch.setenv("OFFICE_URL", "sqlite:///office.db")
    assert office.read(url="env:OFFICE_URL").published == 1
    with pytest.raises(SettingWrong, match="OFFICE_PASSWORD is not set"):
        office.connector(password="env:OFFICE_PASSWORD")


# -- PostgreSQL --


@pytest.mark.services
def test_dates_that_python_does_not_have_cost_their_rows_only(
    fresh_postgres: Callable[[], str], tmp_path: Path
) -> None:
    url = fresh_postgres()
    kinds = contract(
        field("born", ["null", {"type": "int", "logicalType": "date"}], default=None),
        field(
            "share", ["null", {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2}], default=None
        ),
    )
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "create table people(id int primary key, citizen_id text, born date, share numeric, updated_at timestamptz)"
        )
        for number, (born, share) in enumerate(
            [("2026-03-01", "12345678901234567.89"), ("infinity", "1"), ("2026-03-01", "NaN"), ("0044-03-15 BC", "1")],
            1,
        ):
            connection.execute(
                "insert into people values (%s, %s, %s, %s, now())", (number, citizen(number), born, share)
            )
    bench = Bench(tmp_path, kinds, keeps=Keeps.ROWS)
    settings = SqlSettings.model_validate(
        {"name": "t", "connector": "sql", "contract": "civil.person", "url": url, "table": "public.people",
         "updated_at": "updated_at"}
    )  # fmt: skip
    connector = SqlConnector(settings, kinds, bench.means(tmp_path))
    assert not [each for each in connector.check() if each.weight is Weight.REFUSED]
    assert bench.read(connector) == Outcome(read=4, published=1, rejected=3)
    assert bench.facets()["1"]["share"] == "12345678901234567.89"
    assert bench.read(connector).published == 0
    connector.close()


@pytest.mark.services
def test_an_icu_collation_pages_without_loss(fresh_postgres: Callable[[], str], tmp_path: Path) -> None:
    url = fresh_postgres()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            'create table people(code text collate "und-x-icu" primary key, citizen_id text, name text,'
            " updated_at timestamp not null)"
        )
        for number, code in enumerate(["_z", "a1", "A2", "a3", "B1", "b2", "张", "李"], 1):
            connection.execute(
                "insert into people values (%s, %s, 'x', '2026-03-01 10:00:00')", (code, citizen(number))
            )
    bench = Bench(tmp_path, NAMED, keeps=Keeps.ROWS)
    settings = SqlSettings.model_validate(
        {"name": "t", "connector": "sql", "contract": "civil.person", "url": url, "table": "people",
         "updated_at": "updated_at", "timezone": "Asia/Shanghai", "batch_size": 3, "safety_lag": 0}
    )  # fmt: skip
    connector = SqlConnector(settings, NAMED, bench.means(tmp_path))
    assert bench.read(connector).published == 8
    assert len(bench.facets()) == 8
    connector.close()
