"""Trimmed facets into one answer: a value for each concept with everyone who said it, and the lists. Pure.

The answer, in JSON's own types (semantics 8):

    {"values": {name: {"value", "conflict", "said_by": [{"value", "contract", "department", "version", "event_time",
                                                         "as_of", "stale"}]}},
     "records": {contract: {"items": [{"value": {field: value}, "contract", ... as in said_by}], "more", "next"}},
     "not_available": [name]}

name = the concept, else `<contract>.<field>`. `version` is a string of digits, as every long. Whatever order the facets
come in, the answer is the same.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from exchange.agreements import Terms
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
    not_available: Iterable[str] = (),
) -> dict[str, Any]:
    """Merge what was trimmed of one subject into the answer; see the module's docstring for its shape.

    `watermarks`: until when a source has told everything, by (contract, `<department>/<instance>`). `after`: where the
    lists go on, by contract; a contract that has no list here is passed over. What was asked for of what is permitted,
    and `not_available`, come from `select`. Raises BadRequest for a cursor that no answer gave.
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
            contract: merging.page(lists[contract], (after or {}).get(contract), limit) for contract in sorted(lists)
        },
        "not_available": sorted(set(not_available)),
    }


@dataclass(frozen=True, slots=True)
class _Said:
    """One statement of a value: its place among others, what it is compared by (None: not at all), how it is shown."""

    order: tuple[Any, ...]
    compared: tuple[str, Any] | None
    shown: dict[str, Any]


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
        """What a record without a record key says, each value under its name in the answer.

        The lead source stands first, then the newest; one that says null stands behind those that say something.
        """
        terms = self._terms[one.contract, one.major]
        origin = self._origin(one, terms)
        newest = -microseconds(min(one.event_time, self._now))
        for field, value in one.values.items():
            known = terms.fields[field]
            name = known.concept or f"{one.contract}.{field}"
            shown = {"value": value, **origin}
            order = (value is None, not known.leads, newest, one.contract, field, one.source, one.version, str(value))
            silent = value is None or field in one.masked
            yield name, _Said(order, None if silent else compared(value, known.type), shown)

    def value(self, said: list[_Said]) -> dict[str, Any]:
        """A value with everyone who said it. A masked value and a null contradict nobody."""
        said.sort(key=lambda one: one.order)
        different = {one.compared for one in said if one.compared is not None}
        return {
            "value": said[0].shown["value"],
            "conflict": len(different) > 1,
            "said_by": [one.shown for one in said],
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
