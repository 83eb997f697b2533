"""Configurations of librdkafka, and what Kafka's errors mean here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import KafkaError, Message

from exchange.errors import BrokerUnavailable, ExchangeError, NameTaken, OperatorError, SettingWrong, TopicChanged
from exchange.records import Delivery
from exchange.topics import HEADERS_LIMIT, MESSAGE_LIMIT

Properties = Mapping[str, str | int | float | bool]

LARGEST = (
    2 * MESSAGE_LIMIT + 2 * HEADERS_LIMIT
)  # bytes on the wire of the largest message: key, value, headers, framing
DELIVERY_MS = 30_000  # until an unacknowledged message counts as failed
log = logging.getLogger("exchange.kafka")

_COMMON: dict[str, Any] = {
    "client.id": "exchange",
    "socket.timeout.ms": 10_000,
    "socket.keepalive.enable": True,
    "reconnect.backoff.max.ms": 1_000,  # the default of 10 s is how long a broker that is back is left waiting
    "allow.auto.create.topics": False,
}
_PRODUCER: dict[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,
    "partitioner": "murmur2_random",  # Java's: else one key lands in two partitions when two languages write
    "message.timeout.ms": DELIVERY_MS,
    "message.max.bytes": LARGEST,
    "queue.buffering.max.kbytes": 64 * 1024,
    "topic.metadata.propagation.max.ms": 5_000,
}
_CONSUMER: dict[str, Any] = {
    "partition.assignment.strategy": "cooperative-sticky",
    "enable.auto.commit": False,  # positions are in the store
    "enable.auto.offset.store": False,
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",  # a position that is not there is an alarm, never a guess
    "session.timeout.ms": 6_000,  # until a dead member is replaced; brokers accept no less unless told otherwise
    "heartbeat.interval.ms": 1_500,
    "max.poll.interval.ms": 60_000,
    "fetch.wait.max.ms": 100,  # a seek waits for the fetch that is under way
    "fetch.queue.backoff.ms": 10,  # the default of 1 s is a pause each time the queue is full
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 32 * 1024,
}
# What holds a promise of exchange.topics is not for [broker.properties] to change.
_PROMISES = frozenset({
    "acks", "request.required.acks", "enable.idempotence", "partitioner", "enable.auto.commit", "auto.offset.reset",
    "enable.auto.offset.store", "isolation.level", "partition.assignment.strategy",
    "group.id", "group.protocol", "enable.partition.eof",
    "group.instance.id", "bootstrap.servers", "metadata.broker.list", "transactional.id", "delivery.report.only.error",
    "enable.gapless.guarantee", "max.in.flight", "max.in.flight.requests.per.connection",
})  # fmt: skip
_FOR_PRODUCERS = frozenset({"linger.ms", "batch.size", "compression.type", "compression.codec", "message.timeout.ms"})

_REFUSED = frozenset({
    KafkaError._AUTHENTICATION, KafkaError._SSL, KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM, KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED,
})  # fmt: skip
_NO_TOPIC = frozenset({
    KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID, KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
})  # fmt: skip
_OUT_OF_RANGE = frozenset({KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE})
_INVALID = frozenset({
    KafkaError.INVALID_REPLICATION_FACTOR, KafkaError.INVALID_PARTITIONS, KafkaError.INVALID_CONFIG,
    KafkaError.POLICY_VIOLATION,
})  # fmt: skip


class Client:
    """Where the cluster is and how it is spoken to; makes the configuration of each kind of client.

    Raises SettingWrong for properties that would break a promise.
    """

    def __init__(self, servers: str, properties: Properties) -> None:
        forbidden = sorted(_PROMISES & properties.keys())
        if forbidden:
            raise SettingWrong(f"broker.properties: {', '.join(forbidden)} cannot be set, what it decides is promised")
        self.servers = servers
        self.properties = dict(properties)

    @property
    def delivery_seconds(self) -> float:
        """How long a message may wait for its acknowledgement."""
        return float(self.properties.get("message.timeout.ms", DELIVERY_MS)) / 1000

    def admin(self, on_error: Callable[[KafkaError], None]) -> dict[str, Any]:
        """The configuration of an AdminClient."""
        return self._configuration({}, on_error, without=_FOR_PRODUCERS | _CONSUMER.keys())

    def producer(self, on_error: Callable[[KafkaError], None]) -> dict[str, Any]:
        """The configuration of a Producer."""
        return self._configuration(_PRODUCER, on_error, without=frozenset(_CONSUMER))

    def consumer(self, group: str, on_error: Callable[[KafkaError], None], member: str | None = None) -> dict[str, Any]:
        """The configuration of a Consumer; `member` is a name in the group that stays over restarts (KIP-345)."""
        kind = {**_CONSUMER, "group.id": group} | ({"group.instance.id": member} if member else {})
        return self._configuration(kind, on_error, without=_FOR_PRODUCERS)

    def _configuration(
        self, kind: Mapping[str, Any], on_error: Callable[[KafkaError], None], without: frozenset[str]
    ) -> dict[str, Any]:
        properties = {name: value for name, value in self.properties.items() if name not in without}
        servers = {"bootstrap.servers": self.servers, "error_cb": on_error, "logger": log}
        return {**_COMMON, **kind, **properties, **servers}


def meaning(error: KafkaError, what: str) -> ExchangeError:
    """Our error for Kafka's, said of `what` (a topic, a partition, the cluster)."""
    code = error.code()
    if code in _REFUSED:
        return SettingWrong(f"broker.properties: Kafka refuses access to {what}: {error.str()}")
    if code in _NO_TOPIC:
        return TopicChanged(f"there is no {what}")
    if code in _OUT_OF_RANGE:
        return TopicChanged(f"{what} no longer has the position that was to be read next: {error.str()}")
    if code in _INVALID:
        return SettingWrong(f"broker.partitions, broker.replication: Kafka refuses {what}: {error.str()}")
    if code == KafkaError.MSG_SIZE_TOO_LARGE:
        return SettingWrong(f"{what} takes no message of this size; its max.message.bytes should be {LARGEST}")
    fatal = error.fatal() or code == KafkaError._FATAL  # to a callback librdkafka tells the cause only in the text
    if code == KafkaError.FENCED_INSTANCE_ID or (fatal and "group.instance.id" in error.str()):
        return NameTaken("another process reads under this one's name in the consumer group")
    if fatal:
        return OperatorError(f"the Kafka client cannot go on ({error.name()}: {error.str()}); restart this process")
    return BrokerUnavailable(f"{what}: {error.name()}: {error.str()}")


def delivery(message: Message, topic: str, partition: int) -> Delivery:
    """A message of this partition as a Delivery. Of headers with one name the last counts; without value: empty."""
    headers: Any = message.headers()
    named: dict[str, bytes] = dict(headers) if headers else {}
    if None in named.values():
        named = {name: value or b"" for name, value in named.items()}
    return Delivery(topic, partition, message.offset() or 0, message.key(), message.value(), named)
