"""Contracts as files: `schemas/<department>/<dataset>.avsc`, older majors still served as `<dataset>.v<major>.avsc`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from exchange.contracts.contract import Contract
from exchange.errors import ContractRefused
from exchange.files import Unfit, content

MAX_BYTES = 1 << 20
_STEM = re.compile(r"(?P<dataset>[^.]+)(?:\.v(?P<major>[1-9][0-9]*))?")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All contracts, by (name, major). Made by `load_catalogue`."""

    contracts: Mapping[tuple[str, int], Contract]

    def newest(self, name: str) -> Contract | None:
        """The greatest major of `<department>.<dataset>`, None if there is no such contract."""
        majors = [major for known, major in self.contracts if known == name]
        return self.contracts[name, max(majors)] if majors else None

    def served(self) -> list[Contract]:
        """The contracts that have a topic: all but those that are withheld."""
        return [contract for contract in self.contracts.values() if contract.sharing != "withheld"]

    def department(self, department: str) -> list[Contract]:
        """This department's contracts, by name and major."""
        return [contract for contract in self.contracts.values() if contract.department == department]

    def leads(self) -> dict[str, str]:
        """For each concept that has a lead source, the name of the contract that leads it (一数一源)."""
        return {
            field.concept: contract.name
            for contract in self.contracts.values()
            for field in contract.fields.values()
            if field.leads and field.concept is not None
        }


def load(path: Path) -> Contract:
    """The contract in one file. Raises ContractRefused with the file, and for each reason the path in the schema."""
    try:
        contract = Contract.from_text(content(path, MAX_BYTES).decode("utf-8"))
    except Unfit as unfit:
        raise ContractRefused(f"{path}: {unfit}") from None
    except OSError as error:
        raise ContractRefused(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ContractRefused(f"{path}: no UTF-8 at byte {error.start}") from None
    except ContractRefused as refused:
        raise ContractRefused("\n".join(f"{path}: {reason}" for reason in refused.detail.splitlines())) from None
    _named_alike(path, contract)
    return contract


def _inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(folder.resolve(strict=True))
    except (OSError, RuntimeError):  # RuntimeError: links that lead in a circle
        return False


def load_catalogue(folder: Path) -> Catalogue:
    """Every contract under `folder`. Raises ContractRefused with all reasons, one a line, or loads all."""
    if not folder.is_dir():
        raise ContractRefused(f"{folder}: no such folder; schemas/<department>/<dataset>.avsc is expected in it")
    reasons: list[str] = []
    found: dict[Path, Contract] = {}
    for path in sorted(folder.rglob("*.avsc")):
        if len(path.relative_to(folder).parts) != 2:
            reasons.append(f"{path}: a contract's place is {folder}/<department>/<dataset>.avsc")
            continue
        if not _inside(path, folder):
            reasons.append(f"{path}: is a symbolic link that leads out of {folder}, or nowhere")
            continue
        try:
            found[path] = load(path)
        except ContractRefused as refused:
            reasons.append(refused.detail)
    reasons += _majors(found) + _leads(found)
    if reasons:
        raise ContractRefused("\n".join(reasons))
    contracts = sorted(found.values(), key=lambda contract: (contract.name, contract.major))
    return Catalogue(MappingProxyType({(contract.name, contract.major): contract for contract in contracts}))


def _named_alike(path: Path, contract: Contract) -> None:
    """The file stands where its contents say."""
    stem = _STEM.fullmatch(path.name.removesuffix(".avsc"))
    if stem is None or stem["dataset"] != contract.dataset:
        raise ContractRefused(f"{path}: name: the record's name asks for the file {contract.dataset}.avsc")
    if stem["major"] is not None and int(stem["major"]) != contract.major:
        raise ContractRefused(f"{path}: exchange.major: the file's name says {stem['major']}")
    if path.absolute().parent.name != contract.department:
        raise ContractRefused(f"{path}: namespace: the folder asks for gov.{path.absolute().parent.name}")


def _majors(found: Mapping[Path, Contract]) -> list[str]:
    """`<dataset>.avsc` is the newest major, and no major stands in two files."""
    reasons: list[str] = []
    newest = {contract.name: contract for path, contract in found.items() if _is_newest(path)}
    for path, contract in found.items():
        if _is_newest(path):
            continue
        head = newest.get(contract.name)
        if head is None:
            reasons.append(f"{path}: the newest major, {contract.dataset}.avsc, is not there")
        elif head.major <= contract.major:
            reasons.append(f"{path}: exchange.major: {contract.dataset}.avsc is to have a greater major")
    return reasons


def _is_newest(path: Path) -> bool:
    return ".v" not in path.name.removesuffix(".avsc")


def _leads(found: Mapping[Path, Contract]) -> list[str]:
    """Each concept has one lead source at most; two majors of one contract are one source."""
    leads: dict[str, dict[str, str]] = defaultdict(dict)
    for path, contract in found.items():
        for field in contract.fields.values():
            if field.leads and field.concept is not None:
                leads[field.concept].setdefault(contract.name, f"{path}: exchange.fields.{field.name}.lead")
    return [
        f"{', '.join(places.values())}: the concept {concept} has {len(places)} lead sources"
        for concept, places in sorted(leads.items())
        if len(places) > 1
    ]
