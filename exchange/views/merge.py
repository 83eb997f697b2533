"""Trimmed facets into one answer: a value for each concept with everyone who said it, and the lists. Pure.

The answer, in JSON's own types (semantics 8):

    {"values": {name: {"value", "conflict", "said_by": [{"value", "contract", "department", "version", "event_time",
                                                         "as_of", "stale"}]}},
     "records": {contract: {"items": [{"value": {field: value}, "contract", ... as in said_by}], "more", "next",
                            "cut": true where it may not be whole}},
     "not_available": [name]}

name = the concept, else `<contract>.<field>`. `version` is a string of digits, as every long. Whatever order the facets
come in, the answer is the same.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from exchange.agreements import FieldTerms, Terms
from exchange.records import rfc3339
from exchange.views.comparison import compared
from exchange.views.cursors import Cursor, microseconds
from exchange.views.trim import Trimmed

LIMIT = 200  # items of a list in one answer
_SORTED = orjson.OPT_SORT_KEYS

# A record with its place in a list: time (negative: the newest first), digest of what is shown, the item.
_Row = tuple[int, str, dict[str, Any]]


def merge(
    trimmed: Iterable[Trimmed],
    terms: Mapping[tuple[str, int], Terms],
    watermarks: Mapping[tuple[str, str], datetime],
    now: datetime,
    after: Mapping[str, str] | None = None,
    limit: int = LIMIT,
    cut: Collection[str] = (),
    not_available: Iterable[str] = (),
) -> dict[str, Any]:
    """Merge what was trimmed of one subject into the answer; see the module's docstring for its shape.

    `watermarks`: until when a source has told everything, by (contract, `<department>/<instance>`). `after`: where the
    lists go on, by contract; a contract that has no list here is passed over. `cut`: contracts whose list may
    not be whole; nothing tells of one of which nothing may be shown. What was asked for of what is permitted, and
    `not_available`, come from `select`. Raises BadRequest for a cursor that no answer gave.
    """
    merging = _Merging(terms, watermarks, now)
    said: dict[str, list[_Said]] = defaultdict(list)
    lists: dict[str, list[Trimmed]] = defaultdict(list)
    for one in trimmed:
        if terms[one.contract, one.major].record_key:
            lists[one.contract].append(one)
        else:
            for name, statement in merging.statements(one):
                said[name].append(statement)
    return {
        "values": {name: merging.value(said[name]) for name in sorted(said)},
        "records": {
            contract: merging.page(lists[contract], (after or {}).get(contract), limit)
            | ({"cut": True} if contract in cut else {})
            for contract in sorted(lists)
        },
        "not_available": sorted(set(not_available)),
    }


@dataclass(slots=True)
class _Source:
    """One record of a contract without a record key: its rank (the newest first), and what is shown of who said it."""

    rank: tuple[int, str, int, str]
    origin: dict[str, Any]


@dataclass(slots=True)
class _Said:
    """One statement of a value."""

    source: _Source
    field: FieldTerms
    value: Any
    masked: bool

    def order(self) -> tuple[Any, ...]:
        """The lead source first, then the newest; one that says null stands behind those that say something."""
        return (self.value is None, not self.field.leads, self.source.rank, self.field.name, str(self.value))

    def shown(self) -> dict[str, Any]:
        return {"value": self.value, **self.source.origin}


class _Merging:
    """One merge: what it needs to know, and the parts of the answer."""

    def __init__(
        self,
        terms: Mapping[tuple[str, int], Terms],
        watermarks: Mapping[tuple[str, str], datetime],
        now: datetime,
    ) -> None:
        self._terms, self._watermarks, self._now = terms, watermarks, now

    def statements(self, one: Trimmed) -> Iterator[tuple[str, _Said]]:
        """What a record without a record key says, each value with its name in the answer."""
        terms = self._terms[one.contract, one.major]
        newest = -microseconds(min(one.event_time, self._now))
        source = _Source((newest, one.contract, one.version, one.source), self._origin(one, terms))
        for name, value in one.values.items():
            known = terms.fields[name]
            yield known.concept or f"{one.contract}.{name}", _Said(source, known, value, name in one.masked)

    def value(self, said: list[_Said]) -> dict[str, Any]:
        """A value with everyone who said it."""
        if len(said) > 1:
            said.sort(key=_Said.order)
        return {
            "value": said[0].value,
            "conflict": len(said) > 1 and differ(_plain(said)),
            "said_by": [one.shown() for one in said],
        }

    def page(self, records: list[Trimmed], after: str | None, limit: int) -> dict[str, Any]:
        """A list's items from a cursor on, newest event time first, and the cursor to the rest."""
        start = None if after is None else Cursor.read(after)
        now = microseconds(self._now) if start is None else start.now
        rows = sorted((self._row(one, now) for one in records), key=lambda row: row[:2])
        if start is not None:
            rows = _behind(rows, start)
        cut = rows[:limit]
        more = len(rows) > limit
        return {
            "items": [item for _, _, item in cut],
            "more": more,
            "next": str(_cursor(cut, now, start)) if more else None,
        }

    def _row(self, one: Trimmed, now: int) -> _Row:
        terms = self._terms[one.contract, one.major]
        content = orjson.dumps([str(one.version), rfc3339(one.event_time), one.source, one.values], option=_SORTED)
        digest = hashlib.blake2b(content, digest_size=16, person=b"view row").hexdigest()
        return -min(microseconds(one.event_time), now), digest, {"value": dict(one.values), **self._origin(one, terms)}

    def _origin(self, one: Trimmed, terms: Terms) -> dict[str, Any]:
        """Who said it, when it was said, until when they have told everything, and whether that is too long ago."""
        as_of = self._watermarks.get((one.contract, one.source))
        cycle = terms.cycle
        return {
            "contract": one.contract,
            "department": one.department,
            "version": str(one.version),
            "event_time": rfc3339(one.event_time),
            "as_of": None if as_of is None else rfc3339(as_of),
            # Without a watermark nobody knows how fresh it is; without a promised cycle nothing is late.
            "stale": cycle is not None and (as_of is None or self._now - as_of > cycle),
        }


def _plain(said: list[_Said]) -> list[tuple[Any, str]]:
    """The values that can contradict each other, with their types: a masked one and a null contradict nobody."""
    return [(one.value, one.field.type) for one in said if not one.masked and one.value is not None]


def differ(values: Sequence[tuple[Any, str]]) -> bool:
    """Whether two of these JSON values, each with its type, contradict each other."""
    if all(one == values[0] for one in values[1:]):
        return False  # the same to the letter: what is usual needs no folding
    return len({compared(value, type_) for value, type_ in values}) > 1


def _behind(rows: list[_Row], start: Cursor) -> list[_Row]:
    """The sorted rows behind a cursor; of those just like its own, as many are passed over as were shown."""
    place = (-start.time, start.digest)
    same = sum(1 for row in rows if row[:2] == place)
    before = sum(1 for row in rows if row[:2] < place)
    return rows[before + min(same, start.same) :]


def _cursor(shown: list[_Row], now: int, start: Cursor | None) -> Cursor:
    time, digest, _ = shown[-1]
    same = sum(1 for row in shown if row[:2] == (time, digest))
    if start is not None and (-start.time, start.digest) == (time, digest):
        same += start.same
    return Cursor(now, -time, digest, same)
