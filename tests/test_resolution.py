"""Any Avro schema: what is taken, in which form, and which schema reads what another wrote."""

from __future__ import annotations

import io
import json
import re
import time
import tracemalloc
from typing import Any

import avro.schema
import fastavro
import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from exchange.contracts.avro import MAX_DEPTH, MAX_TEXT, MAX_TYPES, read
from exchange.contracts.resolution import misreads
from exchange.errors import ContractRefused
from tests.support.avro_schemas import chain, datum, endless, pairs, plain, schemas, wheel

DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2}
SLOW = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


def record(*fields: Any, name: str = "R", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": list(fields), **more}


def field(name: str, type_: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": type_, **more}


def why(reader: Any, writer: Any) -> list[str]:
    return misreads(read(json.dumps(reader)).type, read(json.dumps(writer)).type)


# --- which reads which ------------------------------------------------------------------------------------------------


@SLOW
@given(pairs(), st.data())
def test_what_is_called_compatible_reads_every_datum(pair: tuple[Any, Any], data: st.DataObject) -> None:
    writer, reader = pair
    try:
        reasons = why(reader, writer)
    except ContractRefused:
        assume(False)
    assume(not reasons and not endless(writer))
    written = io.BytesIO()
    fastavro.schemaless_writer(written, writer, datum(data.draw, writer, {}))
    written.seek(0)
    fastavro.schemaless_reader(written, writer, reader)
    assert written.read() == b""


def test_a_former_name_that_another_field_has_now_names_nothing() -> None:
    """Java's readers rename the written field, and then miss it; avro's own library finds it twice."""
    writer = record(field("a", "null"))
    reader = record(field("b", "null", aliases=["a"]), field("a", ["null", "string"], default=None))
    assert why(reader, writer) == ["READER_FIELD_MISSING_DEFAULT_VALUE at b: it has no default and was not written"]


@SLOW
@given(pairs())
def test_it_is_as_strict_as_avros_own_library_and_no_stricter_without_logical_types(pair: tuple[Any, Any]) -> None:
    writer, reader = (json.dumps(plain(each)) for each in pair)
    try:
        reasons = misreads(read(reader).type, read(writer).type)
    except ContractRefused:
        assume(False)
    checker = ReaderWriterCompatibilityChecker()
    found = checker.get_compatibility(avro.schema.parse(reader), avro.schema.parse(writer))
    assert (found.compatibility is SchemaCompatibilityType.compatible) == (not reasons), (reasons, found.messages)


@SLOW
@given(schemas())
def test_every_schema_reads_itself(schema: Any) -> None:
    try:
        assert why(schema, schema) == []
    except ContractRefused:
        assume(False)


PROMOTED = [
    ("long", "int"), ("float", "int"), ("double", "int"), ("float", "long"), ("double", "long"), ("double", "float"),
    ("bytes", "string"), ("string", "bytes"),
]  # fmt: skip


def test_promotions_are_those_of_avro_and_no_others() -> None:
    kinds = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
    compatible = [
        (reader, writer) for reader in kinds for writer in kinds if reader != writer and not why(reader, writer)
    ]
    assert sorted(compatible) == sorted(PROMOTED)


@pytest.mark.parametrize(
    ("reader", "writer", "word"),
    [
        ({**DECIMAL, "scale": 3}, DECIMAL, "scale"),
        ({**DECIMAL, "precision": 7}, DECIMAL, "precision"),
        (DECIMAL, "bytes", "decimal"),
        (
            {"type": "long", "logicalType": "timestamp-micros"},
            {"type": "long", "logicalType": "timestamp-millis"},
            "micros",
        ),
        ("int", {"type": "int", "logicalType": "date"}, "date"),
        ("long", {"type": "int", "logicalType": "date"}, "date"),
        ({"type": "long", "logicalType": "timestamp-millis"}, "int", "timestamp-millis"),
        ([{"type": "long", "logicalType": "timestamp-millis"}, "double"], "long", "timestamp-millis"),
        (record(field("a", "int")), record(), "READER_FIELD_MISSING_DEFAULT_VALUE at a"),
        (record(name="S"), record(), "NAME_MISMATCH"),
        ({"type": "enum", "name": "E", "symbols": ["X"]}, {"type": "enum", "name": "E", "symbols": ["X", "Y"]}, "Y"),
        ({"type": "fixed", "name": "F", "size": 2}, {"type": "fixed", "name": "F", "size": 3}, "FIXED_SIZE"),
        ("int", ["null", "int"], "null"),
        (["null", "int"], "string", "MISSING_UNION_BRANCH"),
        ({"type": "array", "items": "int"}, {"type": "array", "items": "long"}, r"\[\]"),
        ({"type": "map", "values": "int"}, {"type": "map", "values": "long"}, r"\{\}"),
        (
            record(field("b", "int", aliases=["a"]), field("c", "int", aliases=["a"])),
            record(field("a", "int")),
            "alias",
        ),
    ],
)
def test_what_would_be_misread_is_named(reader: Any, writer: Any, word: str) -> None:
    (reason,) = why(reader, writer)
    assert re.search(word, reason)


@pytest.mark.parametrize(
    ("reader", "writer"),
    [
        ({**DECIMAL, "precision": 9}, DECIMAL),
        (record(field("b", "long", aliases=["a"])), record(field("a", "int"))),
        (record(name="New", namespace="x", aliases=["Old"]), record(name="Old", namespace="x")),
        (record(name="New", aliases=["y.Old"]), record(name="Old", namespace="y")),
        (
            {"type": "enum", "name": "E", "symbols": ["X"], "default": "X"},
            {"type": "enum", "name": "E", "symbols": ["Y"]},
        ),
        (["null", "long"], "int"),
        ({"type": "int", "logicalType": "made-up"}, "int"),
        ({"type": "string", "logicalType": "date"}, "string"),
        ("bytes", {"type": "bytes", "logicalType": "decimal", "precision": 0}),
    ],
)
def test_what_can_be_read(reader: Any, writer: Any) -> None:
    assert why(reader, writer) == []


def test_a_verdict_that_rested_on_a_type_still_compared_is_not_remembered() -> None:
    """B reads B only if A reads A, and A does not: wherever B stands, it is no match."""

    def tree(kind: str) -> Any:
        inner = record(field("a", ["null", "A"]), name="B")
        return record(field("b", ["null", inner]), field("x", kind), name="A")

    assert why(tree("int"), tree("string"))
    assert why({"type": "array", "items": tree("int")}, {"type": "array", "items": tree("string")})


# --- what is taken ----------------------------------------------------------------------------------------------------


BAD: dict[str, tuple[Any, str]] = {
    "no type": ({}, "type is missing"),
    "a number": (7, "a type is"),
    "an unknown name": ("Person", "defined neither"),
    "a union in a union": (["null", ["int"]], "union in a union"),
    "one type twice": (["int", "int"], "twice"),
    "one array twice": ([{"type": "array", "items": "int"}, {"type": "array", "items": "long"}], "twice"),
    "one name twice": (record(field("a", record()), field("b", record())), "stands for two"),
    "one field twice": (record(field("a", "int"), field("a", "int")), "stands for two"),
    "no items": ({"type": "array"}, "items is missing"),
    "no values": ({"type": "map"}, "values is missing"),
    "no fields": ({"type": "record", "name": "R"}, "not a list"),
    "fields of nothing": (record(7), r"fields\[0\]"),
    "a field without type": (record({"name": "a"}), "type is missing"),
    "a name with a blank": (record(name="a b"), "ASCII"),
    "a name that is a type": (record(name="int"), "stands for two"),
    "a default of another type": (record(field("a", "int", default="x")), "default"),
    "a default too large": (record(field("a", "int", default=2**31)), "default"),
    "a default of no branch": (record(field("a", ["null", "int"], default="x")), "default"),
    "an enum's default": ({"type": "enum", "name": "E", "symbols": ["X"], "default": "Y"}, "default"),
    "symbols twice": ({"type": "enum", "name": "E", "symbols": ["X", "X"]}, "distinct"),
    "symbols of nothing": ({"type": "enum", "name": "E", "symbols": "X"}, "list"),
    "a negative size": ({"type": "fixed", "name": "F", "size": -1}, "size"),
    "a huge size": ({"type": "fixed", "name": "F", "size": 2**40}, "size"),
    "aliases of nothing": (record(aliases=[1]), "aliases"),
}


@pytest.mark.parametrize(("schema", "reason"), BAD.values(), ids=BAD)
def test_what_is_no_avro_is_refused(schema: Any, reason: str) -> None:
    with pytest.raises(ContractRefused, match=reason):
        read(json.dumps(schema))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "string",
        "{",
        '{"type":"int","type":"long"}',
        '{"type":"int","x":NaN}',
        '{"type":"int","x":1e999}',
        '{"type":"int","doc":"\\ud800"}',
        "[" * 100_000,
        '{"type":"array","items":' * 5_000 + '"int"' + "}" * 5_000,
        '"' + "x" * MAX_TEXT + '"',
    ],
    ids=range(10),
)
def test_a_text_that_is_no_json_or_too_much_is_refused(text: str) -> None:
    with pytest.raises(ContractRefused):
        read(text)


