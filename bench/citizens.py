"""Invented citizens: a contract of eight fields, records that keep it, and a topic's messages with the usual dirt."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from exchange.contracts import Contract, frame
from exchange.records import Envelope, Message, Origin
from exchange.subjects import KeyMaker, parse

# The secret of these measurements; nothing is protected by it.
KEYS = KeyMaker("k1", b"the measurements' own secret")
SCHEME = "cn.ric"
START = datetime(2026, 1, 1, tzinfo=UTC)

_FIRST_BIRTH = date(1940, 1, 1)
_CHECKS = "10X98765432"  # GB 11643: the digits weighed with the powers of 2 modulo 11
_STATUS = ("registered", "moved", "suspended")


def contract(department: str, dataset: str, *, leads: bool = True) -> Contract:
    """One record per citizen: text, enum, decimal, date, version and event time; name and address are concepts."""
    types: dict[str, Any] = {
        "citizen_id": "string",
        "name": "string",
        "address": ["null", "string"],
        "status": {"type": "enum", "name": "Status", "symbols": list(_STATUS)},
        "amount": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2},
        "since": {"type": "int", "logicalType": "date"},
        "revision": "long",
        "updated_at": {"type": "long", "logicalType": "timestamp-millis"},
    }
    fields: dict[str, Any] = {name: {"level": 2} for name in types}
    for name in ("name", "address"):
        fields[name] |= {"concept": f"citizen.{name}", "lead": leads}
    schema = {
        "type": "record",
        "name": dataset.capitalize(),
        "namespace": f"gov.{department}",
        "exchange": {
            "major": 1,
            "owner": department,
            "title": {"zh-CN": dataset, "en": dataset},
            "subject": {"kind": "citizen", "scheme": SCHEME, "field": "citizen_id"},
            "record_key": [],
            "sharing": "conditional",
            "reason": None,
            "cycle": "P1D",
            "version": "revision",
            "event_time": "updated_at",
            "fields": fields,
        },
        "fields": [
            {"name": name, "type": type_, "doc": f"The {name}."} | ({"default": None} if name == "address" else {})
            for name, type_ in types.items()
        ],
    }
    return Contract.from_text(json.dumps(schema))


def identifier(number: int) -> str:
    """The identity number of an invented citizen; another for each number up to some 25 million."""
    birth = _FIRST_BIRTH + timedelta(days=number // 1000)
    digits = f"110101{birth:%Y%m%d}{number % 1000:03}"
    return digits + _CHECKS[2 * int(digits, 13) % 11]


def value(number: int, revision: int, draw: random.Random) -> dict[str, Any]:
    """What an office says of a citizen."""
    return {
        "citizen_id": identifier(number),
        "name": f"{'王李张刘陈杨黄赵'[number % 8]}{'伟芳娜敏静秀丽强磊'[number // 8 % 9]}",
        "address": None if number % 20 == 0 else f"兰亭市柳桥区青石路{number % 997}号{draw.randrange(1, 40)}室",
        "status": draw.choice(_STATUS),
        "amount": Decimal(draw.randrange(10_000_000)).scaleb(-2),
        "since": _FIRST_BIRTH + timedelta(days=draw.randrange(30_000)),
        "revision": revision,
        "updated_at": START + timedelta(seconds=number % 86_400, milliseconds=revision),
    }


def messages(said: Contract, schema_id: int, count: int, seed: int = 1) -> Iterator[Message]:
    """A topic as a department makes it: of 1,000 messages some 890 tell of a new citizen, 50 correct one.

    30 are deliveries of the one before, 20 late ones of a state that was corrected since, 9 deletions, and one has a
    key that does not fit its value.
    """
    draw = random.Random(seed)
    known, again = 0, None
    for sequence in range(count):
        kind = draw.random()
        if again is not None and kind < 0.03:
            yield again
            continue
        if known < 2 or kind >= 0.11:
            known += 1
            number, revision = known - 1, 10
        else:
            number = draw.randrange(known)
            revision = 5 if kind < 0.05 else 10 + sequence
        record = said.check(value(number, revision, draw))
        envelope = Envelope(
            Origin(f"{said.department}/bench", 1, sequence), said.topic, record.event_time or START, record.version
        )
        key = KEYS.message_key(record.subject, said.name, record.record_key)
        if 0.1 <= kind < 0.101:
            key = KEYS.message_key(parse(SCHEME, identifier(number + 1)), said.name, record.record_key)
        datum = None if 0.05 <= kind < 0.059 else frame(schema_id, said.encode(record))
        again = Message(key, datum, envelope.headers())
        yield again
