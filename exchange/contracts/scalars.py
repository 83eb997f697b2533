"""The types of one value without a logical type: boolean, int, long, float, double, string, bytes, enum."""

from __future__ import annotations

import math
import re
from base64 import b64decode, b64encode
from collections.abc import Sequence
from struct import Struct
from typing import Any

from exchange.contracts.node import Node, misformed, mistyped, own_names
from exchange.contracts.wire import MAX_DATUM_BYTES, Budget, read_bytes, read_long
from exchange.errors import Rejected


class Boolean(Node):
    """`true` and `false`, never something that is merely not empty."""

    word = "boolean"
    plain = True

    def check(self, value: Any) -> Any:
        if value is True or value is False:
            return value
        raise mistyped("a boolean", value)

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[bool, int]:
        byte = data[at]
        if byte > 1:
            raise Rejected("a boolean that is neither 0 nor 1")
        return byte == 1, at + 1

    def parse(self, form: Any) -> bool:
        if form is True or form is False:
            return bool(form)
        raise misformed("true or false", form)


class Int(Node):
    """A signed integer of 32 bits; its form is a number."""

    word = "int"
    plain = True
    bits = 32

    def check(self, value: Any) -> Any:
        if type(value) is not int:
            raise mistyped("an integer", value)
        if value.bit_length() >= self.bits and value != -1 << (self.bits - 1):
            raise Rejected(f"outside the range of {self.word}")
        return value

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[int, int]:
        byte = data[at]
        if byte < 0x80:
            return (byte >> 1) ^ -(byte & 1), at + 1
        value, at = read_long(data, at)
        return self.check(value), at

    def parse(self, form: Any) -> int:
        if type(form) is not int:
            raise misformed("a whole number", form)
        return form


class Long(Int):
    """A signed integer of 64 bits; its form is a string of digits, since a JSON number is exact to 2**53 only."""

    word = "long"
    plain = False
    bits = 64

    def show(self, value: Any) -> str:
        return str(value)

    def parse(self, form: Any) -> int:
        if type(form) is not str:
            raise misformed('a string of digits such as "42"', form)
        if not _DIGITS.fullmatch(form):
            raise Rejected('a long is written as a string of at most 19 digits such as "42"')
        return int(form)


class Double(Node):
    """A floating-point number of 64 bits; NaN and the infinities are refused."""

    word = "double"
    plain = True
    layout = Struct("<d")

    def check(self, value: Any) -> Any:
        if type(value) is not float:
            raise mistyped("a float", value)
        if not math.isfinite(value):
            raise Rejected("NaN and infinities are no values")
        return value

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[float, int]:
        end = at + self.layout.size
        if end > len(data):
            raise IndexError
        (value,) = self.layout.unpack_from(data, at)
        if not math.isfinite(value):
            raise Rejected("NaN and infinities are no values")
        return value, end

    def parse(self, form: Any) -> float:
        if type(form) is float:
            return form
        if type(form) is not int:
            raise misformed("a number", form)
        try:
            value = float(form)
        except OverflowError:
            raise Rejected(f"outside the range of {self.word}") from None
        if value != form:
            raise Rejected(f"more digits than a {self.word} holds; use long or decimal")
        return value

    def default(self, form: Any) -> Any:
        return self.check(self.parse(form))


class Float(Double):
    """A floating-point number of 32 bits. It takes exactly the values it holds, each also by its shortest decimal."""

    word = "float"
    plain = False
    layout = Struct("<f")

    def check(self, value: Any) -> Any:
        super().check(value)
        try:
            (held,) = self.layout.unpack(self.layout.pack(value))
        except OverflowError:
            raise Rejected("outside the range of float") from None
        if held != value and self.show(held) != value:
            raise Rejected("more digits than a float holds; use double or decimal")
        return held

    def show(self, value: Any) -> float:
        """The shortest decimal that reads back to the same 32 bits, as the double that prints so."""
        for digits in range(1, 10):
            short = float(f"{value:.{digits}g}")
            try:
                if self.layout.unpack(self.layout.pack(short))[0] == value:
                    return short
            except OverflowError:
                continue
        return float(value)


class Text(Node):
    """Unicode text. NUL and lone surrogates are refused: no database and no UTF-8 takes them."""

    word = "string"
    plain = True

    def check(self, value: Any) -> Any:
        if type(value) is not str:
            raise mistyped("text", value)
        if not value.isascii():
            _no_surrogates(value)
        if "\0" in value:
            raise Rejected("text with a NUL (U+0000)")
        if len(value) > MAX_DATUM_BYTES:
            raise Rejected("text of more than 1 MiB")
        return value

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[str, int]:
        size = data[at]
        if size & 0x81:  # more bytes of length follow, or it is negative
            raw, end = read_bytes(data, at)
        else:
            at += 1
            end = at + (size >> 1)
            raw = data[at:end]
            if end > len(data):
                raise IndexError
        if 0 in raw:
            raise Rejected("text with a NUL (U+0000)")
        return raw.decode("utf-8"), end

    def parse(self, form: Any) -> str:
        if type(form) is not str:
            raise misformed("a string", form)
        return form


class Bytes(Node):
    """Bytes; their form is standard base64 with padding (RFC 4648 section 4)."""

    word = "bytes"

    def check(self, value: Any) -> Any:
        if type(value) is not bytes:
            raise mistyped("bytes", value)
        if len(value) > MAX_DATUM_BYTES:
            raise Rejected("more than 1 MiB")
        return value

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[bytes, int]:
        return read_bytes(data, at)

    def show(self, value: Any) -> str:
        return b64encode(value).decode("ascii")

    def parse(self, form: Any) -> bytes:
        if type(form) is not str:
            raise misformed("base64 text", form)
        try:
            value = b64decode(form, validate=True)
        except ValueError:
            raise Rejected("bytes are written as standard base64 with padding") from None
        if b64encode(value).decode("ascii") != form:
            raise Rejected("bytes are written as standard base64 with padding")
        return value

    def default(self, form: Any) -> Any:
        """Avro writes bytes in a schema as text whose code points 0 to 255 are the bytes."""
        if type(form) is not str:
            raise misformed("a string", form)
        try:
            return form.encode("latin-1")
        except UnicodeEncodeError:
            raise Rejected("bytes in a default are the characters U+0000 to U+00FF") from None


class Symbols(Node):
    """An enum; `symbols` in the schema's order."""

    word = "enum"
    plain = True

    def __init__(self, fullname: str, symbols: Sequence[str]) -> None:
        self.fullname = fullname
        self.symbols = tuple(symbols)
        self._known = frozenset(symbols)

    def check(self, value: Any) -> Any:
        if type(value) is not str:
            raise mistyped("a symbol", value)
        if value not in self._known:
            raise Rejected(f"none of the symbols {_listed(self.symbols)}")
        return value

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[str, int]:
        index, at = read_long(data, at)
        if not 0 <= index < len(self.symbols):
            raise Rejected("an enum index without a symbol")
        return self.symbols[index], at

    def parse(self, form: Any) -> str:
        if type(form) is not str:
            raise misformed("a symbol", form)
        return form

    def wrappers(self) -> set[str]:
        return super().wrappers() | own_names(self.fullname)


_DIGITS = re.compile(r"0|-?[1-9][0-9]{0,18}")


def _no_surrogates(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Rejected("text with a lone surrogate (half of a character)") from None


def _listed(symbols: Sequence[str], most: int = 12) -> str:
    return ", ".join(symbols[:most]) + (", ..." if len(symbols) > most else "")
