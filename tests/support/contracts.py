"""Small contracts for tests: fields in, a whole schema with its `exchange` property out."""

from __future__ import annotations

import json
from typing import Any

from exchange.contracts import Contract

CITIZEN = "110101190001010014"


def field(name: str, type_: Any, **more: Any) -> dict[str, Any]:
    """A field of a record, documented."""
    return {"name": name, "type": type_, "doc": f"The {name}.", **more}


def schema(*fields: dict[str, Any], name: str = "Person", department: str = "civil", **terms: Any) -> dict[str, Any]:
    """A contract about citizens whose first field is `citizen_id`; `terms` are members of `exchange`.

    Every field has level 2 unless `fields` in `terms` says otherwise.
    """
    all_fields = [field("citizen_id", "string"), *fields]
    said = terms.pop("fields", {})
    return {
        "type": "record",
        "name": name,
        "namespace": f"gov.{department}",
        "fields": all_fields,
        "exchange": {
            "major": 1,
            "owner": department,
            "title": {"zh-CN": "人", "en": "Person"},
            "subject": {"kind": "citizen", "scheme": "cn.ric", "field": "citizen_id"},
            "record_key": [],
            "sharing": "conditional",
            "fields": {
                each["name"]: {"level": 2} | said.get(each["name"], {}) for each in all_fields if "name" in each
            },
            **terms,
        },
    }


def contract(*fields: dict[str, Any], **more: Any) -> Contract:
    """The contract of such a schema."""
    return Contract.from_text(json.dumps(schema(*fields, **more)))


def one(type_: Any, **more: Any) -> Contract:
    """A contract with one field more than the subject, `x`."""
    return contract(field("x", type_, **more))


def zigzag(number: int) -> bytes:
    """An Avro int or long on the wire."""
    bits = (number << 1) ^ (number >> 63)
    out = bytearray()
    while bits > 0x7F:
        out.append(bits & 0x7F | 0x80)
        bits >>= 7
    return bytes([*out, bits])


# The datum of `citizen_id`, in front of what a test puts behind it.
HEAD = zigzag(18) + CITIZEN.encode()
