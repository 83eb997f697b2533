"""From the entries of the files to clients, purposes and agreements, checked against each other and the contracts.

Each function collects every reason and goes on; what it returns is complete only if nothing was collected.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from exchange.agreements import masks
from exchange.agreements.conditions import literal
from exchange.agreements.files import Place
from exchange.agreements.model import Agreement, Client, Condition, Constraint, Op, Purpose, Scope, Terms
from exchange.errors import Rejected

if TYPE_CHECKING:
    from exchange.contracts import Contract

_IDENTIFIER = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)

Identifier = Annotated[str, StringConstraints(pattern=rf"^{_IDENTIFIER.pattern}$")]
DepartmentName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=500, strip_whitespace=True)]
Exact = Annotated[str, StringConstraints(max_length=500, pattern=r"^[^\s\x00-\x1f]+$")]
Shown = Literal["plain"] | masks.MaskName


@dataclass(frozen=True, slots=True)
class Known:
    """What agreements are checked against: the contracts with their terms, by (name, major), and the purposes."""

    contracts: Mapping[tuple[str, int], Contract]
    terms: Mapping[tuple[str, int], Terms]
    purposes: Mapping[str, Purpose]
    zone: ZoneInfo


class _Entry(BaseModel):
    """One entry of a file. TOML's own types, nothing converted, nothing unknown."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _ClientEntry(_Entry):
    issuer: Exact
    client_id: Exact
    name: Text
    department: DepartmentName
    scopes: list[Scope]
    purposes: list[Identifier]
    sender_constrained: Constraint | None = None
    struck: date | None = None


class _Title(_Entry):
    zh_cn: Text = Field(alias="zh-CN")
    en: Text


class _PurposeEntry(_Entry):
    title: _Title
    legal_basis: Text
    sensitive: list[str]


class _AgreementEntry(_Entry):
    id: Identifier
    consumer: DepartmentName
    contract: str
    major: Annotated[int, Field(ge=1)]
    fields: Annotated[dict[str, Shown], Field(min_length=1)]
    purpose: str
    condition: list[Annotated[list[Any], Field(min_length=3, max_length=3)]] = []
    quota: Annotated[int, Field(ge=1, lt=2**53)] | None = None
    from_: date | datetime = Field(alias="from")
    until: date | datetime
    approved_by: Text


class _ConditionEntry(_Entry):
    field: str
    op: Op
    literal: Any


_E = TypeVar("_E", bound=_Entry)


def purposes(table: Mapping[str, Any], terms: Mapping[tuple[str, int], Terms], file: Place) -> dict[str, Purpose]:
    """The purposes of purposes.toml, by id."""
    contracts = {name for name, _ in terms}
    found = {}
    for name, given in table.items():
        place = file.inside(name)
        if not _IDENTIFIER.fullmatch(name):
            place.refuse("a purpose is named in small letters, digits and hyphens, a letter first")
        entry = _read(_PurposeEntry, given, place)
        if entry is None:
            continue
        for contract in entry.sensitive:
            if contract not in contracts:
                place.refuse(f"sensitive: there is no contract {contract}")
        found[name] = Purpose(
            id=name,
            title={"zh-CN": entry.title.zh_cn, "en": entry.title.en},
            legal_basis=entry.legal_basis,
            sensitive=tuple(sorted(set(entry.sensitive))),
        )
    return found


def clients(table: Mapping[str, Any], purposes: Mapping[str, Purpose], file: Place) -> list[Client]:
    """The clients of clients.toml, without those that are struck; whatever the day says, they are out."""
    found: dict[tuple[str, str], Client] = {}
    out: set[tuple[str, str]] = set()
    for place, given in _listed(table, "clients", file):
        entry = _read(_ClientEntry, given, place)
        if entry is None:
            continue
        client = Client(
            issuer=entry.issuer,
            client_id=entry.client_id,
            name=entry.name,
            department=entry.department,
            scopes=tuple(sorted(set(entry.scopes))),
            purposes=tuple(sorted(set(entry.purposes))),
            sender_constrained=entry.sender_constrained,
        )
        if found.setdefault(client.key, client) is not client:
            place.refuse("this issuer and client_id stand here twice")
        if entry.struck is not None:
            out.add(client.key)
            continue
        for purpose in client.purposes:
            if purpose not in purposes:
                place.refuse(f"purposes: {purpose} does not stand in purposes.toml")
    return [client for key, client in found.items() if key not in out]


def agreements(table: Mapping[str, Any], owner: str, known: Known, file: Place) -> list[tuple[Place, Agreement]]:
    """What one department grants, each with its place, for `refuse_overlaps`."""
    found = []
    for place, given in _listed(table, "agreements", file):
        entry = _read(_AgreementEntry, given, place)
        if entry is None:
            continue
        if entry.purpose not in known.purposes:
            place.refuse(f"purpose {entry.purpose} does not stand in purposes.toml")
        granted = known.terms.get((entry.contract, entry.major))
        span = _span(entry, known.zone, place)
        if granted is None:
            place.refuse(f"there is no contract {entry.contract} with major {entry.major}")
        elif granted.owner != owner:
            place.refuse(f"{entry.contract} belongs to {granted.owner}; {owner} cannot grant it")
        elif span is not None:
            agreement = Agreement(
                id=entry.id,
                owner=owner,
                consumer=entry.consumer,
                contract=entry.contract,
                major=entry.major,
                fields=_fields(entry, granted, place.inside("fields")),
                purpose=entry.purpose,
                condition=_condition(entry, known.contracts[entry.contract, entry.major], place),
                quota=entry.quota,
                from_=span[0],
                until=span[1],
                approved_by=entry.approved_by,
            )
            found.append((place, agreement))
    return found