def test_recursive_types_are_taken() -> None:
    tree = record(field("value", "int"), field("next", ["null", "R"], default=None))
    assert why(tree, tree) == []
    assert why(tree, record(field("value", "long"), field("next", ["null", "R"])))


def test_depth_and_numbers_are_bounded() -> None:
    deep: Any = "int"
    for _ in range(MAX_DEPTH):
        deep = {"type": "array", "items": deep}
    with pytest.raises(ContractRefused, match="deeper"):
        read(json.dumps(deep))
    with pytest.raises(ContractRefused, match=str(MAX_TYPES)):
        read(json.dumps(record(*(field(f"f{n}", "int") for n in range(MAX_TYPES)))))


def test_the_longest_chain_and_the_largest_wheels_take_no_time() -> None:
    began = time.process_time()
    text = json.dumps(chain(1_600))
    assert misreads(read(text).type, read(text).type) == []
    with pytest.raises(ContractRefused, match="too large"):
        why(wheel(599), wheel(600))
    unions = [{"type": "record", "name": "X", "namespace": f"n{n}", "fields": []} for n in range(500)]
    assert why(unions, unions) == []
    assert time.process_time() - began < 20  # half a second; by recursion, or pair after pair, it would not end


def test_a_default_that_could_be_of_many_branches_is_not_tried_for_ever() -> None:
    """Each level could be a record of any name before it: more ways than there is time."""
    branches: list[Any] = [
        {"type": "record", "name": f"B{n}", "fields": [field("n", ["null", *(f"B{one}" for one in range(n))])]}
        for n in range(40)
    ]
    default: Any = 1
    for _ in range(35):
        default = {"n": default}
    top = record(field("d", [f"B{n}" for n in range(40)], default=default))
    with pytest.raises(ContractRefused, match="checks"):
        read(json.dumps([*branches, top]))


