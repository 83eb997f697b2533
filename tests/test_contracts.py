"""Loading a contract: what is read, and what is refused with its path and reason."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from exchange.contracts import Contract, load, load_catalogue
from exchange.contracts.schema import MAX_DEPTH, MAX_FIELDS
from exchange.contracts.wire import MAX_VALUES
from exchange.errors import ContractRefused
from tests.support.contracts import contract, field, one, schema

NULLABLE = ["null", "string"]
DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2}
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


def refusal(given: Any) -> str:
    with pytest.raises(ContractRefused) as caught:
        Contract.from_text(given if isinstance(given, str) else json.dumps(given))
    return caught.value.detail


def changed(base: dict[str, Any], **terms: Any) -> dict[str, Any]:
    return base | {"exchange": base["exchange"] | terms}


# --- what is read -----------------------------------------------------------------------------------------------------


def test_a_contract_says_what_its_schema_says() -> None:
    found = contract(
        field("name", "string", aliases=["full_name"]),
        field("revision", "long"),
        field("updated_at", MILLIS),
        field("health", NULLABLE, default=None),
        department="civil_registry",
        name="HouseholdMember",
        cycle="P1D",
        version="revision",
        event_time="updated_at",
        fields={
            "name": {"level": 1, "concept": "citizen.name", "lead": True},
            "health": {"level": 4},
        },
    )
    assert (found.name, found.topic) == ("civil_registry.household_member", "civil_registry.household_member.v1")
    assert found.registry_subject == "civil_registry.household_member.v1-value"
    assert (found.kind, found.scheme, found.subject_field) == ("citizen", "cn.ric", "citizen_id")
    assert (found.sharing, found.reason, found.record_key) == ("conditional", None, ())
    assert found.cycle == timedelta(days=1)
    assert (found.version_field, found.event_time_field) == ("revision", "updated_at")
    name, health = found.fields["name"], found.fields["health"]
    assert (name.level, name.concept, name.leads, name.aliases) == (1, "citizen.name", True, ("full_name",))
    assert (name.type, name.nullable, health.type, health.nullable) == ("string", False, "string", True)
    assert (health.level, found.fields["updated_at"].type) == (4, "timestamp-millis")
    assert list(found.fields) == ["citizen_id", "name", "revision", "updated_at", "health"]


def test_a_contract_about_enterprises_with_many_records_each() -> None:
    found = contract(
        field("number", "string"),
        field("year", "int"),
        record_key=["number", "year"],
        subject={"kind": "enterprise", "scheme": "cn.uscc", "field": "citizen_id"},
    )
    record = found.check({"citizen_id": "91110000ma0000000h", "number": "A-1", "year": 2026})
    assert record.subject.identifier == record.value["citizen_id"] == "91110000MA0000000H"
    assert record.record_key == ("A-1", "2026")


def test_the_normalised_text_holds_everything_and_no_blanks() -> None:
    given = schema(field("name", "string", default="某"))
    loose, tight = Contract.from_text(json.dumps(given, indent=3)), Contract.from_text(json.dumps(given))
    assert loose == tight
    assert loose.schema_text == tight.schema_text
    assert "\n" not in loose.schema_text
    assert json.loads(loose.schema_text) == given
    assert Contract.from_text(loose.schema_text) == loose


def test_levels_and_defaults_make_another_version_although_the_parsing_form_is_equal() -> None:
    low, high = (contract(field("phone", NULLABLE, default=None), fields={"phone": {"level": n}}) for n in (1, 3))
    without, with_default = one("string"), one("string", default="110101")
    assert low.schema_text != high.schema_text
    assert without.schema_text != with_default.schema_text


@pytest.mark.parametrize(
    ("text", "cycle"),
    [
        ("PT1H", timedelta(hours=1)),
        ("P1D", timedelta(days=1)),
        ("P1W", timedelta(weeks=1)),
        ("P1DT12H", timedelta(hours=36)),
        ("P1M", timedelta(days=31)),
        ("P3M", timedelta(days=93)),
        ("P1Y", timedelta(days=366)),
        (None, None),
    ],
)
def test_the_cycle_is_an_iso_duration_whose_months_are_long_ones(text: str | None, cycle: timedelta | None) -> None:
    assert one("string", default="x").cycle is None
    assert contract(cycle=text).cycle == cycle


@pytest.mark.parametrize("text", ["", "P", "PT", "1D", "P0D", "PT0S", "P-1D", "P1.5D", "daily", 86400, "P1DT", "P１D"])
def test_anything_else_is_no_cycle(text: object) -> None:
    assert "exchange.cycle: an ISO 8601 duration is needed" in refusal(schema(cycle=text))


# --- what is refused: types -------------------------------------------------------------------------------------------

HOME = {"type": "record", "name": "Home", "fields": [field("street", "string")]}


def nested(depth: int) -> Any:
    """A type whose records, arrays and maps nest `depth` deep."""
    return {"type": "array", "items": nested(depth - 1)} if depth else "string"


@pytest.mark.parametrize(
    ("type_", "reason"),
    [
        ("null", "x: null alone takes no bytes"),
        (["null"], "x: a union is of null and one type"),
        (["string"], "x: a union is of null and one type"),
        (["int", "string"], "x: a union is of null and one type"),
        (["null", "int", "string"], "x: a union is of null and one type"),
        (["null", "null"], "x: a union is of null and one type"),
        (["null", ["null", "string"]], "x: a union is of null and one type"),
        ([], "x: a union is of null and one type"),
        ({"type": "array", "items": "null"}, "x: items of type null take no bytes"),
        ({"type": "map", "values": "null"}, "x: values of type null take no bytes"),
        ({"type": "array"}, "x[]: a type is a name, a union or an object"),
        ({"type": "array", "items": {"type": "record", "name": "E", "fields": []}}, "x[]: a record without fields"),
        ({"type": "record", "name": "Home", "fields": {}}, "x: fields is not a list"),
        ({"type": "fixed", "name": "Code", "size": 3}, "x: fixed is for decimal only"),
        ({"type": "fixed", "name": "D", "size": 12, "logicalType": "duration"}, "x: fixed is for decimal only"),
        ({"type": "long", "logicalType": "local-timestamp-millis"}, "x: the logicalType is none of decimal, uuid"),
        ({"type": "long", "logicalType": "timestamp-seconds"}, "x: the logicalType is none of decimal, uuid"),
        ({"type": "long", "logicalType": "timestamp-nanos"}, "x: the logicalType is none of decimal, uuid"),
        ({"type": "bytes", "logicalType": "big-decimal"}, "x: the logicalType is none of decimal, uuid"),
        ({"type": "long", "logicalType": 1}, "x: the logicalType is none of decimal, uuid"),
        ({"type": "long", "logicalType": "date"}, 'x: date belongs on int: {"type": "int", "logicalType": "date"}'),
        ({"type": "string", "logicalType": "decimal"}, "x: decimal belongs on bytes"),
        (
            {"type": ["null", "long"], "logicalType": "date"},
            "x: logicalType, precision and scale stand inside the type",
        ),
        ({"type": {"type": "int"}}, "x: a type inside a type"),
        ({"type": "array", "items": "int", "logicalType": "date"}, "x: logicalType does not belong on array"),
        ({"type": "bytes", "logicalType": "decimal"}, "x: the precision of a decimal is 1 to 76"),
        (DECIMAL | {"precision": 77}, "x: the precision of a decimal is 1 to 76"),
        (DECIMAL | {"precision": True}, "x: the precision of a decimal is 1 to 76"),
        (DECIMAL | {"scale": 11}, "x: the scale of a decimal is 0 to its precision"),
        (DECIMAL | {"scale": -1}, "x: the scale of a decimal is 0 to its precision"),
        (DECIMAL | {"type": "fixed", "name": "F", "size": 4}, "x: the size of this fixed does not hold 10 digits"),
        ({"type": "bytes", "precision": 3}, "x: precision and scale belong to the logicalType decimal"),
        ({"type": "enum", "name": "E", "symbols": []}, "x: symbols is not a list of names"),
        ({"type": "enum", "name": "E", "symbols": ["A", "A"]}, "x: symbols are distinct names"),
        ({"type": "enum", "name": "E", "symbols": ["男"]}, "x: symbols are distinct names"),
        ({"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}, "x: the enum's default is none"),
        ("Home", "x: unknown type Home"),
        ("gov.civil.Person", "x: recursive type gov.civil.Person"),
        (["null", "Person"], "x: recursive type Person"),
        ({"type": "array", "items": "Person"}, "x[]: recursive type Person"),
        ({"type": "record", "name": "Person", "fields": [field("a", "int")]}, "x: the type name Person stands for two"),
        ({"type": "record", "name": "int", "fields": [field("a", "int")]}, "x: the type name int stands for two"),
        ({"type": "record", "name": "a_b", "fields": [field("a", "int")]}, "x: a record's name is CamelCase"),
        ({"type": "record", "name": "Ä", "fields": [field("a", "int")]}, "x: a name has ASCII letters"),
        ({"type": "record", "fields": [field("a", "int")]}, "x: a record, enum or fixed needs a name"),
        ({"type": "record", "name": "Home", "fields": [{"name": "a", "type": "int"}]}, "x.a: doc is missing"),
        (nested(8), "nested deeper than 8"),
        (5, "x: a type is a name, a union or an object"),
        ({}, "x: the type is missing"),
    ],
)
def test_a_type_that_could_be_misread_or_grow_is_refused(type_: Any, reason: str) -> None:
    assert reason in refusal(schema(field("x", type_)))


def test_one_level_less_is_deep_enough() -> None:
    assert one(nested(7)).fields["x"].type == "array"


def test_a_type_that_is_used_twice_counts_twice() -> None:
    deep = {"type": "array", "items": {"type": "array", "items": HOME}}
    reused = [field("a", HOME), field("b", nested(4) | {"items": {"type": "array", "items": deep["items"]}})]
    assert contract(field("a", HOME), field("b", {"type": "array", "items": "Home"})).fields["b"].type == "array"
    assert "Home stands for two types" in refusal(schema(*reused))
    wide = {"type": "record", "name": "Wide", "fields": [field(f"f{n}", "int") for n in range(100)]}
    assert one(wide).fields["x"].type == "record"
    assert "c: more than 300 fields" in refusal(schema(field("a", wide), field("b", "Wide"), field("c", "Wide")))
    tall = {"type": "record", "name": "Tall", "fields": [field("a", nested(6))]}
    assert "b[]: nested deeper than 8" in refusal(
        schema(field("a", tall), field("b", {"type": "array", "items": "Tall"}))
    )


def test_three_hundred_fields_are_enough() -> None:
    assert len(contract(*[field(f"f{n}", "int") for n in range(299)]).fields) == 300
    assert "more than 300 fields" in refusal(schema(*[field(f"f{n}", "int") for n in range(300)]))


def test_every_field_that_is_wrong_is_told_at_once() -> None:
    told = refusal(schema(field("a", "null"), {"name": "b", "type": "int"}, field("c", "Home"), field("cD", "int")))
    assert [part.partition(":")[0] for part in told.splitlines()] == ["a", "b", "c", "fields[4]"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (field("citizenId", "int"), "fields[1]: a field has a name in snake_case"),
        (field("x" * 65, "int"), "fields[1]: a field has a name in snake_case"),
        (field("a__b", "int"), "fields[1]: a field has a name in snake_case"),
        (field("a\n", "int"), "fields[1]: a field has a name in snake_case"),
        ({"type": "int", "doc": "d"}, "fields[1]: a field has a name in snake_case"),
        (field("delete", "int"), "delete: a field cannot be named delete"),
        (field("x", "int", doc=" "), "x: doc is missing"),
        (field("x", "int", aliases="y"), "x: aliases is not a list of names"),
        (field("x", "int", aliases=["citizen_id"]), "the name or alias citizen_id stands for two fields"),
        (field("citizen_id", "int"), "the name or alias citizen_id stands for two fields"),
        (
            field("x", "long", logicalType="timestamp-millis"),
            'precision and scale stand inside the type: {"type": "long", "logicalType": "timestamp-millis"}',
        ),
        (
            field("x", ["null", "long"], default=None, logicalType="timestamp-millis"),
            'stand inside the type: ["null", {"type": "long", "logicalType": "timestamp-millis"}]',
        ),
    ],
)
def test_a_field_is_refused_with_its_path(given: dict[str, Any], reason: str) -> None:
    assert reason in refusal(schema(given))


# --- what is refused: defaults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_", "default"),
    [
        ("string", 5),
        ("string", None),
        ("string", "a\0"),
        ("int", "5"),
        ("int", True),
        ("int", 1.0),
        ("int", 2**31),
        ("long", 2**63),
        ("boolean", 0),
        ("boolean", "false"),
        ("double", "NaN"),
        ("float", 16777217),
        ("float", 1e39),
        ("bytes", "Ā"),
        (NULLABLE, "x"),
        (NULLABLE, "null"),
        (["string", "null"], None),
        (["string", "null"], "null"),
        (["string", "null"], "NULL"),
        (["string", "null"], "None"),
        ({"type": "enum", "name": "E", "symbols": ["A"]}, "B"),
        ({"type": "int", "logicalType": "date"}, "2026-01-01"),
        ({"type": "int", "logicalType": "date"}, 10**7),
        ({"type": "int", "logicalType": "time-millis"}, 86_400_000),
        (MILLIS, 10**18),
        ({"type": "string", "logicalType": "uuid"}, "no"),
        (DECIMAL, "1.10"),
        (DECIMAL, ""),
        ({"type": "array", "items": "int"}, {}),
        ({"type": "array", "items": "int"}, [1, "2"]),
        ({"type": "map", "values": "int"}, {"a": None}),
        (HOME, {}),
        (HOME, {"street": "a", "floor": 1}),
        (HOME, "Home"),
    ],
)
def test_a_default_that_does_not_fit_is_refused(type_: Any, default: Any) -> None:
    assert "x: the default does not fit" in refusal(schema(field("x", type_, default=default)))


def test_the_word_null_as_a_default_is_refused_with_the_right_form() -> None:
    told = refusal(schema(field("address", ["string", "null"], default="null")))
    assert told == (
        'address: the default does not fit: the default is the word null as text; write ["null", ...] and null without '
        "quotation marks"
    )


@pytest.mark.parametrize(
    ("type_", "default", "form"),
    [
        (NULLABLE, None, None),
        (["string", "null"], "x", "x"),
        ("long", 5, "5"),
        ("double", 1, 1.0),
        ("bytes", "\u00ff\u0000", "/wA="),
        ({"type": "int", "logicalType": "date"}, -1, "1969-12-31"),
        (MILLIS, 1, "1970-01-01T00:00:00.001Z"),
        (DECIMAL, "\u0001\u0000", "2.56"),
        (DECIMAL, "\u00ff", "-0.01"),
        ({"type": "array", "items": "int"}, [], []),
        ({"type": "map", "values": "long"}, {"a": 1}, {"a": "1"}),
        (HOME, {"street": "s"}, {"street": "s"}),
    ],
)
def test_a_default_has_the_form_that_avro_gives_it(type_: Any, default: Any, form: Any) -> None:
    found = one(type_, default=default)
    record = found.check({"citizen_id": "110101190001010014"})
    assert json.loads(found.to_json(record.value))["x"] == form
    assert found.decode(found.encode(record)) == record


def test_no_two_records_share_a_default_that_could_be_changed() -> None:
    found = one({"type": "array", "items": "int"}, default=[])
    first, second = (found.check({"citizen_id": "110101190001010014"}) for _ in range(2))
    assert first.value["x"] is not second.value["x"]


# --- what is refused: text and names ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ("[]", "a contract is a JSON object of type record"),
        ('"string"', "a contract is a JSON object of type record"),
        ('{"type": "enum"}', "a contract is a JSON object of type record"),
        ('{"type": "record", "type": "record"}', "the member type stands twice"),
        ('{"type": "record", "default": NaN}', "NaN is no JSON number"),
        ("[" * 200_000, "nested too deep to be read"),
        ('{"type":"array","items":' * 40_000, "nested too deep to be read"),
        (" " * (1 << 20) + "{}", "more than 1048576 characters"),
        ("\ufeff{}", "not JSON"),
    ],
)
def test_a_text_that_is_no_schema_is_refused(text: str, reason: str) -> None:
    assert reason in refusal(text)


def test_infinity_and_nan_cannot_be_written_as_a_default() -> None:
    text = json.dumps(schema(field("x", "double", default=1.5)))
    assert "NaN and infinities are no values" in refusal(text.replace("1.5", "1e400"))
    assert "NaN is no JSON number" in refusal(text.replace("1.5", "NaN"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"namespace": "com.civil"}, "namespace: gov.<department> is needed"),
        ({"namespace": "gov.Civil"}, "namespace: gov.<department> is needed"),
        ({"namespace": "gov.civil.people"}, "namespace: gov.<department> is needed"),
        ({"namespace": "gov."}, "a name has ASCII letters"),
        ({"namespace": "gov.exchange"}, "namespace: no department can be named exchange"),
        ({"name": "Rejects"}, "name: no dataset can be named rejects"),
        ({"name": "person"}, "name: a record's name is CamelCase"),
        ({"name": None}, "name: a record, enum or fixed needs a name"),
        ({"fields": []}, "a record without fields takes no bytes"),
    ],
)
def test_names_that_would_collide_or_mislead_are_refused(change: dict[str, Any], reason: str) -> None:
    assert reason in refusal(schema() | change)


# --- what is refused: the exchange property ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"major": 0}, "exchange.major: a whole number from 1 is needed"),
        ({"major": "1"}, "exchange.major: a whole number from 1 is needed"),
        ({"major": True}, "exchange.major: a whole number from 1 is needed"),
        ({"owner": "tax"}, "exchange.owner: the namespace says that civil owns it"),
        ({"owner": None}, "exchange.owner: text is needed"),
        ({"title": {"en": "Person"}}, "exchange.title.zh-CN: the title is missing"),
        ({"title": {"en": "", "zh-CN": "人"}}, "exchange.title: an object is needed"),
        ({"title": "Person"}, "exchange.title: an object is needed"),
        ({"subject": "citizen_id"}, "exchange.subject: an object of kind, scheme and field is needed"),
        ({"subject": {"kind": "citizen", "scheme": "cn.x", "field": "citizen_id"}}, "exchange.subject.scheme: unknown"),
        ({"subject": {"kind": "citizen", "scheme": [], "field": "citizen_id"}}, "exchange.subject.scheme: unknown"),
        ({"subject": {"kind": "enterprise", "scheme": "cn.ric", "field": "citizen_id"}}, "exchange.subject.kind"),
        ({"subject": {"kind": "citizen", "scheme": "cn.ric", "field": "x"}}, "exchange.subject.field: a required"),
        ({"subject": {"kind": "citizen", "scheme": "cn.ric", "field": "maybe"}}, "exchange.subject.field: a required"),
        ({"subject": {"kind": "citizen", "scheme": "cn.ric", "field": "day"}}, "exchange.subject.field: a required"),
        ({"record_key": "number"}, "exchange.record_key: a list of field names"),
        ({"record_key": ["x"]}, "exchange.record_key.x: a required field of type string, int or long"),
        ({"record_key": ["maybe"]}, "exchange.record_key.maybe: a required field"),
        ({"record_key": ["day"]}, "exchange.record_key.day: a required field"),
        ({"record_key": ["citizen_id", "citizen_id"]}, "exchange.record_key: a field stands twice"),
        ({"sharing": "open"}, "exchange.sharing: one of unconditional, conditional, withheld"),
        ({"sharing": None}, "exchange.sharing: one of"),
        ({"sharing": "withheld"}, "exchange.reason: a withheld contract says why"),
        ({"reason": "because"}, "exchange.reason: only a withheld contract has one"),
        ({"version": "maybe"}, "exchange.version: a required field of type int, long, date or timestamp"),
        ({"version": "citizen_id"}, "exchange.version: a required field of type"),
        ({"version": 1}, "exchange.version: a field's name is needed"),
        ({"event_time": "day"}, "exchange.event_time: a field of type timestamp-millis"),
        ({"event_time": "x"}, "exchange.event_time: a field of type timestamp-millis"),
        ({"levels": {}}, "exchange.levels: unknown; known are major, owner"),
    ],
)
def test_terms_that_do_not_hold_are_refused(terms: dict[str, Any], reason: str) -> None:
    base = schema(field("maybe", ["null", "long"], default=None), field("day", {"type": "int", "logicalType": "date"}))
    assert reason in refusal(changed(base, **terms))


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({}, "exchange.fields.x.level: a whole number from 1 to 4"),
        ({"level": 0}, "exchange.fields.x.level: a whole number from 1 to 4"),
        ({"level": 5}, "exchange.fields.x.level: a whole number from 1 to 4"),
        ({"level": "2"}, "exchange.fields.x.level: a whole number from 1 to 4"),
        ({"level": 2.0}, "exchange.fields.x.level: a whole number from 1 to 4"),
        (2, "exchange.fields.x: an object of level"),
        ({"level": 2, "leads": True}, "exchange.fields.x: an object of level"),
        ({"level": 2, "concept": "address"}, "exchange.fields.x.concept: two words joined by a dot"),
        ({"level": 2, "concept": "a.b.c"}, "exchange.fields.x.concept: two words joined by a dot"),
        ({"level": 2, "lead": True}, "exchange.fields.x.lead: true or false is needed, and a concept"),
        ({"level": 2, "concept": "citizen.address", "lead": 1}, "exchange.fields.x.lead"),
        ({"level": 4}, "exchange.fields.x.level: a level 4 field is nullable with default null"),
    ],
)
def test_what_is_said_of_a_field_is_checked(said: Any, reason: str) -> None:
    base = schema(field("x", "string"))
    base["exchange"]["fields"]["x"] = said
    assert reason in refusal(base)


def test_every_field_has_a_level_and_no_level_is_without_field() -> None:
    base = schema(field("x", "string"))
    assert refusal(changed(base, fields={"citizen_id": {"level": 2}})) == "exchange.fields.x: the level is missing"
    levels = base["exchange"]["fields"] | {"y": {"level": 1}}
    assert refusal(changed(base, fields=levels)) == "exchange.fields.y: the record has no such field"
    del base["exchange"]
    assert "exchange: the property is missing" in refusal(base)


@pytest.mark.parametrize("more", [{}, {"default": "x"}])
def test_a_level_4_field_without_default_null_is_refused(more: dict[str, Any]) -> None:
    base = schema(field("x", ["string", "null"] if more else NULLABLE, **more), fields={"x": {"level": 4}})
    assert "a level 4 field is nullable with default null" in refusal(base)


def test_concepts_stand_on_contracts_with_one_record_per_subject_and_once() -> None:
    said = {"x": {"concept": "citizen.address"}, "y": {"concept": "citizen.address"}}
    two = schema(field("x", "string"), field("y", "string"), fields=said)
    assert "exchange.fields.y.concept: the concept citizen.address stands on two fields" in refusal(two)
    listed = schema(field("x", "string"), fields={"x": said["x"]}, record_key=["x"])
    assert "exchange.fields.x.concept: concepts stand on contracts with one record per subject" in refusal(listed)


# --- files ------------------------------------------------------------------------------------------------------------


def write(folder: Path, name: str, given: dict[str, Any]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(given), "utf-8")
    return path


def file_refusal(path: Path) -> str:
    with pytest.raises(ContractRefused) as caught:
        load(path) if path.is_file() else load_catalogue(path)
    return caught.value.detail


def test_a_file_is_named_in_every_refusal(tmp_path: Path) -> None:
    path = write(tmp_path, "civil/person.avsc", schema(field("x", "null")))
    assert file_refusal(path).startswith(f"{path}: x: null alone takes no bytes")
    path.write_bytes(b"\xff")
    assert file_refusal(path) == f"{path}: no UTF-8 at byte 0"
    with pytest.raises(ContractRefused, match="cannot be read"):
        load(tmp_path / "civil/nobody.avsc")


def test_a_file_stands_where_its_contents_say(tmp_path: Path) -> None:
    assert load(write(tmp_path, "civil/person.avsc", schema())).name == "civil.person"
    assert load(write(tmp_path, "civil/person.v1.avsc", schema())).name == "civil.person"
    assert "asks for the file person.avsc" in file_refusal(write(tmp_path, "civil/people.avsc", schema()))
    assert "asks for gov.tax" in file_refusal(write(tmp_path, "tax/person.avsc", schema()))
    assert "exchange.major: the file's name says 2" in file_refusal(write(tmp_path, "civil/person.v2.avsc", schema()))


def test_a_catalogue_knows_the_newest_major_and_the_departments(tmp_path: Path) -> None:
    write(tmp_path, "civil/person.avsc", schema(major=3))
    write(tmp_path, "civil/person.v1.avsc", schema(major=1))
    write(tmp_path, "tax/person.avsc", schema(department="tax"))
    catalogue = load_catalogue(tmp_path)
    assert list(catalogue.contracts) == [("civil.person", 1), ("civil.person", 3), ("tax.person", 1)]
    newest = catalogue.newest("civil.person")
    assert newest is not None
    assert newest.major == 3
    assert catalogue.newest("civil.people") is None
    assert [found.major for found in catalogue.department("civil")] == [1, 3]


def test_an_older_major_needs_a_newer_one_beside_it(tmp_path: Path) -> None:
    write(tmp_path, "civil/person.v1.avsc", schema(major=1))
    assert "the newest major, person.avsc, is not there" in file_refusal(tmp_path)
    write(tmp_path, "civil/person.avsc", schema(major=1))
    assert "person.avsc is to have a greater major" in file_refusal(tmp_path)


def test_a_concept_has_one_lead_source_in_the_catalogue(tmp_path: Path) -> None:
    leading = {"x": {"concept": "citizen.address", "lead": True}}
    write(tmp_path, "civil/person.avsc", schema(field("x", "string"), fields=leading, major=2))
    write(tmp_path, "civil/person.v1.avsc", schema(field("x", "string"), fields=leading))
    assert load_catalogue(tmp_path).leads() == {"citizen.address": "civil.person"}
    write(tmp_path, "tax/person.avsc", schema(field("x", "string"), fields=leading, department="tax"))
    told = file_refusal(tmp_path)
    assert "the concept citizen.address has 2 lead sources" in told
    assert f"{tmp_path}/civil/person.avsc: exchange.fields.x.lead" in told
    assert f"{tmp_path}/tax/person.avsc: exchange.fields.x.lead" in told


def test_a_catalogue_tells_every_file_that_is_wrong(tmp_path: Path) -> None:
    first = write(tmp_path, "civil/person.avsc", schema(field("x", "null")))
    second = write(tmp_path, "stray.avsc", schema())
    told = file_refusal(tmp_path).splitlines()
    assert [line.partition(": ")[0] for line in told] == [str(first), str(second)]
    assert "no such folder" in file_refusal(tmp_path / "nowhere")


# --- the page for those who write one ---------------------------------------------------------------------------------

PAGE = Path(__file__).parent.parent / "docs/contracts.md"


def test_the_example_of_the_page_is_a_contract(tmp_path: Path) -> None:
    page = PAGE.read_text("utf-8")
    path = tmp_path / "traffic/driving_licence.avsc"
    path.parent.mkdir()
    path.write_text(page.split("```json\n")[1].split("```")[0], "utf-8")
    assert load(path).topic == "traffic.driving_licence.v1"


def test_the_page_names_every_limit() -> None:
    page = PAGE.read_text("utf-8")
    for limit in (f"{MAX_VALUES:,}".replace(",", " "), f"more than {MAX_FIELDS} fields", f"deeper than {MAX_DEPTH}"):
        assert limit in page
