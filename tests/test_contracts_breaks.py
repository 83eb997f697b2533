"""`breaks`: what a newer version does to those who rely on an older one, within a major."""

from __future__ import annotations

import json
from typing import Any

import pytest

from exchange.contracts import Contract
from exchange.contracts.compatibility import _by_avro
from tests.support.contracts import CITIZEN, contract, field, schema

NULLABLE = ["null", "string"]
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
DATE = {"type": "int", "logicalType": "date"}


def decimal(precision: int, scale: int, **more: Any) -> dict[str, Any]:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale, **more}


def enum(*symbols: str, name: str = "Sex", **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": name, "symbols": list(symbols), **more}


def home(*fields: dict[str, Any], name: str = "Home") -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [field("street", "string"), *fields]}


def of_type(then: Any, now: Any) -> list[str]:
    return contract(field("x", now)).breaks(contract(field("x", then)))


def test_nothing_breaks_what_does_not_change() -> None:
    found = contract(field("x", home()), field("y", MILLIS, default=0), cycle="P1D")
    assert found.breaks(found) == []


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ("string", NULLABLE),
        (NULLABLE, ["string", "null"]),
        ("int", "long"),
        ("int", "double"),
        ("float", "double"),
        (enum("F"), enum("F", "M")),
        (enum("F", "M"), enum("M", "F")),
        (decimal(5, 2), decimal(9, 2)),
        (home(), home(field("floor", "int", default=0))),
        (home(), ["null", home(field("floor", "int", default=0))]),
        ({"type": "array", "items": "int"}, {"type": "array", "items": ["null", "long"]}),
        ({"type": "map", "values": home()}, {"type": "map", "values": home(field("floor", NULLABLE, default=None))}),
    ],
)
def test_what_every_reader_can_follow_breaks_nothing(then: Any, now: Any) -> None:
    assert of_type(then, now) == []


@pytest.mark.parametrize(
    ("then", "now", "reason"),
    [
        (NULLABLE, "string", "x: null goes, and older records hold it"),
        ("string", "long", "x: string becomes long"),
        ("string", "bytes", "x: string becomes bytes"),
        ("long", "int", "x: long becomes int"),
        ("long", "double", "x: long becomes double"),  # 9007199254740993
        ("long", "float", "x: long becomes float"),
        ("int", "float", "x: int becomes float"),
        (DATE, "int", "x: date becomes int"),
        ("int", DATE, "x: int becomes date"),
        (MILLIS, MICROS, "x: timestamp-millis becomes timestamp-micros"),
        (MILLIS, "long", "x: timestamp-millis becomes long"),
        ({"type": "string", "logicalType": "uuid"}, "string", "x: uuid becomes string"),
        ("string", enum("F"), "x: string becomes enum"),
        ("string", {"type": "array", "items": "string"}, "x: string becomes array"),
        (decimal(9, 3), decimal(9, 2), "x: the scale changes from 3 to 2"),
        (decimal(9, 2), decimal(5, 2), "x: the precision shrinks from 9 to 5"),
        (
            decimal(9, 2),
            decimal(9, 2, type="fixed", name="M", size=8),
            "x: the bytes or fixed beneath the decimal change",
        ),
        (enum("F", "M"), enum("F"), "x: enum symbols go: M"),
        (enum("F", "M"), enum("F", default="F"), "x: enum symbols go: M"),
        (enum("F"), enum("F", name="Gender"), "x: the enum gov.civil.Sex is renamed to gov.civil.Gender"),
        (home(), home(name="House"), "x: the record gov.civil.Home is renamed to gov.civil.House"),
        (home(), home(field("floor", "int")), "x.floor: a new field without a default"),
        (["null", home()], ["null", home(field("floor", "int"))], "x.floor: a new field without a default"),
        (home(field("floor", "int")), home(), "x.floor: the field goes"),
        ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}, "x[]: long becomes int"),
        (
            {"type": "map", "values": home(field("a", DATE))},
            {"type": "map", "values": home(field("a", "int"))},
            "x{}.a:",
        ),
    ],
)
def test_what_a_reader_would_stumble_over_is_named_with_its_path(then: Any, now: Any, reason: str) -> None:
    (told,) = of_type(then, now)
    assert told.startswith(reason)


def test_a_record_renamed_with_an_alias_is_renamed_all_the_same() -> None:
    assert of_type(home(), home(name="House") | {"aliases": ["Home"]}) == [
        "x: the record gov.civil.Home is renamed to gov.civil.House"
    ]


def test_a_field_renamed_without_an_alias_is_a_field_that_goes() -> None:
    """By Avro's rules this is compatible, and every old value vanishes."""
    v1 = contract(field("addr", "string"))
    v2 = contract(field("address", NULLABLE, default=None))
    assert _by_avro(v2.schema_text, v1.schema_text) == []  # the bite
    assert v2.breaks(v1) == ['addr: the field goes; if it was renamed, give the new one "aliases": ["addr"]']
    v2 = contract(field("address", NULLABLE, default=None, aliases=["addr"]))
    assert v2.breaks(v1) == []
    record = v1.decode(v1.encode(v1.check({"citizen_id": CITIZEN, "addr": "东街1号"})))
    (name,) = [name for name in (v2.fields["address"].name, *v2.fields["address"].aliases) if name in record.value]
    assert record.value[name] == "东街1号"


def test_a_field_renamed_with_an_alias_is_compared_with_its_former_self() -> None:
    v1 = contract(field("addr", "string"), fields={"addr": {"level": 3}})
    v2 = contract(field("address", "long", aliases=["addr"]))
    assert v2.breaks(v1) == ["exchange.fields.address.level: lowered from 3 to 2", "address: string becomes long"]


