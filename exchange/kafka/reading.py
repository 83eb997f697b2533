"""A whole topic once, outside any group."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Consumer, KafkaError, Message, TopicPartition

from exchange.errors import BrokerUnavailable, TopicChanged
from exchange.kafka.admin import Admin
from exchange.kafka.client import Client, delivery, meaning
from exchange.records import Delivery
from exchange.topics import beginning

AT_ONCE = 1_000
SILENCE = 30.0  # seconds without anything until the broker counts as away


def read_topic(client: Client, admin: Admin, topic: str, since: Mapping[int, int] | None = None) -> Iterator[Delivery]:
    """See Broker.read. Raises TopicChanged, BrokerUnavailable, SettingWrong."""
    found = admin.describe([topic]).get(topic)
    if found is None:
        raise TopicChanged(f"there is no topic {topic}")
    ends = {}
    starts = []
    bounds = admin.bounds(topic, found.partitions)
    for partition, offset in beginning(topic, bounds, since).items():
        end = bounds[partition][1]
        if offset < end:
            ends[partition] = end
            starts.append(TopicPartition(topic, partition, offset))
    if not ends:
        return
    # A consumer needs the name of a group even where it joins none: `assign` does not.
    config = client.consumer("exchange.read", lambda error: None)
    consumer = Consumer({**config, "enable.partition.eof": True})
    try:
        consumer.assign(starts)
        heard = time.monotonic()
        while ends:
            messages = consumer.consume(1, 1.0)
            if messages:
                messages += consumer.consume(AT_ONCE - 1, 0)
                heard = time.monotonic()
            elif time.monotonic() - heard > SILENCE:
                raise BrokerUnavailable(f"topic {topic}: {client.servers} does not answer")
            for message in messages:
                partition, offset, error = message.partition() or 0, message.offset() or 0, message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:
                    ends.pop(partition, None)  # compaction may have removed the last ones before the end
                elif error is not None:
                    raise meaning(error, f"topic {topic}")
                elif partition in ends:
                    if offset < ends[partition]:
                        yield delivery(message, topic, partition)._replace(timestamp=_timestamp(message))
                    if offset + 1 >= ends[partition]:
                        del ends[partition]
    finally:
        consumer.close()


def _timestamp(message: Message) -> int | None:
    kind, at = message.timestamp()
    return None if kind == TIMESTAMP_NOT_AVAILABLE else int(at)
