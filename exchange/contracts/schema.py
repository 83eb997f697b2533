"""Reading an Avro schema strictly: JSON text -> RecordNode, with every reason for refusing it.

The reader takes the part of Avro 1.12 in which no value can be misread or unfold without bound: no recursive types, no
type that takes no bytes, unions of null and one type only, the specification's logical types where they belong,
defaults that fit. In a contract field names are snake_case, record names CamelCase, and every field has a `doc`; a
schema with which a department's own programs write (`foreign`) has whatever names Avro takes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from exchange.contracts.containers import ArrayNode, MapNode, Member, RecordNode
from exchange.contracts.logical import MAX_PRECISION, Clock, Day, DecimalNumber, Timestamp, Uuid
from exchange.contracts.node import Node
from exchange.contracts.nullable import Nullable
from exchange.contracts.problems import Problems
from exchange.contracts.scalars import Boolean, Bytes, Double, Float, Int, Long, Symbols, Text
from exchange.errors import Rejected

MAX_FIELDS = 300
MAX_DEPTH = 8

FIELD_NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
RECORD_NAME = re.compile(r"(?:[A-Z][a-z0-9]*)+")
MAX_NAME = 64
_AVRO_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_AVRO_NAMESPACE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*")

_PRIMITIVES: dict[str, Callable[[], Node]] = {
    "boolean": Boolean,
    "int": Int,
    "long": Long,
    "float": Float,
    "double": Double,
    "string": Text,
    "bytes": Bytes,
}
_COMPLEX = ("record", "array", "map", "enum", "fixed")
_LOGICAL: dict[str, tuple[str, Callable[[], Node]]] = {
    "uuid": ("string", Uuid),
    "date": ("int", Day),
    "time-millis": ("int", lambda: Clock(1000)),
    "time-micros": ("long", lambda: Clock(1)),
    "timestamp-millis": ("long", lambda: Timestamp(1000)),
    "timestamp-micros": ("long", lambda: Timestamp(1)),
}
_LOGICAL_ATTRIBUTES = ("logicalType", "precision", "scale")


def read_record(schema: Any, problems: Problems, *, foreign: bool = False) -> RecordNode | None:
    """The record at the top of a contract, or of a `foreign` schema; None, with every problem, if it is refused.

    A problem's path names fields (`home.floor`), with `[]` for the items of an array and `{}` for the values of a map.
    """
    if not isinstance(schema, dict) or schema.get("type") != "record":
        problems.add("", f"{'a schema' if foreign else 'a contract'} is a JSON object of type record")
        return None
    try:
        node = (_ForeignReader if foreign else _SchemaReader)(problems).type(schema, "", "", 1)
    except _Refused as refused:
        refused.tell(problems)
        return None
    return node if isinstance(node, RecordNode) and not problems else None


class _Refused(Exception):
    """A type is refused; without a reason where the reasons have been told already."""

    def __init__(self, path: str = "", reason: str | None = None) -> None:
        super().__init__(reason)
        self.path = path
        self.reason = reason

    def tell(self, problems: Problems) -> None:
        if self.reason is not None:
            problems.add(self.path, self.reason)


class _SchemaReader:
    """Reads one schema. A field that is refused is told to `problems`, and its neighbours are read all the same."""

    field_name = FIELD_NAME
    named = "in snake_case"

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._named: dict[str, Node | None] = {}  # None until it is defined, and for good if it is refused
        self._open: list[str] = []  # the records that are being read, from the outermost in
        self._fields = 0

    def type(self, schema: Any, path: str, namespace: str, depth: int) -> Node:
        if isinstance(schema, str):
            return self._reference(schema, path, namespace, depth)
        if isinstance(schema, list):
            return self._union(schema, path, namespace, depth)
        if not isinstance(schema, dict):
            raise _Refused(path, "a type is a name, a union or an object")
        kind, logical = schema.get("type"), any(attribute in schema for attribute in _LOGICAL_ATTRIBUTES)
        if isinstance(kind, dict | list):
            raise _misplaced(schema, path) if logical else _Refused(path, "a type inside a type; write the inner alone")
        if kind == "fixed" or (logical and kind not in _COMPLEX):
            return self._logical(kind, schema, path, namespace)
        if logical:
            raise _Refused(path, f"logicalType does not belong on {kind}")
        if kind == "enum":
            return self._enum(schema, path, namespace)
        if kind in _COMPLEX:
            return self._container(kind, schema, path, namespace, depth)
        if not isinstance(kind, str):
            raise _Refused(path, "the type is missing")
        return self._reference(kind, path, namespace, depth)

    def _reference(self, name: str, path: str, namespace: str, depth: int) -> Node:
        if name in _PRIMITIVES:
            return _PRIMITIVES[name]()
        if name == "null":
            raise _Refused(path, "null alone takes no bytes; write a union of null and one type")
        fullname = name if "." in name or not namespace else f"{namespace}.{name}"
        if fullname not in self._named:
            raise _Refused(path, f"unknown type {name}")
        node = self._named[fullname]
        if node is None:
            raise _Refused(path, f"recursive type {name}" if fullname in self._open else None)
        _shallow(path, depth + _height(node) - 1)
        self._count(path, _field_count(node))
        return node

    def _union(self, branches: list[Any], path: str, namespace: str, depth: int) -> Node:
        others = [branch for branch in branches if branch != "null"]
        if len(branches) != 2 or len(others) != 1 or isinstance(others[0], list):
            raise _Refused(path, 'a union is of null and one type: ["null", "string"]')
        return Nullable(self.type(others[0], path, namespace, depth), null_first=branches[0] == "null")

    def _container(self, kind: str, schema: dict[str, Any], path: str, namespace: str, depth: int) -> Node:
        _shallow(path, depth)
        if kind == "record":
            return self._record(schema, path, namespace, depth)
        part, mark = ("items", "[]") if kind == "array" else ("values", "{}")
        if schema.get(part) == "null":
            raise _Refused(path, f"{part} of type null take no bytes")
        inner = self.type(schema.get(part), path + mark, namespace, depth + 1)
        return ArrayNode(inner) if kind == "array" else MapNode(inner)

    def _record(self, schema: dict[str, Any], path: str, namespace: str, depth: int) -> Node:
        fullname = self._fullname(schema, path, namespace)
        namespace, _, name = fullname.rpartition(".")
        faults = len(self._problems)
        self._name_record(name, path)
        fields = schema.get("fields")
        if not isinstance(fields, list):
            raise _Refused(path, "fields is not a list")
        if not fields:
            raise _Refused(path, "a record without fields takes no bytes")
        self._count(path, len(fields))
        self._open.append(fullname)
        members: list[Member] = []
        for place, field in enumerate(fields):
            try:
                members.append(self._member(field, place, path, namespace, depth))
            except _Refused as refused:
                refused.tell(self._problems)
        self._open.pop()
        self._distinct(members, path)
        if len(self._problems) > faults:
            raise _Refused
        return self._define(fullname, RecordNode(fullname, members))

    def _member(self, field: Any, place: int, path: str, namespace: str, depth: int) -> Member:
        name = field.get("name") if isinstance(field, dict) else None
        if not isinstance(name, str) or not self.field_name.fullmatch(name) or len(name) > MAX_NAME:
            told = f"fields[{place}]"
            raise _Refused(
                f"{path}.{told}" if path else told, f"a field has a name {self.named}, at most 64 characters"
            )
        where = f"{path}.{name}" if path else name
        doc = field.get("doc")
        self._describe(name, doc, where)
        aliases = field.get("aliases", [])
        if not isinstance(aliases, list) or not all(isinstance(a, str) and _AVRO_NAME.fullmatch(a) for a in aliases):
            raise _Refused(where, "aliases is not a list of names")
        if any(attribute in field for attribute in _LOGICAL_ATTRIBUTES):
            raise _misplaced(field, where)
        node = self.type(field.get("type"), where, namespace, depth + 1)
        absent = _default(field["default"], node, where) if "default" in field else None
        return Member(name, tuple(aliases), str(doc), node, absent)

    def _name_record(self, name: str, path: str) -> None:
        if not RECORD_NAME.fullmatch(name) or len(name) > MAX_NAME:
            self._problems.add(path or "name", "a record's name is CamelCase, in ASCII letters and digits")

    def _describe(self, name: str, doc: Any, where: str) -> None:
        if name == "delete":
            self._problems.add(where, "a field cannot be named delete; a push asks for a deletion by that word")
        if not isinstance(doc, str) or not doc.strip():
            self._problems.add(where, "doc is missing: say in one sentence what the field holds")

    def _distinct(self, members: list[Member], path: str) -> None:
        """One name finds one field: no name or alias stands for two."""
        seen: set[str] = set()
        for name in [member.name for member in members] + [alias for member in members for alias in member.aliases]:
            if name in seen:
                self._problems.add(path, f"the name or alias {name} stands for two fields")
            seen.add(name)

    def _enum(self, schema: dict[str, Any], path: str, namespace: str) -> Node:
        fullname = self._fullname(schema, path, namespace)
        symbols = schema.get("symbols")
        if not isinstance(symbols, list) or not symbols or not all(isinstance(symbol, str) for symbol in symbols):
            raise _Refused(path, "symbols is not a list of names")
        if len(set(symbols)) < len(symbols) or not all(_AVRO_NAME.fullmatch(symbol) for symbol in symbols):
            raise _Refused(path, "symbols are distinct names of ASCII letters, digits and underscores")
        if "default" in schema and schema["default"] not in symbols:
            raise _Refused(path, "the enum's default is none of its symbols")
        return self._define(fullname, Symbols(fullname, symbols))

    def _logical(self, kind: Any, schema: dict[str, Any], path: str, namespace: str) -> Node:
        word = schema.get("logicalType")
        if word == "decimal":
            return self._decimal(kind, schema, path, namespace)
        if kind == "fixed":
            raise _Refused(path, "fixed is for decimal only; use bytes")
        if word is not None and (not isinstance(word, str) or word not in _LOGICAL):
            raise _Refused(path, f"the logicalType is none of decimal, {', '.join(_LOGICAL)}")
        if word is None or "precision" in schema or "scale" in schema:
            raise _Refused(path, "precision and scale belong to the logicalType decimal")
        base, node = _LOGICAL[word]
        if kind != base:
            raise _Refused(path, f'{word} belongs on {base}: {{"type": "{base}", "logicalType": "{word}"}}')
        return node()

    def _decimal(self, kind: Any, schema: dict[str, Any], path: str, namespace: str) -> Node:
        precision, scale, size = schema.get("precision"), schema.get("scale", 0), schema.get("size")
        if kind not in ("bytes", "fixed"):
            raise _Refused(path, 'decimal belongs on bytes: {"type": "bytes", "logicalType": "decimal", ...}')
        if type(precision) is not int or not 1 <= precision <= MAX_PRECISION:
            raise _Refused(path, f"the precision of a decimal is 1 to {MAX_PRECISION}")
        if type(scale) is not int or not 0 <= scale <= precision:
            raise _Refused(path, "the scale of a decimal is 0 to its precision")
        if kind == "bytes":
            return DecimalNumber(precision, scale)
        fullname = self._fullname(schema, path, namespace)
        if type(size) is not int or not 1 <= size <= 64 or 10**precision > 1 << (8 * size - 1):
            raise _Refused(path, f"the size of this fixed does not hold {precision} digits")
        return self._define(fullname, DecimalNumber(precision, scale, fullname, size))

    def _fullname(self, schema: dict[str, Any], path: str, namespace: str) -> str:
        """The full name of a type that is being defined (Avro 1.12, Names)."""
        name, inherited = schema.get("name"), schema.get("namespace", namespace)
        if not isinstance(name, str) or not isinstance(inherited, str):
            raise _Refused(path or "name", "a record, enum or fixed needs a name")
        space, _, last = name.rpartition(".") if "." in name else (inherited, "", name)
        if not _AVRO_NAME.fullmatch(last) or (space and not _AVRO_NAMESPACE.fullmatch(space)):
            raise _Refused(path or "name", "a name has ASCII letters, digits and underscores only")
        fullname = f"{space}.{last}" if space else last
        if fullname in self._named or last in _PRIMITIVES or last in _COMPLEX or last == "null":
            raise _Refused(path or "name", f"the type name {last} stands for two types")
        self._named[fullname] = None
        return fullname

    def _define(self, fullname: str, node: Node) -> Node:
        self._named[fullname] = node
        return node

    def _count(self, path: str, fields: int) -> None:
        told = self._fields > MAX_FIELDS
        self._fields += fields
        if self._fields > MAX_FIELDS:
            raise _Refused(path, None if told else f"more than {MAX_FIELDS} fields, nested ones counted")


class _ForeignReader(_SchemaReader):
    """Reads a schema that is no contract: names as Avro has them, docs or none."""

    field_name = _AVRO_NAME
    named = "of ASCII letters, digits and underscores"

    def _name_record(self, name: str, path: str) -> None:
        if len(name) > MAX_NAME:
            self._problems.add(path or "name", f"a record's name has at most {MAX_NAME} characters")

    def _describe(self, name: str, doc: Any, where: str) -> None:
        """Whatever it is called, and whatever is said of it."""


def _default(form: Any, node: Node, path: str) -> Callable[[], Any]:
    """What gives the default: each time a new list or dictionary, so that no two records share one."""
    try:
        value = node.default(form)
    except Rejected as fault:
        inner = f" at {fault.field}" if fault.field else ""
        raise _Refused(path, f"the default does not fit{inner}: {fault.reason}") from None
    return (lambda: deepcopy(value)) if isinstance(value, dict | list) else (lambda: value)


def _misplaced(schema: dict[str, Any], path: str) -> _Refused:
    """A logical type beside a type instead of in it; readers ignore it there (Avro 1.12, Logical Types)."""
    word = schema.get("logicalType", "decimal")
    base = _LOGICAL[word][0] if isinstance(word, str) and word in _LOGICAL else "bytes"
    right = f'{{"type": "{base}", "logicalType": "{word}"}}'
    if isinstance(schema.get("type"), list):
        right = f'["null", {right}]'
    return _Refused(path, f"logicalType, precision and scale stand inside the type: {right}")


def _shallow(path: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise _Refused(path, f"nested deeper than {MAX_DEPTH}")


def _height(node: Node) -> int:
    """How many records, arrays and maps stand in each other."""
    if isinstance(node, Nullable):
        return _height(node.inner)
    return 1 + max(map(_height, _children(node)), default=0) if isinstance(node, _CONTAINERS) else 0


def _field_count(node: Node) -> int:
    own = len(node.members) if isinstance(node, RecordNode) else 0
    return own + sum(map(_field_count, _children(node)))


def _children(node: Node) -> list[Node]:
    match node:
        case RecordNode():
            return [member.node for member in node.members]
        case ArrayNode():
            return [node.items]
        case MapNode():
            return [node.values]
        case Nullable():
            return [node.inner]
    return []


_CONTAINERS = (RecordNode, ArrayNode, MapNode)
