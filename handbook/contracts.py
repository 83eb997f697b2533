"""docs/reference/contracts.md, from exchange.contracts: the members of the `exchange` property, and what is bounded."""

from __future__ import annotations

from collections.abc import Mapping

from exchange.contracts import schema, terms, wire
from exchange.contracts.logical import MAX_PRECISION
from exchange.subjects import SCHEMES
from handbook import values
from handbook.writing import linked, prose, table

PAGE = "reference/contracts.md"
_INTRODUCTION = """
A contract is an Avro schema with one property more, `exchange`. docs/contracts.md shows a whole one, and how it
changes. Members of `exchange` that are not listed here are refused.
"""
_TYPES = """
A type stands plain (`"string"`) or as an object; `logicalType` stands inside of it. docs/contracts.md#types says what
no value may be.
"""
_AVRO = (
    ("`namespace`", "the contract", "`gov.<department>`; it names the owner"),
    ("`name`", "the contract, record, enum, fixed", "CamelCase; the contract's is the dataset's"),
    ("`doc`", "the contract, a field", "one sentence; a field must have it"),
    ("`fields`", "the contract, record", "its fields, in their order on the wire"),
    ("`name`", "a field", "snake_case; not `delete`"),
    ("`type`", "a field", "one of the types above, or the name of one that was defined before"),
    ("`default`", "a field", "what it is where nothing is said; for a union of its first branch"),
    ("`aliases`", "a field", "its former names: a record that has them is read as before"),
    ("`symbols`", "enum", "its words"),
    ("`items`", "array", "the type of what is in it"),
    ("`values`", "map", "the type of what is in it"),
    ("`precision`, `scale`, `size`", "decimal", "its digits, those behind the point, and the bytes of a fixed"),
)


def page() -> str:
    """The whole page."""
    sharing = [(f"`{word}`", terms.SHARING_WORDS[word]) for word in terms.SHARING]
    levels = [(str(level), *words) for level, words in terms.LEVELS.items()]
    schemes = [(f"`{scheme.name}`", scheme.kind, scheme.says) for scheme in SCHEMES.values()]
    bounds = [
        ("fields of a contract, nested ones counted", f"{schema.MAX_FIELDS}"),
        ("records, arrays and maps in each other", f"{schema.MAX_DEPTH}"),
        ("characters of a name", f"{schema.MAX_NAME}"),
        ("digits of a decimal", f"{MAX_PRECISION}"),
        ("values of one record, nested ones counted", f"{wire.MAX_VALUES:,}"),
        ("bytes of one record", f"{wire.MAX_DATUM_BYTES:,}"),
    ]
    types = table(("what you have", "Avro type", "Python", "JSON"), values.rows())
    return (
        f"# What a contract says\n\n{linked(prose(_INTRODUCTION), PAGE)}"
        f"{_members('exchange', terms.MEMBERS)}{_members('subject', terms.SUBJECT_MEMBERS)}"
        f"{_members('fields', terms.FIELD_MEMBERS)}"
        f"\n## Schemes\n\n{table(('scheme', 'kind', 'what it is'), schemes)}"
        f"\n## Sharing classes\n\n{table(('class', 'what it means'), sharing)}"
        f"\n## Levels\n\n{table(('level', 'meaning', 'who may see it'), levels)}"
        f"\n## Types\n\n{linked(prose(_TYPES), PAGE)}\n{types}"
        f"\n## What a type and a field say\n\n{table(('member', 'of', 'what it says'), _AVRO)}"
        f"\n## Bounds\n\n{table(('what', 'at most'), bounds)}"
    )


def _members(name: str, members: Mapping[str, tuple[str, str]]) -> str:
    rows = [(f"`{member}`", needed, linked(text, PAGE)) for member, (needed, text) in members.items()]
    return f"\n## `{name}`\n\n{table(('member', 'needed', 'what it says'), rows)}"
