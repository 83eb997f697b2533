"""The code that is made for a schema gives what the nodes give, for every value and for bytes that somebody damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exchange.contracts import Contract, load_catalogue
from exchange.contracts.compiled import Unpacked
from exchange.errors import Rejected
from exchange.subjects import Subject
from tests.support.contract_values import flat_types, relaxed
from tests.support.contracts import CITIZEN, HEAD, contract, field, zigzag

ODD = [b"\x80" * 11, b"\x80\0", b"\xff" * 9 + b"\x01", b"\xff" * 9 + b"\x02", b"\0"]  # of numbers, longer than need be

ROOT = Path(__file__).parent.parent

EDGES = [
    0,
    6,
    13,
    20,
    27,
    31,
    34,
    41,
    48,
    55,
    62,
    63,
]  # bits: where a zig-zag number takes one byte more, and 32 and 64

VERSIONS = [
    "int",
    "long",
    {"type": "int", "logicalType": "date"},
    {"type": "long", "logicalType": "timestamp-millis"},
    {"type": "long", "logicalType": "timestamp-micros"},
]


@st.composite
def sound(draw: st.DrawFn) -> tuple[Contract, bytes]:
    """A contract without arrays, maps and nested records, and a datum of it."""
    typed = [draw(flat_types(f"X{place}")) for place in range(draw(st.integers(1, 5)))]
    found = contract(*[field(f"x{place}", each.schema) for place, each in enumerate(typed)])
    value = {f"x{place}": draw(each.values) for place, each in enumerate(typed)}
    return found, found.encode(found.check({"citizen_id": CITIZEN, **value}))


def reference(found: Contract, datum: bytes) -> Unpacked:
    record = found.decode(datum)
    return Unpacked(record.subject, record.record_key, record.version, found.to_json(record.value))


def outcome(call: Callable[[], Unpacked]) -> Any:
    try:
        return call()
    except Rejected as rejected:
        return rejected.field, rejected.reason


def compiled(found: Contract, datum: bytes) -> Unpacked:
    """What the made code gives, without the reference behind it."""
    assert found.compiled is not None
    identifier, *rest = found.compiled(b"before" + datum, 6)
    return Unpacked(Subject(found.scheme, identifier), *rest)


@relaxed
@given(sound())
def test_a_sound_record_is_taken_as_the_nodes_take_it(drawn: tuple[Contract, bytes]) -> None:
    found, datum = drawn
    assert compiled(found, datum) == reference(found, datum)


@settings(relaxed, max_examples=300)
@given(sound(), st.data())
def test_damaged_bytes_are_taken_or_refused_as_the_nodes_do(drawn: tuple[Contract, bytes], data: st.DataObject) -> None:
    found, datum = drawn
    damaged = bytearray(datum)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(damaged)))
        new = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"\x80" * 11, b"\x80\0", b"\xff" * 9 + b"\x01", b"\0"])
        )
        damaged[place : place + data.draw(st.integers(0, 3))] = new
    assert outcome(lambda: found.unpack(bytes(damaged))) == outcome(lambda: reference(found, bytes(damaged)))


@pytest.mark.parametrize("type_", VERSIONS, ids=str)
def test_a_version_is_the_number_in_the_datum(type_: Any) -> None:
    found = contract(field("revision", type_), version="revision")
    edges = [sign * 2**bits + by for bits in EDGES for sign in (1, -1) for by in (-2, -1, 0, 1)]
    for number in (0, 700_000, *edges):
        for datum in (HEAD + zigzag(number), HEAD + zigzag(number)[:-1], HEAD + zigzag(number)[:-1] + b"\x80\0"):
            assert outcome(lambda: found.unpack(datum)) == outcome(lambda: reference(found, datum)), number  # noqa: B023


@pytest.mark.parametrize("text", ["", "x" * 63, "x" * 64, "人" * 2730, "x" * 8191, "x" * 8192, "\\u0000", '"\\\n\x7f'])
def test_text_of_every_length(text: str) -> None:
    found = contract(field("note", "string"))
    datum = found.encode(found.check({"citizen_id": CITIZEN, "note": text}))
    assert found.unpack(datum) == reference(found, datum)


@pytest.mark.parametrize(
    "raw", [b"\x02\0", b"\x02\xff", b"\x06\xed\xa0\x80", b"\x04\xc0\x80"], ids=["NUL", "half", "surrogate", "overlong"]
)
def test_text_that_no_record_may_hold(raw: bytes) -> None:
    found = contract(field("note", "string"))
    with pytest.raises(Rejected) as refused:
        found.unpack(HEAD + raw)
    assert refused.value.field == "note"


def test_an_identifier_in_another_form_comes_out_in_its_normal_form() -> None:
    found = contract(field("n", "int"))
    small = b"\x26 " + b"11010119000101009x" + b"\x02"
    assert found.unpack(small) == reference(found, small)
    assert '"11010119000101009X"' in found.unpack(small).payload


def test_which_contracts_have_such_code() -> None:
    assert contract(field("n", "int")).compiled
    assert not contract(field("n", {"type": "array", "items": "int"})).compiled
    assert not contract(field("n", {"type": "map", "values": "int"})).compiled
    catalogue = load_catalogue(ROOT / "schemas")
    served = [each for each in catalogue.contracts.values() if each.sharing != "withheld"]
    assert sum(each.compiled is not None for each in served) >= len(served) - 2  # the city's contracts, all but a few
