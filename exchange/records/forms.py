"""How times, numbers and names are written in what travels, and how such JSON is read: untrusted."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any

from exchange.errors import Rejected

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TWO = [f"{number:02d}" for number in range(60)]
LIMIT = 1 << 63  # both databases keep whole numbers from -LIMIT to LIMIT - 1


def rfc3339(moment: datetime) -> str:
    """An aware time as RFC 3339 in UTC, ending in Z, with 3 digits of a second or 6 where 3 lose something."""
    # By hand: it is in every message, and isoformat, which asks the zone each time, takes five times as long.
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    micro = utc.microsecond
    fraction = "000" if not micro else f"{micro:06d}" if micro % 1000 else f"{micro // 1000:03d}"
    return f"{_day(utc.toordinal())}T{_TWO[utc.hour]}:{_TWO[utc.minute]}:{_TWO[utc.second]}.{fraction}Z"


@lru_cache(maxsize=4_096)
def _day(ordinal: int) -> str:
    return date.fromordinal(ordinal).isoformat()


def micros(moment: datetime) -> int:
    """An aware time as microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """Microseconds since 1970 as aware UTC."""
    return _EPOCH + timedelta(microseconds=value)


def canonical(value: Any) -> str:
    """JSON text with sorted keys and no blanks, for values whose numbers are small integers (RFC 8785 for those)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def name(value: Any) -> str:
    """A name that can stand in a key, a log line and a metric: short, printable ASCII. Raises TypeError."""
    if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isascii() or not value.isprintable():
        raise TypeError
    return value


def text(value: Any) -> str:
    """Text that any database stores: no NUL, no lone surrogate, which JSON can write. Raises TypeError, ValueError."""
    if not isinstance(value, str) or "\0" in value:
        raise TypeError
    value.encode("utf-8")  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
    return value


def whole(value: Any) -> int:
    """A whole number that any database stores. Raises TypeError."""
    if type(value) is not int or not storable(value):
        raise TypeError
    return value


def storable(number: int) -> bool:
    """Whether a number fits 64 bits, as both databases have them."""
    return -LIMIT <= number < LIMIT


def json_object(raw: bytes | None) -> dict[str, Any]:
    """A message's value as a JSON object. Raises Rejected if it is none."""
    try:
        value = json.loads(raw or b"")
    except (ValueError, RecursionError):
        raise Rejected("the value is not JSON") from None
    if not isinstance(value, dict):
        raise Rejected("the value is not a JSON object")
    return value
