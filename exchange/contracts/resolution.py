"""Whether one schema reads whatever another wrote: Avro's resolution rules, and those for logical types.

`avro.compatibility` knows no logical types (a decimal of another scale, millis read as micros would pass) and remembers
verdicts that rested on a type still being compared. Here every pair of types that can meet is looked at once, from a
list and not by recursion: no schema can make it slow or deep. tests/test_resolution.py holds it against that library
(whatever passes here passes there) and against fastavro, which must read every datum.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from exchange.contracts.avro import NAMED, Member, Type
from exchange.errors import ContractRefused

MAX_PAIRS = 300_000  # of types that are compared for one verdict: a second or two
MAX_REASONS = 20

# The promotions of Avro 1.12, Schema Resolution: what was written -> what may read it.
_WIDER = {
    "int": ("long", "float", "double"),
    "long": ("float", "double"),
    "float": ("double",),
    "string": ("bytes",),
    "bytes": ("string",),
}

MAX_PATH = 20  # steps of a path that are told

Reason = str
# Where a pair was met: the step, behind the steps before it. As texts, the paths of a cycle would fill the memory.
Path = tuple[Any, str] | None
Pair = tuple[Type, Type, Path]


class Pairs:
    """How many more pairs of types may be compared."""

    __slots__ = ("left",)

    def __init__(self, left: int = MAX_PAIRS) -> None:
        self.left = left

    def spend(self, reader: Type) -> None:
        """For one pair; a union's branches are looked through. Raises ContractRefused when nothing is left."""
        self.left -= 1 + len(reader.branches) // 32
        if self.left < 0:
            raise ContractRefused("too large to be compared: too many pairs of types meet")


def misreads(reader: Type, writer: Type, pairs: Pairs | None = None) -> list[Reason]:
    """Why a reader of `reader` cannot read everything that was written with `writer`; empty if it can.

    At most MAX_REASONS, each with Avro's word for it and the path. `pairs` is what several comparisons may cost
    together. Raises ContractRefused if it is not enough.
    """
    pairs = pairs or Pairs()
    reasons: list[Reason] = []
    waiting: list[Pair] = [(reader, writer, None)]
    seen: set[tuple[int, int]] = set()
    while waiting and len(reasons) < MAX_REASONS:
        now, then, path = waiting.pop()
        pairs.spend(now)
        if (id(now), id(then)) in seen:
            continue
        seen.add((id(now), id(then)))
        for found in _meet(now, then, path):
            if isinstance(found, str):
                reasons.append(found)
            else:
                waiting.append(found)
    return reasons


def _meet(reader: Type, writer: Type, path: Path) -> Iterator[Reason | Pair]:
    """What stands against this pair, and which other pairs meet if these do."""
    if writer.kind == "union":
        for branch in writer.branches:
            yield reader, branch, path
    elif reader.kind == "union":
        chosen = _branch(reader.branches, writer)
        if chosen is None:
            yield _told("MISSING_UNION_BRANCH", path, f"no branch reads {_word(writer)}")
        else:
            yield chosen, writer, path
    elif not _matches(reader, writer):
        what = "NAME_MISMATCH" if reader.kind == writer.kind else "TYPE_MISMATCH"
        yield _told(what, path, f"{_word(writer)} was written, {_word(reader)} is read")
    elif (fault := _logical_fault(reader, writer)) is not None:
        yield _told("TYPE_MISMATCH", path, fault)
    elif reader.kind == "record":
        yield from _fields(reader, writer, path)
    elif reader.kind in ("array", "map"):
        yield reader.branches[0], writer.branches[0], (path, "[]" if reader.kind == "array" else "{}")
    elif reader.kind == "fixed" and reader.size != writer.size:
        yield _told("FIXED_SIZE_MISMATCH", path, f"{writer.size} bytes were written, {reader.size} are read")
    elif reader.kind == "enum" and reader.default is None:
        gone = sorted(writer.symbols.difference(reader.symbols))
        if gone:
            yield _told("MISSING_ENUM_SYMBOLS", path, f"{', '.join(gone[:5])} may have been written")


def _branch(branches: list[Type], writer: Type) -> Type | None:
    """The branch of a reader's union that reads this type: the very type, else the first that can."""
    same = [one for one in branches if one.kind == writer.kind]
    by_name = [one for one in same if one.name == writer.name]
    found = by_name or [one for one in same if _matches(one, writer)]
    return next(iter(found), None) or next((one for one in branches if _matches(one, writer)), None)


def _matches(reader: Type, writer: Type) -> bool:
    """Avro 1.12, Schema Resolution, "to match", of two types that are no unions: kind and name only."""
    if reader.kind != writer.kind:
        return reader.kind in _WIDER.get(writer.kind, ())
    if reader.kind not in NAMED:
        return True
    return _last(reader.name) == _last(writer.name) or writer.name in reader.aliases


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _logical_fault(reader: Type, writer: Type) -> str | None:
    """A number that is read in another meaning is a wrong number, though Avro's bytes allow it."""
    if reader.logical != writer.logical:
        return f"{_word(writer)} was written, {_word(reader)} is read"
    if reader.logical == "decimal":
        if reader.scale != writer.scale:
            return f"the scale changes from {writer.scale} to {reader.scale}"
        if reader.precision < writer.precision:
            return f"the precision shrinks from {writer.precision} to {reader.precision}"
    return None


def _fields(reader: Type, writer: Type, path: Path) -> Iterator[Reason | Pair]:
    """A field is found by its present name, then by its aliases; one that is found in no way has a default."""
    written = {one.name: one for one in writer.fields}
    taken = {one.name for one in reader.fields}
    claimed: set[str] = set()
    for member in reader.fields:
        where = (path, f".{member.name}")
        sources = _sources(member, written, taken)
        if claimed.intersection(one.name for one in sources):
            yield _told("TYPE_MISMATCH", where, "an alias stands for two fields")
        claimed.update(one.name for one in sources)
        for source in sources:
            yield member.type, source.type, where
        if not sources and not member.has_default:
            yield _told("READER_FIELD_MISSING_DEFAULT_VALUE", where, "it has no default and was not written")


def _sources(member: Member, written: dict[str, Member], taken: set[str]) -> list[Member]:
    """The written fields that this one may be read from. Where several were written, readers do not agree on one."""
    former = (one for one in dict.fromkeys(member.aliases) if one not in taken)
    return [written[one] for one in (member.name, *former) if one in written]


def _word(type_: Type) -> str:
    return type_.logical or type_.name or type_.kind


def _told(word: str, path: Path, reason: str) -> Reason:
    steps: list[str] = []
    while path is not None and len(steps) < MAX_PATH:
        path, step = path
        steps.append(step)
    before = "" if path is None else "..."
    return f"{word} at {before + ''.join(reversed(steps)).lstrip('.') or 'the top'}: {reason}"
