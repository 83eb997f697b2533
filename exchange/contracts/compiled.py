"""The fast way from a datum to what a facet keeps of it: a function that is written for one schema, once.

The nodes are the reference: they check everything, and say what is wrong and where. The function made here goes through
a datum once, from bytes straight to the JSON form, without native values in between and without a call for each field.
It knows only what sound records look like; whatever else it meets, it raises, and the reference has the last word. So
it may give up whenever it likes, but what it takes, it takes as the reference does (tests/test_contracts_compiled.py).

Not every type is served: a schema with arrays, maps or nested records has no such function.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from exchange.contracts.containers import RecordNode
from exchange.contracts.logical import Day, DecimalNumber, Timestamp
from exchange.contracts.node import Node
from exchange.contracts.nullable import Nullable, Sealed
from exchange.contracts.scalars import Boolean, Int, Long, Symbols, Text
from exchange.contracts.terms import Terms
from exchange.contracts.wire import MAX_DATUM_BYTES, Budget
from exchange.subjects import SCHEMES, Subject


class Unpacked(NamedTuple):
    """What a facet keeps of a datum. `record_key` as in Record, `payload` the value as canonical JSON text."""

    subject: Subject
    record_key: tuple[str, ...]
    version: int | None
    payload: str


# From bytes, and where in them the datum begins, to the subject's identifier and the rest of an Unpacked.
Unpack = Callable[[bytes, int], tuple[str, tuple[str, ...], int | None, str]]


class Unusual(Exception):
    """Not what a sound record looks like: for the reference to judge."""


def unpacker(record: RecordNode, terms: Terms) -> Unpack | None:
    """A function that unpacks a datum; None if a field's type is not served, or no record is taken at all.

    It raises any exception for what it does not take.
    """
    if terms.sharing == "withheld" or any(not is_served(member.node) for member in record.members):
        return None
    names = {member.name: f"f{number}" for number, member in enumerate(record.members)}
    bound: dict[str, Any] = {}
    body: list[str] = []
    for member in record.members:
        body += _read(member.node, names[member.name], bound)
    subject = names[terms.subject_field]
    is_text = isinstance(record.member(terms.subject_field).node, Text)
    version = "None" if terms.version_field is None else f"{names[terms.version_field]}_number"
    form = ", ".join(f"{name!r}: {names[name]}" for name in sorted(names))
    keys = "".join(f"str({names[name]}), " for name in terms.record_key)
    lines = [
        f"if len(data) - at > {MAX_DATUM_BYTES}: raise Unusual",
        *body,
        "if at != len(data): raise Unusual",
        f"identifier = {subject if is_text else f'str({subject})'}",
        "if check(identifier) is not None: raise Unusual",
        f"payload = dumps({{{form}}}).decode()",
        r"if '\\u0000' in payload: raise Unusual",
        f"return identifier, ({keys}), {version}, payload",
    ]
    source = "def unpack(data, at):\n" + "\n".join(f"    {line}" for line in lines)
    space = {**_SPACE, **bound, "check": SCHEMES[terms.scheme].check}
    exec(compile(source, f"<{record.fullname}>", "exec"), space)  # noqa: S102 made of checked names and our own lines
    made: Unpack = space["unpack"]
    return made


def is_served(node: Node) -> bool:
    """Whether code is made for values of this type: it holds one value, or null."""
    return node.weight == 1 and not node.unfolds


def _read(node: Node, name: str, bound: dict[str, Any]) -> list[str]:
    """The lines that read one value at `at` and leave its form in the variable `name`.

    Of a number, its count as the datum has it is left in `<name>_number`: a version is taken from there.
    """
    match node:
        case Nullable():
            null, other = ("0", "2") if node.null_first else ("2", "0")
            return [
                "branch = data[at]; at += 1",
                f"if branch == {null}: {name} = None",
                f"elif branch != {other}: raise Unusual",
                "else:",
                *_deep(1, *_read(node.inner, name, bound)),
            ]
        case Sealed():
            return [*_read(node.inner, name, bound), f"if {name} is not None: raise Unusual"]
        case Text():
            return [*_SIZE, f"{name} = data[at:end].decode()", "at = end"]
        case Symbols():
            # By the byte that it is written as; the few beyond a byte are for the reference.
            bound[f"{name}_symbols"] = {number << 1: symbol for number, symbol in enumerate(node.symbols[:64])}
            return [f"{name} = {name}_symbols[data[at]]; at += 1"]
        case Boolean():
            return [f"{name} = (False, True)[data[at]]; at += 1"]
        case Int():
            shown = f"str({name}_number)" if isinstance(node, Long) else f"{name}_number"
            bounds = (
                [] if isinstance(node, Long) else [f"if not {-1 << 31} <= {name}_number < {1 << 31}: raise Unusual"]
            )
            return [*_number(name), *bounds, f"{name} = {shown}"]
        case Day():
            return [*_number(name), f"{name} = day({name}_number)"]
        case Timestamp():
            second = 1_000_000 // node.unit
            fraction = "thousandth[fraction]" if second == 1_000 else "fraction:06d"
            return [
                *_number(name),
                f"seconds, fraction = divmod({name}_number, {second})",
                "minutes, seconds = divmod(seconds, 60)",
                "days, minutes = divmod(minutes, 1440)",
                f"{name} = f'{{day(days)}}T{{minute[minutes]}}:{{hundredth[seconds]}}.{{{fraction}}}Z'",
            ]
        case DecimalNumber() if node.size is None and node.scale:
            limit = 10**node.precision
            return [
                *_SIZE,
                "if not 0 < end - at <= 64: raise Unusual",
                "unscaled = from_bytes(data[at:end], 'big', signed=True); at = end",
                f"if not {-limit} < unscaled < {limit}: raise Unusual",
                f"whole, part = divmod(abs(unscaled), {10**node.scale})",
                f"{name} = f'{{whole}}.{{{'hundredth[part]' if node.scale == 2 else f'part:0{node.scale}d'}}}'",
                f"if unscaled < 0: {name} = '-' + {name}",
            ]
    bound[f"{name}_read"], bound[f"{name}_show"] = node.read, node.show
    return [f"{name}, at = {name}_read(data, at, budget)", f"{name} = {name}_show({name})"]


def _number(name: str) -> list[str]:
    """The lines that read a zig-zag integer of at most 64 bits.

    Its first bytes are read without a loop: as many as a date or the seconds of a time take.
    """
    number = f"{name}_number"
    lines = [f"{number} = data[at]; at += 1"]
    for place in range(1, 6):
        lines += [
            *_deep(place - 1, f"if {number} > {(1 << 7 * place) - 1}:"),
            *_deep(place, f"{number} += (data[at] << {7 * place}) - {1 << 7 * place}; at += 1"),
        ]
    lines += _deep(
        5,
        f"if {number} > {(1 << 42) - 1}:",
        f"    {number} -= {1 << 42}",
        "    shift = 42",
        "    while True:",
        "        byte = data[at]; at += 1",
        f"        {number} |= (byte & 127) << shift",
        "        if byte < 128: break",
        "        shift += 7",
        "        if shift > 63: raise Unusual",
        f"    if {number} >> 64: raise Unusual",
    )
    return [*lines, f"{number} = ({number} >> 1) ^ -({number} & 1)"]


def _deep(depth: int, *lines: str) -> list[str]:
    return [f"{'    ' * depth}{line}" for line in lines]


# The lines that read a length of one or two bytes, and leave in `end` where the bytes end.
_SIZE = [
    "size = data[at]; at += 1",
    "if size & 129:",
    "    if size & 1: raise Unusual",
    "    more = data[at]; at += 1",
    "    if more > 127: raise Unusual",
    "    size = size & 127 | more << 7",
    "end = at + (size >> 1)",
]


_EPOCH_DAY = date(1970, 1, 1).toordinal()


@lru_cache(maxsize=1 << 15)
def _day(days: int) -> str:
    """The form of a date, from its days since 1970-01-01. Raises ValueError outside the years 1 to 9999."""
    return date.fromordinal(days + _EPOCH_DAY).isoformat()


# Numbers with their zeros, and HH:MM of each minute of a day: taken from a table in half the time of spelling them.
_HUNDREDTH = [f"{number:02}" for number in range(100)]
_THOUSANDTH = [f"{number:03}" for number in range(1_000)]
_MINUTE = [f"{hour:02}:{minute:02}" for hour in range(24) for minute in range(60)]

_SPACE: dict[str, Any] = {
    "Unusual": Unusual,
    "budget": Budget(),  # no type that is served spends any of it
    "day": _day,
    "dumps": orjson.dumps,
    "from_bytes": int.from_bytes,
    "hundredth": _HUNDREDTH,
    "minute": _MINUTE,
    "thousandth": _THOUSANDTH,
}