def test_the_paths_of_a_cycle_do_not_fill_the_memory() -> None:
    reader, writer = (read(json.dumps(wheel(size))).type for size in (60, 61))
    tracemalloc.start()
    assert misreads(reader, writer) == []
    assert tracemalloc.get_traced_memory()[1] < 10 << 20  # 2 MiB; as texts they took 34
    tracemalloc.stop()


def test_a_reference_brings_names() -> None:
    address = json.dumps(record(field("city", "string"), name="Address", namespace="gov.civil"))
    person = json.dumps(record(field("home", "gov.civil.Address"), name="Person", namespace="gov.civil"))
    with pytest.raises(ContractRefused, match="defined neither"):
        read(person)
    assert read(person, [address]).type.fields[0].type.name == "gov.civil.Address"
    with pytest.raises(ContractRefused, match="stands for two"):
        read(address, [address])


def test_one_form_of_text_and_the_normal_one() -> None:
    spread = record(
        field("a", {"type": "string"}),
        field("b", {"type": "gov.E"}),
        field("c", {"type": {"type": "map", "values": {"type": "int"}}}),
        doc="kept",
        name="R",
        namespace="gov",
        aliases=["Q"],
    )
    spread["fields"].insert(0, field("e", {"type": "enum", "name": "E", "symbols": ["X"]}))
    text = json.dumps(spread, indent=3)
    assert read(text).text == json.dumps(spread, sort_keys=True, separators=(",", ":"))
    assert json.loads(read(text, normalize=True).text) == {
        "type": "record", "name": "gov.R", "aliases": ["gov.Q"], "doc": "kept",
        "fields": [
            {"name": "e", "type": {"type": "enum", "name": "gov.E", "symbols": ["X"]}}, {"name": "a", "type": "string"},
            {"name": "b", "type": "gov.E"}, {"name": "c", "type": {"type": "map", "values": "int"}},
        ],
    }  # fmt: skip
    normal = read(text, normalize=True)
    assert read(normal.text, normalize=True).text == normal.text
    assert misreads(normal.type, read(text).type) == misreads(read(text).type, normal.type) == []
