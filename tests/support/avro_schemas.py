"""Avro schemas, changes to them, and data of them, for Hypothesis; names come from a small set, so that they meet."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

from hypothesis import reject
from hypothesis import strategies as st

Draw = Any

PRIMITIVES = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
LOGICAL: list[dict[str, Any]] = [
    {"type": "int", "logicalType": "date"},
    {"type": "int", "logicalType": "time-millis"},
    {"type": "long", "logicalType": "timestamp-millis"},
    {"type": "long", "logicalType": "timestamp-micros"},
    {"type": "string", "logicalType": "uuid"},
    {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2},
    {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2},
    {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 3},
]
NAMES = ["ns.A", "ns.B", "ns.C", "other.A", "other.B"]
FIELDS = ["a", "b", "c", "d"]
SYMBOLS = ["X", "Y", "Z"]


@st.composite
def schemas(draw: Draw, depth: int = 3) -> Any:
    """A schema of a few types; records may contain themselves behind a union with null."""
    return _schema(draw, depth, set(), [], False)


@st.composite
def pairs(draw: Draw) -> tuple[Any, Any]:
    """Two schemas of which the second is the first with a few changes, or another one."""
    first = draw(schemas())
    if draw(st.integers(0, 9)) == 0:
        return first, draw(schemas())
    second = first
    for _ in range(draw(st.integers(0, 3))):
        second = _changed(draw, second)
    return first, second


def _schema(draw: Draw, depth: int, used: set[str], open_: list[str], in_union: bool) -> Any:
    kinds = ["leaf", "leaf", "enum", "fixed"]
    if depth > 0:
        kinds += ["record", "record", "array", "map"] + ([] if in_union else ["union"])
    if open_ and in_union:
        kinds.append("again")
    match draw(st.sampled_from(kinds)):
        case "leaf":
            return draw(st.sampled_from([*PRIMITIVES, *LOGICAL]))
        case "again":
            return draw(st.sampled_from(open_))
        case "array":
            return {"type": "array", "items": _schema(draw, depth - 1, used, open_, False)}
        case "map":
            return {"type": "map", "values": _schema(draw, depth - 1, used, open_, False)}
        case "union":
            return _union(draw, depth, used, open_)
        case kind:
            free = [one for one in NAMES if one not in used]
            if not free:
                return "int"
            name = draw(st.sampled_from(free))
            used.add(name)
            return _named(draw, kind, name, depth, used, open_)


def _named(draw: Draw, kind: str, name: str, depth: int, used: set[str], open_: list[str]) -> Any:
    space, _, last = name.rpartition(".")
    made: dict[str, Any] = {"type": kind, "name": last, "namespace": space}
    if kind == "enum":
        made["symbols"] = draw(st.lists(st.sampled_from(SYMBOLS), min_size=1, unique=True))
        if draw(st.booleans()):
            made["default"] = draw(st.sampled_from(made["symbols"]))
    elif kind == "fixed":
        made["size"] = draw(st.integers(1, 3))
    else:
        names = draw(st.lists(st.sampled_from(FIELDS), max_size=3, unique=True))
        made["fields"] = [_field(draw, one, depth, used, [*open_, name]) for one in names]
    return made


def _field(draw: Draw, name: str, depth: int, used: set[str], open_: list[str]) -> Any:
    made = {"name": name, "type": _schema(draw, depth - 1, used, open_, False)}
    if draw(st.booleans()):
        simple = {"null": None, "boolean": True, "int": 1, "long": 2, "double": 1.5, "string": "x"}
        kind = made["type"][0] if isinstance(made["type"], list) and made["type"] else made["type"]
        if isinstance(kind, str) and kind in simple:
            made["default"] = simple[kind]
    return made


def _union(draw: Draw, depth: int, used: set[str], open_: list[str]) -> Any:
    branches: list[Any] = []
    seen: set[str] = set()
    for _ in range(draw(st.integers(1, 3))):
        branch = _schema(draw, depth - 1, used, open_, True)
        # fastavro tells the types of one union by the last part of their names, also where a name stands for a type.
        what = (branch if isinstance(branch, str) else branch.get("name", branch["type"])).rpartition(".")[2]
        # It takes an enum's symbol for the text of a uuid, if both stand in one union, and any text for that of a date.
        meanings = {_meaning(one) for one in [*branches, branch]}
        confused = {"uuid", "enum"} <= meanings or ("date" in meanings and not meanings.isdisjoint({"enum", "string"}))
        if what not in seen and not isinstance(branch, list) and not confused:
            seen.add(what)
            branches.append(branch)
    return branches


def _meaning(schema: Any) -> str:
    return schema if isinstance(schema, str) else str(schema.get("logicalType", schema["type"]))


def _changed(draw: Draw, schema: Any) -> Any:
    """One change somewhere: what people do to schemas."""
    if isinstance(schema, str):
        return draw(
            st.sampled_from([schema, "long", "double", "string", ["null", schema]] if schema != "null" else [schema])
        )
    if isinstance(schema, list):
        if not schema or draw(st.booleans()):
            return [*schema, "null"] if "null" not in schema else schema[:-1] or schema
        place = draw(st.integers(0, len(schema) - 1))
        new = _changed(draw, schema[place])
        return schema if isinstance(new, list) else [*schema[:place], new, *schema[place + 1 :]]
    kind = schema["type"]
    if kind == "record":
        return {**schema, "fields": _changed_fields(draw, schema["fields"])}
    if kind == "enum":
        return {**schema, "symbols": draw(st.permutations(SYMBOLS)), "default": draw(st.sampled_from(SYMBOLS))}
    if kind == "fixed":
        return {**schema, "size": draw(st.integers(1, 3))}
    if kind in ("array", "map"):
        part = "items" if kind == "array" else "values"
        return {**schema, part: _changed(draw, schema[part])}
    return draw(st.sampled_from(LOGICAL))


def _changed_fields(draw: Draw, fields: list[Any]) -> list[Any]:
    # A name that another field had before stays free: which of the two is read then, readers do not agree on.
    known = {name for each in fields for name in (each["name"], *each.get("aliases", ()))}
    free = [one for one in FIELDS if one not in known]
    match draw(st.sampled_from(["add", "drop", "rename", "change", "reverse"])):
        case "add" if free:
            return [*fields, {"name": free[0], "type": ["null", "string"], "default": None}]
        case "drop":
            return fields[1:]
        case "rename" if free and fields:
            former = fields[0]
            return [{**former, "name": free[0], "aliases": [former["name"]]}, *fields[1:]]
        case "change" if fields:
            last = {name: value for name, value in fields[-1].items() if name != "default"}
            return [*fields[:-1], {**last, "type": _changed(draw, last["type"])}]
    return fields[::-1]


def datum(draw: Draw, schema: Any, names: dict[str, Any], depth: int = 4) -> Any:
    """A value of the schema; bytes are UTF-8, since Avro lets a text be read from them.

    Below `depth` a union takes a branch that comes to an end: null, else one that is no name of another type.
    """
    if depth < -20:
        reject()  # by names of one another after all
    if isinstance(schema, list):
        named = [one for one in schema if isinstance(one, str) and one in names]
        ends = [one for one in schema if one == "null"] or [one for one in schema if one not in named]
        can = schema if depth > 0 else ends or schema
        return datum(draw, draw(st.sampled_from(can)), names, depth - 1)
    if isinstance(schema, str) and schema in names:
        schema = names[schema]
    kind = schema if isinstance(schema, str) else schema.get("logicalType", schema["type"])
    match kind:
        case "record":
            space = schema.get("namespace", "")
            names[f"{space}.{schema['name']}".lstrip(".")] = schema
            return {each["name"]: datum(draw, each["type"], names, depth - 1) for each in schema["fields"]}
        case "array":
            count = draw(st.integers(0, 2)) if depth > 0 else 0
            return [datum(draw, schema["items"], names, depth - 1) for _ in range(count)]
        case "map":
            keys = ["k", "l"][: draw(st.integers(0, 2)) if depth > 0 else 0]
            return {key: datum(draw, schema["values"], names, depth - 1) for key in keys}
        case "enum":
            return draw(st.sampled_from(schema["symbols"]))
        case "fixed":
            return b"x" * schema["size"]
    return draw(_VALUES[kind])


_VALUES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "float": st.just(1.5),
    "double": st.floats(allow_nan=False),
    "bytes": st.text(max_size=3).map(str.encode),
    "string": st.text(max_size=3),
    "date": st.dates(),
    "time-millis": st.just(dt.time(1, 2, 3, 4000)),
    "timestamp-millis": st.just(dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
    "timestamp-micros": st.just(dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
    "uuid": st.just(uuid.UUID(int=7)),
    "decimal": st.just(Decimal("1.25")),
}


def endless(schema: Any, names: frozenset[str] = frozenset()) -> bool:
    """Whether some value of the schema has no end: a record that contains itself without a way out."""
    if isinstance(schema, list):
        return bool(schema) and all(endless(each, names) for each in schema)
    if isinstance(schema, str):
        return schema in names
    if schema["type"] != "record":
        return False
    name = f"{schema.get('namespace', '')}.{schema['name']}".lstrip(".")
    return any(endless(each["type"], names | {name}) for each in schema["fields"])


def plain(schema: Any) -> Any:
    """The same without logical types: what Avro's own library compares."""
    if isinstance(schema, list):
        return [plain(each) for each in schema]
    if isinstance(schema, str):
        return schema
    if "logicalType" in schema:
        return schema["type"]
    kept = dict(schema)
    for part in ("items", "values"):
        if part in kept:
            kept[part] = plain(kept[part])
    if "fields" in kept:
        kept["fields"] = [{**each, "type": plain(each["type"])} for each in kept["fields"]]
    return kept


def chain(length: int) -> list[Any]:
    """A union of records of which each refers to the one before: as deep as it is long, without being nested."""
    made: list[Any] = [{"type": "record", "name": "R0", "fields": []}]
    made += [
        {"type": "record", "name": f"R{n}", "fields": [{"name": "f", "type": f"R{n - 1}"}]} for n in range(1, length)
    ]
    return made


def wheel(size: int) -> Any:
    """Records of one last name, each of which leads to the next: two wheels of other sizes meet in every pair."""
    spokes = [
        {
            "name": f"s{n}",
            "type": {
                "type": "record",
                "name": "X",
                "namespace": f"n{n}",
                "fields": [{"name": "next", "type": ["null", f"n{(n or size) - 1}.X"]}],
            },
            "default": {"next": None},
        }
        for n in range(size - 1)
    ]
    last = {"name": "next", "type": ["null", f"n{size - 2}.X"]}
    return {"type": "record", "name": "X", "namespace": f"n{size - 1}", "fields": [*spokes, last]}


__all__ = ["chain", "datum", "endless", "pairs", "plain", "schemas", "wheel"]
