"""Topics as they are on the wire: SQLite's file or Kafka, read and written without the product.

The rig also writes into them: copies of messages, as a producer that was not answered would, and bytes that are no
record. Positions count as the product counts them: the offset that is to be read next.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import confluent_kafka
from confluent_kafka import admin
from pysqlite3 import dbapi2  # Python's own SQLite is older than the one that has the file open

WATERMARKS = "exchange.watermarks.v1"
KAFKA_SECONDS = 30.0

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A message, where it stands, and when it came (Unix time)."""

    topic: str
    partition: int
    offset: int
    at: float
    key: str
    value: bytes | None
    headers: Headers

    @property
    def source(self) -> str:
        """`<department>/<instance name>`."""
        return self._said.rpartition("/")[0]

    @property
    def number(self) -> tuple[int, int]:
        """Epoch and sequence: what orders the words of one source."""
        return int(self._said.rpartition("/")[2]), int(dict(self.headers)["ce_sequence"])

    @property
    def version(self) -> int | None:
        found = dict(self.headers).get("exchange_version")
        return None if found is None else int(found)

    @property
    def place(self) -> tuple[str, int, int]:
        return self.topic, self.partition, self.offset

    @property
    def _said(self) -> str:
        return dict(self.headers)["ce_source"]


class Topics(Protocol):
    """Raises Away where the broker cannot be reached."""

    def since(self, topic: str, positions: Mapping[int, int]) -> list[Message]:
        """What stands in a topic from these positions on (of a partition that is not named, all)."""
        ...

    def append(self, messages: Sequence[Message]) -> list[Message]:
        """Write messages at the end of their partition; where each stands now."""
        ...

    def ends(self, topic: str) -> dict[int, int]:
        """By partition: the offset of the next message that will be written."""
        ...

    def close(self) -> None: ...


class Away(Exception):
    """A server does not answer"""


class SqliteTopics:
    """The topics of one machine: a file. A topic's only partition is 0."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def since(self, topic: str, positions: Mapping[int, int]) -> list[Message]:
        """See Topics."""
        query = (
            "SELECT offset, at, m.key, value, headers FROM messages m JOIN topics ON number = topic"
            " WHERE name = ? AND offset >= ? ORDER BY offset"
        )
        with self._connected() as connection:
            rows = connection.execute(query, (topic, positions.get(0, 0))).fetchall()
        return [
            Message(topic, 0, offset, at / 1e3, key.decode(), value, tuple(json.loads(headers).items()))
            for offset, at, key, value, headers in rows
        ]

    def append(self, messages: Sequence[Message]) -> list[Message]:
        """See Topics."""
        written = []
        with self._connected() as connection:
            for message in messages:
                connection.execute("BEGIN IMMEDIATE")
                number, end = connection.execute(
                    "UPDATE topics SET next = next + 1 WHERE name = ? RETURNING number, next", (message.topic,)
                ).fetchone()
                now = time.time()
                headers = json.dumps(dict(message.headers), ensure_ascii=False).encode()
                connection.execute(
                    "INSERT INTO messages (topic, offset, at, key, value, headers) VALUES (?, ?, ?, ?, ?, ?)",
                    (number, end - 1, int(now * 1e3), message.key.encode(), message.value, headers),
                )
                connection.execute("COMMIT")
                written.append(replace(message, offset=end - 1, at=now))
        return written

    def ends(self, topic: str) -> dict[int, int]:
        """See Topics."""
        with self._connected() as connection:
            return {0: connection.execute("SELECT next FROM topics WHERE name = ?", (topic,)).fetchone()[0]}

    def close(self) -> None:
        """See Topics."""

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        try:
            with closing(dbapi2.connect(self._path, timeout=30, isolation_level=None)) as connection:
                yield connection
        except dbapi2.OperationalError as error:  # its disk is full, for one
            raise Away(f"{self._path}: {error}") from None


class KafkaTopics:
    """The topics of a cluster. Used by one thread."""

    def __init__(self, servers: str) -> None:
        common: dict[str, Any] = {"bootstrap.servers": servers, "log_level": 0}
        self._consumer = confluent_kafka.Consumer(
            {**common, "group.id": "rig", "enable.auto.commit": False, "auto.offset.reset": "error"}
        )
        self._producer = confluent_kafka.Producer({**common, "acks": "all", "linger.ms": 0})
        self._admin = admin.AdminClient(common)

    def since(self, topic: str, positions: Mapping[int, int]) -> list[Message]:
        """See Topics."""
        left, begins = {}, []
        for partition, end in self.ends(topic).items():
            begin = max(positions.get(partition, 0), self._bounds(topic, partition)[0])
            if begin < end:
                left[partition] = end
                begins.append(confluent_kafka.TopicPartition(topic, partition, begin))
        found: list[Message] = []
        deadline = time.monotonic() + KAFKA_SECONDS
        self._consumer.assign(begins)
        while left:
            if time.monotonic() > deadline:
                raise Away
            for message in self._consumer.consume(500, 0.2):
                if message.error():
                    raise Away
                found.append(_message(message))
                if found[-1].offset + 1 >= left.get(found[-1].partition, 0):
                    left.pop(found[-1].partition, None)
        self._consumer.unassign()
        return sorted(found, key=lambda each: (each.partition, each.offset))

    def append(self, messages: Sequence[Message]) -> list[Message]:
        """See Topics."""
        written: list[Message] = []

        def delivered(error: object, message: Any) -> None:
            if error is None:
                written.append(_message(message))

        for message in messages:
            headers: Any = [(name, value.encode()) for name, value in message.headers]
            self._producer.produce(
                message.topic, message.value, message.key.encode(), message.partition, headers=headers,
                on_delivery=delivered,
            )  # fmt: skip
        if self._producer.flush(KAFKA_SECONDS) or len(written) < len(messages):
            raise Away
        return written

    def ends(self, topic: str) -> dict[int, int]:
        """See Topics."""
        try:
            partitions = self._consumer.list_topics(topic, KAFKA_SECONDS).topics[topic].partitions
        except confluent_kafka.KafkaException:
            raise Away from None
        return {partition: self._bounds(topic, partition)[1] for partition in partitions}

    def close(self) -> None:
        """See Topics."""
        self._consumer.close()

    def _bounds(self, topic: str, partition: int) -> tuple[int, int]:
        at = confluent_kafka.TopicPartition(topic, partition)
        try:
            found = self._consumer.get_watermark_offsets(at, KAFKA_SECONDS)
        except confluent_kafka.KafkaException:
            raise Away from None
        if found is None:
            raise Away
        return int(found[0]), int(found[1])


def _message(message: Any) -> Message:
    headers = tuple((name, value.decode()) for name, value in message.headers() or ())
    return Message(
        message.topic(), message.partition(), message.offset(), message.timestamp()[1] / 1e3,
        (message.key() or b"").decode(), message.value(), headers,
    )  # fmt: skip
