"""From what a source gives to native values: one converter per field, made once from the contract and the settings.

Nothing is guessed. A text becomes a date only in a form that is named, a boolean only by the value mapping, a decimal
digit by digit and never through a float. What cannot be converted raises Rejected, naming the field and never the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

from connectors.config import FieldSettings, Formats, Instance
from connectors.times import Parse, Zone, quick, reader
from exchange.contracts import Contract, Field
from exchange.errors import Rejected, SettingWrong

Convert = Callable[[Any], Any]


class Converter(NamedTuple):
    """How a field is read. `read` takes whatever a source gives, and is all that is needed.

    Where `direct`, a text that does not begin with one of MARKS (its ends cut off if `trim`) is null if it is one of
    `nulls`, else what `typed` makes of it; without `typed` it is the value itself.
    """

    read: Convert
    direct: bool = False
    trim: bool = True
    nulls: frozenset[str] = frozenset()
    typed: Convert | None = None


FLOAT_DIGITS = 15  # as many decimal digits as every double keeps (IEEE 754 binary64, DBL_DIG)
_LONG_NUMBER = 20
LONGEST_INTEGER = 400  # digits
_DAYS_KEPT = 1 << 14
_INTEGER = re.compile(r"[+-]?[0-9]{1,38}", re.ASCII)
_NUMBER = re.compile(r"[+-]?[0-9]{1,76}(?:\.[0-9]{1,76})?", re.ASCII)
_FLOAT = re.compile(r"[+-]?[0-9]{1,76}(?:\.[0-9]{1,76})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_FORMULA = re.compile(r'="(.*)"', re.DOTALL)
_GUARDED = re.compile(r"'([0-9A-Za-z.+-]+)", re.ASCII)
_UNCHANGED = "__debezium_unavailable_value"  # Debezium's unavailable.value.placeholder, unless it is set
MARKS = "='_"  # how a text begins that `unwrap` has to see
_ZERO_DATE = re.compile(r"0000-00-00(?:[ T]00:00:00(?:\.0+)?)?", re.ASCII)


def converter(field: Field, said: FieldSettings, settings: Instance, contract: Contract) -> Converter:
    """The converter of one field: takes a text or a value of a database driver, gives a native value or None.

    Raises SettingWrong for a setting that does not fit the field's type.
    """
    convert = _by_type(field, said, settings.formats, Zone(settings.timezone), contract)
    nulls = frozenset(settings.null_values if said.null_values is None else said.null_values)
    if field.type != "string" or (said.empty or settings.empty) != "text":
        nulls |= {""}
    values = _mapped(field, said)
    if values is not None:
        return Converter(_closed_list(values, nulls, convert, keep=said.other_values == "keep", trim=settings.trim))
    plain, trim = convert is _plain, settings.trim

    def read(given: Any) -> Any:
        if type(given) is not str:
            return None if given is None else convert(given)
        text = given.strip() if trim else given
        if text and text[0] in MARKS:
            text = unwrap(text)
        if text in nulls:
            return None
        return text if plain else convert(text)

    return Converter(read, True, trim, nulls, None if plain else _of_text(field, said, settings, convert))


def _of_text(field: Field, said: FieldSettings, settings: Instance, convert: Convert) -> Convert:
    """`convert` for those who have a text, with what is seen most on a short way."""
    if field.type == "date":  # dates come again and again: a birth, the day of a change; times seldom do
        return lru_cache(_DAYS_KEPT)(convert)
    if field.type.startswith("timestamp-"):
        parse = quick("timestamp", said.formats or settings.formats.timestamp)
        if parse is not None:
            return _instants(parse, Zone(settings.timezone), convert)
    return convert


def _instants(parse: Parse, zone: Zone, convert: Convert) -> Convert:
    def read(text: str) -> Any:
        try:
            moment = parse(text)
        except (ValueError, OverflowError):
            moment = None  # `convert` says what it is
        if moment is None:
            return convert(text)
        return moment if moment.tzinfo is UTC else zone.instant(moment)

    return read


def _closed_list(
    values: Mapping[str, Any], nulls: frozenset[str], convert: Convert, *, keep: bool, trim: bool
) -> Convert:
    """A converter by value mapping: what is not listed is rejected, or kept where the settings say so."""

    def read(given: Any) -> Any:
        if given is None:
            return None
        word = _as_word(given, trim)
        if word in values:
            found = values[word]
            return convert(found) if type(found) is str else found
        if word in nulls:
            return None
        if keep:
            return convert(word if type(given) is str else given)
        raise Rejected("a word that is not in the value mapping")

    return read


def constant(field: Field, said: FieldSettings, settings: Instance, contract: Contract) -> Any:
    """The native value of a constant. Raises SettingWrong if it does not fit the field's type."""
    value = _native(field, said.value if said.value is not None else "")
    if not isinstance(value, str):
        return value
    try:
        return _by_type(field, said, settings.formats, Zone(settings.timezone), contract)(value)
    except Rejected as rejected:
        raise SettingWrong(f"mapping.{field.name}.value: {rejected.reason}") from None


