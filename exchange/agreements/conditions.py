"""Row conditions: the literal is typed when the policies are applied, the value when a row is read.

Both stand in the JSON form of the field's type (a long is a string of digits, a decimal a string, a date `YYYY-MM-DD`)
and are compared as what they mean: numbers exactly, days and times as instants, text by code point. Null, an absent
field, and a value that is not of its type never match, whatever the operator.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from exchange.agreements.model import Condition, Op, Scalar
from exchange.records import rfc3339

Test = Callable[[Any], bool]

_NUMBER = re.compile(r"-?\d{1,64}(\.\d{1,64})?", re.ASCII)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> Decimal:
    """A number, exactly. As text too: a long is a string of digits, and so is a double that was written as a long."""
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value):
            raise ValueError
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return Decimal(value)


def _day(value: Any) -> date:
    if not _DAY.fullmatch(_text(value)):
        raise ValueError
    return date.fromisoformat(value)


def _time(value: Any) -> time:
    read = time.fromisoformat(_text(value))
    if read.tzinfo is not None:
        raise ValueError
    return read


def _moment(value: Any) -> datetime:
    read = datetime.fromisoformat(_text(value))
    if read.tzinfo is None:
        raise ValueError
    return read


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = MappingProxyType(
    {
        "=": operator.eq,
        "!=": operator.ne,
        "<": operator.lt,
        "<=": operator.le,
        ">": operator.gt,
        ">=": operator.ge,
    }
)


def literal(type_: str, op: Op, given: Any) -> Scalar | tuple[Scalar, ...]:
    """What a file gives as the literal, in the JSON form of the field's type; for `in` a tuple of them.

    Raises ValueError saying why operator and literal do not fit the type.
    """
    kind = KINDS.get(type_)
    if kind is None:
        raise ValueError(f"a field of type {type_} cannot stand in a condition")
    if op == "in":
        if not isinstance(given, list | tuple) or not given:
            raise ValueError("`in` takes a list of literals that is not empty")
        return tuple(_scalar(type_, kind, one) for one in given)
    if op not in ("=", "!=") and not kind.ordered:
        raise ValueError(f"values of type {type_} have no order: use =, != or in")
    return _scalar(type_, kind, given)


def compiled(condition: Condition, type_: str) -> Test:
    """The condition as a test of one JSON value (None for null and for an absent field)."""
    read = KINDS[type_].read
    test = _test(condition, read)

    def holds(value: Any) -> bool:
        if value is None:
            return False
        try:
            return test(read(value))
        except (TypeError, ValueError):
            return False

    return holds


def _test(condition: Condition, read: Callable[[Any], Any]) -> Test:
    if isinstance(condition.literal, tuple):
        among = [read(one) for one in condition.literal]
        return lambda found: found in among
    against, compare = read(condition.literal), _OPERATORS[condition.op]
    return lambda found: compare(found, against)


def _scalar(type_: str, kind: Kind, given: Any) -> Scalar:
    written = kind.form(given)
    if written is None:
        raise ValueError(f"a field of type {type_} is compared with {kind.takes}")
    return written


# --- how a literal of a file is written in JSON; None: it does not fit ------------------------------------------------


def _boolean_form(given: Any) -> Scalar | None:
    return given if isinstance(given, bool) else None


def _text_form(given: Any) -> Scalar | None:
    return given if isinstance(given, str) else None


def _uuid_form(given: Any) -> Scalar | None:
    return given if isinstance(given, str) and given == given.lower() else None


def _int_form(given: Any) -> Scalar | None:
    return given if type(given) is int and -(2**31) <= given < 2**31 else None


def _long_form(given: Any) -> Scalar | None:
    return str(given) if type(given) is int and -(2**63) <= given < 2**63 else None


def _float_form(given: Any) -> Scalar | None:
    if type(given) is int:
        return given if abs(given) <= 2**53 else None  # beyond, JSON does not carry it exactly
    return given if type(given) is float and math.isfinite(given) else None


def _decimal_form(given: Any) -> Scalar | None:
    text = str(given) if type(given) is int else given
    return text if isinstance(text, str) and _NUMBER.fullmatch(text) else None


def _day_form(given: Any) -> Scalar | None:
    if type(given) is date:
        return given.isoformat()
    try:
        return _day(given).isoformat()
    except (TypeError, ValueError):
        return None


def _time_form(given: Any) -> Scalar | None:
    return given.isoformat() if isinstance(given, time) and given.tzinfo is None else None


def _moment_form(given: Any) -> Scalar | None:
    return rfc3339(given) if isinstance(given, datetime) and given.tzinfo is not None else None


@dataclass(frozen=True, slots=True)
class Kind:
    """How values of a type are compared: read from JSON, whether they have an order, which literals it takes."""

    read: Callable[[Any], Any]
    form: Callable[[Any], Scalar | None]
    takes: str
    ordered: bool = True


_FLOATING = Kind(_number, _float_form, "a number")
_TIME = Kind(_time, _time_form, "a time without a zone, such as 08:30:00")
_MOMENT = Kind(_moment, _moment_form, "a time with a zone, such as 2026-06-30T12:00:00+08:00")

# By the contract's word for the type. A type that is not here cannot stand in a condition.
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "boolean": Kind(_boolean, _boolean_form, "true or false", ordered=False),
        "string": Kind(_text, _text_form, "text"),
        "enum": Kind(_text, _text_form, "one of its symbols", ordered=False),
        "uuid": Kind(_text, _uuid_form, "text in small letters", ordered=False),
        "int": Kind(_number, _int_form, "a whole number of 32 bits"),
        "long": Kind(_number, _long_form, "a whole number of 64 bits"),
        "float": _FLOATING,
        "double": _FLOATING,
        "decimal": Kind(_number, _decimal_form, 'text such as "12.50" or a whole number'),
        "date": Kind(_day, _day_form, "a day such as 2026-06-30"),
        "time-millis": _TIME,
        "time-micros": _TIME,
        "timestamp-millis": _MOMENT,
        "timestamp-micros": _MOMENT,
    }
)
