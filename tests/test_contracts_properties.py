"""Generated contracts and values: what goes in comes out, on the wire and as JSON, and other bytes do no harm."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import fastavro
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exchange.contracts import Contract
from exchange.errors import Rejected
from tests.support.contracts import CITIZEN, HEAD, contract, field

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def millis(moment: Any) -> Any:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    limit = 10**precision - 1
    return st.integers(-limit, limit).map(lambda unscaled: Decimal(f"{unscaled}E-{scale}"))


DATETIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.timezones() | st.just(UTC))

# Each scalar: its schema (as a function of a fresh name) and its native values.
SCALARS: list[tuple[Callable[[str], Any], st.SearchStrategy[Any]]] = [
    (lambda _: "boolean", st.booleans()),
    (lambda _: "int", st.integers(-(2**31), 2**31 - 1)),
    (lambda _: "long", st.integers(-(2**63), 2**63 - 1)),
    (lambda _: "float", st.floats(width=32, allow_nan=False, allow_infinity=False)),
    (lambda _: "double", st.floats(allow_nan=False, allow_infinity=False)),
    (lambda _: "string", TEXT),
    (lambda _: "bytes", st.binary(max_size=8)),
    (lambda name: {"type": "enum", "name": f"E{name}", "symbols": ["A", "B", "C"]}, st.sampled_from("ABC")),
    (lambda _: {"type": "bytes", "logicalType": "decimal", "precision": 40, "scale": 7}, decimals(40, 7)),
    (
        lambda name: {
            "type": "fixed",
            "name": f"F{name}",
            "size": 6,
            "logicalType": "decimal",
            "precision": 12,
            "scale": 12,
        },
        decimals(12, 12),
    ),
    (lambda _: {"type": "string", "logicalType": "uuid"}, st.uuids()),
    (lambda _: {"type": "int", "logicalType": "date"}, st.dates()),
    (lambda _: {"type": "int", "logicalType": "time-millis"}, st.times().map(millis)),
    (lambda _: {"type": "long", "logicalType": "time-micros"}, st.times()),
    (lambda _: {"type": "long", "logicalType": "timestamp-millis"}, DATETIMES.map(millis)),
    (lambda _: {"type": "long", "logicalType": "timestamp-micros"}, DATETIMES),
]


@dataclass
class Typed:
    """A type and a strategy for its native values."""

    schema: Any
    values: st.SearchStrategy[Any]


@st.composite
def types(draw: st.DrawFn, name: str = "X", depth: int = 3) -> Typed:
    kind = draw(st.sampled_from(["scalar"] * 4 + (["nullable", "array", "map", "record"] if depth else [])))
    if kind == "scalar":
        make, values = draw(st.sampled_from(SCALARS))
        return Typed(make(name), values)
    if kind == "record":
        inners = [draw(types(f"{name}{letter}", depth - 1)) for letter in "AB"[: draw(st.integers(1, 2))]]
        fields = [field(f"f{place}", inner.schema) for place, inner in enumerate(inners)]
        values = st.fixed_dictionaries({f"f{place}": inner.values for place, inner in enumerate(inners)})
        return Typed({"type": "record", "name": f"R{name}", "fields": fields}, values)
    inner = draw(types(f"{name}I", depth - 1))
    if kind == "array":
        return Typed({"type": "array", "items": inner.schema}, st.lists(inner.values, max_size=3))
    if kind == "map":
        return Typed({"type": "map", "values": inner.schema}, st.dictionaries(TEXT, inner.values, max_size=3))
    if isinstance(inner.schema, list):
        return inner
    union = ["null", inner.schema] if draw(st.booleans()) else [inner.schema, "null"]
    return Typed(union, st.none() | inner.values)


@st.composite
def contracts(draw: st.DrawFn) -> tuple[Contract, st.SearchStrategy[dict[str, Any]]]:
    typed = [draw(types(f"X{place}")) for place in range(draw(st.integers(1, 4)))]
    found = contract(*[field(f"x{place}", each.schema) for place, each in enumerate(typed)])
    values = st.fixed_dictionaries(
        {"citizen_id": st.just(CITIZEN)} | {f"x{place}": each.values for place, each in enumerate(typed)}
    )
    return found, values


relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@relaxed
@given(st.data())
def test_a_record_survives_the_wire_and_json(data: st.DataObject) -> None:
    found, values = data.draw(contracts())
    record = found.check(data.draw(values))
    datum = found.encode(record)
    assert found.decode(datum) == record
    text = found.to_json(record.value)
    again = found.check(found.from_json(json.loads(text)))
    assert again == record
    assert found.to_json(again.value) == text
    assert found.check(record.value) == record


@relaxed
@given(st.data())
def test_we_read_what_fastavro_reads(data: st.DataObject) -> None:
    found, values = data.draw(contracts())
    record = found.check(data.draw(values))
    schema = fastavro.parse_schema(json.loads(found.schema_text))
    assert fastavro.schemaless_reader(io.BytesIO(found.encode(record)), schema, None) == record.value


@relaxed
@given(st.data())
def test_any_bytes_are_a_record_or_rejected(data: st.DataObject) -> None:
    found, values = data.draw(contracts())
    datum = bytearray(found.encode(found.check(data.draw(values))))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(len(HEAD), max(len(HEAD), len(datum))))
        datum[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    try:
        record = found.decode(bytes(datum))
    except Rejected:
        return
    assert found.check(record.value) == record
    assert found.decode(found.encode(record)) == record
    assert found.check(found.from_json(json.loads(found.to_json(record.value)))) == record


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@relaxed
@given(st.data())
def test_any_json_is_a_record_or_rejected(data: st.DataObject) -> None:
    found, _ = data.draw(contracts())
    form = {"citizen_id": CITIZEN} | {name: data.draw(JSON) for name in found.fields if name != "citizen_id"}
    try:
        record = found.check(found.from_json(form))
    except Rejected:
        return
    assert found.decode(found.encode(record)) == record


@relaxed
@given(st.data())
def test_any_python_value_is_checked_or_rejected(data: st.DataObject) -> None:
    """What passes `check` is what fastavro writes and our reader reads, whatever it was."""
    found, _ = data.draw(contracts())
    wild = JSON | st.decimals() | st.dates() | st.datetimes() | st.times() | st.uuids() | st.binary(max_size=3)
    value = {"citizen_id": CITIZEN} | {name: data.draw(wild) for name in found.fields if name != "citizen_id"}
    try:
        record = found.check(value)
    except Rejected:
        return
    assert found.decode(found.encode(record)) == record


@relaxed
@example(16777217.0)
@example(0.1)
@example(1.17549435e-38)
@example(-0.0)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False) | st.floats())
def test_a_float_is_shown_by_its_shortest_decimal(value: float) -> None:
    found = contract(field("x", "float"))
    try:
        held = found.check({"citizen_id": CITIZEN, "x": value}).value["x"]
    except Rejected:
        return
    shown = json.loads(found.to_json({"citizen_id": CITIZEN, "x": held}))["x"]
    assert found.check({"citizen_id": CITIZEN, "x": shown}).value["x"] == held
    assert math.copysign(1, shown) == math.copysign(1, held)
    assert len(repr(shown)) <= len(repr(held))


def test_the_generator_reaches_every_type() -> None:
    """A property that never sees a type says nothing about it."""
    words = {contract(field("x", make("X"))).fields["x"].type for make, _ in SCALARS}
    assert len(words) == len(SCALARS) - 1  # decimal on bytes and on fixed share their word
