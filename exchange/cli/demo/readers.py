"""Readers: who asks, for which purpose, and what they see; and who sees nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from exchange.agreements import Bundle
from exchange.city import truth
from exchange.city.world import citizen
from exchange.cli.demo.desks import Call
from exchange.cli.demo.stage import Stage
from exchange.cli.demo.steps import Cell, Table, Told
from exchange.clock import system_clock
from exchange.decisions import Decider


@dataclass(frozen=True, slots=True)
class Desk:
    """A client that asks, its purpose, and the case it works on where it names one."""

    client: str
    purpose: str
    case: str | None = None


AGENCIES = (
    Desk("social-casework", "social-assistance", "SA-2026-0417"),
    Desk("tax-desk", "tax-assessment", "TA-2026-0093"),
    Desk("housing-desk", "housing-allocation"),
    Desk("credit-office", "credit-assessment"),
    Desk("hotline-desk", "emergency-response", "ER-2026-1120"),
)

# What the table shows of a citizen: a title, the value's name, or a list's contract and the field that tells of it.
VALUES = (
    ("name", "citizen.name"),
    ("born", "citizen.birth_date"),
    ("address", "citizen.address"),
    ("phone", "citizen.phone"),
    ("marital status", "civil.person.marital_status"),
    ("income", "tax.person.annual_income"),
    ("insurance base", "social.insurance.contribution_base"),
    ("insured", "social.insurance.status"),
    ("tax settled", "tax.person.settled"),
    ("blood type", "health.record.blood_type"),
    ("allergies", "health.record.allergies"),
)
LISTS = (
    ("household", "civil.household_member", "relation"),
    ("real estate", "housing.title", "location"),
    ("vehicles", "transport.vehicle", "plate"),
    ("their energy", "transport.vehicle", "energy"),
)


def agencies(stage: Stage, told: Told) -> None:
    """One citizen, one moment, five agencies: each sees what the owners agreed to, for its purpose."""
    calls = {desk: _ask(stage, desk, "citizen", stage.town.citizen) for desk in AGENCIES}
    for call in calls.values():
        told.show(call)
    told.check(all(call.status == 200 for call in calls.values()), f"each of {len(calls)} requests is answered")
    masks = {desk: _masked(stage, desk, "citizen") for desk in AGENCIES}
    told.show(_matrix(calls, masks))
    seen = [call.names for call in calls.values()]
    told.check(len(set(seen)) == len(seen), "no two of them see the same fields")
    _check_masks(told, calls)
    _check_levels(stage, told, calls)
    told.check(all(_evident(call, stage) for call in calls.values()), "each answer has its receipt, digest and policy")
    stage.view = calls[AGENCIES[1]]


def refused(stage: Stage, told: Told) -> None:
    """The inspectors have no agreement about citizens: nothing is read, nobody is confirmed to exist."""
    desk = Desk("market-inspector", "market-supervision")
    known = _ask(stage, desk, "citizen", stage.town.citizen)
    stranger = citizen(truth.world(dict(stage.town.truth)), 0).ghost_id  # a valid number that is nobody's
    unknown = _ask(stage, desk, "citizen", stranger)
    told.show(known)
    told.check(known.status == 403, f"403: {known.answer['title']}")
    told.check(known.answer["type"] == "/errors/nothing-permitted", f"a problem (RFC 9457): {known.answer['type']}")
    told.check(_but_id(known) == _but_id(unknown), "of somebody who does not exist it hears the same, word for word")


def purpose(stage: Stage, told: Told) -> None:
    """Nobody reads without a registered purpose, and with one only if it is registered for it."""
    unknown = _ask(stage, Desk("tax-desk", "curiosity"), "citizen", stage.town.citizen)
    other = _ask(stage, Desk("tax-desk", "clinical-care"), "citizen", stage.town.citizen)
    told.show(unknown)
    told.show(other)
    told.check(unknown.status == 400, f"400: {unknown.answer.get('detail', unknown.answer['title'])}")
    told.check(other.status == 403, f"403 for the purpose of the hospitals: {other.answer['title']}")


def enterprise(stage: Stage, told: Told) -> None:
    """Sources disagree: the lead source is shown first, the others stay visible as evidence."""
    inspector = _ask(stage, Desk("market-inspector", "market-supervision"), "enterprise", stage.town.enterprise)
    credit = _ask(stage, Desk("credit-office", "credit-assessment"), "enterprise", stage.town.enterprise)
    told.show(inspector)
    told.show(credit)
    name, address = "enterprise.name", "enterprise.address"
    told.show(f"{inspector.value(name)}, {stage.town.enterprise}")
    said = [one for one in inspector.said_by(address) if one["value"] is not None]
    rows = [
        [
            one["department"],
            Cell(str(one["value"]), "plain" if place else "lead"),
            one["event_time"][:10],
            one["as_of"][:16].replace("T", " "),
        ]
        for place, one in enumerate(said)
    ]
    told.show(Table(("address said by", "address", "said on", "all told until"), rows))
    penalties = inspector.items("market.penalty")
    told.show(
        Table(
            ("penalty decision", "for", ">amount", "decided", "status"),
            [
                [each["decision_no"], each["violation"], str(each["amount"]), each["decided_on"], each["status"]]
                for each in penalties
            ],
        )
    )
    told.check(inspector.status == credit.status == 200, "both requests are answered")
    told.check(said[0]["contract"] == "market.registration", "market regulation leads addresses and stands first")
    told.check(
        inspector.answer["values"][address]["conflict"] and len({one["department"] for one in said}) > 1,
        f"{len(said)} departments, {len({one['value'] for one in said})} addresses: a conflict, and it is shown",
    )
    told.check(
        not inspector.answer["values"][name]["conflict"], "the names differ in width of brackets at most: no conflict"
    )
    _check_penalties(told, penalties, credit.items("market.penalty"))


# --- asking -----------------------------------------------------------------------------------------------------------


def _ask(stage: Stage, desk: Desk, kind: str, subject: str) -> Call:
    return stage.desks.view(desk.client, desk.purpose, kind, subject, case=desk.case)


def _but_id(call: Call) -> tuple[int, dict[str, Any]]:
    return call.status, {name: part for name, part in call.answer.items() if name != "request_id"}


def _masked(stage: Stage, desk: Desk, kind: str) -> frozenset[str]:
    """The names of what this desk sees in part only, by the policies; for the table's colours."""
    version = stage.store.newest_bundle_version() or ""
    bundle = Bundle.from_bytes(stage.store.bundle(version), version)
    client = next(one for one in bundle.clients.values() if one.client_id == desk.client)
    found: set[str] = set()
    for decision in Decider(bundle).permitted(client, desk.purpose, kind, desk.case is not None, system_clock()):
        fields = bundle.terms[decision.contract, decision.major].fields
        found.update(
            fields[field].concept or f"{decision.contract}.{field}" for field, mask in decision.fields.items() if mask
        )
    return frozenset(found)


