"""What a newer version of a contract breaks, within one major, for those who rely on an older one.

Our own rules come first, because they name the field: what readers of a city stumble over (a field that goes, a scale
that changes, a level that is lowered) and `avro.compatibility` does not see, since it knows neither logical types nor
the `exchange` property. What it finds beyond them is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.errors import AvroException

from exchange.contracts.containers import ArrayNode, MapNode, Member, RecordNode
from exchange.contracts.logical import DecimalNumber
from exchange.contracts.node import Node
from exchange.contracts.nullable import Nullable, Sealed
from exchange.contracts.problems import Problems
from exchange.contracts.scalars import Symbols
from exchange.contracts.terms import SHARING

if TYPE_CHECKING:
    from exchange.contracts.contract import Contract

# The widenings of Avro that keep every value exactly. It also has long -> float and string -> bytes, which do not.
_WIDER = {("int", "long"), ("int", "double"), ("float", "double")}


def breaks(newer: Contract, older: Contract) -> list[str]:
    """Each break with its path (`home.floor`, `exchange.sharing`); empty if a reader of `older` can go on."""
    found = Problems()
    _promises(newer, older, found)
    _record(newer.record_node, older.record_node, "", found)
    return list(found) or _by_avro(newer.schema_text, older.schema_text)


def _promises(newer: Contract, older: Contract, found: Problems) -> None:
    """What the `exchange` property promised, and does no more."""
    for path, now, then in (
        ("major", newer.major, older.major),
        ("owner", newer.owner, older.owner),
        ("subject.scheme", newer.scheme, older.scheme),
        ("subject.field", newer.subject_field, older.subject_field),
        ("record_key", list(newer.record_key), list(older.record_key)),
        ("version", newer.version_field, older.version_field),
    ):
        if now != then:
            found.add(f"exchange.{path}", f"{then} becomes {now}")
    if SHARING.index(newer.sharing) < SHARING.index(older.sharing):
        found.add("exchange.sharing", f"{older.sharing} is loosened to {newer.sharing}")
    for member in newer.record_node.members:
        former = _former(member, older.record_node)
        if former is None:
            continue
        now, then = newer.fields[member.name].level, older.fields[former.name].level
        if now < then:
            found.add(f"exchange.fields.{member.name}.level", f"lowered from {then} to {now}")


def _record(newer: RecordNode, older: RecordNode, path: str, found: Problems) -> None:
    if newer.fullname != older.fullname:
        found.add(path, f"the record {older.fullname} is renamed to {newer.fullname}")
    kept: set[str] = set()
    for member in newer.members:
        where = f"{path}.{member.name}" if path else member.name
        former = _former(member, older)
        if former is not None:
            kept.add(former.name)
            _type(member.node, former.node, where, found)
        elif member.absent is None:
            found.add(where, "a new field without a default")
    for former in older.members:
        if former.name not in kept:
            where = f"{path}.{former.name}" if path else former.name
            found.add(where, f'the field goes; if it was renamed, give the new one "aliases": ["{former.name}"]')


def _former(member: Member, older: RecordNode) -> Member | None:
    """The older record's field that this one reads: by its present name, then by its aliases."""
    by_name = {former.name: former for former in older.members}
    return next((by_name[name] for name in (member.name, *member.aliases) if name in by_name), None)


def _type(newer: Node, older: Node, path: str, found: Problems) -> None:
    now, then = _bare(newer), _bare(older)
    if isinstance(older, Nullable | Sealed) and not isinstance(newer, Nullable | Sealed):
        found.add(path, "null goes, and older records hold it")
    if isinstance(now, RecordNode) and isinstance(then, RecordNode):
        _record(now, then, path, found)
    elif isinstance(now, ArrayNode) and isinstance(then, ArrayNode):
        _type(now.items, then.items, f"{path}[]", found)
    elif isinstance(now, MapNode) and isinstance(then, MapNode):
        _type(now.values, then.values, f"{path}{{}}", found)
    elif isinstance(now, Symbols) and isinstance(then, Symbols):
        _symbols(now, then, path, found)
    elif isinstance(now, DecimalNumber) and isinstance(then, DecimalNumber):
        _decimal(now, then, path, found)
    elif now.name != then.name and (then.name, now.name) not in _WIDER:
        found.add(path, f"{then.name} becomes {now.name}")


def _symbols(newer: Symbols, older: Symbols, path: str, found: Problems) -> None:
    if newer.fullname != older.fullname:
        found.add(path, f"the enum {older.fullname} is renamed to {newer.fullname}")
    gone = [symbol for symbol in older.symbols if symbol not in newer.symbols]
    if gone:
        found.add(path, f"enum symbols go: {', '.join(gone)}")


def _decimal(newer: DecimalNumber, older: DecimalNumber, path: str, found: Problems) -> None:
    if newer.scale != older.scale:
        found.add(path, f"the scale changes from {older.scale} to {newer.scale}")
    if newer.precision < older.precision:
        found.add(path, f"the precision shrinks from {older.precision} to {newer.precision}")
    if (newer.fullname, newer.size) != (older.fullname, older.size):
        found.add(path, "the bytes or fixed beneath the decimal change")


def _bare(node: Node) -> Node:
    return _bare(node.inner) if isinstance(node, Nullable | Sealed) else node


def _by_avro(newer: str, older: str) -> list[str]:
    """What Avro's own resolution rules refuse: the newer schema reads, the older wrote."""
    try:
        reader, writer = avro.schema.parse(newer), avro.schema.parse(older)
    except AvroException as error:
        return [f"avro does not take the schema: {type(error).__name__}"]
    checker = ReaderWriterCompatibilityChecker()  # type: ignore[no-untyped-call]
    result = checker.get_compatibility(reader, writer)
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    return [f"{', '.join(sorted(result.locations))}: {', '.join(sorted(result.messages))}"]