def unwrap(text: str) -> str:
    """A text without what a spreadsheet's export puts around a number: ="..." and an apostrophe in front.

    Raises Rejected for what change data capture writes instead of a value that did not change: it is none.
    """
    if text == _UNCHANGED:
        raise Rejected("change data capture left a placeholder instead of the value; have the source give whole rows")
    found = _FORMULA.fullmatch(text)
    if found is not None:
        return found[1].strip()
    found = _GUARDED.fullmatch(text)
    return found[1] if found is not None else text


def exact(value: float) -> Decimal:
    """The decimal that a float stands for, if a float keeps all its digits. Raises Rejected if it cannot be known."""
    number = Decimal(repr(value))
    if not number.is_finite():
        raise Rejected("NaN and infinities are no values")
    if len(number.normalize().as_tuple().digits) > FLOAT_DIGITS:
        raise Rejected("more digits than the source's floating-point column keeps; store the column as text or decimal")
    return number


# -- by type --


def _by_type(field: Field, said: FieldSettings, formats: Formats, zone: Zone, contract: Contract) -> Convert:
    kind = field.type
    if kind == "boolean":
        return _boolean
    if kind in ("int", "long"):
        return _integer(said)
    if kind == "decimal":
        return _decimal(said)
    if kind in ("float", "double"):
        return _float
    if kind == "date":
        return _date(field, _forms("date", field, said, formats.date))
    if kind.startswith("time-"):
        return _time(_forms("time", field, said, formats.time))
    if kind.startswith("timestamp-"):
        return _timestamp(field, _forms("timestamp", field, said, formats.timestamp), zone)
    if kind == "uuid":
        return _uuid
    if kind in ("array", "map", "record"):
        return lambda given: _nested(given, field, contract)
    if said.formats:
        raise SettingWrong(f"mapping.{field.name}.formats: {field.name} is a {kind}; formats are for dates and times")
    return _plain


def _boolean(given: Any) -> Any:
    if isinstance(given, str):
        raise Rejected("a word for true or false that is not in the value mapping (`values` of the field)")
    return given


def _plain(given: Any) -> Any:
    if isinstance(given, memoryview | bytearray):
        return bytes(given)
    return given


def _integer(said: FieldSettings) -> Convert:
    thousands = said.thousands

    def read(given: Any) -> Any:
        if type(given) is str:
            text = given if thousands is None else _ungrouped(given, thousands, ".")
            if (text.isdigit() and text.isascii() and len(text) < _LONG_NUMBER) or _INTEGER.fullmatch(text):
                return int(text)
            raise Rejected("a whole number expected")
        return int(given) if isinstance(given, Decimal) and _is_whole(given) else given

    return read


def _is_whole(number: Decimal) -> bool:
    """Whether it is a whole number of at most so many digits as one can be written with (the exponent may be any)."""
    return number.is_finite() and number.adjusted() < LONGEST_INTEGER and number == number.to_integral_value()


def _decimal(said: FieldSettings) -> Convert:
    thousands, point = said.thousands, said.decimal

    def read(given: Any) -> Any:
        if type(given) is str:
            text = given if thousands is None else _ungrouped(given, thousands, point)
            if point == ",":
                if "." in text:
                    raise Rejected("a number with a decimal comma expected")
                text = text.replace(",", ".")
            if _NUMBER.fullmatch(text):
                return Decimal(text)
            raise Rejected(f"a number such as 1234{point}50 expected")
        if type(given) is int:
            return Decimal(given)
        if isinstance(given, float):
            return exact(given)
        return given

    return read