# --- showing ----------------------------------------------------------------------------------------------------------


def _matrix(calls: Mapping[Desk, Call], masks: Mapping[Desk, frozenset[str]]) -> Table:
    """What each of them sees, value by value."""
    rows: list[list[Cell | str]] = []
    for title, name in VALUES:
        rows.append(
            [
                title,
                *(_cell(call, name, masks[desk], lambda call, name: call.value(name)) for desk, call in calls.items()),
            ]
        )
    for title, contract, field in LISTS:
        rows.append(
            [
                title,
                *(
                    _cell(call, f"{contract}.{field}", masks[desk], _listed(contract, field))
                    for desk, call in calls.items()
                ),
            ]
        )
    rows.append(["fields in all", *(str(len(call.names)) for call in calls.values())])
    titles = [f"{desk.client}\n{desk.purpose}".replace("-", "-\n") for desk in calls]  # narrow columns
    return Table(("", *titles), rows, note="masked by agreement")


def _listed(contract: str, field: str) -> Callable[[Call, str], Any]:
    def show(call: Call, _: str) -> Any:
        found = [item[field] for item in call.items(contract) if field in item]
        return f"{len(found)}: {found[0]}" if len(found) > 1 else found[0] if found else None

    return show


def _cell(call: Call, name: str, masked: frozenset[str], show: Callable[[Call, str], Any]) -> Cell:
    if name not in call.names:
        return Cell("·", "faint")
    value = show(call, name)
    text = {True: "yes", False: "no", None: "–"}.get(value) if value is None or isinstance(value, bool) else None
    shown = text or (", ".join(map(str, value)) if isinstance(value, list) else str(value))
    return Cell(shown, "masked" if name in masked else "plain")


# --- checking ---------------------------------------------------------------------------------------------------------


def _check_masks(told: Told, calls: Mapping[Desk, Call]) -> None:
    social, credit, tax = (calls[AGENCIES[place]] for place in (0, 3, 1))
    whole, part = social.value("citizen.name"), credit.value("citizen.name")
    told.check(part == f"{whole[:1]}**", f"the credit office sees {part} of the name, by the registry's mask `initial`")
    born = social.value("citizen.birth_date")
    told.check(credit.value("citizen.birth_date") == born[:4], f"and of the birth date the year, {born[:4]}")
    plates = [item["plate"] for item in tax.items("transport.vehicle")]
    told.check(
        bool(plates) and all(plate.startswith("****") for plate in plates),
        f"the tax office sees the last four signs of each plate: {', '.join(plates)}",
    )


def _check_levels(stage: Stage, told: Told, calls: Mapping[Desk, Call]) -> None:
    income, allergies = "tax.person.annual_income", "health.record.allergies"
    desk = AGENCIES[0]
    without = _ask(stage, Desk(desk.client, desk.purpose), "citizen", stage.town.citizen)
    told.show(without)
    told.check(
        income in calls[desk].names and income not in without.names,
        "income is sensitive: social casework sees it with a case, and not without one",
    )
    told.check(
        [each.client for each, call in calls.items() if allergies in call.names] == ["hotline-desk"],
        "allergies are seen by the emergency desk alone",
    )


def _check_penalties(told: Told, all_: list[dict[str, Any]], executed: list[dict[str, Any]]) -> None:
    told.check(len(all_) == 3, "3 penalties, all of one department")
    told.check(
        len(executed) < len(all_) and {each["status"] for each in executed} == {"executed"},
        f"the credit office sees {len(executed)} of them: its agreement speaks of executed ones only",
    )


def _evident(call: Call, stage: Stage) -> bool:
    digest = base64.b64encode(hashlib.sha256(call.body).digest()).decode("ascii")
    return (
        call.headers.get("Content-Digest") == f"sha-256=:{digest}:"
        and call.headers.get("Exchange-Policy") == stage.town.policy
        and bool(call.receipt)
    )
