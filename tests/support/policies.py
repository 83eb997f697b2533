"""A small city for policy tests: contracts from a short notation, policies/ in a folder, the real guardrails."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import MappingProxyType
from typing import Any

from exchange.contracts import Catalogue, Contract

ROOT = Path(__file__).parent.parent.parent
GUARDRAILS = ROOT / "policies" / "guardrails"
ZONE = "Asia/Shanghai"

TYPES: dict[str, Any] = {
    "date": {"type": "int", "logicalType": "date"},
    "time-millis": {"type": "int", "logicalType": "time-millis"},
    "timestamp-millis": {"type": "long", "logicalType": "timestamp-millis"},
    "decimal": {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 2},
    "uuid": {"type": "string", "logicalType": "uuid"},
    "enum": {"type": "enum", "name": "Status", "symbols": ["registered", "moved"]},
    "array": {"type": "array", "items": "string"},
}


def contract(
    name: str,
    fields: dict[str, tuple[Any, ...]],
    *,
    major: int = 1,
    sharing: str = "conditional",
    kind: str = "citizen",
    record_key: tuple[str, ...] = (),
    cycle: str | None = "P1D",
) -> Contract:
    """A contract of `<department>.<dataset>`: each field (type, level), then its concept, `lead`, or `aka:<alias>`.

    A field `id`, the subject's, stands before them; fields of the record key are required.
    """
    department, dataset = name.split(".")
    properties: dict[str, Any] = {"id": {"level": 2}}
    avro: list[dict[str, Any]] = [{"name": "id", "type": "string", "doc": "The subject."}]
    for field, (type_, level, *more) in fields.items():
        properties[field] = {"level": level}
        written: dict[str, Any] = {"name": field, "doc": "A field."}
        for word in more:
            if word == "lead":
                properties[field]["lead"] = True
            elif word.startswith("aka:"):
                written.setdefault("aliases", []).append(word.removeprefix("aka:"))
            else:
                properties[field]["concept"] = word
        plain = TYPES.get(type_, type_)
        avro.append(written | ({"type": plain} if field in record_key else {"type": ["null", plain], "default": None}))
    return Contract.from_text(
        json.dumps(
            {
                "type": "record",
                "name": "".join(word.capitalize() for word in dataset.split("_")),
                "namespace": f"gov.{department}",
                "exchange": {
                    "major": major,
                    "owner": department,
                    "title": {"zh-CN": dataset, "en": dataset},
                    "subject": {"kind": kind, "scheme": "cn.ric" if kind == "citizen" else "cn.uscc", "field": "id"},
                    "record_key": list(record_key),
                    "sharing": sharing,
                    "reason": "State secret." if sharing == "withheld" else None,
                    "cycle": cycle,
                    "version": None,
                    "event_time": None,
                    "fields": properties,
                },
                "fields": avro,
            }
        )
    )


def catalogue(*contracts: Contract) -> Catalogue:
    return Catalogue(MappingProxyType({(one.name, one.major): one for one in contracts}))


PERSON = contract(
    "civil.person",
    {
        "name": ("string", 1, "citizen.name", "lead"),
        "birth_date": ("date", 2),
        "status": ("enum", 2),
        "district": ("string", 1),
        "children": ("int", 2),
        "serial": ("long", 2),
        "income": ("decimal", 2),
        "moved_at": ("timestamp-millis", 2),
        "phone": ("string", 3),
        "religion": ("string", 4),
    },
)
PENALTY = contract(
    "market.penalty",
    {"number": ("string", 1), "amount": ("decimal", 1), "officer": ("string", 3)},
    kind="enterprise",
    sharing="unconditional",
    record_key=("number",),
)
SECRET = contract("civil.case_file", {"note": ("string", 1)}, sharing="withheld")
CITY = catalogue(PERSON, PENALTY, SECRET)

CLIENTS = """
[[clients]]
issuer = "https://id.example"
client_id = "tax-desk"
name = "Tax assessment desk"
department = "tax"
scopes = ["view"]
purposes = ["tax-assessment"]

[[clients]]
issuer = "https://id.example"
client_id = "civil-desk"
name = "Civil registry desk"
department = "civil"
scopes = ["view", "publish"]
purposes = ["tax-assessment", "child-protection"]
"""

PURPOSES = """
[tax-assessment]
title = { zh-CN = "税务核定", en = "Tax assessment" }
legal_basis = "税收征收管理法 第五条"
sensitive = []

[child-protection]
title = { zh-CN = "未成年人保护", en = "Child protection" }
legal_basis = "未成年人保护法 第九十七条"
sensitive = ["civil.person"]
"""


def agreement(fields: str = 'name = "plain"', **changes: str) -> str:
    """One entry of agreements.toml; values are TOML text, an empty one leaves the key out."""
    entry = {
        "id": '"a-1"',
        "consumer": '"tax"',
        "contract": '"civil.person"',
        "major": "1",
        "purpose": '"tax-assessment"',
        "from": "2026-01-01",
        "until": "2026-06-30",
        "approved_by": '"Data office, decision 17"',
    } | changes
    lines = [f"{key} = {value}" for key, value in entry.items() if value]
    return "\n".join(["[[agreements]]", *lines, "[agreements.fields]", fields, ""])


def write(
    folder: Path, clients: str = CLIENTS, purposes: str = PURPOSES, agreements: dict[str, str] | None = None
) -> Path:
    """A policies/ folder with the project's own guardrails; `agreements` is the text of each department's file."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "guardrails").exists():
        shutil.copytree(GUARDRAILS, folder / "guardrails")
    (folder / "clients.toml").write_text(clients, "utf-8")
    (folder / "purposes.toml").write_text(purposes, "utf-8")
    for department, text in (agreements or {}).items():
        (folder / department).mkdir(exist_ok=True)
        (folder / department / "agreements.toml").write_text(text, "utf-8")
    return folder
