"""Any Avro schema, read into types that can be compared: what a department registers beside its contracts.

Everything that Avro 1.12 allows is taken, recursive types too, as long as it is small: the text may come from anybody,
and libraries recurse into it, so depth and numbers are bounded before any other code sees it. What Avro's own rules
refuse (a name twice, a union in a union, a default that does not fit) is refused here, with its path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from exchange.contracts.problems import Problems, read_json
from exchange.errors import ContractRefused
from exchange.records import canonical

MAX_TEXT = 256 * 1024  # characters of one schema; of all that it refers to, MAX_CLOSURE together
MAX_CLOSURE = 1024 * 1024
MAX_DEPTH = 40  # types in each other
MAX_JSON_DEPTH = 100
MAX_JSON_VALUES = 100_000
MAX_TYPES = 5_000  # written in one schema, primitive ones included
MAX_FIXED = 1 << 20
MAX_CHECKS = 200_000  # of parts of defaults: which branch of a union one is of is a question with many answers

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
NAMED = frozenset({"record", "enum", "fixed"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}", re.ASCII)
_FULL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)
_MAX_FULL_NAME = 1_000

# Which logical type means something on which types (Avro 1.12, Logical Types). Anywhere else readers ignore it.
_LOGICAL = {
    "date": ("int",),
    "time-millis": ("int",),
    "time-micros": ("long",),
    "timestamp-millis": ("long",),
    "timestamp-micros": ("long",),
    "timestamp-nanos": ("long",),
    "local-timestamp-millis": ("long",),
    "local-timestamp-micros": ("long",),
    "local-timestamp-nanos": ("long",),
    "uuid": ("string", "fixed"),
    "duration": ("fixed",),
    "big-decimal": ("bytes",),
}
_SIZES = {"uuid": 16, "duration": 12}
_RANGES = {"int": 1 << 31, "long": 1 << 63}


@dataclass(eq=False, slots=True)
class Type:
    """One type. Which members count depends on `kind`: a primitive's name, record, enum, fixed, array, map or union.

    `logical` is the word of a logical type that is valid there, `decimal` has `precision` and `scale` too. `aliases`
    are full names. Types are the same if they are the same object: one that contains itself is a cycle.
    """

    kind: str
    name: str = ""
    aliases: tuple[str, ...] = ()
    logical: str = ""
    precision: int = 0
    scale: int = 0
    size: int = 0
    symbols: frozenset[str] = frozenset()
    default: str | None = None  # an enum's
    fields: list[Member] = field(default_factory=list)
    branches: list[Type] = field(default_factory=list)  # of a union; the one of an array or a map


@dataclass(frozen=True, slots=True)
class Member:
    """A field of a record."""

    name: str
    aliases: tuple[str, ...]
    type: Type
    has_default: bool


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema with all that it refers to: its text in one form, and its type."""

    text: str
    type: Type
    names: Mapping[str, Type]


def read(text: str, referred: Sequence[str] = (), *, normalize: bool = False) -> Schema:
    """The schema of a text that may use every named type of the texts in `referred`, each of those of the ones before.

    Its text comes with sorted members and no blanks; `normalize` also writes every name in full and leaves out what
    says nothing. Raises ContractRefused with each reason.
    """
    if len(text) > MAX_TEXT or len(text) + sum(map(len, referred)) > MAX_CLOSURE:
        raise ContractRefused(f"more than {MAX_TEXT} characters, or {MAX_CLOSURE} with all that it refers to")
    names: dict[str, Type] = {}
    for each in referred:
        _Reader(names).top(_json(each))
    value = _json(text)
    type_ = _Reader(names).top(value)
    return Schema(canonical(_normal(value, "") if normalize else value), type_, names)


def resolved(text: str, referred: Sequence[str]) -> str:
    """The text with every type that it has by reference written out where it is first used. Raises ContractRefused."""
    read(text, referred)  # what follows may rely on it
    definitions: dict[str, tuple[Any, str]] = {}
    for each in referred:
        _collect(_json(each), "", definitions)
    return canonical(_inlined(_json(text), "", definitions))


