"""The specification's logical types: decimal, uuid, date, time and timestamp, the last two in millis or micros.

Nothing is rounded: a value with more decimals, or a finer fraction of a second, than its type holds is rejected. No
time without a zone gets in, and what gets in is UTC from there on.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Context, Decimal, DecimalException, Inexact, InvalidOperation
from typing import Any
from uuid import UUID

from exchange.contracts.node import Node, misformed, mistyped, own_names
from exchange.contracts.scalars import Bytes, Text
from exchange.contracts.wire import Budget, read_bytes, read_long
from exchange.errors import Rejected

# As many digits as a 256-bit decimal holds, the widest that the analytical formats have.
MAX_PRECISION = 76
_EXACT = Context(prec=MAX_PRECISION + 2, traps=[Inexact, InvalidOperation])
_PLAIN_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,99})(?:\.[0-9]{1,99})?")
_NUMBER_TEXT = re.compile(r"[-+]?[0-9.]+")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{3}|\.[0-9]{6})?")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{3}|\.[0-9]{6})?Z")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_MICROSECOND = timedelta(microseconds=1)
_DAY_MICROS = 86_400_000_000


class DecimalNumber(Node):
    """A decimal of `precision` digits, `scale` of them after the point, on bytes or on a fixed of `size` bytes."""

    word = "decimal"

    def __init__(self, precision: int, scale: int, fullname: str = "", size: int | None = None) -> None:
        self.precision = precision
        self.scale = scale
        self.fullname = fullname
        self.size = size
        self._step = Decimal((0, (1,), -scale))
        self._zero = Decimal((0, (0,), -scale))
        self._limit = Decimal((0, (1,), precision - scale))
        self._unscaled_limit = 10**precision

    def check(self, value: Any) -> Any:
        if type(value) is not Decimal:
            raise mistyped("a decimal", value)
        if not value.is_finite():
            raise Rejected("NaN and infinities are no values")
        try:
            exact = value.quantize(self._step, context=_EXACT)
        except Inexact:
            raise Rejected(f"more than {self.scale} decimals") from None
        except DecimalException:
            raise self._too_long() from None
        if not -self._limit < exact < self._limit:
            raise self._too_long()
        return exact or self._zero  # not -0.00

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[Decimal, int]:
        if self.size is None:
            raw, at = read_bytes(data, at)
        else:
            raw, at = data[at : at + self.size], at + self.size
            if at > len(data):
                raise IndexError
        if not raw:
            raise Rejected("a decimal without bytes")
        if len(raw) > 64:
            raise self._too_long()
        unscaled = int.from_bytes(raw, "big", signed=True)
        if not -self._unscaled_limit < unscaled < self._unscaled_limit:
            raise self._too_long()
        return Decimal(unscaled).scaleb(-self.scale, _EXACT), at

    def show(self, value: Any) -> str:
        return f"{value:f}"

    def parse(self, form: Any) -> Decimal:
        if type(form) is not str:
            raise misformed('a string such as "1.10"', form)
        if not _PLAIN_DECIMAL.fullmatch(form):
            raise Rejected('a decimal is written as a string such as "1.10"')
        return Decimal(form)

    def default(self, form: Any) -> Any:
        """The two's complement bytes of the unscaled number, in the text form that Avro has for bytes.

        So "1.10" would be the four bytes of its characters, 8251108.32 under scale 2: what looks like a number is
        refused. (With U+0000 in front the same bytes look like none.)
        """
        raw = Bytes().default(form)
        if _NUMBER_TEXT.fullmatch(form):
            raise Rejected("a decimal in a default is its two's complement bytes, not its digits")
        if not raw or (self.size is not None and len(raw) != self.size):
            raise Rejected("a decimal in a default is its two's complement bytes")
        prefix = bytes([len(raw) << 1]) if self.size is None else b""
        return self.read(prefix + raw, 0, Budget())[0]

    def wrappers(self) -> set[str]:
        return super().wrappers() | own_names(self.fullname)

    def _too_long(self) -> Rejected:
        return Rejected(f"more digits than decimal({self.precision}, {self.scale}) holds")


class Uuid(Node):
    """A UUID (RFC 9562) on a string."""

    word = "uuid"

    def check(self, value: Any) -> Any:
        if type(value) is not UUID:
            raise mistyped("a UUID", value)
        return value

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[UUID, int]:
        text, at = Text().read(data, at, budget)
        return self.parse(text.lower()), at

    def show(self, value: Any) -> str:
        return str(value)

    def parse(self, form: Any) -> UUID:
        if type(form) is not str:
            raise misformed("a UUID as a string", form)
        if not _UUID.fullmatch(form):
            raise Rejected("a UUID is written as 8-4-4-4-12 hexadecimal digits in small letters")
        return UUID(form)

    def default(self, form: Any) -> Any:
        return self.parse(form)


class Day(Node):
    """A calendar date from 0001-01-01 to 9999-12-31."""

    word = "date"

    def check(self, value: Any) -> Any:
        if type(value) is not date:
            raise mistyped("a date", value)
        return value

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[date, int]:
        days, at = read_long(data, at)
        return self.default(days), at

    def number(self, value: Any) -> int:
        """Days since 1970-01-01."""
        return int(value.toordinal()) - _EPOCH_DAY

    def show(self, value: Any) -> str:
        return str(value.isoformat())

    def parse(self, form: Any) -> date:
        if type(form) is not str:
            raise misformed("a date as YYYY-MM-DD", form)
        if not _DATE.fullmatch(form):
            raise Rejected("a date is written YYYY-MM-DD")
        try:
            return date.fromisoformat(form)
        except ValueError:
            raise Rejected("no such date; a date is written YYYY-MM-DD") from None

    def default(self, form: Any) -> Any:
        if type(form) is not int:
            raise misformed("the days since 1970-01-01", form)
        try:
            return date.fromordinal(form + _EPOCH_DAY)
        except (ValueError, OverflowError):
            raise Rejected("a date outside the years 1 to 9999") from None


class _Fraction(Node):
    """What times and timestamps share: `unit` microseconds to one count, `digits` of a second in the form."""

    def __init__(self, unit: int) -> None:
        self.unit = unit
        self.suffix = "millis" if unit == 1000 else "micros"
        self._timespec = "milliseconds" if unit == 1000 else "microseconds"

    @property
    def name(self) -> str:
        return f"{self.word}-{self.suffix}"

    def _fits(self, microsecond: int) -> None:
        if microsecond % self.unit:
            raise Rejected(f"a finer fraction of a second than {self.name} holds")


class Clock(_Fraction):
    """A time of day, without zone."""

    word = "time"

    def check(self, value: Any) -> Any:
        if type(value) is not time:
            raise mistyped("a time of day", value)
        if value.tzinfo is not None:
            raise Rejected("a time of day has no zone")
        self._fits(value.microsecond)
        return value.replace(fold=0)

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[time, int]:
        count, at = read_long(data, at)
        return self.default(count), at

    def show(self, value: Any) -> str:
        return str(value.isoformat(self._timespec))

    def parse(self, form: Any) -> time:
        if type(form) is not str:
            raise misformed("a time as HH:MM:SS.fff", form)
        if not _TIME.fullmatch(form):
            raise Rejected("a time is written HH:MM:SS with 3 or 6 digits of a second")
        try:
            return time.fromisoformat(form)
        except ValueError:
            raise Rejected("no such time; a time is written HH:MM:SS with 3 or 6 digits of a second") from None

    def default(self, form: Any) -> Any:
        if type(form) is not int:
            raise misformed(f"the {self.suffix} since midnight", form)
        micros = form * self.unit
        if not 0 <= micros < _DAY_MICROS:
            raise Rejected("a time outside one day")
        seconds, micro = divmod(micros, 1_000_000)
        return time(seconds // 3600, seconds // 60 % 60, seconds % 60, micro)


class Timestamp(_Fraction):
    """An instant, as an aware datetime in UTC, in the years 1 to 9999."""

    word = "timestamp"

    def check(self, value: Any) -> Any:
        if type(value) is not datetime:
            raise mistyped("a time with a zone", value)
        if value.tzinfo is not UTC:
            if value.utcoffset() is None:
                raise Rejected("a time without a zone")
            try:
                value = value.astimezone(UTC)
            except OverflowError:
                raise Rejected("a time outside the years 1 to 9999") from None
        self._fits(value.microsecond)
        return value

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[datetime, int]:
        count, at = read_long(data, at)
        return self.default(count), at

    def number(self, value: Any) -> int:
        """Millis or micros since 1970-01-01T00:00:00Z."""
        return int((value - _EPOCH) // _MICROSECOND) // self.unit

    def show(self, value: Any) -> str:
        return f"{value.isoformat(timespec=self._timespec)[:-6]}Z"

    def parse(self, form: Any) -> datetime:
        if type(form) is not str:
            raise misformed("a time as YYYY-MM-DDTHH:MM:SS.fffZ", form)
        if not _TIMESTAMP.fullmatch(form):
            raise Rejected("a time is written YYYY-MM-DDTHH:MM:SSZ, with none, 3 or 6 digits of a second, ending in Z")
        try:
            return datetime.fromisoformat(form)
        except ValueError:
            raise Rejected("no such time; a time is written YYYY-MM-DDTHH:MM:SSZ") from None

    def default(self, form: Any) -> Any:
        if type(form) is not int:
            raise misformed(f"the {self.suffix} since 1970-01-01T00:00:00Z", form)
        try:
            return _EPOCH + timedelta(microseconds=form * self.unit)
        except OverflowError:
            raise Rejected("a time outside the years 1 to 9999") from None
