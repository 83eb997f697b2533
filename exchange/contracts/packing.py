"""The fast way from native values to a datum: a function that is written for one schema, once.

`Contract.check` and fastavro are the reference: they check all, say what is wrong and where, and write the bytes.
The function made here goes through a value once and knows only what a sound one looks like; whatever else it meets, it
raises, and the reference has the last word. So it may give up whenever it likes, but what it takes, it takes as the
reference does, and writes to the last byte as fastavro does (tests/test_contracts_packing.py): what was published is
recognised by a digest of these bytes.

Not every type is served: a schema with arrays, maps or nested records has no such function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, Inexact, InvalidOperation
from functools import lru_cache
from struct import Struct
from typing import Any, NamedTuple
from uuid import UUID

from exchange.contracts.compiled import Unusual, is_served
from exchange.contracts.containers import RecordNode
from exchange.contracts.logical import MAX_PRECISION, Clock, Day, DecimalNumber, Timestamp, Uuid
from exchange.contracts.node import Node
from exchange.contracts.nullable import Nullable, Sealed
from exchange.contracts.scalars import Boolean, Bytes, Double, Float, Int, Long, Symbols, Text
from exchange.contracts.terms import Terms
from exchange.contracts.wire import MAX_DATUM_BYTES
from exchange.subjects import SCHEMES


class Packed(NamedTuple):
    """What is published of a value. `identifier` is the subject's, in normal form; the others as in Record."""

    identifier: str
    record_key: tuple[str, ...]
    version: int | None
    event_time: datetime | None
    datum: bytes


Packer = Callable[[dict[str, Any]], Packed]


def packer(record: RecordNode, terms: Terms, is_normal: Callable[[str], bool]) -> Packer | None:
    """A function from native values to their Packed; None if a field's type is not served, or no record is taken.

    It raises any exception for what it does not take, such as a record whose texts, one behind the other, are not
    `is_normal`.
    """
    if terms.sharing == "withheld" or any(not is_served(member.node) for member in record.members):
        return None
    names = {member.name: f"f{number}" for number, member in enumerate(record.members)}
    bound: dict[str, Any] = {}
    body: list[str] = []
    pieces: list[str] = []
    for member in record.members:
        name = names[member.name]
        body += [f"{name} = value[{member.name!r}]", *_write(member.node, name, bound, pieces)]
    defaults = {member.name: member.absent() for member in record.members if member.absent is not None}
    texts = [names[member.name] for member in record.members if isinstance(_inner(member.node), Text)]
    subject = names[terms.subject_field]
    is_text = isinstance(record.member(terms.subject_field).node, Text)
    keys = "".join(
        f"{names[name]}, " if isinstance(record.member(name).node, Text) else f"str({names[name]}), "
        for name in terms.record_key
    )
    version = "None" if terms.version_field is None else f"{names[terms.version_field]}_number"
    event_time = "None" if terms.event_time_field is None else names[terms.event_time_field]
    lines = [
        f"if len(value) != {len(names)}:",
        "    value = {**defaults, **value}",
        f"    if len(value) != {len(names)}: raise Unusual",
        *body,
        f"texts = f'{''.join(f'{{{name}}}' for name in texts)}'",
        r"if '\0' in texts or not is_normal(texts): raise Unusual",
        f"identifier = {subject if is_text else f'str({subject})'}",
        "if check(identifier) is not None: raise Unusual",
        f"datum = join(({', '.join(pieces)},))",
        f"if len(datum) > {MAX_DATUM_BYTES}: raise Unusual",
        f"return new(Packed, (identifier, ({keys}), {version}, {event_time}, datum))",
    ]
    source = "def pack(value):\n" + "\n".join(f"    {line}" for line in lines)
    check = SCHEMES[terms.scheme].check
    space = {**_SPACE, **bound, "check": check, "defaults": defaults, "is_normal": is_normal}
    exec(compile(source, f"<{record.fullname}>", "exec"), space)  # noqa: S102 made of checked names and our own lines
    made: Packer = space["pack"]
    return made


def _inner(node: Node) -> Node:
    return node.inner if isinstance(node, Nullable) else node


def _write(node: Node, name: str, bound: dict[str, Any], pieces: list[str]) -> list[str]:
    """The lines that check the native value in the variable `name`; `pieces` gets the variables with its bytes.

    Of a number, its count as the datum has it is left in `<name>_number`: a version is taken from there.
    """
    if isinstance(node, Sealed):  # null, which stands first in its union
        pieces.append(r"b'\0'")
        return [f"if {name} is not None: raise Unusual"]
    if not isinstance(node, Nullable):
        return _plain(node, name, bound, pieces, b"")
    null, other = (b"\0", b"\2") if node.null_first else (b"\2", b"\0")
    inner: list[str] = []
    lines = _plain(node.inner, name, bound, inner, other)
    pieces += inner
    nothing = "".join(f"{piece} = b''; " for piece in inner[1:])
    return [f"if {name} is None: {nothing}{inner[0]} = {null!r}", "else:", *(f"    {line}" for line in lines)]


