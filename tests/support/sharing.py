"""Who may see what, from the files of policies/ and schemas/ alone: an oracle that shares no line with the exchange.

It knows what Lanting's policies use: one major of each contract, days as they are, conditions on texts, days, numbers
and booleans.
"""

from __future__ import annotations

import json
import operator
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

Seen = tuple[str, str, str]  # (contract, name in the answer, the value as JSON)

_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "in": lambda value, among: value in among,
}  # fmt: skip


@dataclass(frozen=True)
class Grant:
    """What may be seen of one contract: fields with their masks, and the terms that a row must keep."""

    rests_on: str  # own, open, or the agreement's id
    fields: Mapping[str, str]
    condition: tuple[tuple[str, str, Any], ...] = ()

    def lets(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is seen at all; null never matches."""
        return all(
            row.get(name) is not None and _OPERATORS[op](row[name], _plain(literal))
            for name, op, literal in self.condition
        )


class Sharing:
    """The rules of semantics 7 on one city's files, on one day."""

    def __init__(self, policies: Path, schemas: Path, today: date) -> None:
        self._today = today
        self._found: dict[tuple[str, str, str, bool], dict[str, Grant]] = {}
        self.clients = {
            one["client_id"]: one for one in tomllib.loads((policies / "clients.toml").read_text("utf-8"))["clients"]
        }
        self.purposes = tomllib.loads((policies / "purposes.toml").read_text("utf-8"))
        self.agreements = [
            one | {"owner": file.parent.name}
            for file in sorted(policies.glob("*/agreements.toml"))
            for one in tomllib.loads(file.read_text("utf-8")).get("agreements", [])
        ]
        self.contracts: dict[str, Any] = {}
        for file in sorted(schemas.glob("*/*.avsc")):
            schema = json.loads(file.read_text("utf-8"))
            self.contracts[f"{file.parent.name}.{file.stem}"] = schema["exchange"] | {
                "order": [one["name"] for one in schema["fields"]]
            }

    def kind(self, contract: str) -> str:
        return str(self.contracts[contract]["subject"]["kind"])

    def is_list(self, contract: str) -> bool:
        return bool(self.contracts[contract]["record_key"])

    def level(self, contract: str, field: str) -> int:
        """The level of a field; 0 for what is none, such as a part of a nested one."""
        return int(self.contracts[contract]["fields"].get(field, {"level": 0})["level"])

    def name(self, contract: str, field: str) -> str:
        """How a field is called in an answer."""
        concept = self.contracts[contract]["fields"][field].get("concept")
        return field if self.is_list(contract) else concept or f"{contract}.{field}"

    def grant(self, client_id: str, purpose: str, contract: str, *, case: bool) -> Grant | None:
        """What this client may see of this contract for this purpose, if anything."""
        client, about = self.clients[client_id], self.contracts.get(contract)
        if about is None or "view" not in client["scopes"] or purpose not in client["purposes"]:
            return None
        if about["sharing"] == "withheld":
            return None
        allowed = {name for name, one in about["fields"].items() if one["level"] <= 2}
        if case and contract in self.purposes[purpose]["sensitive"]:
            allowed |= {name for name, one in about["fields"].items() if one["level"] == 3}
        grants = []
        if client["department"] == about["owner"]:
            grants.append(Grant("own", dict.fromkeys(sorted(allowed), "plain")))
        grants += [
            Grant(
                one["id"],
                {name: mask for name, mask in one["fields"].items() if name in allowed},
                tuple((name, op, literal) for name, op, literal in one.get("condition", ())),
            )
            for one in self.agreements
            if (one["contract"], one["consumer"], one["purpose"]) == (contract, client["department"], purpose)
            and one["from"] <= self._today <= one["until"]
        ]
        if about["sharing"] == "unconditional":
            plain = [name for name, one in about["fields"].items() if one["level"] <= 2]
            grants.append(Grant("open", dict.fromkeys(plain, "plain")))
        return next((one for one in grants if one.fields), None)

    def grants(self, client_id: str, purpose: str, kind: str, *, case: bool) -> dict[str, Grant]:
        """Everything that this client may see about subjects of this kind."""
        asked = (client_id, purpose, kind, case)
        if asked not in self._found:
            found = {
                contract: self.grant(client_id, purpose, contract, case=case)
                for contract in self.contracts
                if self.kind(contract) == kind
            }
            self._found[asked] = {contract: grant for contract, grant in found.items() if grant is not None}
        return self._found[asked]

    def seen(self, grants: Mapping[str, Grant], rows: Mapping[str, Iterable[Mapping[str, Any]]]) -> Counter[Seen]:
        """What an answer under these grants shows of these rows: each statement once for each row that makes it."""
        return Counter(
            (contract, self.name(contract, field), json.dumps(masked(row[field], mask), sort_keys=True))
            for contract, grant in grants.items()
            for row in rows.get(contract, ())
            if grant.lets(row)
            for field, mask in grant.fields.items()
            if field in row
        )


def masked(value: Any, mask: str) -> Any:
    """A value as it is shown; see docs/policies.md."""
    if mask == "redact":
        return "***"
    if mask == "plain" or value is None:
        return value
    text = str(value)
    if mask == "year_only":
        return text[:4]
    if mask == "initial":
        return text[0] + "**" if len(text) > 1 else "**"
    assert mask == "last4"
    return "****" + text[-4:] if len(text) >= 8 else "****"


def shown(answer: Mapping[str, Any]) -> Counter[Seen]:
    """What an answer shows, in the form of `Sharing.seen`."""
    statements = [
        (said["contract"], name, said["value"]) for name, one in answer["values"].items() for said in one["said_by"]
    ]
    items = [
        (item["contract"], field, value)
        for listed in answer["records"].values()
        for item in listed["items"]
        for field, value in item["value"].items()
    ]
    return Counter((contract, name, json.dumps(value, sort_keys=True)) for contract, name, value in statements + items)


def _plain(literal: Any) -> Any:
    return literal.isoformat() if isinstance(literal, date) else literal
