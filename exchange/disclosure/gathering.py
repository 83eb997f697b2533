"""What of a subject may be shown: read contract by contract, each facet trimmed as it arrives.

A list can be longer than an answer, and a row condition can pass over any number of rows. So a list is read in pieces
until there is enough for one answer behind its cursor, and never more than MOST_ROWS of it: then the answer says that
the list was cut. Under a condition it says so in any case: else it would tell that there are hidden rows, and that they
are many. An answer orders rows of one time among themselves (see views.cursors) and the store does not, so it
needs all of a time or none: a snapshot's rows may well have one time together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

from exchange.agreements import Terms
from exchange.records import Facet
from exchange.store import LIST_LIMIT, FacetReader, Place
from exchange.views import LIMIT, Trimmed, Trimmer
from exchange.views.cursors import Cursor, microseconds

PIECE = 1_000
MOST_ROWS = 20_000
"""Rows of one list that one request looks at, those that a condition hides included; behind them the list is cut."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICK = timedelta(microseconds=1)


class Gathering:
    """Reads one subject under the decisions of one request, each by its trimmer.

    `cut` are the contracts whose lists may not be whole: those that `of` did not read to where an answer could end, and
    those under a condition, whether it did or not.
    """

    def __init__(
        self,
        reader: FacetReader,
        trimmers: Mapping[tuple[str, int], Trimmer],
        terms: Mapping[tuple[str, int], Terms],
        after: Mapping[str, str],
        now: datetime,
    ) -> None:
        """`trimmers` by contract and major, `now` the answer's time. Raises BadRequest for a cursor of no answer."""
        self._reader = reader
        self._trimmers = trimmers
        self._lists = {pair[0]: pair for pair in self._trimmers if terms[pair].record_key}
        self._cursors = {name: Cursor.read(text) for name, text in after.items() if name in self._lists}
        self._now = microseconds(now)
        self.cut = {name for name, pair in self._lists.items() if trimmers[pair].hides}

    async def of(self, subject_key: str) -> list[Trimmed]:
        """Everything that one answer can need. Raises StoreUnavailable."""
        if not self._trimmers:
            return []
        places = {name: place for name, cursor in self._cursors.items() if (place := _above(cursor)) is not None}
        facets = await self._reader.facets(subject_key, list(self._trimmers), places, LIST_LIMIT)
        found = self._trimmed(facets)
        for name, pair in self._lists.items():
            piece = [facet for facet in facets if (facet.contract, facet.major) == pair]
            if len(piece) == LIST_LIMIT:
                found += await self._rest(subject_key, name, piece)
        return found

    async def _rest(self, subject_key: str, name: str, piece: Sequence[Facet]) -> list[Trimmed]:
        """More of a list whose first piece was full, until there is enough behind its cursor."""
        pair = self._lists[name]
        behind = self._behind(name, self._trimmed(piece))
        rest: list[Trimmed] = []
        limit, seen = LIST_LIMIT, len(piece)
        while len(piece) == limit and seen < MOST_ROWS:
            last = self._time(name, piece[-1].event_time)  # rows of this time may be missing still
            if len(behind) > LIMIT and sum(1 for time in behind if time > last) >= LIMIT:
                break
            limit = PIECE
            place = Place(piece[-1].event_time, piece[-1].record_key)
            piece = await self._reader.facets(subject_key, [pair], {name: place}, limit)
            trimmed = self._trimmed(piece)
            rest += trimmed
            seen += len(piece)
            behind += self._behind(name, trimmed)
        else:
            if len(piece) == limit:
                self.cut.add(name)
        return rest

    def _behind(self, name: str, trimmed: Iterable[Trimmed]) -> list[int]:
        """The times of those that surely stand behind the cursor: those of an earlier time than its own."""
        cursor = self._cursors.get(name)
        times = [self._time(name, one.event_time) for one in trimmed]
        return times if cursor is None else [time for time in times if time < cursor.time]

    def _time(self, name: str, moment: datetime) -> int:
        """A time as the list's order takes it: one later than the list's now counts as that now."""
        cursor = self._cursors.get(name)
        return min(microseconds(moment), self._now if cursor is None else cursor.now)

    def _trimmed(self, facets: Iterable[Facet]) -> list[Trimmed]:
        return [
            trimmed for facet in facets if (trimmed := self._trimmers[facet.contract, facet.major](facet)) is not None
        ]


def _above(cursor: Cursor) -> Place | None:
    """A place above everything that can stand behind the cursor; None is the top of the list.

    Times later than the first page's now counted as that now, so a cursor there says nothing about the real time.
    """
    if cursor.time >= cursor.now:
        return None
    try:
        return Place(_EPOCH + timedelta(microseconds=cursor.time) + _TICK, "")
    except OverflowError:
        return None