def test_a_renamed_field_keeps_its_alias_for_ever() -> None:
    v1, v2, v3 = (contract(field(name, "string", aliases=old)) for name, old in (("a", []), ("b", ["a"]), ("c", ["b"])))
    assert v2.breaks(v1) == v3.breaks(v2) == []
    assert v3.breaks(v1) == [
        "c: a new field without a default",
        'a: the field goes; if it was renamed, give the new one "aliases": ["a"]',
    ]


def test_a_new_field_needs_a_default() -> None:
    assert contract(field("x", "int")).breaks(contract()) == ["x: a new field without a default"]
    assert contract(field("x", "int", default=1)).breaks(contract()) == []
    assert contract(field("x", NULLABLE)).breaks(contract()) == ["x: a new field without a default"]


@pytest.mark.parametrize(
    ("then", "now", "reason"),
    [
        ({}, {"record_key": ["n"]}, "exchange.record_key: [] becomes ['n']"),
        ({}, {"version": "n"}, "exchange.version: None becomes n"),
        ({"version": "n"}, {}, "exchange.version: n becomes None"),
        (
            {"subject": {"kind": "citizen", "scheme": "cn.ric", "field": "n"}},
            {},
            "exchange.subject.field: n becomes citizen_id",
        ),
        ({"major": 1}, {"major": 2}, "exchange.major: 1 becomes 2"),
        ({"sharing": "conditional"}, {"sharing": "unconditional"}, "exchange.sharing: conditional is loosened"),
        ({"sharing": "withheld", "reason": "r"}, {"sharing": "conditional"}, "exchange.sharing: withheld is loosened"),
        ({"fields": {"n": {"level": 3}}}, {"fields": {"n": {"level": 1}}}, "exchange.fields.n.level: lowered from 3"),
    ],
)
def test_a_promise_that_is_taken_back_breaks(then: dict[str, Any], now: dict[str, Any], reason: str) -> None:
    older, newer = (contract(field("n", "long"), **json.loads(json.dumps(terms))) for terms in (then, now))
    (told,) = newer.breaks(older)
    assert told.startswith(reason)


def test_another_owner_is_another_record_too() -> None:
    told = contract(department="tax").breaks(contract())
    assert told == ["exchange.owner: civil becomes tax", "the record gov.civil.Person is renamed to gov.tax.Person"]


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({"fields": {"n": {"level": 1}}}, {"fields": {"n": {"level": 3}}}),
        ({"sharing": "unconditional"}, {"sharing": "conditional"}),
        ({"sharing": "unconditional"}, {"sharing": "withheld", "reason": "A new law"}),
        ({"cycle": "P1D"}, {"cycle": "P1W"}),
        ({}, {"event_time": "at"}),
        ({}, {"fields": {"n": {"concept": "citizen.number", "lead": True}}}),
        ({}, {"title": {"zh-CN": "居民", "en": "Residents"}}),
    ],
)
def test_a_promise_that_is_kept_or_made_stricter_breaks_nothing(then: dict[str, Any], now: dict[str, Any]) -> None:
    older, newer = (
        contract(field("n", "long"), field("at", MILLIS), **json.loads(json.dumps(terms))) for terms in (then, now)
    )
    assert newer.breaks(older) == []
    assert newer.schema_text != older.schema_text  # a new version all the same


def test_a_field_raised_to_level_4_breaks_nothing() -> None:
    older = contract(field("x", NULLABLE, default=None))
    newer = contract(field("x", NULLABLE, default=None), fields={"x": {"level": 4}})
    assert newer.breaks(older) == []
    assert contract(field("x", NULLABLE, default=None), fields={"x": {"level": 3}}).breaks(newer) == [
        "exchange.fields.x.level: lowered from 4 to 3"
    ]


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ("string", "long"),
        (NULLABLE, "string"),
        (home(), home(field("floor", "int"))),
        (["null", home()], ["null", home(field("floor", "int"))]),
        (enum("F", "M"), enum("F")),
        ({"type": "array", "items": "long"}, {"type": "array", "items": "int"}),
    ],
)
def test_what_avro_finds_we_find_too_and_name_the_field(then: Any, now: Any) -> None:
    older, newer = (json.dumps(schema(field("x", type_))) for type_ in (then, now))
    assert _by_avro(newer, older)
    assert of_type(then, now)[0].startswith("x")


def test_a_break_that_only_avro_finds_is_told_as_avro_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.contracts.compatibility._record", lambda *_: None)
    (told,) = of_type("string", "long")
    assert "reader type: long not compatible with writer type: string" in told


@pytest.mark.parametrize(("then", "now"), [(decimal(9, 3), decimal(9, 2)), (MILLIS, MICROS), (DATE, "int")])
def test_the_bite_avro_ignores_logical_types(then: Any, now: Any) -> None:
    older, newer = (json.dumps(schema(field("x", type_))) for type_ in (then, now))
    assert _by_avro(newer, older) == []
    assert of_type(then, now)


def test_old_records_keep_decoding_with_their_own_schema() -> None:
    """A level that was raised and a default that was added change what is decided, not what was written."""
    v1 = contract(field("phone", NULLABLE, default=None), fields={"phone": {"level": 1}})
    v2 = contract(field("phone", NULLABLE, default=None), field("district", "string", default="110101"))
    datum = v1.encode(v1.check({"citizen_id": CITIZEN, "phone": "1"}))
    assert v2.breaks(v1) == []
    assert Contract.from_text(v1.schema_text).decode(datum).value == {"citizen_id": CITIZEN, "phone": "1"}
