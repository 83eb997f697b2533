"""Until when a source has told everything, as it travels in the watermarks topic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from exchange.errors import Rejected
from exchange.records import forms
from exchange.records.forms import canonical, json_object, rfc3339
from exchange.records.message import Delivery, Message

WATERMARKS_TOPIC = "exchange.watermarks.v1"


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
        value = json_object(delivery.value)
        try:
            as_of = datetime.fromisoformat(value["as_of"])
            found = cls(
                contract=forms.name(value["contract"]),
                topic=forms.name(value["topic"]),
                source=forms.name(value["source"]),
                epoch=forms.whole(value["epoch"]),
                as_of=as_of.astimezone(UTC),
                offsets={int(partition): forms.whole(offset) for partition, offset in value["offsets"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise Rejected("the watermark is malformed") from None
        department, _, instance = found.source.partition("/")
        if as_of.tzinfo is None or not instance:
            raise Rejected("the watermark has no zone or no instance name")
        if found.contract.partition(".")[0] != department:
            raise Rejected("the watermark's source is of another department than the contract's owner")
        return found
