"""What travels: Record, Message, Delivery, Facet, Watermark, Reject, and the headers that carry a record's origin.

What is made for each record that is read is a named tuple: it costs a quarter of a frozen dataclass.

A `Record` is made by `contracts.Contract.check` only: it cannot exist unchecked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from exchange.errors import Rejected
from exchange.printable import plain
from exchange.subjects import Subject

WATERMARKS_TOPIC = "exchange.watermarks.v1"
CHECKPOINTS_TOPIC = "exchange.audit.checkpoints.v1"

_LIMIT = 1 << 63
REJECT_LINE = 1_000  # characters of a reject's place and of its reason
REJECT_PAYLOAD = 64 * 1024  # characters of its payload; of a longer one the place alone is kept


def rejects_topic(department: str) -> str:
    """The topic that takes what this department's connectors reject."""
    return f"{department}.rejects.v1"


class Origin(NamedTuple):
    """Who said a record, and where it stands in what they said.

    `source` is `<department>/<instance name>`; `epoch` grows each time the source starts afresh; `sequence` counts
    within the epoch. No (source, epoch, sequence) ever stands for two values.
    """

    source: str
    epoch: int
    sequence: int

    @property
    def department(self) -> str:
        return self.source.split("/", 1)[0]


@dataclass(frozen=True, slots=True)
class Record:
    """One value that has passed its contract. Made by `Contract.check` only.

    `record_key` holds the record key's values as text, in the contract's order; empty for one record per subject.
    `version` is the version field as an integer in the schema's own unit; `event_time` is aware UTC.
    """

    contract: str
    major: int
    subject: Subject
    record_key: tuple[str, ...]
    value: Mapping[str, Any]
    version: int | None
    event_time: datetime | None


@dataclass(frozen=True, slots=True)
class Message:
    """What a Publisher sends. A `value` of None is a deletion."""

    key: bytes
    value: bytes | None
    headers: Mapping[str, bytes]


class Delivery(NamedTuple):
    """What a Feed yields: a message with its place in the log. Untrusted: key, value and headers can be anything."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = MappingProxyType({})


class Envelope(NamedTuple):
    """The headers of a record or a deletion, read (CloudEvents 1.0, Kafka protocol binding, binary content mode)."""

    origin: Origin
    type: str
    event_time: datetime
    version: int | None = None
    traceparent: str | None = None

    def headers(self) -> dict[str, bytes]:
        """The message headers; the value's media type is Avro for records and deletions alike."""
        source = f"{self.origin.source}/{self.origin.epoch}".encode("ascii")
        out = headers_of(source, self.origin.sequence, self.type.encode("ascii"), self.event_time, self.version)
        if self.traceparent is not None:
            out["traceparent"] = self.traceparent.encode("ascii")
        return out

    @classmethod
    def read(cls, headers: Mapping[str, bytes]) -> Envelope:
        """Parse a message's headers.

        Raises Rejected, naming the header and never its value, if one is missing or malformed.
        """
        source, epoch = _source(_ascii(headers, "ce_source"))
        event_time = _time(_ascii(headers, "ce_time"))
        return cls(
            Origin(source, epoch, _number("ce_sequence", _ascii(headers, "ce_sequence"))),
            _ascii(headers, "ce_type").decode("ascii"),
            event_time,
            _number("exchange_version", _ascii(headers, "exchange_version")) if "exchange_version" in headers else None,
            _ascii(headers, "traceparent").decode("ascii") if "traceparent" in headers else None,
        )


def _ascii(headers: Mapping[str, bytes], name: str) -> bytes:
    raw = headers.get(name)
    if raw is None:
        raise Rejected(f"header {name} is missing")
    if len(raw) > 256 or not raw.isascii():
        raise Rejected(f"header {name} is not ASCII text of at most 256 bytes")
    return raw


def _number(header: str, digits: bytes) -> int:
    if digits.removeprefix(b"-").isdigit() and len(digits) <= 20:
        number = int(digits)
        if -_LIMIT <= number < _LIMIT:
            return number
    raise Rejected(f"header {header} is not a whole number of 64 bits")


