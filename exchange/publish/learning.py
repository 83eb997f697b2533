"""Filling a new cursor file from the topic: the greatest epoch plus 1, and what was last published under each key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog

from exchange.contracts import Contract, unframe
from exchange.errors import ContractRefused, Rejected, UnknownSchema
from exchange.publish.encoding import digest, shape
from exchange.records import WATERMARKS_TOPIC, Delivery, Envelope, Watermark, rejects_topic
from exchange.registry import Registry
from exchange.subjects import KeyMaker, split_key
from exchange.topics import Broker

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Learned:
    """One message of ours. `digest` is None for a deletion."""

    key: str
    digest: bytes | None
    epoch: int
    sequence: int
    version: int | None


@dataclass(slots=True)
class Learning:
    """Reads what `source` published to `topic`. After `messages` has run, `epoch` and `offsets` are known.

    What materialise sets aside was never published, whoever wrote it under our name: it is passed over here too. Else a
    value under somebody else's key would count as a row of ours that is gone, and that key's record would be deleted.
    """

    broker: Broker
    registry: Registry
    keys: KeyMaker
    topic: str
    source: str
    epoch: int = 0
    offsets: dict[int, int] = field(default_factory=dict)
    _schemas: dict[int, tuple[bytes, Contract] | None] = field(default_factory=dict)
    _told_foreign: bool = False

    def messages(self) -> Iterator[Learned]:
        """Every message of the source, in log order; not yet one per key.

        Raises BrokerUnavailable, RegistryUnavailable. The epochs of rejects and watermarks count too: an epoch in which
        nothing but rejects was told must not come again.
        """
        for delivery in self._read(self.topic):
            envelope = self._ours(delivery)
            if envelope is None:
                continue
            try:
                key, said = self._taken(delivery)
            except Rejected as rejected:
                self._tell_foreign(delivery, rejected.reason)
                continue
            self.offsets[delivery.partition] = delivery.offset
            yield Learned(
                key=key,
                digest=said,
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

    def _taken(self, delivery: Delivery) -> tuple[str, bytes | None]:
        """Key and digest of a message that materialise takes. Raises Rejected for one that it sets aside."""
        key = delivery.key or b""
        split_key(key)
        return str(key, "ascii"), None if delivery.value is None else self._digest(key, delivery.value)

    def _digest(self, key: bytes, value: bytes) -> bytes:
        schema_id, datum = unframe(value)
        if schema_id not in self._schemas:
            self._schemas[schema_id] = self._schema(schema_id)
        known = self._schemas[schema_id]
        if known is None:
            raise Rejected("the schema id is that of no contract that is known")
        shaped, contract = known
        if contract.topic != self.topic:
            raise Rejected("the schema is that of another contract")
        record = contract.unpack(datum)
        if self.keys.message_key(record.subject, contract.name, record.record_key) != key:
            raise Rejected("the message key disagrees with the value")
        return digest(shaped, datum)

    def _schema(self, schema_id: int) -> tuple[bytes, Contract] | None:
        try:
            text = self.registry.schema(schema_id)
            return shape(text), Contract.from_text(text)
        except (UnknownSchema, ContractRefused):
            return None

    def _tell_foreign(self, delivery: Delivery, reason: str) -> None:
        """One such message must not keep a connector from its work. The first is told with its place in the topic."""
        if not self._told_foreign:
            self._told_foreign = True
            log.warning(
                "a message of this source is none that a connector writes; it and others like it are passed over",
                source=self.source,
                topic=delivery.topic,
                partition=delivery.partition,
                offset=delivery.offset,
                reason=reason,
            )
