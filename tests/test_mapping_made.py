"""The code that is made for a mapping, and the quick reader of times, give what the plain ways give."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.csv import CsvSettings
from connectors.mapping import Columns, FieldMapping
from connectors.times import Zone, parser, reader
from exchange.errors import Rejected
from tests.support.contract_values import relaxed
from tests.support.contracts import contract, field

TYPES: dict[str, Any] = {
    "text": "string",
    "flag": "boolean",
    "count": ["null", "int"],
    "total": "long",
    "share": "double",
    "amount": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2},
    "day": ["null", {"type": "int", "logicalType": "date"}],
    "hour": {"type": "int", "logicalType": "time-millis"},
    "moment": {"type": "long", "logicalType": "timestamp-millis"},
    "kind": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]},
    "id": {"type": "string", "logicalType": "uuid"},
    "list": {"type": "array", "items": "int"},
}
CONTRACT = contract(*[field(name, type_) for name, type_ in TYPES.items()])
CELLS = [
    "", " ", "\t", "x", " x ", "N/A", " N/A", "NULL", "=", '="007"', "'007", "__debezium_unavailable_value", "_", "A",
    "1", "-1", "+1", " 12 ", "007", "١", "²", "9" * 19, "9" * 20, "9" * 38, "9" * 39, "1,234", "1.234,50", "12,34",
    "1.50", "-0.5", ".5", "5.", "1e3", "nan", "yes", "no", "true", "0000-00-00", "0000-00-00 00:00:00", "0000-01-01",
    "2026-03-01", "2026-3-1", "2026-02-30", "01.03.2026", "2026-03-01 08:05:00", "2026-03-01T08:05:00.123+08:00",
    "2026-03-29 02:30:00", "2026-10-25 02:30:00", "0001-01-01T00:00:00+08:00", "9999-12-31T23:59:59-08:00",
    "08:05:00", "8:05", "25:00:00", "0189b7a0-1111-7222-8333-444455556666", "[1, 2]", "[1,", "[" * 2000, "\ufeff", "　",
]  # fmt: skip
GIVEN: list[Any] = [
    *CELLS, None, True, 0, 7, 1.5, Decimal("1.50"), Decimal("NaN"), Decimal(3), b"x", memoryview(b"x"),
    date(2026, 3, 1), datetime(2026, 3, 1), datetime(2026, 3, 1, 8, 5, tzinfo=UTC), [1], {}, float("nan"),
]  # fmt: skip
SETTINGS: list[dict[str, Any]] = [
    {},
    {"trim": False},
    {"empty": "text", "null_values": ["N/A", "NULL"]},
    {"timezone": "Europe/Berlin", "null_values": ["=", "_"]},
    {"null_values": ["__debezium_unavailable_value", "'NULL", '="N/A"', "N/A"]},
    {"formats": {"date": ["%d.%m.%Y", "%Y-%m-%d"], "timestamp": ["%Y-%m-%dT%H:%M:%S.%f%z"], "time": ["%H:%M"]}},
]
FIELDS: list[dict[str, Any]] = [
    {},
    {"flag": {"column": "flag", "values": {"yes": True, "no": False, "1": True}}},
    {"text": {"column": "text", "values": {"x": "y", "": "nothing"}, "other_values": "keep"}, "kind": {"value": "B"}},
    {
        "amount": {"column": "amount", "thousands": ".", "decimal": ","},
        "total": {"column": "total", "thousands": ",", "null_values": []},
        "count": {"value": 5},
        "text": {"column": "text", "empty": "text", "null_values": ["x"]},
    },
]


def columns(settings: dict[str, Any], fields: dict[str, Any]) -> Columns:
    whole = {"name": "test", "connector": "csv", "contract": CONTRACT.name, "path": "x.csv", "mapping": fields}
    mapping = FieldMapping(CsvSettings.model_validate(whole | settings), CONTRACT)
    return mapping.bind(list(CONTRACT.fields), len(CONTRACT.fields), "x.csv")


def outcome(call: Callable[[], Any]) -> Any:
    """The value, with the types in it; or field and reason."""
    try:
        return repr(call())
    except Rejected as rejected:
        return rejected.field, rejected.reason


@pytest.mark.parametrize("fields", FIELDS, ids=str)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_each_cell_in_each_column_is_read_as_the_plain_way_reads_it(
    settings: dict[str, Any], fields: dict[str, Any]
) -> None:
    made = columns(settings, fields)
    sound = {"share": 1.5, "amount": Decimal(1), "list": [1], "id": None}
    row: list[Any] = [sound.get(name) for name in CONTRACT.fields]
    taken = 0
    for at in range(len(row)):
        for cell in GIVEN:
            cells = [*row[:at], cell, *row[at + 1 :]]
            plainly = outcome(lambda cells=cells: made.read_plainly(cells))  # type: ignore[misc]
            assert outcome(lambda cells=cells: made.read(cells)) == plainly, (at, cell)  # type: ignore[misc]
            taken += isinstance(plainly, str)
    assert taken > len(GIVEN)


@relaxed
@given(st.sampled_from(SETTINGS), st.sampled_from(FIELDS), st.data())
def test_rows_are_read_as_the_plain_way_reads_them(
    settings: dict[str, Any], fields: dict[str, Any], data: st.DataObject
) -> None:
    made, size = columns(settings, fields), len(CONTRACT.fields)
    cells = data.draw(st.lists(st.sampled_from(GIVEN) | st.text(max_size=5), min_size=size, max_size=size))
    assert outcome(lambda: made.read(cells)) == outcome(lambda: made.read_plainly(cells))


def test_a_row_that_is_too_short_is_nobodys_value() -> None:
    made = columns({}, {})
    with pytest.raises(IndexError):
        made.read(["x"])


ISO = [f"%Y-%m-%d{mark}%H:%M:%S{rest}" for mark in " T" for rest in ("", ".%f", "%z", ".%f%z")]
FORMS = [*ISO, "%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M:%S", "%Y-%d-%m %H:%M:%S"]
MOMENTS = st.datetimes() | st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=-9, minutes=-30))))


@st.composite
def written(draw: st.DrawFn) -> str:
    """A time as somebody writes it, at times with a slip."""
    moment = draw(MOMENTS)
    text = moment.replace(tzinfo=None).isoformat(
        draw(st.sampled_from(" T")), draw(st.sampled_from(["seconds", "milliseconds", "microseconds", "minutes"]))
    )
    if moment.tzinfo is not None:
        text += draw(st.sampled_from(["Z", "+00:00", "-0930", "+08:75", "+24:00", "+2359", "z", "+8"]))
    if draw(st.booleans()):
        return text
    place = draw(st.integers(0, len(text)))
    return (
        text[:place]
        + draw(st.sampled_from(["", "0", "9", ".", "٣", " ", ":60"]))
        + text[place + draw(st.integers(0, 2)) :]
    )


def by_forms(forms: list[str], text: str) -> Any:
    """The first form that fits, each with its own parser."""
    for form in forms:
        try:
            found = parser("timestamp", form)(text)
        except ValueError:
            raise Rejected("no such time") from None
        except OverflowError:
            raise Rejected("outside") from None
        if found is not None:
            return found
    raise Rejected("expected")


@relaxed
@given(st.lists(st.sampled_from(FORMS), min_size=1, max_size=5, unique=True) | st.just(ISO), written())
def test_a_time_is_read_by_one_look_as_form_by_form(forms: list[str], text: str) -> None:
    quick, plain = outcome(lambda: reader("timestamp", forms)(text)), outcome(lambda: by_forms(forms, text))
    if isinstance(plain, str):
        assert quick == plain
    else:
        assert plain[1] in quick[1]


@pytest.mark.parametrize(
    "text",
    ["0001-01-01T00:00:00+08:00", "9999-12-31T23:59:59-08:00", "0001-01-01 00:00:00", "9999-12-31T23:59:59.5-0800"],
)
def test_an_instant_outside_all_years_is_a_reject(text: str) -> None:
    zone = "Asia/Shanghai" if " " in text else None
    made = columns({"timezone": zone}, {})
    cells: list[Any] = [None] * len(CONTRACT.fields)
    cells[list(CONTRACT.fields).index("moment")] = text
    assert outcome(lambda: made.read(cells)) == ("moment", "a time outside the years 1 to 9999")


def test_a_zone_takes_an_instant_as_it_is() -> None:
    moment = datetime(2026, 3, 1, 8, 5, tzinfo=UTC)
    for name in (None, "Europe/Berlin"):
        assert Zone(name).instant(moment) is moment
        assert Zone(name).instant(moment.astimezone(ZoneInfo("Asia/Tokyo"))) == moment