def _json(text: str) -> Any:
    problems = Problems()
    value = read_json(text, problems)
    if problems:
        raise ContractRefused("\n".join(problems))
    _small(value)
    return value


def _small(value: Any) -> None:
    """Refuse what is nested deep or of many parts, before anything recurses into it."""
    level, depth, count = [value], 0, 0
    while level:
        depth, count = depth + 1, count + len(level)
        if depth > MAX_JSON_DEPTH:
            raise ContractRefused(f"nested deeper than {MAX_JSON_DEPTH}")
        if count > MAX_JSON_VALUES:
            raise ContractRefused(f"more than {MAX_JSON_VALUES} values")
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner.extend(each.values())
            elif isinstance(each, list):
                inner.extend(each)
        level = inner


class _Reader:
    """Reads one text into `names`, which holds what it may refer to."""

    def __init__(self, names: dict[str, Type]) -> None:
        self._names = names
        self._count = 0
        self._checks = 0

    def top(self, schema: Any) -> Type:
        return self._type(schema, "", "", 1)

    def _type(self, schema: Any, path: str, namespace: str, depth: int) -> Type:
        self._count += 1
        if self._count > MAX_TYPES:
            raise _refused(path, f"more than {MAX_TYPES} types")
        if depth > MAX_DEPTH:
            raise _refused(path, f"types nested deeper than {MAX_DEPTH}")
        if isinstance(schema, str):
            return self._named(schema, path, namespace)
        if isinstance(schema, list):
            return self._union(schema, path, namespace, depth)
        if not isinstance(schema, dict):
            raise _refused(path, "a type is a name, a union or an object")
        kind = schema.get("type")
        if isinstance(kind, dict | list):
            return self._type(kind, path, namespace, depth + 1)
        if not isinstance(kind, str):
            raise _refused(path, "the type is missing")
        if kind in PRIMITIVES:
            return _logical(Type(kind), schema)
        if kind in ("array", "map"):
            part, mark = ("items", "[]") if kind == "array" else ("values", "{}")
            if part not in schema:
                raise _refused(path, f"{part} is missing")
            return Type(kind, branches=[self._type(schema[part], path + mark, namespace, depth + 1)])
        if kind in NAMED or kind == "error":
            return self._define("record" if kind == "error" else kind, schema, path, namespace, depth)
        return self._named(kind, path, namespace)

    def _named(self, name: str, path: str, namespace: str) -> Type:
        if name in PRIMITIVES:
            return Type(name)
        found = self._names.get(_full(name, namespace))
        if found is None:
            raise _refused(path, "a type that is defined neither before nor in a reference")
        return found

    def _union(self, schema: list[Any], path: str, namespace: str, depth: int) -> Type:
        branches, seen = [], set()
        for each in schema:
            branch = self._type(each, path, namespace, depth + 1)
            if branch.kind == "union":
                raise _refused(path, "a union in a union")
            what = branch.name or branch.kind
            if what in seen:
                raise _refused(path, f"a union with {branch.kind} twice")
            seen.add(what)
            branches.append(branch)
        return Type("union", branches=branches)

    def _define(self, kind: str, schema: dict[str, Any], path: str, namespace: str, depth: int) -> Type:
        name, space = _names(schema, path, namespace)
        if name in self._names or name in PRIMITIVES:
            raise _refused(path, "the name of a type stands for two")
        aliases = tuple(_full(each, space) for each in _texts(schema.get("aliases", []), path, "aliases"))
        made = self._names[name] = Type(kind, name, aliases)
        if kind == "enum":
            _symbols(made, schema, path)
        elif kind == "fixed":
            size = schema.get("size")
            if type(size) is not int or not 0 <= size <= MAX_FIXED:
                raise _refused(path, f"the size of a fixed is 0 to {MAX_FIXED}")
            made.size = size
            _logical(made, schema)
        else:
            self._fields(made, schema, path, space, depth)
        return made

    def _fields(self, made: Type, schema: dict[str, Any], path: str, namespace: str, depth: int) -> None:
        fields = schema.get("fields")
        if not isinstance(fields, list):
            raise _refused(path, "fields is not a list")
        seen: set[str] = set()
        for place, each in enumerate(fields):
            name = each.get("name") if isinstance(each, dict) else None
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise _refused(f"{path}.fields[{place}]".lstrip("."), "a field has a name")
            where = f"{path}.{name}" if path else name
            if name in seen:
                raise _refused(where, "the name of a field stands for two")
            seen.add(name)
            if "type" not in each:
                raise _refused(where, "the type is missing")
            aliases = _texts(each.get("aliases", []), where, "aliases")
            type_ = self._type(each["type"], where, namespace, depth + 1)
            if "default" in each and not self._fits(each["default"], type_):
                raise _refused(where, "the default does not fit the type")
            made.fields.append(Member(name, tuple(aliases), type_, "default" in each))

    def _fits(self, form: Any, type_: Type) -> bool:
        """Whether a default's JSON form is one of this type (Avro 1.12, Schema Record); in a union, of any branch."""
        self._checks += 1
        if self._checks > MAX_CHECKS:
            raise _refused("", f"defaults that take more than {MAX_CHECKS} checks")
        match type_.kind:
            case "null":
                return form is None
            case "boolean":
                return isinstance(form, bool)
            case "int" | "long":
                bound = _RANGES[type_.kind]
                return type(form) is int and -bound <= form < bound
            case "float" | "double":
                return isinstance(form, int | float) and not isinstance(form, bool)
            case "string":
                return isinstance(form, str)
            case "bytes" | "fixed":
                told = isinstance(form, str) and all(ord(one) < 256 for one in form)
                return told and (type_.kind == "bytes" or len(form) == type_.size)
            case "enum":
                return isinstance(form, str) and form in type_.symbols
            case "array":
                return isinstance(form, list) and all(self._fits(one, type_.branches[0]) for one in form)
            case "map":
                return isinstance(form, dict) and all(self._fits(one, type_.branches[0]) for one in form.values())
            case "union":
                return any(self._fits(form, branch) for branch in type_.branches)
        return isinstance(form, dict) and all(
            self._fits(form[one.name], one.type) if one.name in form else one.has_default for one in type_.fields
        )


