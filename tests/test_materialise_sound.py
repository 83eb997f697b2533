"""The short way of a sound record gives what the long way gives, whatever somebody has done to the message."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exchange.contracts import frame
from exchange.errors import UnknownSchema
from exchange.materialise import Effects
from exchange.materialise.effects import Effect
from exchange.records import Delivery, Envelope, Facet, Origin, Reject
from tests.support.bus import KEYS, NOW, clock
from tests.support.contracts import CITIZEN, contract, field

PERSON = contract(
    field("name", "string"), field("revision", "long"), fields={"revision": {"level": 1}}, version="revision"
)
PENALTY = contract(field("number", "string"), field("amount", "long"), name="Penalty", record_key=["number"])
NESTED = contract(field("tags", {"type": "array", "items": "string"}), name="Tagged")
IDS = {1: PERSON, 2: PENALTY, 3: NESTED}
VALUES: dict[int, dict[str, Any]] = {
    1: {"citizen_id": CITIZEN, "name": "Li", "revision": 7},
    2: {"citizen_id": CITIZEN, "number": "人 \\ \x1f / 1", "amount": 1},
    3: {"citizen_id": CITIZEN, "tags": ["a"]},
}

relaxed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Registry:
    def schema(self, schema_id: int) -> str:
        if schema_id not in IDS:
            raise UnknownSchema(str(schema_id))
        return IDS[schema_id].schema_text

    def newest_id(self) -> int:
        return len(IDS)


def effects() -> Effects:
    """Effects that have seen one sound record of each contract."""
    made = Effects(Registry(), KEYS, clock)
    made.polled()
    assert all(isinstance(made.of(sound(number)), Facet) for number in IDS)
    return made


def sound(number: int, **headers: bytes | None) -> Delivery:
    """A delivery as a connector makes it; `headers` replaces some, None takes one away."""
    said = IDS[number]
    record = said.check(VALUES[number])
    envelope = Envelope(Origin("civil/people", 1, 5), said.topic, NOW, record.version)
    return Delivery(
        said.topic,
        3,
        17,
        KEYS.message_key(record.subject, said.name, record.record_key),
        frame(number, said.encode(record)),
        {name: value for name, value in {**envelope.headers(), **headers}.items() if value is not None},
    )


def shown(effect: Effect) -> Any:
    return (type(effect), effect)


EFFECTS = effects()

NUMBERS = [b"", b"0", b"-1", b"+1", b" 1", b"1_0", b"\xb2", b"9" * 18, b"9" * 19, b"0" * 21, b"%020d" % 2**63]
NUMBERS += [b"%020d" % (2**63 - 1), b"0" * 19 + b"-", b"-0000000000000000001", b"1.0", b"0x1"]
TIMES = [
    b"2026-01-01",
    b"2026-01-01T00:00:00",
    b"2026-01-01T08:00:00.000+08:00",
    b"2026-01-01T00:00:00.000000Z",
    b"\xff",
]
TIMES += [b"", b"2026-W01-1T00:00:00Z", b"2026-01-01T00:00:00." + b"1" * 300 + b"Z", b"0001-01-01T00:00:00+10:00"]
SOURCES = [b"", b"civil", b"civil/people", b"tax/people/1", b"civil/people/x", b"civil//1", b"civilian/people/1"]
SOURCES += [b"civil/people/1/2", b"civil/" + b"p" * 300 + b"/1", b"civil/p\xc3\xa9/1", b"civil/people/%d" % 2**63]
ODD = {
    "ce_source": SOURCES,
    "ce_type": [b"", b"other", b"\xff", b"x" * 257],
    "ce_time": TIMES,
    "ce_sequence": NUMBERS,
    "exchange_version": NUMBERS,
    "traceparent": [b"", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", b"\xff", b"x" * 257],
}


@pytest.mark.parametrize("number", IDS)
@pytest.mark.parametrize("name", ODD)
def test_every_odd_header_is_judged_alike(number: int, name: str) -> None:
    for value in (None, *ODD[name]):
        delivery = sound(number, **{name: value})
        assert shown(EFFECTS.of(delivery)) == shown(EFFECTS.judge(delivery)), value


@relaxed
@given(
    st.sampled_from(sorted(IDS)),
    st.fixed_dictionaries(
        {}, optional={name: st.sampled_from(odd) | st.binary(max_size=30) for name, odd in ODD.items()}
    ),
    st.sampled_from(["key", "value", "both", "neither"]),
    st.data(),
)
def test_a_damaged_message_is_judged_alike(
    number: int, headers: dict[str, bytes], what: str, data: st.DataObject
) -> None:
    delivery = sound(number, **headers)
    if what in ("key", "both"):
        delivery = delivery._replace(key=data.draw(st.none() | st.just(b"") | damaged(delivery.key or b"")))
    if what in ("value", "both"):
        delivery = delivery._replace(value=data.draw(st.none() | st.just(b"") | damaged(delivery.value or b"")))
    assert shown(EFFECTS.of(delivery)) == shown(EFFECTS.judge(delivery))


@st.composite
def damaged(draw: st.DrawFn, sound: bytes) -> bytes:
    place = draw(st.integers(0, len(sound)))
    return sound[:place] + draw(st.binary(max_size=3)) + sound[place + draw(st.integers(0, 3)) :]


@pytest.mark.parametrize(("number", "short"), [(1, True), (2, True), (3, False)])
def test_who_goes_the_short_way(number: int, short: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sound record of a contract with such code does; the first of a contract, and what is broken, does not."""
    made, judged = Effects(Registry(), KEYS, clock), []
    judge = made.judge
    monkeypatch.setattr(made, "judge", lambda delivery: judged.append(delivery) or judge(delivery))
    made.polled()
    first = made.of(sound(number))
    assert len(judged) == 1
    assert made.of(sound(number)) == first
    assert len(judged) == (1 if short else 2)
    assert isinstance(made.of(sound(number, ce_source=b"tax/people/1")), Reject)
    assert len(judged) == (2 if short else 3)


def test_a_contract_in_another_ones_topic_is_refused_both_ways() -> None:
    delivery = sound(2)._replace(topic=PERSON.topic)
    assert isinstance(EFFECTS.of(delivery), Reject)
    assert shown(EFFECTS.of(delivery)) == shown(EFFECTS.judge(delivery))
