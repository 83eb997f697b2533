"""One delivery -> what it does to the store.

A delivery is untrusted. Whatever is wrong with it becomes a Reject with its place in the log, and nothing else: only
RegistryUnavailable leaves here, because then nobody knows yet whether the record is good.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from exchange.clock import Clock
from exchange.contracts import Contract, unframe
from exchange.errors import ContractRefused, Rejected, UnknownSchema
from exchange.records import WATERMARKS_TOPIC, Delivery, Envelope, Facet, Reject, Watermark
from exchange.registry import Registry
from exchange.subjects import KeyMaker, message_key, split_key

Effect = Facet | Watermark | Reject

# An id that the registry does not know is asked for again after this many seconds, not on every record.
UNKNOWN_SCHEMA_SECONDS = 5.0
# Rejects are kept for a time that counts from their own `at`: one from the future would be kept for ever. A connector's
# clock may be a little ahead of ours.
AHEAD = timedelta(days=1)


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
        topic, partition, offset, key, value, headers = delivery
        origin, _, event_time, version, _ = Envelope.read(headers)
        contract, major, owner = _named(topic)
        if origin.department != owner:
            raise Rejected("header ce_source names another department than the topic's owner")
        if key is None:
            raise Rejected("the message has no key")
        if value is None:
            subject_key, record_key = split_key(key)
            return Facet(
                subject_key, contract, major, record_key, None, None, origin, partition, offset, version, event_time
            )
        schema_id, datum = unframe(value)
        said = self._contract(schema_id)
        if said.topic != topic:
            raise _Refused("the schema is that of another contract", schema_id=schema_id)
        try:
            subject, record_values, version, payload = said.unpack(datum)
        except Rejected as rejected:
            raise _Refused(rejected.reason, rejected.field, schema_id) from None
        subject_key, record_key = self._keys.keys(subject, contract, record_values)
        if message_key(subject_key, record_key) != key:
            split_key(key)  # raises if it is no key at all
            raise _Refused("the message key disagrees with the value", None, schema_id, payload)
        return Facet(
            subject_key, contract, major, record_key, payload, schema_id, origin, partition, offset, version, event_time
        )

    def _reject(self, delivery: Delivery) -> Reject:
        reject = Reject.read(delivery)
        if reject.department != delivery.topic.partition(".")[0]:
            raise Rejected("header ce_source names another department than the topic's owner")
        if reject.at > self._clock() + AHEAD:
            raise Rejected("the reject's time lies more than a day ahead: set the connector's clock")
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
