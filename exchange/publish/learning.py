"""Filling a new cursor file from the topic: the greatest epoch plus 1, and what was last published under each key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from exchange.contracts import unframe
from exchange.errors import Rejected, UnknownSchema
from exchange.publish.encoding import digest, shape
from exchange.records import WATERMARKS_TOPIC, Delivery, Envelope, Watermark, rejects_topic
from exchange.registry import Registry
from exchange.topics import Broker


@dataclass(frozen=True, slots=True)
class Learned:
    """One message of ours. `digest` is None for a deletion, and empty if its schema is not known any more."""

    key: str
    digest: bytes | None
    epoch: int
    sequence: int
    version: int | None


@dataclass(slots=True)
class Learning:
    """Reads what `source` published to `topic`. After `messages` has run, `epoch` and `offsets` are known."""

    broker: Broker
    registry: Registry
    topic: str
    source: str
    epoch: int = 0
    offsets: dict[int, int] = field(default_factory=dict)
    _shapes: dict[int, bytes | None] = field(default_factory=dict)

    def messages(self) -> Iterator[Learned]:
        """Every message of the source, in log order; not yet one per key.

        Raises BrokerUnavailable, RegistryUnavailable. The epochs of rejects and watermarks count too: an epoch in which
        nothing but rejects was told must not come again.
        """
        for delivery in self._read(self.topic):
            envelope = self._ours(delivery)
            if envelope is None or delivery.key is None:
                continue
            self.offsets[delivery.partition] = delivery.offset
            yield Learned(
                key=delivery.key.decode("ascii", "replace"),
                digest=self._digest(delivery.value),
                epoch=envelope.origin.epoch,
                sequence=envelope.origin.sequence,
                version=envelope.version,
            )
        for delivery in self._read(rejects_topic(self.source.partition("/")[0])):
            self._ours(delivery)
        for delivery in self._read(WATERMARKS_TOPIC):
            try:
                watermark = Watermark.read(delivery)
            except Rejected:
                continue
            if watermark.source == self.source:
                self.epoch = max(self.epoch, watermark.epoch)

    def _read(self, topic: str) -> Iterator[Delivery]:
        return iter(()) if self.broker.state(topic) is None else self.broker.read(topic)

    def _ours(self, delivery: Delivery) -> Envelope | None:
        try:
            envelope = Envelope.read(delivery.headers)
        except Rejected:
            return None
        if envelope.origin.source != self.source:
            return None
        self.epoch = max(self.epoch, envelope.origin.epoch)
        return envelope

    def _digest(self, value: bytes | None) -> bytes | None:
        if value is None:
            return None
        try:
            schema_id, datum = unframe(value)
        except Rejected:
            return b""
        if schema_id not in self._shapes:
            try:
                self._shapes[schema_id] = shape(self.registry.schema(schema_id))
            except UnknownSchema:
                self._shapes[schema_id] = None
        shaped = self._shapes[schema_id]
        return b"" if shaped is None else digest(shaped, datum)
