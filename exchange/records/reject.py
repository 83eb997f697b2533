"""A record that was set aside, as it travels in its department's rejects topic."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exchange.errors import Rejected
from exchange.printable import plain
from exchange.records import forms
from exchange.records.forms import canonical, json_object, rfc3339
from exchange.records.message import Delivery, Envelope, Message
from exchange.records.record import Origin

REJECT_LINE = 1_000  # characters of a reject's place and of its reason
REJECT_PAYLOAD = 64 * 1024  # characters of its payload; of a longer one the place alone is kept


def rejects_topic(department: str) -> str:
    """The topic that takes what this department's connectors reject."""
    return f"{department}.rejects.v1"


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
        envelope, value = Envelope.read(delivery.headers), json_object(delivery.value)
        try:
            found = cls(
                department=envelope.origin.department,
                contract=forms.name(value["contract"]),
                place=_line("place", value["place"]),
                field=None if value["field"] is None else _line("field", value["field"]),
                reason=_line("reason", value["reason"]),
                at=datetime.fromisoformat(value["at"]).astimezone(UTC),
                origin=envelope.origin,
                schema_id=None if value["schema_id"] is None else forms.whole(value["schema_id"]),
                payload=None if value["payload"] is None else _payload(value["payload"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError):
            raise Rejected("the reject is malformed") from None
        if found.contract.partition(".")[0] != found.department:
            raise Rejected("the reject speaks of a contract of another department than its source")
        return found


def _line(name: str, value: Any) -> str:
    """Text for a person, on one line."""
    text = forms.text(value)
    if len(text) > REJECT_LINE or not plain(text):
        raise Rejected(f"the reject's {name} is longer than {REJECT_LINE} characters or holds control characters")
    return text


def _payload(value: Any) -> str:
    text = forms.text(value)
    if len(text) > REJECT_PAYLOAD:
        raise Rejected(f"the reject's payload is longer than {REJECT_PAYLOAD} characters")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        raise Rejected("the reject's payload is not JSON") from None
    return text