@lru_cache(maxsize=4_096)
def _source(raw: bytes) -> tuple[str, int]:
    source, _, epoch = raw.decode("ascii").rpartition("/")
    if source.count("/") != 1 or not all(source.split("/")) or not source.isprintable():
        raise Rejected("header ce_source is not <department>/<instance>/<epoch>")
    return source, _number("ce_source", epoch.encode("ascii"))


def _time(raw: bytes) -> datetime:
    try:
        event_time = datetime.fromisoformat(raw.decode("ascii"))
        if event_time.tzinfo is None:
            raise Rejected("header ce_time has no zone")
        return event_time if event_time.tzinfo is UTC else event_time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Rejected("header ce_time is not an RFC 3339 time") from None


def headers_of(
    source: bytes, sequence: int, type_: bytes, event_time: datetime, version: int | None
) -> dict[str, bytes]:
    """The headers of an Envelope, for those who write a million; `source` is `<department>/<instance>/<epoch>`."""
    number = b"%020d" % sequence
    headers = {
        "ce_specversion": b"1.0",
        "ce_id": number,
        "ce_source": source,
        "ce_type": type_,
        "ce_time": rfc3339(event_time).encode("ascii"),
        "ce_sequence": number,
        "content-type": b"application/avro",
    }
    if version is not None:
        headers["exchange_version"] = b"%d" % version
    return headers


class Said(NamedTuple):
    """Where the last word of a source on one identity stands in that source's own order."""

    source: str
    version: int | None
    epoch: int
    sequence: int


class Facet(NamedTuple):
    """The latest record under one (subject, contract, major, record key), with its origin.

    `payload` is the record as canonical JSON text; None is a tombstone. `record_key` is the record key's hash, "" where
    the contract has none. `event_time` is aware UTC. `heard` is the last word of each other source that spoke of this
    identity before, the latest last (see store.order); empty for the most part.
    """

    subject_key: str
    contract: str
    major: int
    record_key: str
    payload: str | None
    schema_id: int | None
    origin: Origin
    partition: int
    offset: int
    version: int | None
    event_time: datetime
    heard: tuple[Said, ...] = ()

    @property
    def identity(self) -> tuple[str, str, int, str]:
        return (self.subject_key, self.contract, self.major, self.record_key)

    @property
    def shown_version(self) -> int:
        """The record version that a view shows: the version field, else the sequence."""
        return self.origin.sequence if self.version is None else self.version


