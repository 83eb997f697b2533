"""The update time of a table: how its values are compared in the database, and which instants they are.

The database orders and compares, never the program: a cursor is a value as the driver gave it, handed back unchanged.
A text column is taken only if all its values have one form in which the order of texts is the order of times.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from connectors.times import Zone, parser
from exchange.errors import Rejected, SourceRefused

EPOCHS = {"epoch": 1, "epoch_ms": 1_000, "epoch_us": 1_000_000}
_FORM = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?P<mark>[ T])[0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(?P<fraction>\.[0-9]{1,6})?(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})?",
    re.ASCII,
)
_WIDTHS = {"%Y": 4, "%m": 2, "%d": 2, "%H": 2, "%M": 2, "%S": 2, "%f": 6}
_STEPS = {
    "%f": timedelta(0),
    "%S": timedelta(0),
    "%M": timedelta(minutes=1),
    "%H": timedelta(hours=1),
}
_NO_ZONE = (
    "its times have no zone: set `timezone` to the zone that they are written in (a zone whose clock is not set back)"
)


@dataclass(frozen=True, slots=True)
class UpdateTime:
    """How one update time column is read.

    `instant` gives the instant of a value, None if it is none; `value` gives the value to compare with for an instant
    (at or before it, by less than a second). `patterns` are LIKE patterns, one of which every text has; empty for other
    types. `resolution` is how far two values differ at least, zero for a second and less.
    """

    instant: Callable[[Any], datetime | None]
    value: Callable[[datetime], Any]
    patterns: tuple[str, ...] = ()
    local: bool = False
    resolution: timedelta = timedelta(0)


def update_time(sample: Any, form: str | None, zone: Zone, column: str) -> UpdateTime:
    """How the column is read whose values are like `sample`. Raises SourceRefused, saying what to do."""
    if isinstance(sample, datetime):
        if sample.tzinfo is not None:
            return UpdateTime(lambda found: found.astimezone(UTC), lambda moment: moment)
        return UpdateTime(_lenient(zone), zone.local, local=True)
    if isinstance(sample, date):
        return UpdateTime(
            lambda found: _lenient(zone)(datetime.combine(found, time(0))),
            lambda moment: zone.local(moment).date(),
            local=True,
            resolution=timedelta(days=1),
        )
    if isinstance(sample, str):
        return _text(sample, form, zone, column)
    if isinstance(sample, int | float | Decimal):
        return _number(form, column)
    raise SourceRefused(f"the column {column} is no time: name the column that says when a row was written last")


def _number(form: str | None, column: str) -> UpdateTime:
    unit = EPOCHS.get(form or "")
    if unit is None:
        raise SourceRefused(
            f"the column {column} holds numbers: set `updated_at_format` to epoch, epoch_ms or epoch_us if they count "
            "from 1970-01-01T00:00:00Z; a number of another kind does not say when a row was written"
        )

    def instant(found: Any) -> datetime | None:
        try:
            return datetime.fromtimestamp(0, UTC) + timedelta(seconds=float(Decimal(found) / unit))
        except (OverflowError, ValueError, ArithmeticError):
            return None

    return UpdateTime(
        instant,
        lambda moment: int(moment.timestamp()) * unit,
    )


def _text(sample: str, form: str | None, zone: Zone, column: str) -> UpdateTime:
    if form is not None:
        return _named(form, zone)
    found = _FORM.fullmatch(sample)
    if found is None:
        raise SourceRefused(
            f"the column {column} holds texts of an unknown form: set `updated_at_format`, such as %Y-%m-%d %H:%M:%S"
        )
    mark, fraction, suffix = found["mark"], found["fraction"], found["zone"] or ""
    base = f"____-__-__{mark}__:__:__"
    written = f"%Y-%m-%d{mark}%H:%M:%S"
    parsers = [parser("timestamp", written + part + ("%z" if suffix else "")) for part in ("", ".%f")]
    if not suffix:
        # 10:00:00 is a prefix of 10:00:00.5, so with nothing behind it a fraction may be there or not.
        patterns: tuple[str, ...] = (base, f"{base}.%")
        return UpdateTime(
            _parsed(parsers, zone), lambda moment: zone.local(moment).strftime(written), patterns, local=True
        )
    offset = Zone(None).instant(datetime.fromisoformat(f"2000-01-01T00:00:00{suffix}"))
    shift = datetime(2000, 1, 1, tzinfo=UTC) - offset
    zeros = "" if fraction is None else "." + "0" * (len(fraction) - 1)

    def value(moment: datetime) -> str:
        return (moment.astimezone(UTC) + shift).strftime(written) + zeros + suffix

    return UpdateTime(_parsed(parsers, zone), value, (base + "_" * len(zeros) + suffix,))


def _named(form: str, zone: Zone) -> UpdateTime:
    try:
        parse = parser("timestamp", form)
    except ValueError as error:
        raise SourceRefused(f"updated_at_format: {error}") from None
    words, order = re.findall(r"%.", form), list(_WIDTHS)
    if not set(words) <= set(order) or words != sorted(words, key=order.index):
        raise SourceRefused(
            f"updated_at_format: texts of the form {form} do not sort by time: year, month, day, hour, minute, second "
            "and fraction must come in this order, without an offset"
        )
    pattern = re.sub(r"%.", lambda word: "_" * _WIDTHS[word[0]], form)
    return UpdateTime(
        _parsed([parse], zone),
        lambda moment: zone.local(moment).strftime(form),
        (pattern,),
        local=True,
        resolution=next((step for word, step in _STEPS.items() if word in words), timedelta(days=1)),
    )


def _parsed(parsers: list[Callable[[str], Any]], zone: Zone) -> Callable[[Any], datetime | None]:
    lenient = _lenient(zone)

    def instant(found: Any) -> datetime | None:
        for parse in parsers:
            try:
                moment = parse(found)
            except (ValueError, TypeError):
                return None
            if moment is not None:
                return lenient(moment)
        return None

    return instant


def _lenient(zone: Zone) -> Callable[[Any], datetime | None]:
    def instant(found: Any) -> datetime | None:
        try:
            return zone.instant(found, lenient=True)
        except (Rejected, OverflowError):
            return None

    return instant


def refuse_unsafe(kind: UpdateTime, zone: Zone, named: str | None, column: str, now: datetime, lag: timedelta) -> None:
    """Refuse local times without a zone, or of a zone whose clock is set back, and steps longer than the safety lag.

    Around the hour that comes twice, order by local time is not order in time, and rows would be passed over. Raises
    SourceRefused, saying what to do.
    """
    if kind.local and named is None:
        raise SourceRefused(f"the column {column}: {_NO_ZONE}")
    if kind.local and zone.turns_back(now - timedelta(days=1), now + timedelta(days=2 * 365)):
        raise SourceRefused(
            f"the column {column} holds local times of {named}, whose clock is set back each year: rows written in the "
            "hour that comes twice would be lost. Use a column with zone, or one in UTC"
        )
    if kind.resolution > lag:
        raise SourceRefused(
            f"the column {column} counts in steps of {kind.resolution}: rows written later within a step would be "
            "lost. Set `safety_lag` to as much or more, or use a column with seconds"
        )