def refuse_overlaps(found: Iterable[tuple[Place, Agreement]]) -> None:
    """Ids are unique in the city; of one consumer, contract, major and purpose one agreement at most is in force."""
    ids: dict[str, Place] = {}
    groups: dict[tuple[str, str, int, str], list[tuple[Place, Agreement]]] = defaultdict(list)
    for place, one in found:
        if one.id in ids:
            place.refuse(f"the id stands in {ids[one.id].file} too")
        ids.setdefault(one.id, place)
        groups[one.consumer, one.contract, one.major, one.purpose].append((place, one))
    for group in groups.values():
        group.sort(key=lambda item: item[1].from_)
        last = group[0][1]  # of those so far, the one that ends last
        for place, one in group[1:]:
            if one.from_ < last.until:
                place.refuse(f"its time overlaps that of {last.id}, for the same consumer and purpose")
            if one.until > last.until:
                last = one


def _fields(entry: _AgreementEntry, granted: Terms, place: Place) -> dict[str, masks.MaskName | None]:
    fields: dict[str, masks.MaskName | None] = {}
    for name, shown in entry.fields.items():
        field = granted.fields.get(name)
        if field is None:
            place.refuse(f"{entry.contract} v{entry.major} has no field {name}")
        elif shown == "plain":
            fields[name] = None
        elif masks.fits(shown, field.type):
            fields[name] = shown
        else:
            place.refuse(f"mask {shown} does not fit {name}, which is of type {field.type}")
    return fields


def _condition(entry: _AgreementEntry, granted: Contract, agreement: Place) -> tuple[Condition, ...]:
    """The row condition, each literal one that a record of the contract could hold."""
    condition = []
    for number, (name, op, given) in enumerate(entry.condition, 1):
        place = agreement.inside(f"condition {number}")
        term = _read(_ConditionEntry, {"field": name, "op": op, "literal": given}, place)
        if term is None:
            continue
        field = granted.fields.get(term.field)
        if field is None:
            place.refuse(f"{entry.contract} v{entry.major} has no field {term.field}")
            continue
        try:
            typed = literal(field.type, term.op, term.literal)
            for one in typed if isinstance(typed, tuple) else (typed,):
                granted.parse_field(term.field, one)
        except ValueError as error:
            place.refuse(f"{term.field}: {error}")
            continue
        except Rejected as error:
            place.refuse(f"{error.detail}; no record could match")
            continue
        condition.append(Condition(field=term.field, op=term.op, literal=typed))
    return tuple(condition)


def _span(entry: _AgreementEntry, zone: ZoneInfo, place: Place) -> tuple[datetime, datetime] | None:
    """From when and until when, as instants; the last day counts in full, so its end is the next day's beginning."""
    try:
        start = _instant(entry.from_, zone, timedelta())
        end = _instant(entry.until, zone, timedelta(days=1))
    except ValueError as error:
        place.refuse(str(error))
        return None
    if start >= end:
        place.refuse("it ends before it begins")
        return None
    return start, end


def _instant(given: date | datetime, zone: ZoneInfo, further: timedelta) -> datetime:
    """A time as it is; of a day its beginning, or that of the day after. Raises ValueError."""
    if isinstance(given, datetime):
        if given.tzinfo is None:
            raise ValueError("from and until are days, or times with a zone")
        if given.microsecond:
            raise ValueError("from and until are given in whole seconds")
        return given.astimezone(UTC)
    try:
        return datetime.combine(given + further, time(), zone).astimezone(UTC)
    except OverflowError:
        raise ValueError("from or until is too far away to be counted") from None


def _listed(table: Mapping[str, Any], key: str, file: Place) -> Iterator[tuple[Place, Any]]:
    """The entries under [[key]], each with what a person finds it by; any other key is refused."""
    for other in table:
        if other != key:
            file.refuse(f"unknown key {other}; entries stand under [[{key}]]")
    entries = table.get(key, [])
    if not isinstance(entries, list):
        file.refuse(f"write [[{key}]], in double brackets, before each entry")
        return
    for number, given in enumerate(entries, 1):
        name = given.get("id") or given.get("client_id") if isinstance(given, dict) else None
        yield file.inside(f"entry {number} ({name})" if isinstance(name, str) else f"entry {number}"), given


def _read(model: type[_E], given: Any, place: Place) -> _E | None:
    """One entry as its model; None with every reason."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False, include_context=False):
            where = ".".join(map(str, problem["loc"]))
            place.refuse(f"{where}: {problem['msg']}" if where else problem["msg"])
        return None
