"""`check`, `from_json` and `to_json`: what is a value of each type, what is not, and its one JSON form."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from exchange.contracts import Contract
from exchange.errors import InvalidIdentifier, Rejected
from tests.support.contracts import CITIZEN, contract, field, one

TYPES: dict[str, Any] = {
    "boolean": "boolean",
    "int": "int",
    "long": "long",
    "float": "float",
    "double": "double",
    "string": "string",
    "bytes": "bytes",
    "enum": {"type": "enum", "name": "Sex", "symbols": ["F", "M"]},
    "decimal": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2},
    "fixed": {"type": "fixed", "name": "Money", "size": 8, "logicalType": "decimal", "precision": 18, "scale": 2},
    "whole": {"type": "bytes", "logicalType": "decimal", "precision": 30},
    "uuid": {"type": "string", "logicalType": "uuid"},
    "date": {"type": "int", "logicalType": "date"},
    "time-millis": {"type": "int", "logicalType": "time-millis"},
    "time-micros": {"type": "long", "logicalType": "time-micros"},
    "timestamp-millis": {"type": "long", "logicalType": "timestamp-millis"},
    "timestamp-micros": {"type": "long", "logicalType": "timestamp-micros"},
    "array": {"type": "array", "items": "long"},
    "map": {"type": "map", "values": "long"},
    "nullable": ["null", "long"],
    "record": {
        "type": "record",
        "name": "Home",
        "fields": [field("street", "string"), field("floor", "int", default=0)],
    },
}


def of(word: str) -> Contract:
    return one(TYPES[word])


def refusal(act: Callable[[], Any]) -> tuple[str | None, str]:
    with pytest.raises(Rejected) as caught:
        act()
    return caught.value.field, caught.value.reason


NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

# (type, native value, normal form of it, JSON form)
GOOD: list[tuple[str, Any, Any, Any]] = [
    ("boolean", True, True, True),
    ("int", 2**31 - 1, 2**31 - 1, 2147483647),
    ("int", -(2**31), -(2**31), -2147483648),
    ("long", 9007199254740993, 9007199254740993, "9007199254740993"),
    ("long", -(2**63), -(2**63), "-9223372036854775808"),
    ("long", 0, 0, "0"),
    ("float", 0.1, 0.10000000149011612, 0.1),
    ("float", 0.10000000149011612, 0.10000000149011612, 0.1),
    ("float", 16777216.0, 16777216.0, 16777216.0),
    ("float", 3.4028234663852886e38, 3.4028234663852886e38, 3.4028235e38),
    ("double", 0.1, 0.1, 0.1),
    ("double", 5e-324, 5e-324, 5e-324),
    ("string", "甲 某·😀", "甲 某·😀", "甲 某·😀"),
    ("string", "", "", ""),
    ("bytes", b"\x00\xff", b"\x00\xff", "AP8="),
    ("enum", "F", "F", "F"),
    ("decimal", Decimal("1.1"), Decimal("1.10"), "1.10"),
    ("decimal", Decimal("1.100"), Decimal("1.10"), "1.10"),
    ("decimal", Decimal("1E+2"), Decimal("100.00"), "100.00"),
    ("decimal", Decimal("-0.00"), Decimal("0.00"), "0.00"),
    ("decimal", Decimal("-9999.99"), Decimal("-9999.99"), "-9999.99"),
    ("fixed", Decimal("1234567890123456.78"), Decimal("1234567890123456.78"), "1234567890123456.78"),
    ("whole", Decimal(10**30 - 1), Decimal(10**30 - 1), "9" * 30),
    ("uuid", UUID(int=0xAB), UUID(int=0xAB), "00000000-0000-0000-0000-0000000000ab"),
    ("date", date(1, 1, 1), date(1, 1, 1), "0001-01-01"),
    ("date", date(9999, 12, 31), date(9999, 12, 31), "9999-12-31"),
    ("time-millis", time(8, 5, 0, 7000), time(8, 5, 0, 7000), "08:05:00.007"),
    ("time-micros", time(23, 59, 59, 999999), time(23, 59, 59, 999999), "23:59:59.999999"),
    ("timestamp-millis", NOON, NOON, "2026-03-01T12:00:00.000Z"),
    ("timestamp-micros", NOON, NOON, "2026-03-01T12:00:00.000000Z"),
    (
        "timestamp-micros",
        datetime(2026, 3, 1, 20, 0, 0, 1, tzinfo=ZoneInfo("Asia/Shanghai")),
        NOON.replace(microsecond=1),
        "2026-03-01T12:00:00.000001Z",
    ),
    (
        "timestamp-millis",
        datetime.min.replace(tzinfo=UTC),
        datetime.min.replace(tzinfo=UTC),
        "0001-01-01T00:00:00.000Z",
    ),
    ("array", [1, -1], [1, -1], ["1", "-1"]),
    ("map", {"a": 1}, {"a": 1}, {"a": "1"}),
    ("nullable", None, None, None),
    ("nullable", 7, 7, "7"),
    ("record", {"street": "东街"}, {"street": "东街", "floor": 0}, {"street": "东街", "floor": 0}),
]


@pytest.mark.parametrize(("word", "given", "normal", "form"), GOOD)
def test_a_value_has_one_normal_form_and_one_json_form(word: str, given: Any, normal: Any, form: Any) -> None:
    found = of(word)
    record = found.check({"citizen_id": CITIZEN, "x": given})
    assert (record.value["x"], type(record.value["x"])) == (normal, type(normal))
    shown = json.loads(found.to_json(record.value))
    assert shown["x"] == form
    assert found.check(found.from_json(shown)) == record
    assert found.decode(found.encode(record)) == record


# (type, native value, reason)
BAD: list[tuple[str, Any, str]] = [
    ("boolean", 1, "a boolean expected, an integer found"),
    ("boolean", "false", "a boolean expected, text found"),
    ("boolean", None, "a boolean expected, null found"),
    ("int", True, "an integer expected, a boolean found"),
    ("int", 1.0, "an integer expected, a float found"),
    ("int", "1", "an integer expected, text found"),
    ("int", 2**31, "outside the range of int"),
    ("int", 2**40, "outside the range of int"),
    ("int", -(2**31) - 1, "outside the range of int"),
    ("long", 2**63, "outside the range of long"),
    ("long", Decimal(1), "an integer expected, a decimal found"),
    ("float", 1, "a float expected, an integer found"),
    ("float", 16777217.0, "more digits than a float holds; use double or decimal"),
    ("float", 1e39, "outside the range of float"),
    ("float", 1e-60, "more digits than a float holds; use double or decimal"),
    ("float", math.nan, "NaN and infinities are no values"),
    ("double", math.inf, "NaN and infinities are no values"),
    ("double", Decimal("0.5"), "a float expected, a decimal found"),
    ("string", 571, "text expected, an integer found"),
    ("string", b"a", "text expected, bytes found"),
    ("string", "甲\0", "text with a NUL (U+0000)"),
    ("string", "A\ud800B", "text with a lone surrogate (half of a character)"),
    ("string", "a" * (1 << 20), "text of more than 1 MiB"),
    ("bytes", "AP8=", "bytes expected, text found"),
    ("bytes", bytearray(b"a"), "bytes expected, a bytearray found"),
    ("enum", "X", "none of the symbols F, M"),
    ("enum", 0, "a symbol expected, an integer found"),
    ("decimal", Decimal("1.105"), "more than 2 decimals"),
    ("decimal", Decimal("12345.67"), "more digits than decimal(6, 2) holds"),
    ("decimal", Decimal(10000), "more digits than decimal(6, 2) holds"),
    ("decimal", Decimal("1E+999999"), "more digits than decimal(6, 2) holds"),
    ("decimal", Decimal("1E-999999"), "more than 2 decimals"),
    ("decimal", Decimal("NaN"), "NaN and infinities are no values"),
    ("decimal", Decimal("sNaN"), "NaN and infinities are no values"),
    ("decimal", Decimal("-Infinity"), "NaN and infinities are no values"),
    ("decimal", 1.1, "a decimal expected, a float found"),
    ("decimal", 1, "a decimal expected, an integer found"),
    ("decimal", "1.10", "a decimal expected, text found"),
    ("uuid", "00000000-0000-0000-0000-0000000000ab", "a UUID expected, text found"),
    ("date", NOON, "a date expected, a time found"),
    ("date", "20260301", "a date expected, text found"),
    ("date", 46082, "a date expected, an integer found"),
    ("time-millis", time(8, 5, 0, 7), "a finer fraction of a second than time-millis holds"),
    ("time-millis", time(8, 5, tzinfo=UTC), "a time of day has no zone"),
    ("time-micros", timedelta(1), "a time of day expected, a timedelta found"),
    ("timestamp-millis", NOON.replace(tzinfo=None), "a time without a zone"),
    ("timestamp-millis", NOON.replace(microsecond=1), "a finer fraction of a second than timestamp-millis holds"),
    ("timestamp-millis", date(2026, 3, 1), "a time with a zone expected, a date found"),
    ("timestamp-millis", 0, "a time with a zone expected, an integer found"),
    (
        "timestamp-micros",
        datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))),
        "a time outside the years 1 to 9999",
    ),
    ("array", (1,), "a list expected, a tuple found"),
    ("array", [0] * 16_385, "more than 16384 items"),
    ("map", [], "a mapping expected, a list found"),
    ("nullable", "", "an integer expected, text found"),
    ("record", None, "a mapping expected, null found"),
]


@pytest.mark.parametrize(("word", "given", "reason"), BAD)
def test_nothing_is_coerced_rounded_or_cut(word: str, given: Any, reason: str) -> None:
    assert refusal(lambda: of(word).check({"citizen_id": CITIZEN, "x": given})) == ("x", reason)


INSTANT = "a time is written YYYY-MM-DDTHH:MM:SSZ, with none, 3 or 6 digits of a second, ending in Z"

# (type, JSON form, reason)
BAD_FORMS: list[tuple[str, Any, str]] = [
    ("boolean", "true", "true or false expected, a string found"),
    ("boolean", 1, "true or false expected, a number found"),
    ("int", "1", "a whole number expected, a string found"),
    ("int", 1.0, "a whole number expected, a number found"),
    ("int", True, "a whole number expected, true or false found"),
    ("int", 2**31, "outside the range of int"),
    ("long", 5, 'a string of digits such as "42" expected, a number found'),
    ("long", "05", 'a long is written as a string of at most 19 digits such as "42"'),
    ("long", "-0", 'a long is written as a string of at most 19 digits such as "42"'),
    ("long", "+1", 'a long is written as a string of at most 19 digits such as "42"'),
    ("long", "1 ", 'a long is written as a string of at most 19 digits such as "42"'),
    ("long", "１", 'a long is written as a string of at most 19 digits such as "42"'),
    ("long", "1_000", 'a long is written as a string of at most 19 digits such as "42"'),
    ("long", "9" * 5000, 'a long is written as a string of at most 19 digits such as "42"'),
    ("long", "9" * 19, "outside the range of long"),
    ("float", "0.1", "a number expected, a string found"),
    ("float", 16777217, "more digits than a float holds; use double or decimal"),
    ("float", math.nan, "NaN and infinities are no values"),
    ("double", 9007199254740993, "more digits than a double holds; use long or decimal"),
    ("double", 10**400, "outside the range of double"),
    ("double", math.inf, "NaN and infinities are no values"),
    ("double", False, "a number expected, true or false found"),
    ("string", 571, "a string expected, a number found"),
    ("string", None, "a string expected, null found"),
    ("string", "\ud800", "text with a lone surrogate (half of a character)"),
    ("string", "A\0B", "text with a NUL (U+0000)"),
    ("bytes", "AP8", "bytes are written as standard base64 with padding"),
    ("bytes", "AP9=", "bytes are written as standard base64 with padding"),
    ("bytes", "_w==", "bytes are written as standard base64 with padding"),
    ("bytes", "AP8=\n", "bytes are written as standard base64 with padding"),
    ("bytes", "男", "bytes are written as standard base64 with padding"),
    ("enum", 1, "a symbol expected, a number found"),
    ("decimal", 1.1, 'a string such as "1.10" expected, a number found'),
    ("decimal", "1E+2", 'a decimal is written as a string such as "1.10"'),
    ("decimal", "NaN", 'a decimal is written as a string such as "1.10"'),
    ("decimal", "1,10", 'a decimal is written as a string such as "1.10"'),
    ("decimal", ".5", 'a decimal is written as a string such as "1.10"'),
    ("decimal", "01.5", 'a decimal is written as a string such as "1.10"'),
    ("decimal", "1" * 5000, 'a decimal is written as a string such as "1.10"'),
    ("decimal", "1.105", "more than 2 decimals"),
    ("uuid", str(UUID(int=0xAB)).upper(), "a UUID is written as 8-4-4-4-12 hexadecimal digits in small letters"),
    ("date", "20260301", "a date is written YYYY-MM-DD"),
    ("date", "2026/3/1", "a date is written YYYY-MM-DD"),
    ("date", "2026-02-30", "no such date; a date is written YYYY-MM-DD"),
    ("date", "2026-W01-1", "a date is written YYYY-MM-DD"),
    ("date", 20513, "a date as YYYY-MM-DD expected, a number found"),
    ("time-millis", "8:05", "a time is written HH:MM:SS with 3 or 6 digits of a second"),
    ("time-millis", "24:00:00.000", "no such time; a time is written HH:MM:SS with 3 or 6 digits of a second"),
    ("time-millis", "08:05:00.000001", "a finer fraction of a second than time-millis holds"),
    ("timestamp-millis", "2026-03-01 12:00:00", INSTANT),
    ("timestamp-millis", "2026-03-01T12:00:00+08:00", INSTANT),
    ("timestamp-millis", "2026-03-01T12:00:00.1Z", INSTANT),
    ("timestamp-millis", "2026-02-30T12:00:00Z", "no such time; a time is written YYYY-MM-DDTHH:MM:SSZ"),
    ("timestamp-millis", "2026-03-01T12:00:60Z", "no such time; a time is written YYYY-MM-DDTHH:MM:SSZ"),
    ("array", "1", "an array expected, a string found"),
    ("map", [], "an object expected, an array found"),
    ("nullable", {"long": "5"}, 'written plain, without {"long": ...} around the value'),
    ("nullable", {"string": "5"}, 'written plain, without {"string": ...} around the value'),
    ("nullable", {"other": "5"}, 'a string of digits such as "42" expected, an object found'),
    ("record", [], "an object expected, an array found"),
]


@pytest.mark.parametrize(("word", "form", "reason"), BAD_FORMS)
def test_another_json_form_is_refused_with_the_right_one(word: str, form: Any, reason: str) -> None:
    found = of(word)
    assert refusal(lambda: found.check(found.from_json({"citizen_id": CITIZEN, "x": form}))) == ("x", reason)


@pytest.mark.parametrize(
    ("word", "form", "native"),
    [
        ("decimal", "1.1", Decimal("1.10")),
        ("decimal", "7", Decimal("7.00")),
        ("timestamp-micros", "2026-03-01T12:00:00Z", NOON),
        ("timestamp-millis", "2026-03-01T12:00:00.000000Z", NOON),
        ("time-micros", "08:05:00", time(8, 5)),
        ("double", 7, 7.0),
        ("float", 7, 7.0),
    ],
)
def test_fewer_digits_of_the_same_form_are_the_same_value(word: str, form: Any, native: Any) -> None:
    found = of(word)
    assert found.check(found.from_json({"citizen_id": CITIZEN, "x": form})).value["x"] == native


def test_minus_zero_keeps_its_sign_as_a_double() -> None:
    found = of("double")
    text = found.to_json(found.check({"citizen_id": CITIZEN, "x": -0.0}).value)
    assert text.endswith('"x":-0.0}')
    assert math.copysign(1, found.check(found.from_json(json.loads(text))).value["x"]) == -1


def test_an_hour_that_comes_twice_is_two_instants() -> None:
    """fastavro ignores `fold`: the first and the second 01:30 of an autumn night would become one."""
    found, zone = of("timestamp-millis"), ZoneInfo("America/New_York")
    shown = [
        found.to_json(
            found.check({"citizen_id": CITIZEN, "x": datetime(2025, 11, 2, 1, 30, tzinfo=zone, fold=fold)}).value
        )
        for fold in (0, 1)
    ]
    assert ["05:30:00.000Z" in shown[0], "06:30:00.000Z" in shown[1]] == [True, True]


# --- members ----------------------------------------------------------------------------------------------------------

UNNAMED = "unknown member {}, whose name is not shown"
PERSON = contract(field("name", "string"), field("address", ["null", "string"]), field("note", "string", default="-"))


@pytest.mark.parametrize("act", [PERSON.check, PERSON.from_json])
@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"name": "甲", "address": None, "adress": "x"}, "unknown member adress"),
        ({"name": "甲", "adress": "x"}, "unknown member adress; missing member address"),
        ({"name": "甲"}, "missing member address"),
        ({"note": "-"}, "missing member name; missing member address"),
        ({"name": "甲", "address": None, "Adress": "x", "wang_wei": 1}, "unknown member Adress; " + UNNAMED.format(5)),
        ({"name": "甲", "address": None, "wang_wei": 1}, UNNAMED.format(4)),
        ({"wang_wei": 1, "name": "甲"}, UNNAMED.format(2) + "; missing member address"),
        ({"name": "甲", "address": None, CITIZEN: 1}, UNNAMED.format(4)),
        ({"name": "甲", "address": None, f"a_{CITIZEN}": 1}, UNNAMED.format(4)),
        ({"name": "甲", "address": None, "张三": 1}, UNNAMED.format(4)),
        ({"name": "甲", "address": None, "a" * 49: 1}, UNNAMED.format(4)),
    ],
)
def test_unknown_and_missing_members_are_named(act: Callable[[Any], Any], more: dict[str, Any], reason: str) -> None:
    assert refusal(lambda: act({"citizen_id": CITIZEN} | more)) == (None, reason)


def test_a_record_is_the_whole_state() -> None:
    """A missing member of a field with default takes the default; null is null; nothing remains from before."""
    found = contract(field("address", ["null", "string"], default=None), field("state", "string", default="on"))
    full = {"citizen_id": CITIZEN, "address": "东街", "state": "off"}
    assert found.check(full).value == full
    assert found.check({"citizen_id": CITIZEN}).value == {"citizen_id": CITIZEN, "address": None, "state": "on"}
    assert found.check({"citizen_id": CITIZEN, "address": None}).value["address"] is None


def test_the_place_of_a_nested_fault_is_named_but_no_key_of_a_map() -> None:
    home = TYPES["record"]
    found = contract(
        field("home", ["null", home], default=None),
        field("homes", {"type": "array", "items": "Home"}, default=[]),
        field("phones", {"type": "map", "values": "Home"}, default={}),
    )
    base = {"citizen_id": CITIZEN}
    good, bad = {"street": "a"}, {"street": "a", "floor": "b"}
    assert refusal(lambda: found.check(base | {"home": {}})) == ("home", "missing member street")
    assert refusal(lambda: found.check(base | {"home": bad}))[0] == "home.floor"
    assert refusal(lambda: found.check(base | {"homes": [good, bad]}))[0] == "homes[1].floor"
    assert refusal(lambda: found.check(base | {"phones": {CITIZEN: bad}}))[0] == "phones{}.floor"
    assert refusal(lambda: found.check(base | {"phones": {"a\0": good}})) == ("phones{}", "text with a NUL (U+0000)")
    assert refusal(lambda: found.check(base | {"phones": {1: good}}))[0] == "phones{}"
    assert refusal(lambda: found.from_json(base | {"homes": [{"street": 5}]}))[0] == "homes[0].street"
    assert refusal(lambda: found.from_json(base | {"home": {"Home": good}})) == (
        "home",
        'written plain, without {"Home": ...} around the value',
    )
    assert refusal(lambda: found.from_json(base | {"home": {"gov.civil.Home": good}}))[1].startswith("written plain")


GOOD_TEXT = {
    ("string", "check", str),
    ("string", "from_json", str),
    ("bytes", "check", bytes),
    ("enum", "from_json", str),
}


def test_a_value_is_never_in_a_reason() -> None:
    secret = "一二三四五六七八"
    for word, type_ in TYPES.items():
        found = one(type_)
        for value in (secret, [secret], {secret: secret}, secret.encode()):
            for act in (found.check, found.from_json):
                if (word, act.__name__, type(value)) not in GOOD_TEXT:
                    with pytest.raises(Rejected) as caught:
                        act({"citizen_id": CITIZEN, "x": value})
                    assert secret not in str(caught.value)


# --- subjects, levels, versions ---------------------------------------------------------------------------------------


def test_the_subject_is_checked_and_the_record_holds_its_normal_form() -> None:
    found = contract()
    record = found.check({"citizen_id": " 11010119000101009x\t"})
    assert record.value["citizen_id"] == record.subject.identifier == "11010119000101009X"
    assert (record.contract, record.major, record.version, record.event_time) == ("civil.person", 1, None, None)
    with pytest.raises(InvalidIdentifier) as caught:
        found.check({"citizen_id": "1.10101E+17"})
    assert caught.value.field == "citizen_id"
    assert caught.value.reason == "number damaged by a spreadsheet; export the column as text"
    form = found.from_json({"citizen_id": "11010119000101009x"})
    assert found.check(form).subject == record.subject


def test_a_subject_may_be_an_integer() -> None:
    found = contract(
        field("number", "long"),
        subject={"kind": "citizen", "scheme": "cn.ric", "field": "number"},
        record_key=["number"],
    )
    record = found.check({"citizen_id": "not this one", "number": int(CITIZEN)})
    assert record.subject.identifier == CITIZEN
    assert record.value["number"] == int(CITIZEN)
    assert record.record_key == (CITIZEN,)


def test_a_level_4_field_is_refused_wherever_it_comes_from() -> None:
    fields = [field("salary", ["null", "long"], default=None)]
    sealed, open_ = (contract(*fields, fields={"salary": {"level": level}}) for level in (4, 3))
    base: dict[str, Any] = {"citizen_id": CITIZEN}
    assert sealed.check(base).value == sealed.check(base | {"salary": None}).value == base | {"salary": None}
    datum = open_.encode(open_.check(base | {"salary": 5}))
    for act in (
        lambda: sealed.check(base | {"salary": 5}),
        lambda: sealed.from_json(base | {"salary": "5"}),
        lambda: sealed.decode(datum),
    ):
        assert refusal(act) == ("salary", "a level 4 field never leaves its department; leave it out")
    assert sealed.decode(sealed.encode(sealed.check(base))).value["salary"] is None


@pytest.mark.parametrize(
    ("word", "value", "version"),
    [
        ("int", 7, 7),
        ("long", -7, -7),
        ("date", date(1970, 1, 11), 10),
        ("date", date(1969, 12, 31), -1),
        ("timestamp-millis", NOON, 1772366400000),
        ("timestamp-micros", NOON.replace(microsecond=1), 1772366400000001),
        ("timestamp-micros", datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), -1),
    ],
)
def test_the_version_is_a_number_in_the_schemas_own_unit(word: str, value: Any, version: int) -> None:
    assert contract(field("x", TYPES[word]), version="x").check({"citizen_id": CITIZEN, "x": value}).version == version


def test_the_event_time_is_the_records_and_may_be_null() -> None:
    found = contract(field("x", ["null", TYPES["timestamp-millis"]]), event_time="x")
    east = NOON.astimezone(ZoneInfo("Asia/Shanghai"))
    assert found.check({"citizen_id": CITIZEN, "x": east}).event_time == NOON
    assert found.check({"citizen_id": CITIZEN, "x": None}).event_time is None


def test_a_withheld_contract_takes_no_records() -> None:
    found = contract(sharing="withheld", reason="State secret")
    assert refusal(lambda: found.check({"citizen_id": CITIZEN}))[1] == "a withheld contract takes no records"
    assert refusal(lambda: found.decode(b""))[1] == "a withheld contract takes no records"


def test_one_fields_form_can_be_read_alone() -> None:
    found = one(TYPES["decimal"])
    assert found.parse_field("x", "1.1") == Decimal("1.10")
    assert refusal(lambda: found.parse_field("x", 1.1))[0] == "x"
    assert refusal(lambda: found.parse_field("x", "1.105")) == ("x", "more than 2 decimals")
    with pytest.raises(KeyError):
        found.parse_field("y", "1")


def test_json_text_is_canonical() -> None:
    found = contract(field("b", "int"), field("a", {"type": "map", "values": "int"}))
    text = found.to_json(found.check({"b": 1, "citizen_id": CITIZEN, "a": {"z": 1, "甲": 2, "A": 3}}).value)
    assert text == f'{{"a":{{"A":3,"z":1,"甲":2}},"b":1,"citizen_id":"{CITIZEN}"}}'


def test_a_record_that_unfolds_too_far_or_is_too_large_is_rejected() -> None:
    wide = {"type": "record", "name": "Wide", "fields": [field(f"f{n}", "int") for n in range(99)]}
    found = one({"type": "array", "items": wide})
    row = {f"f{n}": n for n in range(99)}
    reason = "more than 16384 values in one record"
    assert found.check({"citizen_id": CITIZEN, "x": [row] * 163}).value["x"][162] == row
    assert refusal(lambda: found.check({"citizen_id": CITIZEN, "x": [row] * 164})) == (None, reason)
    heavy = one({"type": "array", "items": "string"})
    record = heavy.check({"citizen_id": CITIZEN, "x": ["a" * 1000] * 1100})
    assert refusal(lambda: heavy.encode(record)) == (None, "the record takes more than 1 MiB")
