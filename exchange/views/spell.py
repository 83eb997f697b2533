"""The same answer as `merge`, spelled straight into bytes: what a gateway does for each view. Pure.

`merge` is the reference, and serves what is rare: lists, and two facets of one contract that has no record key. Here
what is said of who said it is spelled once for a facet and put behind each of its values, without an object for each
statement; a statement is looked into again only where another says something of the same name.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Any

import orjson

from exchange.agreements import Terms
from exchange.records import rfc3339
from exchange.views.merge import LIMIT, differ, merge
from exchange.views.trim import Trimmed

# A facet as it is spelled: how long before the answer it was said, contract, version and source, which order the
# statements; its place among those that came, so that nothing behind it is compared; what is known of its contract.
_Row = tuple[timedelta, str, int, str, int, "_Contract", Trimmed]

# A statement in its place: the facet's number in the order of statements, the field's name and type.
_Place = tuple[int, str, str]

# One value of an answer: how it begins, the place of its first statement, all places where there are more, and whether
# all are of one type.
_Member = tuple[bytes, int, str, tuple[_Place, ...], bool]

_AT_ONCE = timedelta()
_SHAPES = 4_096
_AGREED = b',"conflict":false,"said_by":[{"value":'
_DIFFER = b',"conflict":true,"said_by":[{"value":'
_AND = b',{"value":'
_json = orjson.dumps
_spelled_time = lru_cache(4096)(rfc3339)  # watermarks: the same ones for many views


class Speller:
    """Spells answers under the terms of one bundle; kept for as long as these are in force."""

    def __init__(self, terms: Mapping[tuple[str, int], Terms]) -> None:
        self.terms = terms
        self._known: dict[tuple[str, int], _Contract] = {}
        self._shapes: dict[tuple[Any, ...], list[_Member]] = {}

    def __call__(
        self,
        trimmed: Iterable[Trimmed],
        watermarks: Mapping[tuple[str, str], datetime],
        now: datetime,
        after: Mapping[str, str] | None = None,
        limit: int = LIMIT,
        cut: Collection[str] = (),
        not_available: Collection[str] = (),
    ) -> bytes:
        """The JSON of `merge` of the same arguments, byte for byte. Raises BadRequest as it does."""
        singles: list[_Row] = []
        lists: list[Trimmed] = []
        for number, one in enumerate(trimmed):
            contract = self._contract(one)
            if contract.listed:
                lists.append(one)
            else:
                ago = now - one.event_time if one.event_time < now else _AT_ONCE
                singles.append((ago, one.contract, one.version, one.source, number, contract, one))
        if len({row[1] for row in singles}) < len(singles):
            every = [*(row[-1] for row in singles), *lists]
            return _json(merge(every, self.terms, watermarks, now, after, limit, cut, not_available))
        values = self._values(singles, watermarks, now)
        if not (lists or not_available):
            return b'{"values":{%b},"records":{},"not_available":[]}' % values
        rest = merge(lists, self.terms, watermarks, now, after, limit, cut, not_available)
        del rest["values"]
        return b'{"values":{%b},%b' % (values, _json(rest)[1:])

    def _contract(self, one: Trimmed) -> _Contract:
        pair = (one.contract, one.major)
        known = self._known.get(pair)
        if known is None:
            known = self._known[pair] = _Contract(self.terms[pair])
        return known

    def _values(self, rows: list[_Row], watermarks: Mapping[tuple[str, str], datetime], now: datetime) -> bytes:
        """The members of `values`. Facets come in the order of their statements: the newest first, then by contract."""
        rows.sort()
        shape: list[Any] = []
        origins, values, masked = [], [], []
        for _, name, _, source, _, contract, one in rows:
            shape += (contract, *one.values)
            origins.append(contract.origin(one, watermarks.get((name, source)), now))
            values.append(one.values)
            masked.append(one.masked)
        parts: list[bytes] = []
        for begin, number, name, more, one_type in self._members(tuple(shape), rows):
            value = values[number][name]
            spelled = _json(value)
            if not more:
                parts += (begin, spelled, _AGREED, spelled, origins[number], b"]},")
                continue
            said = [values[at][field] for at, field, _ in more]
            if one_type and type(value) is str and said.count(value) == len(said):  # no other type equals a text
                every = (_AND + spelled).join([origins[at] for at, _, _ in more])
                parts += (begin, spelled, _AGREED, spelled, every, b"]},")
                continue
            found = [
                (said_, type_, field in masked[at], origins[at])
                for said_, (at, field, type_) in zip(said, more, strict=True)
            ]
            found.sort(key=_says_nothing)  # stable: those that say something stay in their order, and the others
            conflict = differ([one[:2] for one in found if not (one[2] or one[0] is None)])
            every = _AND.join([_json(one[0]) + one[3] for one in found])
            parts += (begin, _json(found[0][0]), _DIFFER if conflict else _AGREED, every, b"]},")
        return b"".join(parts)[:-1]

    def _members(self, shape: tuple[Any, ...], rows: list[_Row]) -> list[_Member]:
        """Where each value of an answer finds its statements, leads first: the same for all facets of these fields."""
        known = self._shapes.get(shape)
        if known is not None:
            return known
        said: dict[str, list[tuple[int, _Place]]] = defaultdict(list)
        for number, row in enumerate(rows):
            contract, one = row[-2:]
            # Fields that have one name in the answer stand in the order of their own names.
            for name in sorted(one.values) if contract.shared else one.values:
                shown, rank, type_ = contract.fields[name]
                said[shown].append((rank, (number, name, type_)))
        members: list[_Member] = []
        for shown in sorted(said):
            places = tuple(place for _, place in sorted(said[shown], key=itemgetter(0)))
            more, types = places if len(places) > 1 else (), {type_ for _, _, type_ in places}
            members.append((b'%b:{"value":' % _json(shown), *places[0][:2], more, len(types) == 1))
        if len(self._shapes) >= _SHAPES:
            self._shapes.clear()
        self._shapes[shape] = members
        return members


def _says_nothing(statement: tuple[Any, ...]) -> bool:
    return statement[0] is None


class _Contract:
    """What of a contract's terms stands in every answer.

    `fields`: the name in the answer, the rank and the type of each. `shared`: two of them have one name there, and
    their statements stand in the order of the fields' names.
    """

    def __init__(self, terms: Terms) -> None:
        self.listed = bool(terms.record_key)
        self.fields = {
            name: (terms.shown_name(name), 0 if field.leads else 1, field.type) for name, field in terms.fields.items()
        }
        self.shared = len({shown for shown, _, _ in self.fields.values()}) < len(self.fields)
        self._cycle: timedelta | None = terms.cycle
        self._name = _json(terms.contract)
        self._begins: dict[str, bytes] = {}  # by department: how each statement of its facets goes on

    def origin(self, one: Trimmed, as_of: datetime | None, now: datetime) -> bytes:
        """Who said it: what stands behind each value, with the bracket that ends the statement."""
        begin = self._begins.get(one.department)
        if begin is None:
            begin = b',"contract":%b,"department":%b,"version":"' % (self._name, _json(one.department))
            self._begins[one.department] = begin
        stale = self._cycle is not None and (as_of is None or now - as_of > self._cycle)
        return b'%b%d","event_time":"%b","as_of":%b,"stale":%b}' % (
            begin,
            one.version,
            rfc3339(one.event_time).encode(),
            b"null" if as_of is None else b'"%b"' % _spelled_time(as_of).encode(),
            b"true" if stale else b"false",
        )
