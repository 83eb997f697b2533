"""Headers, watermarks and rejects read back as they were written; `succeed` is the one rule of order."""

from __future__ import annotations

import contextlib
import itertools
import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exchange.errors import Rejected
from exchange.records import Delivery, Envelope, Facet, Message, Origin, Reject, Watermark, rfc3339
from exchange.store.order import succeed

NOW = datetime(2026, 3, 1, 8, 0, 0, 123456, tzinfo=UTC)

moments = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC))
origins = st.builds(
    Origin,
    source=st.sampled_from(["civil/people", "civil/push", "tax/people"]),
    epoch=st.integers(0, 3),
    sequence=st.integers(0, 2**62),
)


def delivered(message: Message, topic: str = "t") -> Delivery:
    return Delivery(topic, 0, 0, message.key, message.value, message.headers)


@given(
    origin=origins,
    event_time=moments,
    version=st.none() | st.integers(-(2**63), 2**63 - 1),
    traceparent=st.none() | st.just("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
)
def test_an_envelope_reads_back(
    origin: Origin, event_time: datetime, version: int | None, traceparent: str | None
) -> None:
    envelope = Envelope(origin, "civil.person.v1", event_time, version, traceparent)
    assert Envelope.read(envelope.headers()) == envelope


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("ce_source", None),
        ("ce_source", b"civil/people"),
        ("ce_source", b"civil/people/x/1"),
        ("ce_source", b"/people/1"),
        ("ce_source", "civil/\u4eba/1".encode()),
        ("ce_sequence", b"12a"),
        ("ce_sequence", b"\xff"),
        ("ce_sequence", b"9" * 40),
        ("ce_sequence", b"09223372036854775808"),
        ("exchange_version", b"-9223372036854775809"),
        ("ce_source", b"civil/people/18446744073709551616"),
        ("ce_time", b"0001-01-01T00:00:00+14:00"),
        ("ce_time", b"2026-03-01"),
        ("ce_time", b"2026-03-01T08:00:00"),
        ("ce_time", b"yesterday"),
        ("exchange_version", b"1.5"),
        ("exchange_version", b"9223372036854775808"),
        ("ce_sequence", b"99999999999999999999"),
        ("ce_type", None),
        ("ce_type", b"x" * 300),
        ("ce_source", b"civil/\x1b[2Jpeople/1"),
    ],
)
def test_a_malformed_header_is_named_and_never_shown(header: str, value: bytes | None) -> None:
    headers = Envelope(Origin("civil/people", 1, 7), "civil.person.v1", NOW).headers()
    headers.pop(header, None)
    if value is not None:
        headers[header] = value
    with pytest.raises(Rejected) as refused:
        Envelope.read(headers)
    assert header in refused.value.reason
    if value is not None and len(value) > 3:
        assert value.decode("utf-8", "replace") not in str(refused.value)


@given(st.dictionaries(st.text(max_size=20), st.binary(max_size=64)))
def test_any_headers_are_read_or_refused(headers: dict[str, bytes]) -> None:
    base = Envelope(Origin("civil/people", 1, 7), "civil.person.v1", NOW).headers()
    with contextlib.suppress(Rejected):
        Envelope.read(base | headers)


def test_a_watermark_reads_back() -> None:
    watermark = Watermark("civil.person", "civil.person.v1", "civil/people", 3, NOW, {0: 17, 11: 4})
    message = watermark.message()
    assert message.key == b"civil.person/people"
    assert Watermark.read(delivered(message)) == watermark


@pytest.mark.parametrize("value", [None, b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b'{"contract": 1}'])
def test_a_malformed_watermark_or_reject_is_refused(value: bytes | None) -> None:
    headers = Envelope(Origin("civil/people", 1, 7), "x", NOW).headers()
    for read in (Watermark.read, Reject.read):
        with pytest.raises(Rejected):
            read(Delivery("t", 0, 0, b"k", value, headers))


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("contract", '"civil\\u0000"'),
        ("source", '"civil/\\ud800"'),
        ("epoch", "Infinity"),
        ("epoch", "1e400"),
        ("epoch", "9223372036854775808"),
        ("epoch", "true"),
        ("epoch", '"1"'),
        ("as_of", '"0001-01-01T00:00:00+14:00"'),
        ("as_of", "5"),
        ("offsets", '{"0": -9223372036854775809}'),
        ("offsets", '{"x": 1}'),
        ("offsets", "[1]"),
    ],
)
def test_a_watermark_that_no_store_could_hold_is_refused(member: str, value: str) -> None:
    """JSON can say what a database cannot keep: it must not stop the partition."""
    members = {
        "contract": '"civil.person"',
        "topic": '"civil.person.v1"',
        "source": '"civil/people"',
        "epoch": "1",
        "as_of": '"2026-03-01T08:00:00Z"',
        "offsets": '{"0": 17}',
    }
    Watermark.read(Delivery("t", 0, 0, None, _object(members)))
    with pytest.raises(Rejected):
        Watermark.read(Delivery("t", 0, 0, None, _object(members | {member: value})))


def _object(members: dict[str, str]) -> bytes:
    return ("{" + ", ".join(f'"{name}": {value}' for name, value in members.items()) + "}").encode()


