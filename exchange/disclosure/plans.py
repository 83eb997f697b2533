"""By what a request reads, and what its entry says of that: made from decisions, and kept for as long as these hold.

What asks for all that is permitted finds its plan ready. What asks for some contracts or fields only has a plan of its
own, made each time, so that it takes as long for what is forbidden as for what there is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from exchange.agreements import Bundle
from exchange.decisions import Decision
from exchange.views import Speller, Trimmer, Trimmers, select


@dataclass(frozen=True, slots=True)
class Plan:
    """What a request may read.

    `trimmers` by contract and major, and the speller of the same bundle; `contracts` maps each topic to the fields that
    were decided on, `policies` are the ids that permitted or forbade, `errors` the topics whose policies could not be
    evaluated.
    """

    permitted: bool
    trimmers: Mapping[tuple[str, int], Trimmer]
    not_available: tuple[str, ...]
    contracts: Mapping[str, Sequence[str]]
    policies: Sequence[str]
    errors: Mapping[str, str]
    speller: Speller


class Plans:
    """The plans of one bundle at a time, of at most `limit` decisions together."""

    def __init__(self, limit: int = 20_000) -> None:
        self._limit = limit
        self._trimmers = Trimmers(limit)
        self._bundle: Bundle | None = None
        self._made: dict[int, tuple[Sequence[Decision], Plan]] = {}  # by the survey's identity
        self._speller = Speller({})

    def of(
        self,
        bundle: Bundle,
        survey: Sequence[Decision],
        contracts: Sequence[str] | None = None,
        fields: Sequence[str] | None = None,
    ) -> Plan:
        """The plan of a request under these decisions, which are of this bundle."""
        if bundle is not self._bundle:
            self._bundle, self._speller = bundle, Speller(bundle.terms)
            self._trimmers = Trimmers(self._limit)
            self._made.clear()
        if contracts is not None or fields is not None:
            return self._make(bundle, survey, contracts, fields)
        made = self._made.get(id(survey))
        if made is not None and made[0] is survey:
            return made[1]
        if len(self._made) * len(survey) >= self._limit:
            self._made.clear()
        plan = self._make(bundle, survey, None, None)
        self._made[id(survey)] = survey, plan
        return plan

    def _make(
        self,
        bundle: Bundle,
        survey: Sequence[Decision],
        contracts: Sequence[str] | None,
        fields: Sequence[str] | None,
    ) -> Plan:
        permitted = [decision for decision in survey if decision.allowed]
        asked = select(permitted, bundle.terms, contracts, fields)
        # A decision that was narrowed to some fields is this request's own: its trimmer would never be asked for again.
        make = self._trimmers.of if fields is None else Trimmer
        pairs = [((decision.contract, decision.major), decision) for decision in asked.decisions]
        return Plan(
            permitted=bool(permitted),
            trimmers={pair: make(decision, bundle.terms[pair]) for pair, decision in pairs},
            not_available=asked.not_available,
            contracts={_topic(decision): sorted(decision.fields) for decision in asked.decisions},
            policies=_ids(asked.decisions if permitted else survey),
            errors={_topic(decision): decision.reason for decision in survey if decision.error},
            speller=self._speller,
        )


def _topic(decision: Decision) -> str:
    return f"{decision.contract}.v{decision.major}"


def _ids(decisions: Iterable[Decision]) -> list[str]:
    """What the decisions rest on: guardrails and agreements, each once."""
    named: set[str] = set()
    for decision in decisions:
        named.update(decision.policies)
        if decision.agreement is not None:
            named.add(decision.agreement)
    return sorted(named)
