"""From policies/ and the contracts to one bundle, or every reason why not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from exchange.agreements import Agreement, Bundle, Terms, entries
from exchange.agreements.files import Place, Reasons, read_toml, refuse_others, stays_inside
from exchange.decisions import guardrails
from exchange.errors import PolicyRefused

if TYPE_CHECKING:
    from exchange.contracts import Catalogue

CLIENTS, PURPOSES, AGREEMENTS, GUARDRAILS = "clients.toml", "purposes.toml", "agreements.toml", "guardrails"


def load_bundle(policies: Path, catalogue: Catalogue, zone: str, clients_text: str | None = None) -> Bundle:
    """Read the folder, check all of it against the catalogue, run every guardrail case, and make the bundle.

    `zone` is the IANA time zone in which a day of an agreement begins and ends; `clients_text` what clients.toml is
    about to hold, if that is asked about. Nothing is written. Raises PolicyRefused with every reason, one a line, each
    with its file and entry.
    """
    root = policies.absolute()
    reasons = Reasons(root)
    try:
        where = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError):
        raise PolicyRefused(f"{zone} is not a time zone of the IANA database, such as Asia/Shanghai") from None
    terms = {(contract.name, contract.major): Terms.of(contract) for contract in catalogue.contracts.values()}
    departments = {one.owner for one in terms.values()} - {GUARDRAILS}
    refuse_others(root, {CLIENTS, PURPOSES, GUARDRAILS, *departments}, reasons)

    purposes = entries.purposes(read_toml(root / PURPOSES, root, reasons) or {}, terms, reasons.at(root / PURPOSES))
    listed = read_toml(root / CLIENTS, root, reasons, clients_text) or {}
    clients = entries.clients(listed, purposes, reasons.at(root / CLIENTS))
    granted: list[tuple[Place, Agreement]] = []
    known = entries.Known(catalogue.contracts, terms, purposes, where)
    for department in sorted(departments):
        granted += _granted(root, department, known, reasons)
    entries.refuse_overlaps(granted)
    if stays_inside(root / GUARDRAILS, root, reasons):
        guarded = guardrails.read(root / GUARDRAILS, reasons)
        guardrails.check(guarded, reasons.at(root / GUARDRAILS))
    reasons.refuse_if_any()
    try:
        return Bundle.make(
            zone=zone,
            clients=clients,
            purposes=purposes.values(),
            agreements=[agreement for _, agreement in granted],
            terms=terms.values(),
            guardrails=guarded.guardrails.values(),
            schema=guarded.schema,
        )
    except ValueError as error:  # a number in a guardrail that canonical JSON cannot carry, say
        raise PolicyRefused(f"the policies cannot be written down as a bundle: {error}") from None


def _granted(root: Path, department: str, known: entries.Known, reasons: Reasons) -> list[tuple[Place, Agreement]]:
    folder = root / department
    if not folder.is_symlink() and not folder.exists():
        return []  # this department grants nothing
    if not stays_inside(folder, root, reasons):
        return []
    refuse_others(folder, {AGREEMENTS}, reasons)
    file = folder / AGREEMENTS
    if not file.is_symlink() and not file.exists():
        return []
    return entries.agreements(read_toml(file, folder, reasons) or {}, department, known, reasons.at(file))
