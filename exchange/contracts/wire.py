"""The bytes: limits, Avro's variable-length integers, and the framing around a datum in a topic.

Everything here reads bytes that anybody may have written: no length is believed before it has been compared with the
bytes that are there, and what a datum may unfold to is counted (`Budget`) before it is built.
"""

from __future__ import annotations

from exchange.errors import Rejected

# A framed value is at most 1 MiB, which is also what a Publisher takes.
MAX_VALUE_BYTES = 1 << 20
FRAME_BYTES = 5
MAX_DATUM_BYTES = MAX_VALUE_BYTES - FRAME_BYTES
# Values in one record: every scalar, and every record, array item and map entry around them. Records nested in records
# make one byte of datum several dictionaries; this many cost some 20 to 30 ms and 3 MB at worst.
MAX_VALUES = 1 << 14


class Budget:
    """How many more values a datum may unfold to."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = MAX_VALUES

    def spend(self, values: int) -> None:
        """Raises Rejected when nothing is left."""
        self.left -= values
        if self.left < 0:
            raise Rejected(f"more than {MAX_VALUES} values in one record")


def read_long(data: bytes, at: int) -> tuple[int, int]:
    """The zig-zag integer of at most 64 bits that starts at `at`, and where it ends (Avro 1.12, Binary Encoding).

    Raises Rejected if it is longer; IndexError if the bytes end within it.
    """
    byte = data[at]
    at += 1
    bits, shift = byte & 0x7F, 7
    while byte > 0x7F:
        if shift > 63:
            raise Rejected("an integer of more than 64 bits")
        byte = data[at]
        at += 1
        bits |= (byte & 0x7F) << shift
        shift += 7
    if bits >> 64:
        raise Rejected("an integer of more than 64 bits")
    return (bits >> 1) ^ -(bits & 1), at


def read_bytes(data: bytes, at: int) -> tuple[bytes, int]:
    """The length-prefixed bytes that start at `at`, and where they end. Raises Rejected if fewer are there."""
    size, at = read_long(data, at)
    end = at + size
    if size < 0 or end > len(data):
        raise Rejected("a length that goes beyond the bytes")
    return data[at:end], end


def frame(schema_id: int, datum: bytes) -> bytes:
    """The value of a message: Confluent's framing, a zero byte and the schema id in four bytes before the datum."""
    return b"\0" + schema_id.to_bytes(4, "big") + datum


def unframe(value: bytes) -> tuple[int, bytes]:
    """(schema id, datum) of a message's value. Raises Rejected if it is not framed or over 1 MiB."""
    if len(value) > MAX_VALUE_BYTES:
        raise Rejected(f"the value has more than {MAX_VALUE_BYTES} bytes")
    if len(value) < FRAME_BYTES or value[0] != 0:
        raise Rejected("the value is not framed: a zero byte and a schema id of four bytes are missing")
    return int.from_bytes(value[1:FRAME_BYTES], "big"), value[FRAME_BYTES:]
