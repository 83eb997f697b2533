"""One delivery -> what it does to the store.

A delivery is untrusted. Whatever is wrong with it becomes a Reject with its place in the log, and nothing else: only
RegistryUnavailable leaves here, because then nobody knows yet whether the record is good.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from exchange.clock import Clock
from exchange.contracts import Contract, unframe
from exchange.errors import ContractRefused, Rejected, UnknownSchema
from exchange.records import WATERMARKS_TOPIC, Delivery, Envelope, Facet, Reject, Watermark
from exchange.registry import Registry
from exchange.subjects import KeyMaker, split_key

Effect = Facet | Watermark | Reject

# An id that the registry does not know is asked for again after this many seconds, not on every record.
UNKNOWN_SCHEMA_SECONDS = 5.0


class Effects:
    """Turns deliveries into effects; keeps the contracts that records were written under."""

    def __init__(self, registry: Registry, keys: KeyMaker, clock: Clock) -> None:
        self._registry = registry
        self._keys = keys
        self._clock = clock
        self._contracts: dict[int, Contract] = {}
        self._unknown: dict[int, datetime] = {}

    def of(self, delivery: Delivery) -> Effect:
        """What this delivery does. Raises RegistryUnavailable: the delivery must be tried again later."""
        read: Callable[[Delivery], Effect]
        if delivery.topic == WATERMARKS_TOPIC:
            read = Watermark.read
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
        envelope = Envelope.read(delivery.headers)
        contract, major = _named(delivery.topic)
        if envelope.origin.department != contract.partition(".")[0]:
            raise Rejected("header ce_source names another department than the topic's owner")
        if delivery.key is None:
            raise Rejected("the message has no key")
        subject_key, record_key = split_key(delivery.key)
        payload, schema_id, version = None, None, envelope.version
        if delivery.value is not None:
            schema_id, datum = unframe(delivery.value)
            said = self._contract(schema_id)
            if said.topic != delivery.topic:
                raise _Refused("the schema is that of another contract", schema_id=schema_id)
            try:
                record = said.decode(datum)
            except Rejected as rejected:
                raise _Refused(rejected.reason, rejected.field, schema_id) from None
            payload, version = said.to_json(record.value), record.version
            if self._keys.message_key(record.subject, contract, record.record_key) != delivery.key:
                raise _Refused("the message key disagrees with the value", None, schema_id, payload)
        return Facet(
            subject_key=subject_key,
            contract=contract,
            major=major,
            record_key=record_key,
            payload=payload,
            schema_id=schema_id,
            origin=envelope.origin,
            partition=delivery.partition,
            offset=delivery.offset,
            version=version,
            event_time=envelope.event_time,
        )

    def _reject(self, delivery: Delivery) -> Reject:
        reject = Reject.read(delivery)
        if reject.department != delivery.topic.partition(".")[0]:
            raise Rejected("header ce_source names another department than the topic's owner")
        return reject

    def _contract(self, schema_id: int) -> Contract:
        known = self._contracts.get(schema_id)
        if known is not None:
            return known
        asked = self._unknown.get(schema_id)
        if asked is None or (self._clock() - asked).total_seconds() >= UNKNOWN_SCHEMA_SECONDS:
            try:
                contract = Contract.from_text(self._registry.schema(schema_id))
            except UnknownSchema:
                self._unknown[schema_id] = self._clock()
            except ContractRefused as refused:
                raise _Refused(f"schema id {schema_id} is no contract: {refused.detail}", schema_id=schema_id) from None
            else:
                self._unknown.pop(schema_id, None)
                self._contracts[schema_id] = contract
                return contract
        raise _Refused("the registry does not know the schema id", schema_id=schema_id)

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
            contract=_named(delivery.topic)[0],
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


class _Refused(Rejected):
    """The record does not keep its contract"""

    def __init__(
        self, reason: str, field: str | None = None, schema_id: int | None = None, payload: str | None = None
    ) -> None:
        super().__init__(reason, field)
        self.schema_id = schema_id
        self.payload = payload


def _named(topic: str) -> tuple[str, int]:
    """`<department>.<dataset>.v<major>` -> contract name and major."""
    name, _, major = topic.rpartition(".v")
    return name, int(major)
