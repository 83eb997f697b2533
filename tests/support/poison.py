"""Messages as an attacker with a producer would write them: good ones of all kinds, damaged everywhere, by a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from exchange.contracts import Contract, frame
from exchange.records import WATERMARKS_TOPIC, Message, Origin, Reject, Watermark, rejects_topic
from tests.support.bus import KEYS, Bus
from tests.support.contracts import CITIZEN, contract, field, zigzag

WHEN = datetime(2026, 3, 1, 8, tzinfo=UTC)
EVERYTHING = contract(
    field("a", ["null", "string"]),
    field("b", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}),
    field("c", {"type": "array", "items": {"type": "map", "values": ["null", "long"]}}),
    field("d", {"type": "enum", "name": "Sex", "symbols": ["F", "M"]}),
    field("e", {"type": "long", "logicalType": "timestamp-micros"}),
    field("f", {"type": "record", "name": "Home", "fields": [field("g", "double"), field("h", "bytes")]}),
    field("i", {"type": "string", "logicalType": "uuid"}),
    name="Everything",
)
VERSIONED = contract(
    field("status", "string"), field("revision", "long"), name="Status", fields={"revision": {"level": 1}},
    version="revision",
)  # fmt: skip
PENALTY = contract(field("number", "string"), field("amount", "long"), name="Penalty", record_key=["number"])
CONTRACTS = [EVERYTHING, VERSIONED, PENALTY]

GOOD = {
    EVERYTHING.name: {
        "citizen_id": CITIZEN, "a": "b", "b": "12.50", "c": [{"k": "1", "n": None}, {}], "d": "M",
        "e": "2026-03-01T08:00:00.000000Z", "f": {"g": 1.5, "h": "aGg="}, "i": "0" * 8 + "-0000" * 3 + "-" + "0" * 12,
    },
    VERSIONED.name: {"citizen_id": CITIZEN, "status": "married", "revision": "7"},
    PENALTY.name: {"citizen_id": CITIZEN, "number": "P-1", "amount": "250"},
}  # fmt: skip

# What a length, a count, an index or an id is replaced by.
NUMBERS = [
    zigzag(n) for n in (-1, -2, 0, 1, 2, 127, 2**15, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**31), -(2**63))
]
PIECES = [*NUMBERS, b"\x80" * 11, b"\xff" * 10, b"\0" * 64, b"\xed\xa0\x80", b"\xc0\xaf", b"\xff\xfe", b"\x01"]
TEXTS = [
    b"", b"\0", b"\xff\xfe", b"\xed\xa0\x80", b"-1", b"9" * 30, b"9" * 5_000, b"1e5", b"NaN", b"x" * 70_000,
    b"civil/test", b"civil/test/1/2", b"civil//1", b"tax/test/1", "民政/x/1".encode(),
    b"civil/test/99999999999999999999", b"0000-00-00T00:00:00Z", b"9999-12-31T23:59:59.999999+23:59",
    b"0001-01-01T00:00:00+14:00", b"9223372036854775808", b"99999999999999999999", b"-9223372036854775809",
]  # fmt: skip

ODD: list[object] = [
    None, True, -1, 2**63, 10**30, 1.5, "", "\0", "\ud800", "x" * 70_000, [], {}, {"0": 2**64}, {"x": 1}, {"-1": -1},
    {"9" * 30: 1}, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-03-01", CITIZEN, [[[]]],
]  # fmt: skip


def good(bus: Bus) -> list[tuple[str, Message]]:
    """One message of each kind that there is, with its topic."""
    found = [(bus.contracts[name].topic, bus.message(name, _parsed(bus.contracts[name]), 1)) for name in GOOD]
    found.append((VERSIONED.topic, bus.message(VERSIONED.name, _parsed(VERSIONED), 2, delete=True)))
    reject = Reject(
        "civil", PENALTY.name, "a.csv line 5", "number", "empty", WHEN, Origin("civil/test", 1, 9), payload="{}"
    )
    told = Watermark(PENALTY.name, PENALTY.topic, "civil/test", 1, WHEN, {0: 5})
    return [*found, (rejects_topic("civil"), reject.message()), (WATERMARKS_TOPIC, told.message())]


def poison(bus: Bus, seed: int, number: int) -> Iterator[tuple[str, Message]]:
    """So many damaged messages, each with its topic; a few of them are still good, in spite of the damage."""
    random_ = random.Random(seed)
    kinds = good(bus)
    for _ in range(number):
        topic, message = random_.choice(kinds)
        for _ in range(random_.choice((1, 1, 1, 2, 3))):
            message = random_.choice((_value, _value, _value, _header, _key, _other))(message, bus, random_)
        yield topic, message


def _parsed(said: Contract) -> dict[str, object]:
    return dict(said.from_json(GOOD[said.name]))


Damage = Callable[[Message, Bus, random.Random], Message]


def _value(message: Message, bus: Bus, random_: random.Random) -> Message:
    if message.value is None:
        return message._replace(value=random_.randbytes(random_.randrange(40)))
    if message.value[:1] == b"{" and random_.random() < 0.7:
        return message._replace(value=_json(message.value, random_))
    value = bytearray(message.value)
    place = random_.randrange(len(value) + 1)
    match random_.randrange(7):
        case 0:
            del value[place:]
        case 1:
            value += random_.choice(PIECES)
        case 2:
            value[place:place] = random_.choice(PIECES)
        case 3:
            value[place : place + random_.randint(1, 4)] = random_.choice(PIECES)
        case 4 if place < len(value):
            value[place] ^= 1 << random_.randrange(8)
        case 5:
            value[place:place] = random_.randbytes(random_.randint(1, 2_000))
        case _:
            value[1:5] = random_.choice([b"\0\0\0\0", b"\xff" * 4, random_.randbytes(4), *_ids(bus)])
    return message._replace(value=bytes(value))


def _json(value: bytes, random_: random.Random) -> bytes:
    """A JSON value with a member taken away, replaced or added, or broken as a text."""
    try:
        members = json.loads(value)
    except (ValueError, RecursionError):
        return value[: random_.randrange(len(value) + 1)]
    if not isinstance(members, dict) or not members:
        return value
    name = random_.choice(sorted(members))
    odd = random_.choice(ODD)
    match random_.randrange(6):
        case 0:
            del members[name]
        case 1:
            return b'{"a":' * random_.choice((10, 100_000)) + value
        case 2:
            return value.replace(b":", b":NaN" if random_.random() < 0.5 else b":" + b"9" * 5_000, 1)
        case 3:
            return value[:-1] + b',"contract":"tax.other"}'
        case _:
            members[name] = odd
    return json.dumps(members).encode()


def _header(message: Message, _: Bus, random_: random.Random) -> Message:
    headers = dict(message.headers)
    name = random_.choice([*sorted(headers), "traceparent", "exchange_version", "x" * 300])
    if random_.random() < 0.3:
        headers.pop(name, None)
    else:
        headers[name] = random_.choice([*TEXTS, random_.randbytes(20)])
    return message._replace(headers=headers)


def _key(message: Message, _: Bus, random_: random.Random) -> Message:
    key = message.key or b""
    stranger = VERSIONED.check(_parsed(VERSIONED) | {"citizen_id": "11010119000101009X"}).subject
    damaged = [key[:-1], key + b"A", key.replace(b"k1", b"k9"), key + b"." + key]
    return message._replace(key=random_.choice([None, KEYS.message_key(stranger, "a.b", ()), *damaged, *TEXTS]))


def _other(message: Message, bus: Bus, random_: random.Random) -> Message:
    """Another kind's value, none at all, or one that is far too large."""
    values = [None, b"", bytes(1 << 20), b"[" * 200_000, b"\0" * 5, frame(1, zigzag(2**31))]
    return message._replace(value=random_.choice([*values, *(each.value for _, each in good(bus))]))


def _ids(bus: Bus) -> list[bytes]:
    return [number.to_bytes(4, "big") for number in bus.ids.values()]
