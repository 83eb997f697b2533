"""Dates and times as sources write them: only the forms that are named, and no time without a zone.

A form is written in strptime's words (%Y %m %d %H %M %S %f %z); month, day, hour and minute may have one digit where
something that is no digit follows. A local time that the clock of the zone skipped, or showed twice, is rejected: which
instant it means is not known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from exchange.errors import Rejected

_WORDS = {
    "Y": r"(?P<year>[0-9]{4})",
    "m": r"(?P<month>[0-9]{1,2})",
    "d": r"(?P<day>[0-9]{1,2})",
    "H": r"(?P<hour>[0-9]{1,2})",
    "M": r"(?P<minute>[0-9]{1,2})",
    "S": r"(?P<second>[0-9]{1,2})",
    "f": r"(?P<fraction>[0-9]{1,6})",
    "z": r"(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})",
}
_NEEDED = {
    "date": {"Y", "m", "d"},
    "time": {"H", "M"},
    "timestamp": {"Y", "m", "d"},
}
_OUTSIDE = "a time outside the years 1 to 9999"
_QUIET_DAYS_KEPT = 50_000
_ISO_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII).fullmatch
_ISO_TIME = {
    mark: re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}{mark}[0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}", re.ASCII).fullmatch
    for mark in " T"
}

_ISO_PARTS = {
    "%Y-%m-%d": "[0-9]{4}-[0-9]{2}-[0-9]{2}",
    "%H:%M:%S": "[0-9]{2}:[0-9]{2}:[0-9]{2}",
    ".%f": r"\.(?:[0-9]{3}|[0-9]{6})",
    "%z": "(?:Z|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9])",
}

# Reads the text of one form: a date, a time, or a datetime with or without zone. None if the text has another form;
# raises ValueError if it has the form and there is no such day or time.
Parse = Callable[[str], Any]


def parser(kind: str, form: str) -> Parse:
    """A reader for one form of a `date`, `time` or `timestamp`. Raises ValueError, saying why, if there can be none."""
    pattern, words = _pattern(form)
    missing = _NEEDED[kind] - words
    if missing:
        raise ValueError(f"the form {form} of a {kind} lacks %{', %'.join(sorted(missing))}")
    if kind == "date":
        if words - _NEEDED["date"]:
            raise ValueError(f"the form {form} of a date has a time in it")
        if form == "%Y-%m-%d":
            return _iso(_ISO_DATE, date.fromisoformat, pattern, _date)
        return lambda text: _date(found) if (found := pattern(text)) else None
    if kind == "time":
        if words - {"H", "M", "S", "f"}:
            raise ValueError(f"the form {form} of a time of day has a date or a zone in it")
        return lambda text: _time(found) if (found := pattern(text)) else None
    if form in ("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"):
        return _iso(_ISO_TIME[form[8]], datetime.fromisoformat, pattern, _datetime)
    return lambda text: _datetime(found) if (found := pattern(text)) else None


def _iso(
    whole: Callable[[str], Any], read: Callable[[str], Any], pattern: Callable[[str], Any], slow: Callable[[Any], Any]
) -> Parse:
    """The forms that most sources have are read by datetime itself, ten times as fast; shorter numbers as usual."""

    def parse(text: str) -> Any:
        if whole(text):
            return read(text)
        found = pattern(text)
        return slow(found) if found else None

    return parse


def reader(kind: str, forms: Sequence[str]) -> Callable[[str], Any]:
    """A reader that takes any of these forms, the first that fits. It raises Rejected showing the forms."""
    parsers = [parser(kind, form) for form in forms]
    first = quick(kind, forms)
    if first is not None:
        parsers.insert(0, first)
    expected = f"a {kind.replace('timestamp', 'time')} in the form {' or '.join(forms)} expected"

    def read(text: str) -> Any:
        for parse in parsers:
            try:
                found = parse(text)
            except ValueError:
                raise Rejected(f"no such {'time' if kind != 'date' else 'date'}; {expected}") from None
            except OverflowError:
                raise Rejected(_OUTSIDE) from None
            if found is not None:
                return found
        raise Rejected(expected)

    return read


def quick(kind: str, forms: Sequence[str]) -> Parse | None:
    """One look instead of one for each form, where all forms are ISO's and so never fit the same text.

    It takes whole numbers only; what it does not take (None, or ValueError), the parsers of the forms may.
    """
    if kind != "timestamp":
        return None
    iso = [_iso_pattern(form) for form in forms]
    if None in iso:
        return None
    whole = re.compile("|".join(str(pattern) for pattern in iso), re.ASCII).fullmatch

    def parse(text: str) -> Any:
        if not whole(text):
            return None
        moment = datetime.fromisoformat(text)
        return moment if moment.tzinfo is None or moment.tzinfo is UTC else moment.astimezone(UTC)

    return parse


def _iso_pattern(form: str) -> str | None:
    """A pattern of what datetime.fromisoformat reads as the form says; None if the form is not one of ISO's."""
    found = re.fullmatch(r"(%Y-%m-%d)([ T])(%H:%M:%S)(\.%f)?(%z)?", form)
    return None if found is None else "".join(_ISO_PARTS.get(part, part) for part in found.groups("") if part)


