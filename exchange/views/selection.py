"""Which of the permitted contracts and fields were asked for, and what is not available.

What does not exist and what is not permitted come out alike, because nothing here knows more than the decisions that
allow.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from exchange.agreements import Terms
from exchange.decisions import Decision


@dataclass(frozen=True, slots=True)
class Selection:
    """The decisions to read by, narrowed to what was asked for, and the names asked for that none of them gives."""

    decisions: tuple[Decision, ...]
    not_available: tuple[str, ...]


def select(
    permitted: Sequence[Decision],
    terms: Mapping[tuple[str, int], Terms],
    contracts: Collection[str] | None = None,
    fields: Collection[str] | None = None,
) -> Selection:
    """Narrow decisions to the contracts and fields asked for; None asks for all that is permitted.

    `fields` are names as a view shows them: concepts, or `<contract>.<field>` for one contract's field. A decision of
    which no field was asked for falls away.
    """
    found = [one for one in permitted if one.allowed and (contracts is None or one.contract in contracts)]
    missing = set(contracts or ()) - {one.contract for one in found}
    if fields is None:
        return Selection(tuple(found), tuple(sorted(missing)))
    given: set[str] = set()
    narrowed = []
    for decision in found:
        known = terms[decision.contract, decision.major]
        kept = {}
        for name, mask in decision.fields.items():
            names = {known.shown_name(name), f"{decision.contract}.{name}"} & set(fields)
            if names:
                given |= names
                kept[name] = mask
        if kept:
            narrowed.append(replace(decision, fields=MappingProxyType(kept)))
    return Selection(tuple(narrowed), tuple(sorted(missing | (set(fields) - given))))