def _plain(node: Node, name: str, bound: dict[str, Any], pieces: list[str], front: bytes) -> list[str]:
    """As `_write`, of a type without null; `front` are the bytes in front of it."""
    piece, number, ahead = f"{name}_bytes", f"{name}_number", f"{front!r} + " if front else ""
    match node:
        case Text() | Bytes():
            bound[sizes := f"{name}_sizes"] = [front + _varint(size << 1) for size in range(_LONGEST)]
            pieces += [f"{name}_size", piece]
            kind, raw = ("str", f"{name}.encode()") if isinstance(node, Text) else ("bytes", name)
            return [
                *_typed(name, kind),
                f"{piece} = {raw}",
                f"{name}_size = {sizes}[len({piece})] if len({piece}) < {_LONGEST} else {ahead}number(len({piece}))",
            ]
        case Symbols():
            bound[symbols := f"{name}_symbols"] = {
                symbol: front + _varint(index << 1) for index, symbol in enumerate(node.symbols)
            }
            pieces.append(piece)
            return [*_typed(name, "str"), f"{piece} = {symbols}[{name}]"]
        case Boolean():
            pieces.append(piece)
            true, false = front + b"\1", front + b"\0"
            return [
                f"if {name} is True: {piece} = {true!r}",
                f"elif {name} is False: {piece} = {false!r}",
                "else: raise Unusual",
            ]
        case Int():
            bits = 63 if isinstance(node, Long) else 31
            pieces.append(piece)
            return [
                *_typed(name, "int"),
                f"if not {-1 << bits} <= {name} < {1 << bits}: raise Unusual",
                f"{number} = {name}",
                f"{piece} = {ahead}number({number})",
            ]
        case Day():
            pieces.append(piece)
            return [*_typed(name, "date"), f"{number}, {piece} = day({name})", *_prefixed(piece, ahead)]
        case Timestamp() | Clock():
            bound[unit := f"{name}_unit"] = timedelta(microseconds=node.unit)
            pieces.append(piece)
            fine = [f"if {name}.microsecond % {node.unit}: raise Unusual"] if node.unit > 1 else []
            if isinstance(node, Timestamp):
                checks = [*_typed(name, "datetime"), f"if {name}.tzinfo is not UTC: raise Unusual"]
                since = f"{name} - epoch"
            else:
                checks = [*_typed(name, "time"), f"if {name}.tzinfo is not None: raise Unusual"]
                since = f"combine(first_day, {name}) - first"
            return [*checks, *fine, f"{number} = ({since}) // {unit}", f"{piece} = {ahead}number({number})"]
        case DecimalNumber():
            bound[step := f"{name}_step"] = Decimal((0, (1,), -node.scale))
            pieces.append(piece)
            limit, size = 10**node.precision, node.size
            width = f"({name}.bit_length() + 8) >> 3" if size is None else str(size)
            sized = f"number(len({piece})) + {piece}" if size is None else piece
            return [
                *_typed(name, "Decimal"),
                f"{name} = int({name}.quantize({step}, None, exact).scaleb({node.scale}, exact))",
                f"if not {-limit} < {name} < {limit}: raise Unusual",
                f"{piece} = {name}.to_bytes({width}, 'big', signed=True)",
                f"{piece} = {ahead}{sized}",
            ]
        case Uuid():
            pieces.append(piece)
            return [*_typed(name, "UUID"), f"{piece} = {front + _varint(72)!r} + str({name}).encode()"]
        case Double():
            bound[f"{name}_layout"] = Struct("<f" if isinstance(node, Float) else "<d").pack
            bound[f"{name}_check"] = node.check
            pieces.append(piece)
            return [f"{piece} = {ahead}{name}_layout({name}_check({name}))"]
    raise AssertionError(f"is_served lets through what is not written here: {node.word}")


def _typed(name: str, kind: str) -> list[str]:
    return [f"if type({name}) is not {kind}: raise Unusual"]


def _prefixed(piece: str, ahead: str) -> Sequence[str]:
    return [f"{piece} = {ahead}{piece}"] if ahead else ()


_LONGEST = 512  # bytes of a text that has its length in a table


def _varint(bits: int) -> bytes:
    """A number that is not negative, in seven bits a byte (Avro 1.12, Binary Encoding)."""
    out = bytearray()
    while bits > 127:
        out.append(bits & 127 | 128)
        bits >>= 7
    out.append(bits)
    return bytes(out)


_ONE_BYTE = [bytes((bits,)) for bits in range(128)]


def _number(number: int) -> bytes:
    """A number in zig-zag."""
    bits = number << 1 if number >= 0 else ~(number << 1)
    if bits < 128:
        return _ONE_BYTE[bits]
    if bits < 1 << 14:
        return bytes((bits & 127 | 128, bits >> 7))
    if bits < 1 << 21:
        return bytes((bits & 127 | 128, bits >> 7 & 127 | 128, bits >> 14))
    if 1 << 35 <= bits < 1 << 42:  # milliseconds of our days
        return bytes((
            bits & 127 | 128, bits >> 7 & 127 | 128, bits >> 14 & 127 | 128, bits >> 21 & 127 | 128,
            bits >> 28 & 127 | 128, bits >> 35,
        ))  # fmt: skip
    return _varint(bits)


_EPOCH_DAY = date(1970, 1, 1).toordinal()


@lru_cache(maxsize=1 << 14)
def _day(day: date) -> tuple[int, bytes]:
    """Days since 1970-01-01, and their bytes."""
    number = day.toordinal() - _EPOCH_DAY
    return number, _number(number)


_SPACE: dict[str, Any] = {
    "Decimal": Decimal,
    "Packed": Packed,
    "UTC": UTC,
    "UUID": UUID,
    "Unusual": Unusual,
    "combine": datetime.combine,
    "date": date,
    "datetime": datetime,
    "day": _day,
    "epoch": datetime(1970, 1, 1, tzinfo=UTC),
    "exact": Context(prec=MAX_PRECISION + 2, traps=[Inexact, InvalidOperation]),
    "first": datetime(1, 1, 1),  # noqa: DTZ001 for the difference of two times of one day
    "first_day": date(1, 1, 1),
    "join": b"".join,
    "new": tuple.__new__,
    "number": _number,
    "time": time,
}
