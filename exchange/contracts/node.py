"""What every type of a contract can do. One class per Avro type implements it, with all the rules of that type.

A value is *native* inside Exchange (`date`, aware `datetime`, `Decimal`, ...), a *datum* on the wire, and a *form*
where a person or a program reads JSON. The mapping between native and form is one, exact and reversible:

    int                 number                      date               "2026-03-01"
    long                "9007199254740993"          time-millis        "08:05:00.000" (micros: 6 digits)
    float, double       shortest number             timestamp-millis   "2026-03-01T00:05:00.000Z" (micros: 6 digits)
    boolean, string     the same                    decimal            "1.10", always with the schema's scale
    bytes               base64, padded              uuid               in small letters
    enum                its symbol                  record, map        object
    null                null                        array              array
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from exchange.contracts.wire import Budget
from exchange.errors import Rejected


class Node(ABC):
    """One type. Values that it gives may be shared between records: nobody changes them.

    `word` is the type's name in a contract (`long`, `record`); `name` is the same, with the width where there are two
    (`timestamp-millis`). `plain` says that a native value is its own form. `weight` is how many values each of these
    unfolds to at least, and `unfolds` whether one can unfold to more (see wire.MAX_VALUES).
    """

    word: ClassVar[str] = ""
    plain: bool = False
    weight: int = 1
    unfolds: bool = False

    @property
    def name(self) -> str:
        return self.word

    @abstractmethod
    def check(self, value: Any) -> Any:
        """The value in its normal native form. Nothing is coerced. Raises Rejected, never with the value in it."""

    @abstractmethod
    def read(self, data: bytes, at: int, budget: Budget) -> tuple[Any, int]:
        """The value whose datum starts at `at`, and where the datum ends.

        Raises Rejected; IndexError or UnicodeDecodeError where bytes are missing or no UTF-8 (the record around says
        in which field).
        """

    def show(self, value: Any) -> Any:
        """The form of a native value."""
        return value

    @abstractmethod
    def parse(self, form: Any) -> Any:
        """The native value of a form; `check` has the last word on it. Raises Rejected."""

    def default(self, form: Any) -> Any:
        """The native value of a default in a schema, which has Avro's own JSON form. Raises Rejected."""
        return self.check(form)

    def wrappers(self) -> set[str]:
        """The members by which Avro's own JSON encoding wraps a value of this type in a union; no form has them."""
        return {"boolean", "int", "long", "float", "double", "string", "bytes", "array", self.name}

    def surplus(self, value: Any) -> int:
        """How many values beyond `weight` a checked value consists of."""
        return 0


def own_names(fullname: str) -> set[str]:
    """A named type's full name and its last part; nothing for a type without a name."""
    return {fullname, fullname.rpartition(".")[2]} - {""}


FAULTS = (Rejected, IndexError, UnicodeDecodeError)


def within(part: str, fault: Exception) -> Rejected:
    """The fault of an inner value, seen from the record, array or map around it: its field gets `part` in front."""
    if isinstance(fault, Rejected):
        inner = fault.field or ""
        joint = "." if inner and inner[0] not in "[{" else ""
        return Rejected(fault.reason, f"{part}{joint}{inner}")
    if isinstance(fault, UnicodeDecodeError):
        return Rejected("text that is not UTF-8", part)
    return Rejected("the bytes end before the record does", part)


_NATIVE_NAMES = {
    "NoneType": "null",
    "bool": "a boolean",
    "int": "an integer",
    "float": "a float",
    "str": "text",
    "bytes": "bytes",
    "list": "a list",
    "tuple": "a tuple",
    "dict": "a mapping",
    "date": "a date",
    "datetime": "a time",
    "Decimal": "a decimal",
    "UUID": "a UUID",
}
_FORM_NAMES = {
    "NoneType": "null",
    "bool": "true or false",
    "int": "a number",
    "float": "a number",
    "str": "a string",
    "list": "an array",
    "dict": "an object",
}


def mistyped(expected: str, value: Any) -> Rejected:
    """A native value of another type."""
    found = type(value).__name__
    return Rejected(f"{expected} expected, {_NATIVE_NAMES.get(found, f'a {found}')} found")


def misformed(expected: str, form: Any) -> Rejected:
    """A form of another JSON type."""
    return Rejected(f"{expected} expected, {_FORM_NAMES.get(type(form).__name__, 'something else')} found")