def _refused(path: str, reason: str) -> ContractRefused:
    return ContractRefused(f"{path}: {reason}" if path else reason)


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _names(schema: dict[str, Any], path: str, namespace: str) -> tuple[str, str]:
    """Full name and namespace of a type that is being defined (Avro 1.12, Names)."""
    name, space = schema.get("name"), schema.get("namespace", namespace)
    if not isinstance(name, str) or not isinstance(space, str | None):
        raise _refused(path, "a record, enum or fixed has a name")
    full = _full(name, space or "")
    if not _FULL_NAME.fullmatch(full) or len(full) > _MAX_FULL_NAME:
        raise _refused(path, "a name has ASCII letters, digits and underscores, with dots between")
    return full, full.rpartition(".")[0]


def _texts(value: Any, path: str, what: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(one, str) and _FULL_NAME.fullmatch(one) for one in value):
        raise _refused(path, f"{what} is not a list of names")
    return value


def _symbols(made: Type, schema: dict[str, Any], path: str) -> None:
    symbols = _texts(schema.get("symbols"), path, "symbols")
    if len(set(symbols)) < len(symbols) or any("." in one for one in symbols):
        raise _refused(path, "symbols are distinct names without dots")
    default = schema.get("default")
    if default is not None and default not in symbols:
        raise _refused(path, "the enum's default is none of its symbols")
    made.symbols, made.default = frozenset(symbols), default


