"""Generated contracts and values: what goes in comes out, on the wire and as JSON, and other bytes do no harm."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import fastavro
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from exchange.contracts import Contract
from exchange.errors import Rejected
from tests.support.contract_values import SCALARS, TEXT, types
from tests.support.contracts import CITIZEN, HEAD, contract, field


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
