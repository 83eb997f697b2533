"""Filling a new cursor file from the topic: the greatest epoch plus 1, and what was last published under each key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog

from exchange.contracts import unframe
from exchange.errors import Rejected, UnknownSchema
from exchange.publish.encoding import digest, shape
from exchange.publish.entries import UNKNOWN
from exchange.records import WATERMARKS_TOPIC, Delivery, Envelope, Watermark, rejects_topic
from exchange.registry import Registry
from exchange.subjects import split_key
from exchange.topics import Broker

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Learned:
    """One message of ours. `digest` is None for a deletion, and UNKNOWN if its schema is not known any more."""

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
    _told_foreign: bool = False

    def messages(self) -> Iterator[Learned]:
        """Every message of the source, in log order; not yet one per key.

        Raises BrokerUnavailable, RegistryUnavailable. The epochs of rejects and watermarks count too: an epoch in which
        nothing but rejects was told must not come again.
        """
        for delivery in self._read(self.topic):
            envelope = self._ours(delivery)
            key = None if envelope is None else self._key(delivery)
            if envelope is None or key is None:
                continue
            self.offsets[delivery.partition] = delivery.offset
            yield Learned(
                key=key,
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

    def _key(self, delivery: Delivery) -> str | None:
        """The message key as text; None for one that no KeyMaker makes: whoever wrote it, no row of ours stands there.

        One such message must not keep a connector from its work. The first is told with its place in the topic.
        """
        key = delivery.key or b""
        try:
            split_key(key)
        except Rejected:
            if not self._told_foreign:
                self._told_foreign = True
                log.warning(
                    "a message of this source has a key that no connector makes; it and others like it are passed over",
                    source=self.source,
                    topic=delivery.topic,
                    partition=delivery.partition,
                    offset=delivery.offset,
                )
            return None
        return str(key, "ascii")

    def _digest(self, value: bytes | None) -> bytes | None:
        if value is None:
            return None
        try:
            schema_id, datum = unframe(value)
        except Rejected:
            return UNKNOWN
        if schema_id not in self._shapes:
            try:
                self._shapes[schema_id] = shape(self.registry.schema(schema_id))
            except UnknownSchema:
                self._shapes[schema_id] = None
        shaped = self._shapes[schema_id]
        return UNKNOWN if shaped is None else digest(shaped, datum)
