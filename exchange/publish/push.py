"""The first verb for a push, and for a reject that is tried again: records in JSON, with sequences given from outside.

A push has no cursor file: the gateway's ledger gives each request its sequences before anything is produced, so that a
request that is repeated after a crash produces the same messages again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

from exchange import metrics
from exchange.contracts import Contract
from exchange.errors import InvalidIdentifier, Rejected, Unprocessable
from exchange.publish.encoding import Encoder, Stamp
from exchange.publish.publishing import Tolerance
from exchange.records import WATERMARKS_TOPIC, Message, Reject, Watermark, rejects_topic
from exchange.subjects import KeyMaker, parse
from exchange.topics import Publisher

if TYPE_CHECKING:
    from prometheus_client import Histogram

PUSH = "push"  # the instance name of what is pushed; no connector can have it
MAX_REASONS = 100
_AT_ONCE = 1_000


class Blank(Enum):
    """A line of a push that holds nothing: it counts among the lines and is no record."""

    BLANK = "blank"


BLANK = Blank.BLANK


@dataclass(frozen=True, slots=True)
class Unparsed:
    """A line of a push that is no JSON, with what is wrong with it; `reason` holds nothing of the line."""

    text: str
    reason: str


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a line was rejected. `line` counts from 1; neither field nor reason holds a value."""

    line: int
    field: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class PushAnswer:
    """What became of a push: `accepted` + `rejected` lines, the reasons of the first 100 rejected ones.

    `stopped_after`: the last line that was read, if the rejects were too many and it stopped there.
    """

    accepted: int
    rejected: int
    reasons: Sequence[Reason] = field(default=())
    stopped_after: int | None = None

    def document(self) -> dict[str, Any]:
        """The answer as a JSON object; `stopped_after` is in it only if the push was stopped."""
        answer = {
            "accepted": self.accepted,
            "rejected": self.rejected,
            "reasons": [asdict(reason) for reason in self.reasons],
        }
        return answer if self.stopped_after is None else answer | {"stopped_after": self.stopped_after}


def publish_push(
    contract: Contract,
    lines: Iterable[Any],
    *,
    first_sequence: int,
    epoch: int,
    keys: KeyMaker,
    publisher: Publisher,
    schema_id: int,
    received: datetime,
    tolerance: Tolerance,
    traceparent: str | None = None,
) -> PushAnswer:
    """Publish the lines of one request; returns when all of it, rejects and watermark included, is acknowledged.

    A line is a parsed JSON value (by a reader that refuses duplicate members), Unparsed or BLANK. Good ones are records
    in the mapping of semantics section 2, and `{"delete": {subject, record key and version fields}}`. Line n (from 0)
    has the sequence `first_sequence` + n, bad and blank lines included. `received` (aware) is the event time of what
    has none, and the watermark; no lines are a heartbeat. Lines are taken one by one and sent as they come, so that a
    large request takes no more room than a small one. All of it bears the `traceparent` (W3C Trace Context).

    As soon as the rejects among the lines read so far exceed the `tolerance`, it stops: what was read stands, there is
    no watermark, and the answer says so. Where it stops follows from the lines alone, so a repeat stops there too.

    Raises BrokerUnavailable: any part may be stored, and the same call again repeats it without a second effect.
    """
    encoder = Encoder(contract, keys, schema_id)
    source = f"{contract.department}/{PUSH}"
    stamp = Stamp(encoder, source, epoch)
    traced = {} if traceparent is None else {"traceparent": traceparent.encode("ascii")}
    records = _Sending(publisher, contract.topic, traced, metrics.PUBLISH_SECONDS.labels(contract.name))
    rejects = _Sending(publisher, rejects_topic(contract.department), traced)
    reasons: list[Reason] = []
    read, set_aside, stopped_after = 0, 0, None
    for number, line in enumerate(lines):
        if line is BLANK:
            continue
        read += 1
        sequence = first_sequence + number
        try:
            records.add(_message(encoder, stamp, line, sequence, received))
        except Rejected as rejected:
            unread = line.text if isinstance(line, Unparsed) else line
            payload = encoder.payload(line) if isinstance(line, Mapping) else encoder.payload({}, unread)
            reject = stamp.reject(f"push line {number + 1}", rejected, payload, sequence, received)
            rejects.add(reject.message())
            if len(reasons) < MAX_REASONS:
                reasons.append(Reason(number + 1, rejected.field, rejected.reason))
            set_aside += 1
            if tolerance.exceeded(set_aside, read):
                stopped_after = number + 1
                break
    records.flush()
    rejects.flush()
    if stopped_after is None:  # else not everything that the source has to tell was read
        watermark = Watermark(contract.name, contract.topic, source, epoch, received, records.last)
        publisher.publish(WATERMARKS_TOPIC, [watermark.message()])
    for outcome, count in (("published", records.sent), ("rejected", rejects.sent)):
        if count:
            metrics.ROWS.labels(contract.name, PUSH, outcome).inc(count)
    return PushAnswer(records.sent, rejects.sent, tuple(reasons), stopped_after)


