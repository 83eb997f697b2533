"""Each type that a contract may have: how it is written, a value of it in Python, and in JSON as the code has it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from exchange.contracts import Contract

_DAY = date(2026, 3, 1)
_INSTANT = datetime(2026, 3, 1, 0, 5, tzinfo=UTC)
_MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2}
_HOME = {"type": "record", "name": "Home", "fields": [{"name": "floor", "type": "int", "doc": "Floor."}]}

# What a department has, the Avro type, a value.
_TYPES: tuple[tuple[str, Any, Any], ...] = (
    ("text", "string", "东街1号"),
    ("yes or no", "boolean", True),
    ("a whole number up to 2 147 483 647", "int", 5),
    ("a larger whole number", "long", 9007199254740993),
    ("money, and every number whose digits count", _MONEY, Decimal("1.10")),
    ("the same in so many bytes", {**_MONEY, "type": "fixed", "name": "Money", "size": 8}, Decimal("1.10")),
    ("a measured number", "double", 0.1),
    ("one with less digits", "float", 0.5),
    ("one of a few words", {"type": "enum", "name": "Gender", "symbols": ["male", "female"]}, "male"),
    ("a day", {"type": "int", "logicalType": "date"}, _DAY),
    ("an instant", {"type": "long", "logicalType": "timestamp-millis"}, _INSTANT),
    ("the same, to a millionth", {"type": "long", "logicalType": "timestamp-micros"}, _INSTANT),
    ("a time of day", {"type": "int", "logicalType": "time-millis"}, time(8, 5)),
    ("the same, to a millionth", {"type": "long", "logicalType": "time-micros"}, time(8, 5)),
    ("a UUID", {"type": "string", "logicalType": "uuid"}, UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6")),
    ("a photograph, a signature", "bytes", b"\xff\xd8"),
    ("something that may be missing", ["null", "string"], None),
    ("several of one type", {"type": "array", "items": "string"}, ["C1", "D"]),
    ("values by name", {"type": "map", "values": "int"}, {"rooms": 3}),
    ("something with parts", _HOME, {"floor": 13}),
)


def rows() -> Iterator[tuple[str, str, str, str]]:
    """What it is, its Avro type, the value in Python, the same in JSON."""
    for what, schema, value in _TYPES:
        kind = "None" if value is None else type(value).__name__
        yield what, f"`{json.dumps(schema)}`", f"`{kind}`", f"`{json.dumps(_form(schema, value), ensure_ascii=False)}`"


def _form(schema: Any, value: Any) -> Any:
    """The JSON form of a value, by a contract that has it."""
    contract = Contract.from_text(json.dumps(_contract(schema)))
    record = contract.check({"citizen_id": "11010519491231002X", "it": value})
    return json.loads(contract.to_json(record.value))["it"]


def _contract(schema: Any) -> dict[str, Any]:
    return {
        "type": "record",
        "name": "Example",
        "namespace": "gov.traffic",
        "fields": [
            {"name": "citizen_id", "type": "string", "doc": "Whose it is."},
            {"name": "it", "type": schema, "doc": "It."},
        ],
        "exchange": {
            "major": 1,
            "owner": "traffic",
            "title": {"zh-CN": "例", "en": "Example"},
            "subject": {"kind": "citizen", "scheme": "cn.ric", "field": "citizen_id"},
            "sharing": "conditional",
            "fields": {"citizen_id": {"level": 2}, "it": {"level": 2}},
        },
    }