def _logical(made: Type, schema: dict[str, Any]) -> Type:
    """The same type with its logical type, if that is one that readers know and is valid; else they ignore it."""
    word = schema.get("logicalType")
    if word == "decimal" and made.kind in ("bytes", "fixed"):
        precision, scale = schema.get("precision"), schema.get("scale", 0)
        if type(precision) is int and type(scale) is int and 0 <= scale <= precision and precision >= 1:
            made.logical, made.precision, made.scale = "decimal", precision, scale
    elif (
        isinstance(word, str)
        and made.kind in _LOGICAL.get(word, ())
        and (made.kind != "fixed" or made.size == _SIZES[word])
    ):
        made.logical = word
    return made


def _normal(schema: Any, namespace: str) -> Any:
    """The same schema with full names, and without objects and namespaces that say nothing."""
    if isinstance(schema, str):
        return schema if schema in PRIMITIVES else _full(schema, namespace)
    if isinstance(schema, list):
        return [_normal(each, namespace) for each in schema]
    kind = schema["type"]
    if set(schema) == {"type"} and (not isinstance(kind, str) or kind not in NAMED):
        return _normal(kind, namespace)
    found = dict(schema)
    if isinstance(kind, str) and kind in NAMED | {"error"}:
        found["name"], namespace = _names(schema, "", namespace)
        found.pop("namespace", None)
        if "aliases" in schema:
            found["aliases"] = [_full(each, namespace) for each in schema["aliases"]]
        if "fields" in schema and kind != "enum":
            found["fields"] = [{**each, "type": _normal(each["type"], namespace)} for each in schema["fields"]]
    elif kind in ("array", "map"):
        part = "items" if kind == "array" else "values"
        found[part] = _normal(schema[part], namespace)
    elif kind not in PRIMITIVES:
        found["type"] = _normal(kind, namespace)
    return found


def _collect(schema: Any, namespace: str, definitions: dict[str, tuple[Any, str]]) -> None:
    """Where each named type is defined, with the namespace around it."""
    if isinstance(schema, list):
        for each in schema:
            _collect(each, namespace, definitions)
    elif isinstance(schema, dict):
        kind, inner = schema["type"], namespace
        if isinstance(kind, str) and kind in NAMED | {"error"}:
            name, inner = _names(schema, "", namespace)
            definitions[name] = schema, namespace
        for each in schema.get("fields", ()) if kind in ("record", "error") else ():
            _collect(each["type"], inner, definitions)
        if kind in ("array", "map"):
            _collect(schema["items" if kind == "array" else "values"], inner, definitions)
        elif isinstance(kind, dict | list):
            _collect(kind, inner, definitions)


def _inlined(schema: Any, namespace: str, definitions: dict[str, tuple[Any, str]]) -> Any:
    """The normal form, in which the first use of each definition is the definition; what was used is taken out."""
    if isinstance(schema, list):
        return [_inlined(each, namespace, definitions) for each in schema]
    if isinstance(schema, str):
        name = schema if schema in PRIMITIVES else _full(schema, namespace)
        found = definitions.pop(name, None)
        return name if found is None else _inlined(*found, definitions)
    kind, inner, made = schema["type"], namespace, dict(schema)
    if isinstance(kind, str) and kind in NAMED | {"error"}:
        made["name"], inner = _names(schema, "", namespace)
        made.pop("namespace", None)
        definitions.pop(made["name"], None)
    if kind in ("record", "error"):
        made["fields"] = [{**each, "type": _inlined(each["type"], inner, definitions)} for each in schema["fields"]]
    elif kind in ("array", "map"):
        part = "items" if kind == "array" else "values"
        made[part] = _inlined(schema[part], inner, definitions)
    elif isinstance(kind, dict | list) or kind not in PRIMITIVES | NAMED:
        made["type"] = _inlined(kind, inner, definitions)
    return made
