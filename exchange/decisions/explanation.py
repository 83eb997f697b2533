"""Decisions told to a person: for each field what is shown and who said so, or why not.

Nothing is decided here: each answer is taken from the same `Decider` that views ask.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from exchange.agreements import Agreement, Bundle, Client, FieldTerms, Terms
from exchange.decisions.decider import Asked, Decider, Decision
from exchange.records import rfc3339


def explain(decider: Decider, client: Client, purpose: str, contract: str, case: bool, now: datetime) -> dict[str, Any]:
    """What this client sees of each major of this contract for this purpose, and why: JSON-ready, newest major first.

    `{"policy", "client", "department", "purpose", "contract", "case", "at", "majors": [{"major", "allowed", "rests_on",
    "agreement", "condition", "until", "reason", "fields": [{"name", "level", "concept", "shown", "mask", "why"}]}]}`.
    `majors` is empty if there is no such contract.
    """
    majors = decider.bundle.majors(contract)
    return {
        "policy": decider.bundle.version,
        "client": client.client_id,
        "department": client.department,
        "purpose": purpose,
        "contract": contract,
        "case": case,
        "at": rfc3339(now),
        "majors": [_major(decider, client, purpose, decider.bundle.terms[contract, one], case, now) for one in majors],
    }


def without_effect(bundle: Bundle) -> list[str]:
    """Grants that never show anything, each with its reason: not wrong, but hardly meant.

    They are not refused: a level that is raised, a class that is tightened or a client that is struck must take effect
    at once, whatever the agreements say.
    """
    found = []
    for agreement in bundle.agreements.values():
        terms = bundle.terms[agreement.contract, agreement.major]
        if terms.sharing == "withheld":
            found.append(f"{agreement.id}: {terms.contract} is withheld")
        if not any(
            client.department == agreement.consumer and agreement.purpose in client.purposes and "view" in client.scopes
            for client in bundle.clients.values()
        ):
            found.append(f"{agreement.id}: no client of {agreement.consumer} may view for {agreement.purpose}")
        sensitive = terms.contract in bundle.purposes[agreement.purpose].sensitive
        for name in agreement.fields:
            level = terms.fields[name].level
            if level == 4:
                found.append(f"{agreement.id}: {name} is level 4")
            elif level == 3 and not sensitive:
                found.append(f"{agreement.id}: {name} is level 3, and {agreement.purpose} does not list the contract")
    return found


def _major(decider: Decider, client: Client, purpose: str, terms: Terms, case: bool, now: datetime) -> dict[str, Any]:
    decision = decider.decide(client, purpose, terms.contract, terms.major, case, now)
    asked = _asked(decider, client, purpose, terms, case, now)
    agreement = asked.agreement if asked else None
    return {
        "major": terms.major,
        "allowed": decision.allowed,
        "rests_on": decision.permit,
        "agreement": _agreement(agreement) if agreement else None,
        "condition": [[term.field, term.op, term.literal] for term in decision.condition],
        "until": rfc3339(decision.until) if decision.until else None,
        "reason": decision.reason,
        "fields": [_field(decider, decision, asked, field) for field in terms.fields.values()],
    }


def _asked(decider: Decider, client: Client, purpose: str, terms: Terms, case: bool, now: datetime) -> Asked | None:
    """The verdicts behind a decision; None where it was refused before the guardrails were asked, or erred."""
    if decider.bundle.clients.get(client.key) != client or purpose not in decider.bundle.purposes:
        return None
    try:
        return decider.ask(client, purpose, terms, case, now)
    except (ValueError, TypeError, KeyError):
        return None


def _agreement(agreement: Agreement) -> dict[str, Any]:
    return {
        "id": agreement.id,
        "owner": agreement.owner,
        "approved_by": agreement.approved_by,
        "from": rfc3339(agreement.from_),
        "until": rfc3339(agreement.until),
        "quota": agreement.quota,
    }


def _field(decider: Decider, decision: Decision, asked: Asked | None, field: FieldTerms) -> dict[str, Any]:
    shown = field.name in decision.fields
    return {
        "name": field.name,
        "level": field.level,
        "concept": field.concept,
        "shown": shown,
        "mask": decision.fields.get(field.name),
        "why": decision.reason if shown else _why_not(decider, decision, asked, field),
    }


def _why_not(decider: Decider, decision: Decision, asked: Asked | None, field: FieldTerms) -> str:
    if asked is None or decision.error:
        return decision.reason
    verdict = asked.verdicts[field.level]
    if not verdict.allowed and verdict.policies:
        return " ".join(decider.says(policy) for policy in verdict.policies)
    if decision.agreement is not None and verdict.allowed:
        return f"Agreement {decision.agreement} does not list it."
    return f"No permit gives level {field.level} of this contract." if decision.allowed else decision.reason