def replay(
    contract: Contract, reject: Reject, *, keys: KeyMaker, publisher: Publisher, schema_id: int
) -> tuple[int, int]:
    """Publish a reject's payload with its original source, epoch and sequence, so that a newer record stays.

    Returns (partition, offset). Raises Unprocessable if the reject cannot be published again; Rejected if its payload
    still does not keep the contract; BrokerUnavailable.
    """
    if reject.payload is None:
        raise Unprocessable("of this reject only the place was kept: correct it at the source")
    origin = reject.origin
    if origin is None:
        raise Unprocessable("the message is in the topic already; it was set aside there and not by a connector")
    if origin.department != contract.department:
        raise Unprocessable(f"it was set aside by {origin.department}, which does not own {contract.name}")
    value = json.loads(reject.payload)
    if not isinstance(value, Mapping):
        raise Unprocessable("this row could not be divided into fields: correct it at the source")
    encoder = Encoder(contract, keys, schema_id)
    stamp = Stamp(encoder, origin.source, origin.epoch)
    message = _message(encoder, stamp, value, origin.sequence, reject.at)
    return publisher.publish(contract.topic, [message])[0]


def _message(encoder: Encoder, stamp: Stamp, value: Any, sequence: int, received: datetime) -> Message:
    """The message of a record or of a deletion, both in JSON. Raises Rejected."""
    contract = encoder.contract
    if isinstance(value, Unparsed):
        raise Rejected(value.reason)
    if not isinstance(value, Mapping):
        raise Rejected("a JSON object expected")
    if "delete" in value:
        return _deletion(encoder, stamp, value, sequence, received)
    encoded = encoder.encode(contract.from_json(value))
    return stamp.message(encoded.key, encoded.value, sequence, encoded.version, encoded.event_time or received)


def _deletion(encoder: Encoder, stamp: Stamp, value: Mapping[str, Any], sequence: int, received: datetime) -> Message:
    contract, named = encoder.contract, value["delete"]
    if len(value) != 1 or not isinstance(named, Mapping):
        raise Rejected('a deletion is {"delete": {...}} and nothing beside it', "delete")
    needed = (contract.subject_field, *contract.record_key)
    allowed = {*needed, contract.version_field}
    for name in named:
        if name not in allowed:
            raise Rejected("a deletion names subject, record key and version fields only", "delete")
    for name in needed:
        if name not in named:
            raise Rejected("missing in the deletion", name)
    native = {name: contract.parse_field(name, form) for name, form in named.items()}
    try:
        parse(contract.scheme, str(native[contract.subject_field]))
    except InvalidIdentifier as invalid:
        raise InvalidIdentifier(invalid.reason, contract.subject_field) from None
    whom = encoder.identity(native)
    if whom is None or whom.message_key is None:
        raise Rejected("the record key cannot be read", "delete")
    return stamp.message(whom.message_key, None, sequence, encoder.version(native), received)


class _Sending:
    """Messages on their way to one topic, many at once. `last` is the last offset that was written, per partition.

    Each gets the headers `more`; `seconds` takes how long each batch was on its way.
    """

    def __init__(
        self, publisher: Publisher, topic: str, more: Mapping[str, bytes], seconds: Histogram | None = None
    ) -> None:
        self._publisher = publisher
        self._topic = topic
        self._more = more
        self._seconds = seconds
        self._waiting: list[Message] = []
        self.sent = 0
        self.last: dict[int, int] = {}

    def add(self, message: Message) -> None:
        """Take a message; send what waits if that is much."""
        self._waiting.append(message._replace(headers={**message.headers, **self._more}) if self._more else message)
        if len(self._waiting) == _AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Send what waits; it is acknowledged when this returns."""
        if self._waiting:
            started = time.monotonic()
            for partition, offset in self._publisher.publish(self._topic, self._waiting):
                self.last[partition] = max(offset, self.last.get(partition, -1))
            if self._seconds is not None:
                self._seconds.observe(time.monotonic() - started)
            self.sent += len(self._waiting)
            self._waiting = []
