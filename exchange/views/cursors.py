"""Where a long list goes on: a cursor names a place in an order, not a row, and tells nothing that was not shown.

A list stands newest event time first, times later than now counting as now; rows of one time are in the order of a
digest of what is shown of them. A cursor holds the `now` of the first page, so that the order stays while the clock
goes on, the time and digest of the last row shown, and how many rows just like it were shown before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from exchange.errors import BadRequest

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TEXT = re.compile(r"(-?\d{1,18})\.(-?\d{1,18})\.([0-9a-f]{32})\.(\d{1,6})", re.ASCII)


def microseconds(moment: datetime) -> int:
    """An aware time in whole microseconds since 1970, exactly."""
    return (moment - _EPOCH) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in a list. Times in microseconds since 1970; `digest` is hexadecimal; `same` counts from one."""

    now: int
    time: int
    digest: str
    same: int

    def __str__(self) -> str:
        return f"{self.now}.{self.time}.{self.digest}.{self.same}"

    @classmethod
    def read(cls, text: str) -> Cursor:
        """Raises BadRequest if the text is not one that a view gave as `next`."""
        match = _TEXT.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise BadRequest("`after` takes what an earlier answer gave as `next`")
        return cls(int(match[1]), int(match[2]), match[3], int(match[4]))