@dataclass(frozen=True, slots=True)
class Watermark:
    """Until when a source says that it has told everything about a contract.

    `contract` is `<department>.<dataset>`, `topic` its topic; `source` as in Origin; `as_of` aware UTC; `offsets` the
    last offset that the source produced, per partition: the watermark counts once the positions have passed them.
    """

    contract: str
    topic: str
    source: str
    epoch: int
    as_of: datetime
    offsets: Mapping[int, int]

    @property
    def key(self) -> bytes:
        return f"{self.contract}/{self.source.split('/', 1)[1]}".encode()

    def message(self) -> Message:
        """The message for the watermarks topic."""
        value = {
            "contract": self.contract,
            "topic": self.topic,
            "source": self.source,
            "epoch": self.epoch,
            "as_of": rfc3339(self.as_of),
            "offsets": {str(partition): offset for partition, offset in sorted(self.offsets.items())},
        }
        return Message(self.key, canonical(value).encode(), {"content-type": b"application/json"})

    @classmethod
    def read(cls, delivery: Delivery) -> Watermark:
        """Parse a message of the watermarks topic. Raises Rejected if it is malformed."""
        value = _json_object(delivery)
        try:
            as_of = datetime.fromisoformat(value["as_of"])
            found = cls(
                contract=_name(value["contract"]),
                topic=_name(value["topic"]),
                source=_name(value["source"]),
                epoch=_whole(value["epoch"]),
                as_of=as_of.astimezone(UTC),
                offsets={int(partition): _whole(offset) for partition, offset in value["offsets"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise Rejected("the watermark is malformed") from None
        department, _, instance = found.source.partition("/")
        if as_of.tzinfo is None or not instance:
            raise Rejected("the watermark has no zone or no instance name")
        if found.contract.partition(".")[0] != department:
            raise Rejected("the watermark's source is of another department than the contract's owner")
        return found


@dataclass(frozen=True, slots=True)
class Reject:
    """A record that was set aside, with its place and its reason.

    One row per (source, epoch, sequence) where a connector rejected it, or per (topic, partition, offset) where
    materialise did. `place` is for a person (`people.csv line 5`); `field` and `reason` never hold a value; `payload`
    is JSON text for the owner's eyes only, without level 4 fields. `contract` is one of the department's own.
    """

    department: str
    contract: str
    place: str
    field: str | None
    reason: str
    at: datetime
    origin: Origin | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    schema_id: int | None = None
    payload: str | None = None

    def message(self) -> Message:
        """The message for the department's rejects topic; needs an origin. The headers hold nothing personal."""
        if self.origin is None:
            raise ValueError("only a connector's reject is published")
        value = {
            "contract": self.contract,
            "place": self.place,
            "field": self.field,
            "reason": self.reason,
            "at": rfc3339(self.at),
            "schema_id": self.schema_id,
            "payload": self.payload,
        }
        key = f"{self.origin.source}/{self.origin.epoch}/{self.origin.sequence:020d}".encode()
        headers = Envelope(self.origin, f"{self.contract}.reject", self.at).headers()
        return Message(key, canonical(value).encode(), headers | {"content-type": b"application/json"})

    @classmethod
    def read(cls, delivery: Delivery) -> Reject:
        """Parse a message of a rejects topic.

        Raises Rejected if it is malformed, speaks of another department's contract, or holds what a person should not
        be shown: control characters, a place or a reason without end, a payload that is no JSON.
        """
        envelope, value = Envelope.read(delivery.headers), _json_object(delivery)
        try:
            found = cls(
                department=envelope.origin.department,
                contract=_name(value["contract"]),
                place=_line("place", value["place"]),
                field=None if value["field"] is None else _line("field", value["field"]),
                reason=_line("reason", value["reason"]),
                at=datetime.fromisoformat(value["at"]).astimezone(UTC),
                origin=envelope.origin,
                schema_id=None if value["schema_id"] is None else _whole(value["schema_id"]),
                payload=None if value["payload"] is None else _payload(value["payload"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            raise Rejected("the reject is malformed") from None
        if found.contract.partition(".")[0] != found.department:
            raise Rejected("the reject speaks of a contract of another department than its source")
        return found


def rfc3339(moment: datetime) -> str:
    """An aware time as RFC 3339 in UTC, ending in Z, with 3 digits of a second or 6 where 3 lose something."""
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    return f"{utc.isoformat(timespec='microseconds' if utc.microsecond % 1000 else 'milliseconds')[:-6]}Z"


def canonical(value: Any) -> str:
    """JSON text with sorted keys and no blanks, for values whose numbers are small integers (RFC 8785 for those)."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _name(value: Any) -> str:
    """A name that can stand in a key, a log line and a metric: short, printable ASCII."""
    if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isascii() or not value.isprintable():
        raise TypeError
    return value


def _text(value: Any) -> str:
    """Text that any database stores: no NUL, no lone surrogate (JSON can write both as escapes)."""
    if not isinstance(value, str) or "\0" in value:
        raise TypeError
    value.encode("utf-8")  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
    return value


def _line(name: str, value: Any) -> str:
    """Text for a person, on one line."""
    text = _text(value)
    if len(text) > REJECT_LINE or not plain(text):
        raise Rejected(f"the reject's {name} is longer than {REJECT_LINE} characters or holds control characters")
    return text


def _payload(value: Any) -> str:
    text = _text(value)
    if len(text) > REJECT_PAYLOAD:
        raise Rejected(f"the reject's payload is longer than {REJECT_PAYLOAD} characters")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        raise Rejected("the reject's payload is not JSON") from None
    return text


def _whole(value: Any) -> int:
    if type(value) is not int or not _storable(value):
        raise TypeError
    return value


def _storable(number: int) -> bool:
    """Whether a number fits 64 bits, as both databases have them."""
    return -_LIMIT <= number < _LIMIT


def _json_object(delivery: Delivery) -> dict[str, Any]:
    try:
        value = json.loads(delivery.value or b"")
    except (ValueError, RecursionError):
        raise Rejected("the value is not JSON") from None
    if not isinstance(value, dict):
        raise Rejected("the value is not a JSON object")
    return value
