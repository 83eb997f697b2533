"""The same answer as `merge`, spelled straight into bytes: what a gateway does for each view. Pure.

`merge` is the reference, and serves what is rare: lists, and two facets of one contract that has no record key. Here
what is said of who said it is spelled once for a facet and put behind each of its values, without an object for each
statement; a statement is looked into again only where another says something of the same name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any

import orjson

from exchange.agreements import Terms
from exchange.records import rfc3339
from exchange.views.merge import LIMIT, differ, merge
from exchange.views.trim import Trimmed

# One statement: its rank (the lead before the others, null behind all), its value and type, whether it is plain and
# says something, its value in JSON, and who said it in JSON.
_Said = tuple[int, Any, str, bool, bytes, bytes]

_NULL_BEHIND = 2  # added to a rank; a lead's is less by one
_by_rank = itemgetter(0)
_by_contract = attrgetter("contract", "version", "source")
_json = orjson.dumps
_spelled_time = lru_cache(4096)(rfc3339)  # watermarks: the same ones for many views


class Speller:
    """Spells answers under the terms of one bundle; kept for as long as these are in force."""

    def __init__(self, terms: Mapping[tuple[str, int], Terms]) -> None:
        self.terms = terms
        self._known: dict[tuple[str, int], _Contract] = {}

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
        singles: list[Trimmed] = []
        lists: list[Trimmed] = []
        for one in trimmed:
            (lists if self._contract(one).listed else singles).append(one)
        if len({one.contract for one in singles}) < len(singles):
            answer = merge([*singles, *lists], self.terms, watermarks, now, after, limit, cut, not_available)
            return _json(answer)
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

    def _values(self, singles: list[Trimmed], watermarks: Mapping[tuple[str, str], datetime], now: datetime) -> bytes:
        """The members of `values`. Facets come in the order of their statements: the newest first, then by contract."""
        singles.sort(key=_by_contract)
        singles.sort(key=lambda one: min(one.event_time, now), reverse=True)  # stable, in reverse too
        said: dict[str, list[_Said]] = {}
        for one in singles:
            contract = self._contract(one)
            origin = contract.origin(one, watermarks.get((one.contract, one.source)), now)
            fields, masked = contract.fields, one.masked
            for name, value in sorted(one.values.items()) if contract.shared else one.values.items():
                shown, rank, type_ = fields[name]
                if value is None:
                    statement = (rank + _NULL_BEHIND, None, type_, False, b"null", origin)
                else:
                    statement = (rank, value, type_, name not in masked, _json(value), origin)
                if shown in said:
                    said[shown].append(statement)
                else:
                    said[shown] = [statement]
        parts: list[bytes] = []
        for shown in sorted(said):
            statements = said[shown]
            if len(statements) == 1:
                _, _, _, _, spelled, origin = statements[0]
                parts += (_begin(shown), spelled, b',"conflict":false,"said_by":[{"value":', spelled, origin, b"]},")
                continue
            statements.sort(key=_by_rank)  # stable: those of one rank stay in the order of their facets
            conflict = differ([(one[1], one[2]) for one in statements if one[3]])
            parts += (_begin(shown), statements[0][4], b',"conflict":true' if conflict else b',"conflict":false')
            separator = b',"said_by":[{"value":'
            for _, _, _, _, spelled, origin in statements:
                parts += (separator, spelled, origin)
                separator = b',{"value":'
            parts.append(b"]},")
        return b"".join(parts)[:-1]


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
        self._begin = b',"contract":%b,"department":' % _json(terms.contract)

    def origin(self, one: Trimmed, as_of: datetime | None, now: datetime) -> bytes:
        """Who said it: what stands behind each value, with the bracket that ends the statement."""
        stale = self._cycle is not None and (as_of is None or now - as_of > self._cycle)
        return b'%b%b,"version":"%d","event_time":"%b","as_of":%b,"stale":%b}' % (
            self._begin,
            _json(one.department),
            one.version,
            rfc3339(one.event_time).encode(),
            b"null" if as_of is None else b'"%b"' % _spelled_time(as_of).encode(),
            b"true" if stale else b"false",
        )


@lru_cache(4096)
def _begin(shown: str) -> bytes:
    return b'%b:{"value":' % _json(shown)
