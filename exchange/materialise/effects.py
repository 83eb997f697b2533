"""One delivery -> what it does to the store.

A delivery is untrusted. Whatever is wrong with it becomes a Reject with its place in the log, and nothing else: only
RegistryUnavailable leaves here, because then nobody knows yet whether the record is good.

A record that is sound goes a short way (`sound`), made for its contract when the first one comes. Whatever is unusual
goes the long way, which is the reference: it checks everything, and says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import lru_cache
from typing import NamedTuple

from exchange.clock import Clock
from exchange.contracts import FRAME_BYTES, Contract, Unpack, unframe
from exchange.errors import ContractRefused, Rejected, UnknownSchema
from exchange.materialise.schemas import Schemas, SchemaSource
from exchange.records import WATERMARKS_TOPIC, Delivery, Envelope, Facet, Reject, Watermark, heading
from exchange.subjects import KeyMaker, message_key, split_key

Effect = Facet | Watermark | Reject
Sound = Callable[[Delivery], Facet]

# Rejects are kept for a time that counts from their own `at`: one from the future would be kept for ever. A watermark
# from the future would say for as long that nothing is late. A connector's clock may be a little ahead of ours.
AHEAD = timedelta(days=1)


class Effects:
    """Turns deliveries into effects; keeps the contracts that records were written under."""

    def __init__(self, registry: SchemaSource, keys: KeyMaker, clock: Clock) -> None:
        self._schemas = Schemas(registry)
        self._keys = keys
        self._clock = clock
        self._sound: dict[tuple[str, bytes], Sound] = {}  # by topic and framing

    def polled(self) -> None:
        """To be called after every poll: a schema that was not known before may be known now."""
        self._schemas.polled()

    def of(self, delivery: Delivery) -> Effect:
        """What this delivery does. Raises RegistryUnavailable: the delivery must be tried again later."""
        try:
            return self._sound[delivery.topic, delivery.value[:FRAME_BYTES]](delivery)  # type: ignore[index]
        except Exception:  # noqa: BLE001  whatever is unusual, the long way finds it and says what it is
            return self.judge(delivery)

    def judge(self, delivery: Delivery) -> Effect:
        """`of`, the long way."""
        read: Callable[[Delivery], Effect]
        if delivery.topic == WATERMARKS_TOPIC:
            read = self._watermark
        elif delivery.topic.endswith(".rejects.v1"):
            read = self._reject
        else:
            read = self._facet
        try:
            return read(delivery)
        except _Refused as refused:
            return self._set_aside(delivery, refused.reason, refused.field, refused.schema_id, refused.payload)
        except Rejected as rejected:
            return self._set_aside(delivery, rejected.reason, rejected.field)

    def _facet(self, delivery: Delivery) -> Facet:
        topic, partition, offset, key, value, headers, _ = delivery
        origin, _, event_time, version, _ = Envelope.read(headers)
        contract, major, owner = _named(topic)
        if origin.department != owner:
            raise Rejected("header ce_source names another department than the topic's owner")
        if key is None:
            raise Rejected("the message has no key")
        if value is None:
            subject_key, record_key = split_key(key)
            return Facet.of(
                subject_key, contract, major, record_key, None, None, origin, partition, offset, version, event_time
            )
        schema_id, datum = unframe(value)
        said = self._contract(schema_id)
        if said.topic != topic:
            raise _Refused("the schema is that of another contract", schema_id=schema_id)
        if said.compiled is not None:
            self._sound[topic, value[:FRAME_BYTES]] = sound(said, said.compiled, schema_id, self._keys)
        try:
            subject, record_values, version, payload = said.unpack(datum)
        except Rejected as rejected:
            raise _Refused(rejected.reason, rejected.field, schema_id) from None
        subject_key, record_key = self._keys.keys(subject, contract, record_values)
        if message_key(subject_key, record_key) != key:
            split_key(key)  # raises if it is no key at all
            raise _Refused("the message key disagrees with the value", None, schema_id, payload)
        return Facet.of(
            subject_key, contract, major, record_key, payload, schema_id, origin, partition, offset, version, event_time
        )

    def _reject(self, delivery: Delivery) -> Reject:
        reject = Reject.read(delivery)
        if reject.department != delivery.topic.partition(".")[0]:
            raise Rejected("header ce_source names another department than the topic's owner")
        if reject.at > self._clock() + AHEAD:
            raise Rejected("the reject's time lies more than a day ahead: set the connector's clock")
        return reject

    def _watermark(self, delivery: Delivery) -> Watermark:
        watermark = Watermark.read(delivery)
        if watermark.as_of > self._clock() + AHEAD:
            raise Rejected("the watermark's time lies more than a day ahead: set the clock of the source")
        return watermark

    def _contract(self, schema_id: int) -> Contract:
        try:
            return self._schemas.contract(schema_id)
        except UnknownSchema:
            raise _Refused("the registry does not know the schema id", schema_id=schema_id) from None
        except ContractRefused as refused:
            raise _Refused(f"schema id {schema_id} is no contract: {refused.detail}", schema_id=schema_id) from None

    def _set_aside(
        self,
        delivery: Delivery,
        reason: str,
        field: str | None = None,
        schema_id: int | None = None,
        payload: str | None = None,
    ) -> Reject:
        return Reject(
            department=delivery.topic.partition(".")[0],
            contract=_named(delivery.topic).contract,
            place=f"{delivery.topic} partition {delivery.partition} offset {delivery.offset}",
            field=field,
            reason=reason,
            at=self._clock(),
            topic=delivery.topic,
            partition=delivery.partition,
            offset=delivery.offset,
            schema_id=schema_id,
            payload=payload,
        )


def sound(said: Contract, unpack: Unpack, schema_id: int, keys: KeyMaker) -> Sound:
    """The short way for records of this contract under this schema id, in deliveries of its topic with its framing.

    It takes a record as `judge` does or raises any exception (tests/test_materialise_sound.py).
    """
    contract, major, owner, key_of = said.name, said.major, f"{said.owner}/", keys.subjects(said.scheme)

    def read(delivery: Delivery) -> Facet:
        _, partition, offset, key, value, headers, _ = delivery
        source, epoch, sequence, event_micros = heading(headers)
        if not source.startswith(owner) or value is None:
            raise ValueError
        identifier, record_values, version, payload = unpack(value, FRAME_BYTES)
        subject_key, record_key = key_of(identifier), keys.record(contract, record_values) if record_values else ""
        if key != (subject_key + f".{record_key}".encode() if record_key else subject_key):
            raise ValueError
        return Facet(
            subject_key.decode(), contract, major, record_key, payload, schema_id, source, epoch, sequence, partition,
            offset, version, event_micros,
        )  # fmt: skip

    return read


class _Refused(Rejected):
    """The record does not keep its contract"""

    def __init__(
        self, reason: str, field: str | None = None, schema_id: int | None = None, payload: str | None = None
    ) -> None:
        super().__init__(reason, field)
        self.schema_id = schema_id
        self.payload = payload


class _Topic(NamedTuple):
    contract: str
    major: int
    owner: str


@lru_cache(maxsize=1_024)
def _named(topic: str) -> _Topic:
    """What the name of a contract's topic, `<department>.<dataset>.v<major>`, says."""
    name, _, major = topic.rpartition(".v")
    return _Topic(name, int(major), name.partition(".")[0])
