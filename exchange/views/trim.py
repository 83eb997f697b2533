"""A facet without anything that the decision does not give.

The payload is canonical JSON text as `contracts` wrote it with the record's own schema. A field is found by its present
name, then by its aliases; one that is not there is absent, and absent is not null. A row that fails a term of the
decision's condition is as if it did not exist, and so is a deletion.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from exchange.agreements import FieldTerms, Terms, masks
from exchange.agreements.conditions import Test, compiled
from exchange.decisions import Decision
from exchange.errors import StoreUnavailable
from exchange.records import Facet, moment

_ABSENT = object()
_NEVER = 4  # the level that nobody sees

Find = Callable[[Mapping[str, Any]], Any]


class Trimmed(NamedTuple):
    """What of a facet may be shown: permitted fields only, masked, and who said it.

    It holds no subject key, no record key, no offset: nothing from which more could be told. `values` are JSON values
    in the contract's order; `masked` names those that a mask has changed. `source` is `<department>/<instance>`.
    """

    contract: str
    major: int
    source: str
    department: str
    version: int
    event_time: datetime
    values: Mapping[str, Any]
    masked: frozenset[str]


class Trimmer:
    """Trims facets of one contract and major under one decision; made once for many facets."""

    def __init__(self, decision: Decision, terms: Terms) -> None:
        """Raises ValueError if decision and terms are not of one contract and major."""
        if (decision.contract, decision.major) != (terms.contract, terms.major):
            raise ValueError("the decision is not about these terms")
        self._of = (terms.contract, terms.major)
        self._shown: list[tuple[str, Find, masks.MaskName | None]] = []
        self._tests: list[tuple[Find, Test]] = []
        self._allowed = decision.allowed
        for name, mask in decision.fields.items():
            field = terms.fields.get(name)
            if field is not None and field.level < _NEVER:  # one that nobody classified is level 4
                self._shown.append((name, _finder(field), mask))
        for condition in decision.condition:
            field = terms.fields[condition.field]
            self._tests.append((_finder(field), compiled(condition, field.type)))
        self._masked = frozenset(name for name, _, mask in self._shown if mask is not None)
        # Fields that are there as they are shown, under one name, need no finding; None: some are not so.
        names = [name for name, _, _ in self._shown]
        as_they_are = not self._masked and not any(_altered(terms.fields[name]) for name in names)
        self._plain = tuple(names) if as_they_are else None

    @property
    def hides(self) -> bool:
        """Whether there is a condition that rows can fail."""
        return bool(self._tests)

    def __call__(self, facet: Facet) -> Trimmed | None:
        """What may be shown of the facet; None if there is nothing: a deletion, a row outside the condition.

        Raises StoreUnavailable if the payload is not a JSON object; ValueError if the facet is of another contract.
        """
        if (facet.contract, facet.major) != self._of:
            raise ValueError("the facet is not of the decision's contract and major")
        if not self._allowed or facet.payload is None:
            return None
        payload = _payload(facet)
        for find, test in self._tests:
            value = find(payload)
            if value is _ABSENT or not test(value):
                return None
        if self._plain is not None:
            values = {name: payload[name] for name in self._plain if name in payload}
        else:
            values = self._found(payload)
        source = facet.source
        return Trimmed(
            *self._of,
            source,
            source.partition("/")[0],
            facet.shown_version,
            moment(facet.event_micros),
            values,
            self._masked,
        )

    def _found(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        values = {}
        for name, find, mask in self._shown:
            value = find(payload)
            if value is not _ABSENT:
                values[name] = value if mask is None else masks.apply(mask, value)
        return values


class Trimmers:
    """The trimmers of decisions, which are themselves kept as long as they hold; at most `limit` of them."""

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._made: dict[int, tuple[Decision, Trimmer]] = {}  # by the decision's identity

    def of(self, decision: Decision, terms: Terms) -> Trimmer:
        """The decision's trimmer; `terms` are those of the bundle that was decided under. Raises as Trimmer does."""
        made = self._made.get(id(decision))
        if made is not None and made[0] is decision:
            return made[1]
        if len(self._made) >= self._limit:
            self._made.clear()
        trimmer = Trimmer(decision, terms)
        self._made[id(decision)] = decision, trimmer
        return trimmer


def _payload(facet: Facet) -> dict[str, Any]:
    try:
        payload = orjson.loads(facet.payload or "")
    except orjson.JSONDecodeError:
        payload = None
    if not isinstance(payload, dict):
        raise StoreUnavailable(f"a facet of {facet.contract} holds no JSON object")
    return payload


def _altered(field: FieldTerms) -> bool:
    """Whether the field may stand in a payload under another name or in another form than it is shown."""
    return bool(field.aliases) or field.type == "long"


def _finder(field: FieldTerms) -> Find:
    """How the field is found in a payload, in the JSON form of its present type; _ABSENT if it is not there.

    Contracts see to it that no name or alias stands for two fields.
    """
    name, names, long = field.name, (field.name, *field.aliases), field.type == "long"
    if not _altered(field):
        return lambda payload: payload.get(name, _ABSENT)

    def find(payload: Mapping[str, Any]) -> Any:
        for candidate in names:
            if candidate in payload:
                value = payload[candidate]
                # Written as an int before the contract made it a long, whose JSON form is a string of digits.
                return str(value) if long and type(value) is int else value
        return _ABSENT

    return find
