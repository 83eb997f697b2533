"""Decision and Decider: who asks, on which permit the answer rests, which fields it gives, until when it holds.

Cedar is asked once for each level that a contract's fields have; the answer is the same for all fields of a level.
Which permit (semantics 7): `own`, else `agreement`, else `open`: the first one under which at least one field may be
seen. The decision rests on that one alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType

from exchange.agreements import Agreement, Bundle, Client, Condition, FieldTerms, Terms, masks
from exchange.agreements.masks import MaskName
from exchange.decisions.cedar import Engine, Verdict
from exchange.decisions.guardrails import PERMITS, incomplete
from exchange.errors import PolicyUnavailable
from exchange.metrics import DECISIONS

_EVER = datetime.min.replace(tzinfo=UTC)
_NOTHING: Mapping[str, MaskName | None] = MappingProxyType({})
_COUNTERS = {outcome: DECISIONS.labels(outcome) for outcome in (*PERMITS, "denied", "error")}


@dataclass(frozen=True, slots=True)
class Decision:
    """What a client may see of one major of a contract, for a purpose, now; never about a subject.

    `fields` maps each field that may be seen to its mask (None: plain), in the contract's order; empty if not
    `allowed`. A row that fails a term of `condition` is as if it did not exist. `policies` are the guardrails that
    decided, the permit first. `reason` says what it rests on, or why not; it is for the audit log and `explain`, never
    for the caller. `error`: the policies could not be evaluated, which denies. `until`: when it may change by time
    alone; None: never.
    """

    contract: str
    major: int
    allowed: bool
    permit: str | None = None
    agreement: str | None = None
    fields: Mapping[str, MaskName | None] = field(default_factory=lambda: _NOTHING)
    condition: tuple[Condition, ...] = ()
    policies: tuple[str, ...] = ()
    reason: str = ""
    error: bool = False
    until: datetime | None = None

    @property
    def outcome(self) -> str:
        """The permit's name, `denied` or `error`: what metrics and the audit log call it."""
        return "error" if self.error else self.permit or "denied"


@dataclass(frozen=True, slots=True)
class Asked:
    """The question as Cedar was asked it, and the verdict for each level of the contract's fields."""

    agreement: Agreement | None
    verdicts: Mapping[int, Verdict]


@dataclass(frozen=True, slots=True)
class _Survey:
    """The decisions of a survey, since when and until when all of them hold, and the outcomes of all it asked for."""

    client: Client
    since: datetime
    until: datetime | None
    decisions: tuple[Decision, ...]
    outcomes: Mapping[str, int]

    def holds(self, client: Client, now: datetime) -> bool:
        return self.client is client and self.since <= now and (self.until is None or now < self.until)


