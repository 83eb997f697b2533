"""Masks: how a permitted value is shown in part. Pure.

| mask | fits | shows |
| --- | --- | --- |
| last4 | string, int, long, uuid | `****` and the last four characters; of a value shorter than eight, `****` alone |
| year_only | date, timestamps | the year; of a timestamp, in UTC |
| initial | string | the first character and `**`; of a single character, `**` alone |
| redact | every type | `***`, null or not |

Null under the first three stays null. A value that is not what the field's type promises is redacted: any doubt hides.
Nothing shown tells how long the value is, but for whether it reaches eight.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

MaskName = Literal["last4", "year_only", "initial", "redact"]

REDACTED = "***"
_YEAR = re.compile(r"(\d{4})-\d\d-\d\d(?:T|$)", re.ASCII)


class _Unfit(Exception):
    """The value is not of a kind that the mask knows."""


def _last4(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _Unfit
    text = unicodedata.normalize("NFC", str(value)).strip()
    return "****" + text[-4:] if len(text) >= 8 else "****"


def _year_only(value: Any) -> str:
    match = _YEAR.match(value) if isinstance(value, str) else None
    if match is None:
        raise _Unfit
    return match[1]


def _initial(value: Any) -> str:
    if not isinstance(value, str):
        raise _Unfit
    text = unicodedata.normalize("NFC", value).strip()
    return text[:1] + "**" if len(text) > 1 else "**"


@dataclass(frozen=True, slots=True)
class Mask:
    """One mask: the types of a contract that it fits (None: all), and how it shows a value that is not null."""

    name: MaskName
    types: frozenset[str] | None
    show: Callable[[Any], str]

    def fits(self, type_: str) -> bool:
        return self.types is None or type_ in self.types


MASKS: Mapping[MaskName, Mask] = MappingProxyType(
    {
        "last4": Mask("last4", frozenset({"string", "int", "long", "uuid"}), _last4),
        "year_only": Mask("year_only", frozenset({"date", "timestamp-millis", "timestamp-micros"}), _year_only),
        "initial": Mask("initial", frozenset({"string"}), _initial),
        "redact": Mask("redact", None, lambda value: REDACTED),
    }
)


def fits(name: MaskName, type_: str) -> bool:
    """Whether this mask can show a value of the contract's type."""
    return MASKS[name].fits(type_)


def both(one: MaskName | None, other: MaskName | None) -> MaskName | None:
    """The mask that does what two ask for: where they differ, `redact`."""
    if one is None or other is None or one == other:
        return one or other
    return "redact"


def apply(name: MaskName, value: Any) -> Any:
    """A JSON value as it is shown under a mask: text, or None for a null that is not redacted."""
    if name == "redact":
        return REDACTED
    if value is None:
        return None
    try:
        return MASKS[name].show(value)
    except _Unfit:
        return REDACTED
