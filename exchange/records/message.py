"""What travels in a topic: Message on its way in, Delivery on its way out, and the headers of both as an Envelope."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from exchange.errors import Rejected
from exchange.records.forms import LIMIT, micros, rfc3339, storable
from exchange.records.record import Origin

LONGEST = 256  # bytes of a header that is read


class Message(NamedTuple):
    """What a Publisher sends. A `value` of None is a deletion."""

    key: bytes
    value: bytes | None
    headers: Mapping[str, bytes]


class Delivery(NamedTuple):
    """What a Feed yields: a message with its place in the log. Untrusted: key, value and headers can be anything.

    `timestamp` (milliseconds of Unix time) is when its producer or the broker says that it was written. Only
    `Broker.read` gives it.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Mapping[str, bytes] = MappingProxyType({})
    timestamp: int | None = None


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


def heading(headers: Mapping[str, bytes]) -> tuple[str, int, int, int]:
    """(source, epoch, sequence, event time as `micros`) of headers as `headers_of` writes them, for who reads millions.

    Raises any exception for what looks otherwise: `Envelope.read` is the reference, and says what is wrong.
    """
    source, type_, time = headers["ce_source"], headers["ce_type"], headers["ce_time"]
    sequence, version = headers["ce_sequence"], headers.get("exchange_version", b"0")
    if len(source) > LONGEST or len(type_) > LONGEST or len(time) > LONGEST or not type_.isascii():
        raise ValueError
    if len(sequence) != 20 or len(version) > 18 or not sequence.isdigit() or not version.isdigit():
        raise ValueError
    number, event_time = int(sequence), datetime.fromisoformat(time.decode("ascii"))
    if event_time.tzinfo is not UTC or number >= LIMIT:
        raise ValueError
    if "traceparent" in headers:
        _ascii(headers, "traceparent")
    return *_source(source), number, micros(event_time)


def _ascii(headers: Mapping[str, bytes], name: str) -> bytes:
    raw = headers.get(name)
    if raw is None:
        raise Rejected(f"header {name} is missing")
    if len(raw) > LONGEST or not raw.isascii():
        raise Rejected(f"header {name} is not ASCII text of at most {LONGEST} bytes")
    return raw


def _number(header: str, digits: bytes) -> int:
    if digits.removeprefix(b"-").isdigit() and len(digits) <= 20:
        number = int(digits)
        if storable(number):
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
