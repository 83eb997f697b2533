"""Bytes: what we write is Avro, and what we read is bounded, whoever wrote it.

Each of fastavro's bites (docs say which) has a test here that shows the bite and that ours does not have it.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import struct
import subprocess
import sys
import time
import tracemalloc
from datetime import date
from decimal import Decimal
from typing import Any

import fastavro
import pytest

from exchange.contracts import Contract, frame, unframe
from exchange.errors import ContractRefused, Rejected
from tests.support.contracts import CITIZEN, HEAD, contract, field, one, schema, zigzag

ENUM = {"type": "enum", "name": "Sex", "symbols": ["F", "M"]}
TEXTS = {"type": "array", "items": "string"}
UUID = {"type": "string", "logicalType": "uuid"}
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 2}
FIXED = {"type": "fixed", "name": "F", "size": 8}
TOO_LONG = "more digits than decimal(2, 0) holds"


def fast(found: Contract) -> Any:
    return fastavro.parse_schema(json.loads(found.schema_text))


def by_fastavro(found: Contract, datum: bytes) -> Any:
    return fastavro.schemaless_reader(io.BytesIO(datum), fast(found), None)


def refusal(found: Contract, datum: bytes) -> tuple[str | None, str]:
    with pytest.raises(Rejected) as caught:
        found.decode(datum)
    return caught.value.field, caught.value.reason


# --- hostile bytes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [-1, -2, 2, 2**31, -(2**63)])
def test_an_enum_index_without_a_symbol_is_refused(index: int) -> None:
    found = one(ENUM)
    assert refusal(found, HEAD + zigzag(index)) == ("x", "an enum index without a symbol")


def test_the_bite_enum_index_minus_one_reads_as_the_last_symbol() -> None:
    assert by_fastavro(one(ENUM), HEAD + zigzag(-1))["x"] == "M"


@pytest.mark.parametrize("index", [-1, -2, 2, 2**31])
def test_a_union_index_without_a_branch_is_refused(index: int) -> None:
    found = one(["null", "string"])
    told = refusal(found, HEAD + zigzag(index) + b"\x02a")
    assert told == ("x", "a union index that is neither null nor the other type")


def test_the_bite_union_index_minus_one_reads_as_the_last_branch() -> None:
    assert by_fastavro(one(["null", "string"]), HEAD + zigzag(-1) + b"\x02a")["x"] == "a"


def test_bytes_left_over_are_refused() -> None:
    found = one("string")
    datum = found.encode(found.check({"citizen_id": CITIZEN, "x": "a"}))
    assert refusal(found, datum + b"zz") == (None, "bytes are left over behind the record")
    assert by_fastavro(found, datum + b"zz")["x"] == "a"  # the bite


@pytest.mark.parametrize(
    "type_",
    ["boolean", "long", "float", "double", "string", "bytes", ENUM, TEXTS, ["null", "long"], DECIMAL | FIXED],
)
def test_bytes_that_are_missing_are_refused(type_: Any) -> None:
    found = one(type_)
    assert refusal(found, HEAD) == ("x", "the bytes end before the record does")
    assert refusal(found, b"") == ("citizen_id", "the bytes end before the record does")


def test_every_beginning_of_a_datum_is_refused() -> None:
    found = contract(field("a", TEXTS), field("b", ["null", "double"]), field("c", {"type": "map", "values": "bytes"}))
    datum = found.encode(found.check({"citizen_id": CITIZEN, "a": ["x", "男"], "b": 1.5, "c": {"k": b"v"}}))
    for end in range(len(datum)):
        refusal(found, datum[:end])


@pytest.mark.parametrize("length", [-1, -(2**63), 1000, 2**31, 2**62])
@pytest.mark.parametrize("type_", ["string", "bytes", DECIMAL])
def test_a_length_is_not_believed(type_: Any, length: int) -> None:
    assert refusal(one(type_), HEAD + zigzag(length) + b"abc") == ("x", "a length that goes beyond the bytes")


@pytest.mark.parametrize("count", [2**14 + 1, 2**40, 2**62, -(2**14) - 1, -(2**63)])
@pytest.mark.parametrize("type_", [TEXTS, {"type": "map", "values": "int"}, {"type": "array", "items": TEXTS}])
def test_a_count_is_not_believed(type_: Any, count: int) -> None:
    size = zigzag(3) if count < 0 else b""
    field_, reason = refusal(one(type_), HEAD + zigzag(count) + size + b"\0\0\0")
    assert field_ == "x"
    assert reason == "more than 16384 values in one record"


def test_a_block_is_as_long_as_it_says() -> None:
    found = one(TEXTS)
    block = zigzag(-1) + zigzag(2) + b"\x02a" + b"\0"
    assert found.decode(HEAD + block).value["x"] == ["a"]
    for size in (1, 3, -1, 1000):
        field_, reason = refusal(found, HEAD + zigzag(-1) + zigzag(size) + b"\x02a" + b"\0")
        assert field_ == "x"
        assert reason in ("a block that is not as long as it says", "a length that goes beyond the bytes")


def test_a_key_that_stands_twice_in_a_map_is_refused() -> None:
    found = one({"type": "map", "values": "int"})
    assert (
        refusal(found, HEAD + zigzag(2) + b"\x02a\x02" + b"\x02a\x04" + b"\0")[1]
        == "a key that stands twice in one map"
    )


@pytest.mark.parametrize("number", [b"\x80" * 9 + b"\x02", b"\x80" * 10 + b"\x01", b"\xff" * 100])
def test_an_integer_of_more_than_64_bits_is_refused(number: bytes) -> None:
    assert refusal(one("long"), HEAD + number) == ("x", "an integer of more than 64 bits")


def test_a_long_is_not_an_int() -> None:
    assert refusal(one("int"), HEAD + zigzag(2**40)) == ("x", "outside the range of int")
    assert by_fastavro(one("int"), HEAD + zigzag(2**40))["x"] == 2**40  # the bite


@pytest.mark.parametrize(
    ("type_", "datum", "reason"),
    [
        ("boolean", b"\x02", "a boolean that is neither 0 nor 1"),
        ("string", b"\x02\xff", "text that is not UTF-8"),
        ("string", b"\x06\xed\xa0\x80", "text that is not UTF-8"),  # a surrogate
        ("string", b"\x04\xc0\x80", "text that is not UTF-8"),  # NUL, written too long
        ("string", b"\x02\0", "text with a NUL (U+0000)"),
        ("string", zigzag(200) + b"a" * 199 + b"\0", "text with a NUL (U+0000)"),
        ("double", struct.pack("<d", float("nan")), "NaN and infinities are no values"),
        ("float", struct.pack("<f", float("inf")), "NaN and infinities are no values"),
        ({"type": "int", "logicalType": "date"}, zigzag(2**31 - 1), "a date outside the years 1 to 9999"),
        ({"type": "int", "logicalType": "time-millis"}, zigzag(-1), "a time outside one day"),
        ({"type": "int", "logicalType": "time-millis"}, zigzag(86_400_000), "a time outside one day"),
        ({"type": "long", "logicalType": "timestamp-millis"}, zigzag(2**62), "a time outside the years 1 to 9999"),
        (UUID, b"\x04no", "a UUID is written as 8-4-4-4-12 hexadecimal digits in small letters"),
        (DECIMAL, b"\0", "a decimal without bytes"),
        (DECIMAL, b"\x02\x64", TOO_LONG),
        (DECIMAL, zigzag(65) + b"\0" * 65, TOO_LONG),
    ],
)  # fmt: skip
def test_a_datum_keeps_the_rules_of_its_type(type_: Any, datum: bytes, reason: str) -> None:
    assert refusal(one(type_), HEAD + datum) == ("x", reason)


def test_the_place_of_a_fault_in_a_datum_is_named() -> None:
    home = {"type": "record", "name": "Home", "fields": [field("street", "string")]}
    found = one({"type": "array", "items": {"type": "map", "values": home}})
    assert refusal(found, HEAD + zigzag(2) + b"\0" + zigzag(1) + b"\x02a" + b"\x02\xff")[0] == "x[1]{}.street"


def test_the_subject_in_a_datum_is_checked() -> None:
    field_, reason = refusal(contract(), zigzag(5) + b"12345")
    assert (field_, reason) == ("citizen_id", "18 characters expected, 5 found")


def test_a_block_of_another_writer_is_read() -> None:
    """Several blocks, sizes announced, a padded length: Avro as other writers may write it."""
    found = one(TEXTS)
    blocks = zigzag(1) + b"\x02a" + zigzag(-2) + zigzag(4) + b"\x02b\x02c" + b"\0"
    assert found.decode(HEAD + blocks).value["x"] == ["a", "b", "c"]
    assert one("string").decode(HEAD + b"\x82\0a").value["x"] == "a"


# --- bombs ------------------------------------------------------------------------------------------------------------


def measured(found: Contract, datum: bytes) -> tuple[float, int]:
    """(seconds, greatest growth in bytes) of refusing or reading a datum."""
    begin = time.perf_counter()
    with contextlib.suppress(Rejected):
        found.decode(datum)
    seconds = time.perf_counter() - begin
    tracemalloc.start()
    with contextlib.suppress(Rejected):
        found.decode(datum)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return seconds, peak


def chain(depth: int, leaf: Any) -> Any:
    """Records of one field in each other: the most dictionaries that a byte can make."""
    if not depth:
        return leaf
    return {"type": "record", "name": f"C{depth}", "fields": [field("f", chain(depth - 1, leaf))]}


BOMBS = {
    "records in records": ({"type": "array", "items": chain(6, "boolean")}, zigzag(4681) + b"\x01" * 4681 + b"\0"),
    "more of them": ({"type": "array", "items": chain(6, "boolean")}, zigzag(10**6) + b"\x01" * 10**6 + b"\0"),
    "many blocks": ({"type": "array", "items": "boolean"}, (zigzag(1) + b"\x01") * 500_000),
    "empty arrays": ({"type": "array", "items": {"type": "array", "items": "int"}}, zigzag(32_000) + b"\0" * 32_001),
    "empty maps": (
        {"type": "array", "items": {"type": "map", "values": "int"}},
        (zigzag(1) + b"\0") * 16_384 + b"\0",
    ),
    "empty maps in blocks": ({"type": "array", "items": TEXTS}, (zigzag(1) + b"\0") * 500_000),
    "nullable records": (
        {"type": "array", "items": ["null", chain(6, ["null", "boolean"])]},
        zigzag(60_000) + b"\x02\0" * 60_000 + b"\0",
    ),
    "wide text": ("string", zigzag(1_048_000) + b"a" * 1_047_996 + "😀".encode()),
    "a long datum": ("bytes", zigzag(1 << 20) + bytes(1 << 20)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_no_datum_takes_much_time_or_memory(name: str) -> None:
    type_, datum = BOMBS[name]
    seconds, peak = measured(one(type_), HEAD + datum)
    assert peak < 64 << 20
    assert seconds < 1  # 0.05 on a quiet machine


def test_the_bites_that_no_contract_can_have() -> None:
    """fastavro unfolds 5 bytes of array<null> to any number of items, and dies of a recursive type in 5 kB."""
    nulls = fastavro.parse_schema({"type": "array", "items": "null"})
    unfolded = fastavro.schemaless_reader(io.BytesIO(zigzag(100_000) + b"\0"), nulls, None)
    assert isinstance(unfolded, list)
    assert len(unfolded) == 100_000
    for type_ in ({"type": "array", "items": "null"}, ["null", "Person"]):
        with pytest.raises(ContractRefused):
            one(type_)


# --- random bytes -----------------------------------------------------------------------------------------------------

EVERYTHING = [
    field("a", ["null", "string"]),
    field("b", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}),
    field("c", {"type": "array", "items": {"type": "map", "values": ["null", "long"]}}),
    field("d", ENUM),
    field("e", {"type": "long", "logicalType": "timestamp-micros"}),
    field("f", {"type": "record", "name": "Home", "fields": [field("g", "double"), field("h", TEXTS)]}),
    field("i", {"type": "string", "logicalType": "uuid"}),
    field("j", "boolean"),
]


def test_random_and_damaged_bytes_are_read_or_rejected() -> None:
    found = contract(*EVERYTHING)
    rng = random.Random(20261125)
    good = HEAD + b"\x02\x02a" + b"\x04\x01\x02" + b"\x02\x02\x02k\x02\x04\0\0" + b"\x02" + zigzag(10**15)
    good += struct.pack("<d", 1.5) + b"\x02\x02s\0" + zigzag(36) + b"0" * 8 + b"-0000" * 3 + b"-" + b"0" * 12 + b"\x01"
    record = found.decode(good)
    assert found.decode(found.encode(record)) == record
    for _ in range(20_000):
        datum = bytearray(good)
        for _ in range(rng.randint(1, 4)):
            place = rng.randrange(len(HEAD), len(datum))
            action = rng.randrange(3)
            if action == 0:
                datum[place] = rng.randrange(256)
            elif action == 1:
                del datum[place : place + rng.randint(1, 4)]
            else:
                datum[place:place] = rng.randbytes(rng.randint(1, 10))
            if len(datum) <= len(HEAD):
                break
        try:
            read = found.decode(bytes(datum))
        except Rejected:
            continue
        assert found.decode(found.encode(read)) == read
        assert found.check(found.from_json(json.loads(found.to_json(read.value)))) == read
    for _ in range(2_000):
        with pytest.raises(Rejected):
            found.decode(HEAD + rng.randbytes(rng.randint(0, 20)))


# --- written bytes ----------------------------------------------------------------------------------------------------


def test_what_fastavro_would_write_wrongly_never_reaches_it() -> None:
    """The bites of writing: 2**40 into an int, 1.5 -> 1, 'false' -> true, a dropped member, null for a missing one."""
    found = contract(field("a", "int", default=0), field("b", "boolean", default=False), field("c", ["null", "string"]))

    def written(**members: Any) -> Any:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, fast(found), {"citizen_id": CITIZEN} | members)
        return by_fastavro(found, out.getvalue())

    assert written(a=2**40)["a"] == 2**40
    assert written(a=1.5)["a"] == 1
    assert written(b="false")["b"] is True
    assert written(cc="x") == {"citizen_id": CITIZEN, "a": 0, "b": False, "c": None}
    for members in ({"a": 2**40}, {"a": 1.5}, {"b": "false"}, {"cc": "x"}, {}):
        with pytest.raises(Rejected):
            found.check({"citizen_id": CITIZEN, **({} if members in ({}, {"cc": "x"}) else {"c": None}), **members})


def test_other_libraries_read_what_we_write() -> None:
    found = contract(field("born", {"type": "int", "logicalType": "date"}), field("pay", EVERYTHING[1]["type"]))
    datum = found.encode(found.check({"citizen_id": CITIZEN, "born": date(1900, 1, 1), "pay": Decimal("1.100")}))
    read = by_fastavro(found, datum)
    assert read == {"citizen_id": CITIZEN, "born": date(1900, 1, 1), "pay": Decimal("1.10")}


# --- framing ----------------------------------------------------------------------------------------------------------


def test_framing_is_a_zero_byte_and_four_bytes_of_id() -> None:
    assert frame(258, b"abc") == b"\0\0\0\x01\x02abc"
    assert unframe(b"\0\0\0\x01\x02abc") == (258, b"abc")
    assert unframe(frame(2**32 - 1, b"")) == (2**32 - 1, b"")


@pytest.mark.parametrize("value", [b"", b"\0\0\0\0", b"\x01\0\0\0\x01abc", b'{"a":1}', b"\0" * ((1 << 20) + 1)])
def test_a_value_without_framing_or_too_large_is_rejected(value: bytes) -> None:
    with pytest.raises(Rejected):
        unframe(value)


def test_a_schema_nested_100_000_deep_kills_no_process() -> None:
    """fastavro dies of such a text by SIGSEGV; in a process of its own, in case ours does."""
    program = (
        "from exchange.contracts import Contract\n"
        "from exchange.errors import ContractRefused\n"
        "for text in ('{\"type\":\"array\",\"items\":' * 40000 + '\"int\"' + '}' * 40000, '[' * 100000):\n"
        "    try:\n        Contract.from_text(text)\n    except ContractRefused:\n        print('refused')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.split()) == (0, ["refused", "refused"])


def test_deep_but_not_too_deep_for_json_is_refused_by_depth() -> None:
    type_: Any = "int"
    for _ in range(200):
        type_ = {"type": "array", "items": type_}
    with pytest.raises(ContractRefused, match="nested deeper than 8"):
        Contract.from_text(json.dumps(schema(field("x", type_))))