@pytest.mark.parametrize(
    "changed",
    [
        {"epoch": 2**63},
        {"epoch": True},
        {"offsets": {"0": 1e300}},
        {"offsets": {"x": 1}},
        {"contract": "civil.person\0"},
        {"contract": "tax.person"},
        {"source": "civil"},
        {"source": "civil/" + "x" * 300},
        {"as_of": "2026-03-01T08:00:00"},
        {"as_of": "0001-01-01T00:00:00+23:00"},
    ],
    ids=str,
)
def test_a_watermark_that_no_store_could_keep_is_refused(changed: dict[str, object]) -> None:
    message = Watermark("civil.person", "civil.person.v1", "civil/people", 3, NOW, {0: 17}).message()
    value = json.loads(message.value or b"") | changed
    with pytest.raises(Rejected):
        Watermark.read(Delivery("t", 0, 0, message.key, json.dumps(value).encode(), {}))


def test_a_reject_reads_back_and_its_headers_hold_nothing_personal() -> None:
    reject = Reject(
        department="civil",
        contract="civil.person",
        place="people.csv line 5",
        field="birth_date",
        reason="not a date of the form %Y-%m-%d",
        at=NOW,
        origin=Origin("civil/people", 2, 9),
        schema_id=4,
        payload='{"name":"\u738b\u7532\u5b50"}',
    )
    message = reject.message()
    assert Reject.read(delivered(message)) == reject
    assert "\u738b" not in repr(message.headers) + message.key.decode()


@pytest.mark.parametrize(
    "changed",
    [
        {"contract": "tax.person"},
        {"contract": "civilian.person"},
        {"place": "people.csv\x1b[2J line 5"},
        {"place": "x" * 1_001},
        {"field": "na\rme"},
        {"reason": "all is well\u202e"},
        {"reason": "x" * 1_001},
        {"payload": "{cut"},
        {"payload": "[" * 60_000},
        {"payload": '"' + "x" * 65_536 + '"'},
    ],
    ids=lambda changed: str(changed)[:40],
)
def test_a_reject_that_no_person_should_be_shown_is_refused(changed: dict[str, object]) -> None:
    reject = Reject("civil", "civil.person", "people.csv line 5", "name", "missing", NOW, Origin("civil/people", 2, 9))
    message = reject.message()
    value = json.loads(message.value or b"") | changed
    with pytest.raises(Rejected) as refused:
        Reject.read(delivered(Message(message.key, json.dumps(value).encode(), message.headers)))
    assert str(next(iter(changed.values())))[:20] not in str(refused.value)


def facet(origin: Origin, version: int | None = None, place: tuple[int, int] = (0, 0)) -> Facet:
    return Facet.of("k1.x", "civil.person", 1, "", "{}", 1, origin, place[0], place[1], version, NOW)


def newer(candidate: Facet, standing: Facet) -> bool:
    after = succeed(candidate, standing)
    return after is not standing and after.origin == candidate.origin


def test_the_version_decides_first_then_the_sequence_then_the_log() -> None:
    people = "civil/people"
    standing = facet(Origin(people, 1, 5), version=7, place=(0, 100))
    assert newer(facet(Origin(people, 1, 4), version=8, place=(0, 1)), standing)
    assert not newer(facet(Origin(people, 2, 9), version=6, place=(0, 200)), standing)
    assert newer(facet(Origin(people, 1, 6), version=7, place=(0, 1)), standing)
    assert newer(facet(Origin(people, 2, 1), version=None, place=(0, 1)), standing)
    assert newer(facet(Origin("civil/other", 1, 1), version=7, place=(0, 101)), standing)
    assert not newer(facet(Origin("civil/other", 9, 9), version=7, place=(0, 99)), standing)


@given(st.tuples(origins, origins), st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_of_two_facets_at_most_one_is_newer_and_a_repeat_is_neither(
    pair: tuple[Origin, Origin], versions: tuple[int, int]
) -> None:
    one, two = facet(pair[0], versions[0], (0, 1)), facet(pair[1], versions[1], (0, 2))
    assert not (newer(one, two) and newer(two, one))
    assert not newer(one, one)


@given(st.lists(origins, max_size=5, unique=True))
def test_one_source_in_any_order_ends_at_its_greatest_sequence(said: list[Origin]) -> None:
    ours = [Origin("civil/people", origin.epoch, origin.sequence) for origin in said]
    for order in itertools.permutations(ours):
        standing = None
        for place, origin in enumerate(order):
            candidate = facet(origin, place=(0, place))
            if standing is None or newer(candidate, standing):
                standing = candidate
        if ours:
            assert standing is not None
            assert (standing.origin.epoch, standing.origin.sequence) == max((o.epoch, o.sequence) for o in ours)


def test_times_are_written_in_utc_with_three_or_six_digits() -> None:
    shanghai = timezone(timedelta(hours=8))
    assert rfc3339(datetime(2026, 3, 1, 8, 0, tzinfo=shanghai)) == "2026-03-01T00:00:00.000Z"
    assert rfc3339(NOW) == "2026-03-01T08:00:00.123456Z"


@given(st.datetimes(timezones=st.just(UTC)) | st.datetimes(timezones=st.timezones()))
def test_a_time_is_written_as_datetime_itself_would(moment: datetime) -> None:
    try:
        utc = moment.astimezone(UTC)
    except OverflowError:  # beyond the years 1 to 9999 in UTC
        return
    digits = "microseconds" if utc.microsecond % 1000 else "milliseconds"
    assert rfc3339(moment) == utc.isoformat(timespec=digits).removesuffix("+00:00") + "Z"
    whole = utc.replace(microsecond=utc.microsecond // 1000 * 1000)
    assert rfc3339(whole) == whole.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