class Decider:
    """Decides under one bundle. Safe to share between threads; decisions are kept for as long as they hold.

    At most `limit` decisions are kept: what is asked often enough to matter fits, and no caller can make it grow, for
    only registered clients, purposes and contracts are kept at all.
    """

    def __init__(self, bundle: Bundle, limit: int = 20_000) -> None:
        """Raises PolicyUnavailable if the bundle's guardrails are not a complete and valid set."""
        self.bundle = bundle
        if missing := incomplete(bundle.guardrails):
            raise PolicyUnavailable("; ".join(missing))
        try:
            self._engine = Engine(bundle.guardrails, bundle.schema)
        except ValueError as error:
            raise PolicyUnavailable(f"the bundle's guardrails are not valid: {error}") from None
        self._guardrails = {guardrail.id: guardrail for guardrail in bundle.guardrails}
        self._agreements: dict[tuple[str, str, int, str], list[Agreement]] = defaultdict(list)
        for agreement in bundle.agreements.values():
            group = (agreement.consumer, agreement.contract, agreement.major, agreement.purpose)
            self._agreements[group].append(agreement)
        self._majors: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))  # kind, contract: majors
        for terms in sorted(bundle.terms.values(), key=lambda one: (one.contract, -one.major)):
            self._majors[terms.kind][terms.contract].append(terms.major)
        self._limit = limit
        self._kept: dict[tuple[tuple[str, str], str, str, int, bool], tuple[datetime, Decision]] = {}
        self._surveys: dict[tuple[tuple[str, str], str, str, bool], _Survey] = {}

    def decide(self, client: Client, purpose: str, contract: str, major: int, case: bool, now: datetime) -> Decision:
        """May this client see this major of this contract for this purpose? `case`: the request names one.

        `now` is aware. Nothing that is asked raises: what is unknown is denied, what is mistyped or errs is denied as
        error.
        """
        decision = self._kept_or_made(client, purpose, contract, major, case, now)
        _COUNTERS[decision.outcome].inc()
        return decision

    def survey(
        self,
        client: Client,
        purpose: str,
        kind: str,
        case: bool,
        now: datetime,
        contracts: Collection[str] | None = None,
    ) -> Sequence[Decision]:
        """One decision for each contract about subjects of this kind (`citizen`, `enterprise`), in order of name.

        It is that of the newest major that is permitted; where none is, that of the newest. `contracts` narrows; a name
        in it that does not exist is passed over. All of a kind are kept together for as long as they hold: whoever is
        given the same object again has the same decisions.
        """
        whole = contracts is None and type(case) is bool and type(purpose) is str
        if whole:
            kept = self._surveys.get((client.key, purpose, kind, case))
            if kept is not None and kept.holds(client, now):
                for outcome, count in kept.outcomes.items():
                    _COUNTERS[outcome].inc(count)
                return kept.decisions
        found, asked = [], []
        for contract, majors in self._majors[kind].items():
            if contracts is not None and contract not in contracts:
                continue
            newest = None
            for major in majors:
                decision = self.decide(client, purpose, contract, major, case, now)
                asked.append(decision)
                newest = newest or decision
                if decision.allowed:
                    break
            else:
                assert newest is not None  # noqa: S101 -- a contract without a major is not in the terms
                decision = newest
            found.append(decision)
        decisions = tuple(found)
        if whole and asked:
            self._keep(client, purpose, kind, case, decisions, asked)
        return decisions

    def permitted(
        self,
        client: Client,
        purpose: str,
        kind: str,
        case: bool,
        now: datetime,
        contracts: Collection[str] | None = None,
    ) -> list[Decision]:
        """The decisions of `survey` that allow something: what a view reads, and nothing else."""
        return [one for one in self.survey(client, purpose, kind, case, now, contracts) if one.allowed]

    def ask(self, client: Client, purpose: str, terms: Terms, case: bool, now: datetime) -> Asked:
        """Ask the guardrails, once for each level that the contract's fields have. Raises on any doubt."""
        reason = self.bundle.purposes[purpose]
        agreement = self._in_force(client, purpose, terms, now)
        levels = sorted({_level(field) for field in terms.fields.values()})
        context: dict[str, object] = {
            "purpose": {"id": reason.id, "sensitive": _names(reason.sensitive)},
            "case": case,
            "now": int(now.timestamp()),
        }
        if agreement is not None:
            context["agreement"] = _as_context(agreement)
        verdicts = self._engine.ask(
            {
                "issuer": client.issuer,
                "client_id": client.client_id,
                "department": client.department,
                "scopes": _names(client.scopes),
                "purposes": _names(client.purposes),
            },
            {
                "name": terms.contract,
                "major": terms.major,
                "owner": terms.owner,
                "kind": terms.kind,
                "sharing": terms.sharing,
            },
            [context | {"level": level} for level in levels],
        )
        return Asked(agreement, dict(zip(levels, verdicts, strict=True)))

    def says(self, guardrail: str) -> str:
        """The sentence that a guardrail stands for."""
        return self._guardrails[guardrail].says

    def _keep(
        self,
        client: Client,
        purpose: str,
        kind: str,
        case: bool,
        decisions: tuple[Decision, ...],
        asked: Sequence[Decision],
    ) -> None:
        """Keep a survey while each of the decisions holds that it asked for; not if one of them is not kept."""
        since, until = _EVER, None
        for decision in asked:
            kept = self._kept.get((client.key, purpose, decision.contract, decision.major, case))
            if kept is None or kept[1] is not decision:
                return
            since = max(since, kept[0])
            if decision.until is not None:
                until = decision.until if until is None else min(until, decision.until)
        if len(self._surveys) >= self._limit:
            self._surveys.clear()
        outcomes = Counter(decision.outcome for decision in asked)
        self._surveys[client.key, purpose, kind, case] = _Survey(client, since, until, decisions, outcomes)

    def _kept_or_made(
        self, client: Client, purpose: str, contract: str, major: int, case: bool, now: datetime
    ) -> Decision:
        try:
            unknown = self._unknown(client, purpose, contract, major, case)
            if unknown is not None:
                return Decision(contract, major, allowed=False, reason=unknown)
            key = (client.key, purpose, contract, major, case)
            kept = self._kept.get(key)
            if kept is not None and kept[0] <= now and (kept[1].until is None or now < kept[1].until):
                return kept[1]
            terms = self.bundle.terms[contract, major]
            since, until = self._holds(client, purpose, terms, now)
            decision = self._made(self.ask(client, purpose, terms, case, now), client, terms, until)
            if len(self._kept) >= self._limit:
                self._kept.clear()
                self._surveys.clear()  # they hold the decisions too
            self._kept[key] = (since, decision)
        except Exception as error:  # noqa: BLE001 -- any error denies, whatever it is
            return Decision(contract, major, allowed=False, reason=f"{type(error).__name__}: {error}", error=True)
        return decision

    def _unknown(self, client: Client, purpose: str, contract: str, major: int, case: bool) -> str | None:
        """What of the question the bundle does not know; raises TypeError for what is not of its type."""
        if type(major) is not int or type(case) is not bool:
            raise TypeError("a major is a whole number, and whether there is a case is true or false")
        listed = self.bundle.clients.get(client.key)
        if listed is not client and listed != client:
            return "the client is not listed in clients.toml, or not as it asks"
        if purpose not in self.bundle.purposes:
            return "the purpose is not registered in purposes.toml"
        if (contract, major) not in self.bundle.terms:
            return "there is no such contract"
        return None

    def _group(self, client: Client, purpose: str, terms: Terms) -> Sequence[Agreement]:
        return self._agreements.get((client.department, terms.contract, terms.major, purpose), ())

    def _in_force(self, client: Client, purpose: str, terms: Terms, now: datetime) -> Agreement | None:
        found = [agreement for agreement in self._group(client, purpose, terms) if agreement.in_force(now)]
        if len(found) > 1:
            raise ValueError(f"more than one agreement is in force: {', '.join(one.id for one in found)}")
        return found[0] if found else None

    def _holds(self, client: Client, purpose: str, terms: Terms, now: datetime) -> tuple[datetime, datetime | None]:
        """Since when and until when the same agreement is in force, or none."""
        times = sorted({time for one in self._group(client, purpose, terms) for time in (one.from_, one.until)})
        place = bisect_right(times, now)
        return (times[place - 1] if place else _EVER, times[place] if place < len(times) else None)

    def _made(self, asked: Asked, client: Client, terms: Terms, until: datetime | None) -> Decision:
        errors = sorted({error for verdict in asked.verdicts.values() for error in verdict.errors})
        if errors:
            reason = "; ".join(errors)
            return Decision(terms.contract, terms.major, allowed=False, reason=reason, error=True, until=until)
        forbids = sorted(
            {policy for verdict in asked.verdicts.values() if not verdict.allowed for policy in verdict.policies}
        )
        for permit in PERMITS:
            fields = self._fields(permit, asked, terms)
            if fields:
                agreement = asked.agreement if permit == "agreement" else None
                return Decision(
                    terms.contract,
                    terms.major,
                    allowed=True,
                    permit=permit,
                    agreement=agreement.id if agreement else None,
                    fields=MappingProxyType(fields),
                    condition=agreement.condition if agreement else (),
                    policies=(permit, *forbids),
                    reason=self.says(permit),
                    until=until,
                )
        return Decision(
            terms.contract,
            terms.major,
            allowed=False,
            policies=tuple(forbids),
            reason=self._why_denied(asked, client, terms),
            until=until,
        )

    def _why_denied(self, asked: Asked, client: Client, terms: Terms) -> str:
        """What forbids every level; else, where a level is not forbidden at all, that no permit gives it."""
        by_level = [set() if verdict.allowed else set(verdict.policies) for verdict in asked.verdicts.values()]
        everywhere = set.intersection(*by_level) if by_level else set()
        if everywhere or (by_level and all(by_level)):
            return " ".join(self.says(forbid) for forbid in sorted(everywhere or set.union(*by_level)))
        return (
            f"No permit: {terms.contract} is {terms.sharing} and belongs to {terms.owner}, and no agreement with"
            f" {client.department} for this purpose gives anything now."
        )

    def _fields(self, permit: str, asked: Asked, terms: Terms) -> dict[str, MaskName | None]:
        """What may be seen under one permit, each field with the mask that agreement and permit make together."""
        granted = asked.agreement.fields if permit == "agreement" and asked.agreement else {}
        of_permit = self._guardrails[permit].mask
        fields: dict[str, MaskName | None] = {}
        for name, known in terms.fields.items():
            verdict = asked.verdicts[known.level]
            if not verdict.allowed or permit not in verdict.policies or (permit == "agreement" and name not in granted):
                continue
            mask = masks.both(granted.get(name), of_permit)
            fields[name] = mask if mask is None or masks.fits(mask, known.type) else "redact"
        return fields


def _level(field: FieldTerms) -> int:
    """The level, as the number it must be: True is equal to 1, and must not pass for it."""
    if type(field.level) is not int:
        raise TypeError("a level is a whole number")
    return field.level


def _names(names: tuple[str, ...]) -> list[str]:
    """Names for Cedar, from the tuple that they must be: a text is a row too, of its letters, and must not pass."""
    if type(names) is not tuple:
        raise TypeError("names are a tuple of texts")
    return list(names)


def _as_context(agreement: Agreement) -> dict[str, object]:
    return {
        "id": agreement.id,
        "owner": agreement.owner,
        "consumer": agreement.consumer,
        "contract": agreement.contract,
        "major": agreement.major,
        "purpose": agreement.purpose,
        "from": int(agreement.from_.timestamp()),
        "until": int(agreement.until.timestamp()),
    }
