"""Generated types of a contract, each with its native values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.support.contracts import field

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])

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
def flat_types(draw: st.DrawFn, name: str) -> Typed:
    """Types without arrays, maps and nested records."""
    make, values = draw(st.sampled_from(SCALARS))
    match draw(st.sampled_from(["required", "null first", "null last"])):
        case "null first":
            return Typed(["null", make(name)], st.none() | values)
        case "null last":
            return Typed([make(name), "null"], st.none() | values)
    return Typed(make(name), values)


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
