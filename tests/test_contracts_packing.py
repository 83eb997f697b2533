"""The code that is made for a schema writes what `check` and fastavro write, for every value, sound or not."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.contracts import Contract, load_catalogue
from exchange.contracts.packing import Packed
from exchange.errors import Rejected
from exchange.publish.encoding import Encoder
from exchange.publish.text import is_normal, normal_value
from tests.support.contract_values import TEXT, flat_types, relaxed
from tests.support.contracts import CITIZEN, contract, field
from tests.support.publishing import KEYS

ROOT = Path(__file__).parent.parent
TYPES: dict[str, Any] = {
    "boolean": "boolean",
    "int": "int",
    "long": "long",
    "float": "float",
    "double": "double",
    "string": "string",
    "bytes": "bytes",
    "enum": {"type": "enum", "name": "E", "symbols": ["A", "B", "C"]},
    "decimal": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 2},
    "whole decimal": {"type": "bytes", "logicalType": "decimal", "precision": 5},
    "fixed decimal": {
        "type": "fixed", "name": "F", "size": 6, "logicalType": "decimal", "precision": 12, "scale": 3
    },
    "uuid": {"type": "string", "logicalType": "uuid"},
    "date": {"type": "int", "logicalType": "date"},
    "time-millis": {"type": "int", "logicalType": "time-millis"},
    "time-micros": {"type": "long", "logicalType": "time-micros"},
    "timestamp-millis": {"type": "long", "logicalType": "timestamp-millis"},
    "timestamp-micros": {"type": "long", "logicalType": "timestamp-micros"},
}  # fmt: skip
NUMBERS = [0, 1, -1, 63, 64, -64, -65, 127, 128, -128, -129, 8191, 8192, -8193, 2**20 - 1, 2**20, 2**31 - 1, 2**31]
NUMBERS += [-(2**31), -(2**31) - 1, 2**34, 2**41 - 1, 2**41, 2**62, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1]
DECIMALS = ["0", "-0.00", "1", "1.1", "1.10", "1.100", "1.105", "-1.28", "-1.29", "1.27", "1.28", "99999", "100000"]
DECIMALS += ["999999999999999999.99", "1E+18", "1E-3", "NaN", "Infinity", "-Infinity", "sNaN", "1E+999", "0E-999"]
MOMENTS = [datetime(1, 1, 1), datetime(1969, 12, 31, 23, 59, 59, 999000), datetime(1970, 1, 1), datetime(2026, 3, 1)]
MOMENTS += [datetime(2026, 3, 1, 8, 5, 59, 1000), datetime(2026, 3, 1, 8, 5, 59, 999), datetime(9999, 12, 31, 23)]
ZONES = [None, UTC, timezone(timedelta(0)), timezone(timedelta(hours=8)), timezone(timedelta(hours=-9))]
TEXTS = ["", "x" * 63, "x" * 64, "x" * 511, "x" * 512, "人" * 3000, "a\0b", "\ud800", "e\u0301", "\u2f00", "李\u2022四"]
VALUES: list[Any] = [
    None, True, False, *NUMBERS, 0.0, -0.0, 1.5, 0.1, 1e39, 3.4028235e38, 1e-46, float("inf"), float("nan"),
    *TEXTS, "A", "B", "D", "1.10", b"", b"abc", bytes(600), *map(Decimal, DECIMALS),
    UUID(int=0), UUID("0189b7a0-1111-7222-8333-444455556666"), date(1, 1, 1), date(1970, 1, 1), date(9999, 12, 31),
    time(0), time(23, 59, 59, 999999), time(8, 5, 0, 1000), time(8, 5, tzinfo=UTC), time(1, 30, fold=1),
    *[moment.replace(tzinfo=zone) for moment in MOMENTS for zone in ZONES], [], {}, object(),
]  # fmt: skip


def packed(found: Contract, value: Any) -> Packed | None:
    """What the made code gives, without the reference behind it; None for what it does not take."""
    pack = found.packer(is_normal)
    assert pack is not None
    try:
        return pack(value)
    except Exception:
        return None


def reference(found: Contract, value: Any) -> Packed | None:
    try:
        record = found.check(normal_value(value))
        datum = found.encode(record)
    except Rejected:
        return None
    return Packed(record.subject.identifier, record.record_key, record.version, record.event_time, datum)


@relaxed
@given(st.data())
def test_a_sound_value_is_written_as_fastavro_writes_it(data: st.DataObject) -> None:
    typed = [data.draw(flat_types(f"X{place}")) for place in range(data.draw(st.integers(1, 5)))]
    found = contract(*[field(f"x{place}", each.schema) for place, each in enumerate(typed)])
    value = {"citizen_id": CITIZEN, **{f"x{place}": data.draw(each.values) for place, each in enumerate(typed)}}
    said, plain = packed(found, value), reference(found, value)
    assert said in (None, plain)
    zones = [part for part in value.values() if isinstance(part, datetime) and part.tzinfo is not UTC]
    if not zones and is_normal("".join(part for part in value.values() if type(part) is str)):
        assert said == plain, "the made code gave up on a sound value"


@pytest.mark.parametrize("nullable", ["required", "null first", "null last"])
@pytest.mark.parametrize("type_", TYPES.values(), ids=list(TYPES))
def test_no_value_is_taken_otherwise_than_by_the_nodes(type_: Any, nullable: str) -> None:
    schema = {"required": type_, "null first": ["null", type_], "null last": [type_, "null"]}[nullable]
    found = contract(field("x", schema))
    taken = 0
    for value in VALUES:
        whole = {"citizen_id": CITIZEN, "x": value}
        said = packed(found, whole)
        assert said is None or said == reference(found, whole), repr(value)
        taken += said is not None
    assert taken > 1


@pytest.mark.parametrize("type_", ["int", "long", "date", "timestamp-millis", "timestamp-micros"])
def test_a_version_is_the_number_in_the_datum(type_: str) -> None:
    found = contract(field("revision", TYPES[type_]), version="revision")
    taken = [value for value in VALUES if packed(found, {"citizen_id": CITIZEN, "revision": value}) is not None]
    assert len(taken) > 2
    for value in taken:
        whole = {"citizen_id": CITIZEN, "revision": value}
        assert packed(found, whole) == reference(found, whole)


@pytest.mark.parametrize("identifier", [CITIZEN, f" {CITIZEN}\t", CITIZEN[:-1] + "5", "11010119000101009X", "1101", ""])
def test_identifiers_and_record_keys(identifier: str) -> None:
    terms = {"record_key": ["kind", "number"], "event_time": "at"}
    at = field("at", ["null", TYPES["timestamp-millis"]], default=None)
    found = contract(field("kind", "string"), field("number", "long"), at, **terms)
    for more in ({}, {"at": None}, {"at": datetime(2026, 3, 1, tzinfo=UTC)}):
        value = {"citizen_id": identifier, "kind": "甲", "number": -7, **more}
        said, plain = packed(found, value), reference(found, value)
        assert said in (None, plain)
        if identifier in (CITIZEN, "11010119000101009X"):
            assert said == plain is not None
            assert said.record_key == ("甲", "-7")


MEMBERS = contract(
    field("name", "string"),
    field("note", ["null", "string"], default=None),
    field("rank", "int", default=3),
    field("sealed", ["null", "string"], default=None),
    fields={"sealed": {"level": 4}},
)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "甲"},
        {"name": "甲", "rank": 4},
        {"name": "甲", "rank": None},
        {"name": "甲", "note": "x", "rank": 3, "sealed": None},
        {"name": "甲", "sealed": "x"},
        {"name": "甲", "other": 1},
        {"name": "甲", "note": None, "rank": 3, "other": None},
        {"note": "x", "rank": 3, "sealed": None, "other": 1},
        {},
    ],
    ids=str,
)
def test_members_that_are_missing_or_unknown(value: dict[str, Any]) -> None:
    whole = {"citizen_id": CITIZEN, **value}
    assert packed(MEMBERS, whole) == reference(MEMBERS, whole)


@relaxed
@given(st.dictionaries(st.sampled_from(["citizen_id", "name", "note", "rank", "sealed", "z"]), TEXT | st.integers()))
def test_an_encoder_gives_the_same_with_the_made_code_and_without(value: dict[str, Any]) -> None:
    encoder = Encoder(MEMBERS, KEYS, 1)
    for whole in (value, {"citizen_id": CITIZEN, "name": "甲"} | value):
        outcomes: list[Any] = []
        for encode in (encoder.encode, encoder.encode_plainly):
            try:
                outcomes.append(encode(whole))
            except Rejected as rejected:
                outcomes.append((rejected.field, rejected.reason))
        assert outcomes[0] == outcomes[1]


def test_a_record_over_the_limit_is_left_to_the_reference() -> None:
    found = contract(field("a", "string"), field("b", "bytes"))
    value = {"citizen_id": CITIZEN, "a": "x" * 600_000, "b": bytes(600_000)}
    assert packed(found, value) is None
    assert packed(found, value | {"b": b""}) == reference(found, value | {"b": b""}) is not None


def test_which_contracts_have_such_code() -> None:
    catalogue = load_catalogue(ROOT / "schemas")
    served = [each for each in catalogue.contracts.values() if each.sharing != "withheld"]
    assert sum(each.packer(is_normal) is not None for each in served) >= len(served) - 2
    for each in served:
        assert (each.packer(is_normal) is None) == each.record_node.unfolds
