"""Orders to erase a subject, as they travel in the list of erasures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from exchange.errors import Rejected
from exchange.records import forms
from exchange.records.forms import canonical, json_object, rfc3339
from exchange.records.message import Delivery, Message
from exchange.subjects import split_key

ERASURES_TOPIC = "exchange.erasures.v1"
ERASE = "erase"  # the instance name of the deletions that erase; no connector can have it


@dataclass(frozen=True, slots=True)
class Erasure:
    """What was said of this subject before `ordered` is to be gone, and is, once `done` is there.

    `subject_key` is the bus's, never an identifier; `reference` names the order in the city's files; times are aware
    UTC.
    """

    subject_key: str
    reference: str
    ordered: datetime
    done: datetime | None = None
    records: int = 0
    rejects: int = 0

    def message(self) -> Message:
        """The message for the list; the newest of a subject counts."""
        value = {
            "reference": self.reference,
            "ordered": rfc3339(self.ordered),
            "done": None if self.done is None else rfc3339(self.done),
            "records": self.records,
            "rejects": self.rejects,
        }
        return Message(
            self.subject_key.encode("ascii"), canonical(value).encode(), {"content-type": b"application/json"}
        )

    @classmethod
    def read(cls, delivery: Delivery) -> Erasure:
        """Parse a message of the list. Raises Rejected if it is malformed."""
        value = json_object(delivery.value)
        try:
            subject_key, record_key = split_key(delivery.key or b"")
            done = value["done"]
            found = cls(
                subject_key,
                forms.name(value["reference"]),
                _time(value["ordered"]),
                None if done is None else _time(done),
                forms.whole(value["records"]),
                forms.whole(value["rejects"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise Rejected("the erasure is malformed") from None
        if record_key:
            raise Rejected("the erasure's key is not that of a subject")
        return found

    def finished(self, at: datetime, records: int, rejects: int) -> Erasure:
        """The same, done: what was erased now is added to what was before."""
        return replace(self, done=at, records=self.records + records, rejects=self.rejects + rejects)


def _time(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError("a time without a zone")
    return found.astimezone(UTC)
