"""The Publisher on Kafka: an idempotent producer whose every message is accounted for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as Delivered

from exchange.errors import BrokerUnavailable, TopicChanged
from exchange.kafka.admin import Admin
from exchange.kafka.client import Client, meaning
from exchange.records import Message
from exchange.topics import Publisher, check_message

SLICE = 0.5  # seconds of one wait, so that a signal is not kept waiting
UNKNOWN = -1
GRACE = 5.0  # seconds beyond the delivery timeout for the last reports to arrive


class _Batch:
    """What became of each message of one `publish`."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.places: list[tuple[int, int] | None] = [None] * size
        self.reported = 0
        self.error: KafkaError | None = None

    def report(self, index: int, error: KafkaError | None, message: Delivered) -> None:
        self.reported += 1
        if error is None:
            offset = message.offset()
            self.places[index] = (message.partition() or 0, UNKNOWN if offset is None else offset)
        elif self.error is None or error.fatal():
            self.error = error


class KafkaPublisher(Publisher):
    """A Publisher on Kafka."""

    def __init__(self, client: Client, admin: Admin) -> None:
        self._client = client
        self._admin = admin
        self._producer: Producer | None = None
        self._known: set[str] = set()  # topics that exist: producing to another would wait for it to appear

    def publish(self, topic: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """See Publisher. Raises SettingWrong if the cluster refuses us."""
        return self.begin(topic, messages)()

    def begin(self, topic: str, messages: Sequence[Message]) -> Callable[[], list[tuple[int, int]]]:
        """See Publisher: from here on the client's own threads send, and the broker stores."""
        for message in messages:
            check_message(message)
        if topic not in self._known:
            if topic not in self._admin.describe([topic]):
                raise TopicChanged(f"there is no topic {topic}")
            self._known.add(topic)
        if self._producer is None:
            self._producer = Producer(self._client.producer(_ignore))
        batch = _Batch(len(messages))
        with self._abandoning(topic):
            self._send(self._producer, topic, messages, batch)
        return partial(self._finish, self._producer, topic, batch)

    def _finish(self, producer: Producer, topic: str, batch: _Batch) -> list[tuple[int, int]]:
        with self._abandoning(topic):
            self._wait(producer, topic, batch)
        if batch.error is not None:
            self._known.discard(topic)
            if batch.error.fatal():
                self._abandon()
                raise BrokerUnavailable(f"topic {topic}: {batch.error.name()}; the next call begins a new session")
            raise meaning(batch.error, f"topic {topic}")
        return self._placed(topic, batch)

    def close(self) -> None:
        """See Publisher."""
        if self._producer is not None:
            self._producer.close()
            self._producer = None

    def _send(self, producer: Producer, topic: str, messages: Sequence[Message], batch: _Batch) -> None:
        """Hand over the messages."""
        end = time.monotonic() + self._client.delivery_seconds + GRACE
        produce, report = producer.produce, batch.report
        for index, (key, value, headers) in enumerate(messages):
            named: list[tuple[str, str | bytes | None]] = list(headers.items())
            while True:
                try:
                    produce(topic, value, key, headers=named, on_delivery=partial(report, index))
                    break
                except BufferError:  # the queue is full until some are acknowledged
                    producer.poll(SLICE)
                    if time.monotonic() > end:
                        raise BrokerUnavailable(f"topic {topic}: nothing is acknowledged") from None
            if index % 1_000 == 999:
                producer.poll(0)

    def _wait(self, producer: Producer, topic: str, batch: _Batch) -> None:
        """Wait for the report of each message."""
        end = time.monotonic() + self._client.delivery_seconds + GRACE
        while producer.flush(SLICE) and time.monotonic() <= end:
            pass
        if batch.reported < batch.size:
            raise BrokerUnavailable(f"topic {topic}: {batch.size - batch.reported} messages without a report")

    @contextmanager
    def _abandoning(self, topic: str) -> Iterator[None]:
        """What breaks off while messages are on their way takes the producer with it."""
        try:
            yield
        except KafkaException as problem:
            self._abandon()
            raise meaning(problem.args[0], f"topic {topic}") from problem
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        """Drop the producer with all that waits in it: what the caller sends again must not meet it later."""
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.purge()
            producer.flush(SLICE)
            producer.close()

    def _placed(self, topic: str, batch: _Batch) -> list[tuple[int, int]]:
        """The places. Of a retry that the broker had stored already it names no offset: then the partition's last
        message counts, which is that one or one behind it."""
        places = [place for place in batch.places if place is not None]
        nameless = {partition for partition, offset in places if offset < 0}
        if not nameless:
            return places
        bounds = self._admin.bounds(topic, max(nameless) + 1)
        return [(partition, offset if offset >= 0 else bounds[partition][1] - 1) for partition, offset in places]


def _ignore(error: KafkaError) -> None:
    """What goes wrong comes with the messages' reports; what goes wrong between two calls does not matter."""