class Zone:
    """Local times of one zone to instants. None is no zone: a time that has none itself is rejected."""

    def __init__(self, name: str | None) -> None:
        self._zone = None if name is None else ZoneInfo(name)
        self._quiet: dict[date, timedelta | None] = {}

    def instant(self, moment: datetime, *, lenient: bool = False) -> datetime:
        """The instant, in UTC, of a time that has a zone or is local.

        Raises Rejected for a local time that was skipped or shown twice; `lenient` takes the first of the two instead.
        """
        if moment.tzinfo is UTC:
            return moment
        try:
            return self._instant(moment, lenient)
        except OverflowError:
            raise Rejected(_OUTSIDE) from None

    def _instant(self, moment: datetime, lenient: bool) -> datetime:
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
        if self._zone is None:
            raise Rejected("a time without a zone; set `timezone` in the instance file")
        day = moment.date()
        if day not in self._quiet:
            if len(self._quiet) >= _QUIET_DAYS_KEPT:
                self._quiet.clear()
            self._quiet[day] = _steady_offset(self._zone, day)
        offset = self._quiet[day]
        if offset is None:
            return self._on_a_day_of_change(moment, lenient)
        return moment.replace(tzinfo=UTC) - offset

    def local(self, moment: datetime) -> datetime:
        """An instant as a local time without zone."""
        if self._zone is None:
            raise Rejected("a time without a zone; set `timezone` in the instance file")
        return moment.astimezone(self._zone).replace(tzinfo=None)

    def turns_back(self, first: datetime, last: datetime) -> bool:
        """Whether the zone's clock is set back between two instants, so that local times come twice."""
        if self._zone is None:
            return False
        hours = int((last - first).total_seconds() // 3600) + 1
        offsets = [(first + timedelta(hours=hour)).astimezone(self._zone).utcoffset() for hour in range(0, hours, 12)]
        return any(later < earlier for earlier, later in pairwise(offsets) if earlier is not None and later is not None)

    def _on_a_day_of_change(self, moment: datetime, lenient: bool) -> datetime:
        first = moment.replace(tzinfo=self._zone, fold=0)
        second = moment.replace(tzinfo=self._zone, fold=1)
        instant = first.astimezone(UTC)
        if first.utcoffset() != second.utcoffset() and not lenient:
            if self.local(instant) != moment:
                raise Rejected("a local time that the clock skipped that day")
            raise Rejected("a local time that the clock showed twice that day; give the times with their offset")
        return instant


def _steady_offset(zone: ZoneInfo, day: date) -> timedelta | None:
    """The zone's offset on that day; None if the clock changes on it."""
    offsets = {
        datetime.combine(day, hour).replace(tzinfo=zone, fold=fold).utcoffset()
        for hour in (time(0), time(6), time(12), time(18), time(23, 59, 59, 999999))
        for fold in (0, 1)
    }
    return offsets.pop() if len(offsets) == 1 else None


def _pattern(form: str) -> tuple[Callable[[str], re.Match[str] | None], set[str]]:
    parts: list[str] = []
    words: set[str] = set()
    pieces = re.split(r"%(.)", form)
    for index in range(0, len(pieces), 2):
        parts.append(re.escape(pieces[index]))
        if index + 1 == len(pieces):
            break
        word = pieces[index + 1]
        if word not in _WORDS or word in words:
            raise ValueError(f"the form {form} is not understood: %Y %m %d %H %M %S %f %z are, each once")
        words.add(word)
        following = pieces[index + 2]
        last = index + 3 >= len(pieces) and not following
        closed = bool(following) and not following[0].isdigit()
        # Between two words without anything between them a number has all its digits, or 2026111 would be two days.
        parts.append(_WORDS[word] if last or closed else _WORDS[word].replace("{1,2}", "{2}"))
    if "%" in "".join(pieces[::2]):
        raise ValueError(f"the form {form} is not understood: a lone %")
    return re.compile("".join(parts), re.ASCII).fullmatch, words


def _date(found: re.Match[str]) -> date:
    return date(int(found["year"]), int(found["month"]), int(found["day"]))


def _clock(parts: dict[str, str | None]) -> tuple[int, int, int, int]:
    fraction = parts.get("fraction")
    return (
        int(parts.get("hour") or 0),
        int(parts.get("minute") or 0),
        int(parts.get("second") or 0),
        int(fraction.ljust(6, "0")) if fraction else 0,
    )


def _time(found: re.Match[str]) -> time:
    return time(*_clock(found.groupdict()))


def _datetime(found: re.Match[str]) -> datetime:
    parts = found.groupdict()
    hour, minute, second, micro = _clock(parts)
    moment = datetime(int(found["year"]), int(found["month"]), int(found["day"]), hour, minute, second, micro)  # noqa: DTZ001
    zone = parts.get("zone")
    if zone is None:
        return moment
    if zone == "Z":
        return moment.replace(tzinfo=UTC)
    sign = -1 if zone[0] == "-" else 1
    offset = sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
    if int(zone[1:3]) > 23 or int(zone[-2:]) > 59:
        raise ValueError
    return moment.replace(tzinfo=UTC) - offset