def _float(given: Any) -> Any:
    if type(given) is str:
        if _FLOAT.fullmatch(given):
            return float(given)
        raise Rejected("a number expected")
    try:
        return float(given) if isinstance(given, Decimal) or type(given) is int else given
    except OverflowError:
        raise Rejected("a number beyond every double") from None


def _date(field: Field, read: Callable[[str], Any]) -> Convert:
    def convert(given: Any) -> Any:
        if type(given) is str:
            return _zero(field) if given[:4] == "0000" and _ZERO_DATE.fullmatch(given) else read(given)
        if isinstance(given, datetime):
            if given.tzinfo is not None or given.time() != time(0):
                raise Rejected("a date expected, a time found")
            return given.date()
        return given

    return convert


def _time(read: Callable[[str], Any]) -> Convert:
    return lambda given: read(given) if type(given) is str else given


def _timestamp(field: Field, read: Callable[[str], Any], zone: Zone) -> Convert:
    def convert(given: Any) -> Any:
        if type(given) is str:
            if given[:4] == "0000" and _ZERO_DATE.fullmatch(given):
                return _zero(field)
            given = read(given)
        if isinstance(given, datetime):
            return zone.instant(given)
        if isinstance(given, date):
            raise Rejected("a time expected, a date found")
        return given

    return convert


def _zero(field: Field) -> None:
    """MySQL's date of zeros: neither a date nor quite null. Null where the field takes it."""
    if field.nullable:
        return
    raise Rejected("a date of zeros (0000-00-00), which is no date")


def _uuid(given: Any) -> Any:
    if type(given) is str:
        try:
            return UUID(given)
        except ValueError:
            raise Rejected("a UUID expected") from None
    return given


def _nested(given: Any, field: Field, contract: Contract) -> Any:
    """A list, map or record: JSON text, or what a JSON column gives, in the mapping of a push."""
    if type(given) is str:
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            raise Rejected(f"JSON of a {field.type} expected") from None
    return contract.parse_field(field.name, given)


# -- settings --


def _forms(kind: str, field: Field, said: FieldSettings, general: list[str]) -> Callable[[str], Any]:
    try:
        return reader(kind, said.formats or general)
    except ValueError as error:
        raise SettingWrong(f"mapping.{field.name}.formats or formats.{kind}: {error}") from None


def _mapped(field: Field, said: FieldSettings) -> Mapping[str, Any] | None:
    """The value mapping: booleans and whole numbers as they are, everything else as a text to be converted."""
    if not said.values:
        return None
    return {text: _native(field, value) for text, value in said.values.items()}


def _native(field: Field, value: bool | float | str) -> bool | int | str:
    if isinstance(value, bool) != (field.type == "boolean"):
        wanted = "true or false" if field.type == "boolean" else f"a {field.type}"
        raise SettingWrong(f"mapping.{field.name}: a value of it must be {wanted}")
    if isinstance(value, bool | str) or (isinstance(value, int) and field.type in ("int", "long")):
        return value
    return str(value)


def _as_word(given: Any, trim: bool) -> str:
    """A value as a word of the value mapping: true and false for a driver's booleans, digits for whole numbers."""
    if type(given) is str:
        text = given.strip() if trim else given
        return unwrap(text) if text and text[0] in MARKS else text
    if isinstance(given, bool):
        return "true" if given else "false"
    if isinstance(given, Decimal) and _is_whole(given):
        return str(int(given))
    return str(given)


def _ungrouped(text: str, thousands: str, point: str) -> str:
    """A number without its thousands separators, which must stand where they belong. Else the text as it is."""
    whole, mark, rest = text.partition(point)
    groups = whole.split(thousands)
    if len(groups) == 1:
        return text
    if 1 <= len(groups[0].lstrip("+-")) <= 3 and all(len(group) == 3 and group.isdigit() for group in groups[1:]):
        return "".join(groups) + mark + rest
    raise Rejected("thousands separators that do not stand before groups of three digits")
