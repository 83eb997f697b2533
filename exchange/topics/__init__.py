"""Topics: the log between those who publish and those who materialise.

In reading order:

    __init__   the protocols Broker, Publisher, Feed and what they promise
    sqlite     durable topics for one machine: one file, one partition a topic, many processes
    (exchange.kafka implements the same protocols on Apache Kafka)

One conformance suite, tests/test_topics.py, runs over every implementation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from exchange.errors import TopicChanged
from exchange.records import Delivery, Message

MESSAGE_LIMIT = 1024 * 1024  # bytes of a key, and of a value
HEADERS_LIMIT = 64 * 1024  # bytes of all headers of a message

COMPACTION_HOURS = 24  # a message whose key has a newer one is gone after at most about this time
INBOX = ".inbox"  # the end of the names of topics into which a department writes by itself, with any key

DELETIONS_DAYS = 30  # how long a deletion stays in a compacted topic: no reader may be away longer

_NAME = re.compile(r"[a-zA-Z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """How a topic is created. `partitions` is fixed at creation.

    `compacted` keeps the newest message of each key (older ones go after COMPACTION_HOURS, deletions after
    DELETIONS_DAYS); `retention_days` drops every message after that time; neither: everything is kept.
    """

    name: str
    partitions: int = 12
    replication: int = 1
    compacted: bool = True
    retention_days: int | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in (".", ".."):
            raise ValueError("a topic's name has 1 to 249 letters, digits, dots, underscores and hyphens")


@dataclass(frozen=True, slots=True)
class TopicState:
    """A topic as it stands: `id` changes when it is re-created; per partition the earliest and the next offset."""

    name: str
    id: str
    bounds: Mapping[int, tuple[int, int]]


def check_message(message: Message) -> None:
    """Raise ValueError, naming no value, for a message that no topic takes."""
    key, value, headers = message
    if len(key) > MESSAGE_LIMIT:
        raise ValueError("the message's key is over 1 MiB")
    if value is not None and len(value) > MESSAGE_LIMIT:
        raise ValueError("the message's value is over 1 MiB")
    if len("".join(headers)) + len(b"".join(headers.values())) > HEADERS_LIMIT:
        raise ValueError("the message's headers are over 64 KiB")


def beginning(topic: str, bounds: Mapping[int, tuple[int, int]], since: Mapping[int, int] | None) -> dict[int, int]:
    """Per partition the offset at which `Broker.read` begins. Raises TopicChanged if one is not there (any more)."""
    begin = {partition: earliest for partition, (earliest, _) in bounds.items()}
    for partition, offset in (since or {}).items():
        earliest, end = bounds.get(partition, (0, -1))
        if not earliest <= offset <= end:
            there = f"it has {earliest} to {end}" if end >= 0 else "there is no such partition"
            raise TopicChanged(f"topic {topic} partition {partition} cannot be read on from {offset}: {there}")
        begin[partition] = offset
    return begin


def check_cut(topic: str, bounds: Mapping[int, tuple[int, int]], before: Mapping[int, int]) -> None:
    """Raise TopicChanged for a partition that is not there, or an offset that lies behind its end."""
    for partition, offset in before.items():
        end = bounds.get(partition, (0, -1))[1]
        if offset > end:
            raise TopicChanged(f"topic {topic} partition {partition} cannot be cut at {offset}: it ends at {end}")


def inbox(dataset: str) -> str:
    """The name of the topic into which a department writes records of `<department>.<dataset>` by itself."""
    return dataset + INBOX


class Publisher(Protocol):
    """Sends messages to topics. One call at a time; the calls may come from different threads.

    *Durability*: when `publish` returns, every message is acknowledged and durable (Kafka: acks=all by the in-sync
    replicas, idempotent producer; SQLite: committed with synchronous=FULL). *Order*: messages of one key keep the order
    of the calls. *Blocking*: `publish` blocks until all are acknowledged. *Retry*: on BrokerUnavailable any part of the
    batch may have been stored; the caller sends the same messages again (readers drop repeats by origin).
    """

    def publish(self, topic: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """Send a batch to a topic that exists; return (partition, offset) for each message, in order.

        Raises BrokerUnavailable; TopicChanged if the topic does not exist; ValueError, before anything is sent, for a
        key or value over 1 MiB or headers over 64 KiB.
        """
        ...

    def begin(self, topic: str, messages: Sequence[Message]) -> Callable[[], list[tuple[int, int]]]:
        """Hand a batch over; what it answers waits for the acknowledgements: `publish` is both at once.

        Between the two calls nothing else is published. Either may raise what `publish` raises. A broker that has
        nothing to wait for has published before it answers.
        """
        places = self.publish(topic, messages)
        return lambda: places

    def close(self) -> None:
        """Release the connection. What `publish` returned for stays durable."""
        ...


class Assignments(Protocol):
    """What a Feed's owner is told. Called from inside `poll` and `close`, on the thread that calls them."""

    def assigned(self, topic: str, partition: int, topic_id: str) -> int:
        """This partition is ours from now on; answer the offset to read next (from the store, never the broker).

        0 means from the earliest message that is there. What this raises comes out of `poll`; the partition waits, and
        the next `poll` asks again.
        """
        ...

    def revoked(self, topic: str, partition: int) -> None:
        """This partition is no longer ours; nothing of it may be written any more."""
        ...


class Feed(Protocol):
    """Reads topics as one member of a consumer group. One call at a time.

    *Order*: deliveries of one partition come in offset order without gaps other than compaction's. *Position*: reading
    starts where `Assignments.assigned` says. *Ownership*: a partition has one owner in the group; when a member dies
    another takes over within seconds. *Blocking*: `poll` returns as soon as anything is there.
    """

    def poll(self, limit: int, timeout: float) -> list[Delivery]:
        """At most `limit` deliveries, waiting at most `timeout` seconds for the first one.

        Raises BrokerUnavailable; TopicChanged, from then on in every call, if a topic was re-created, truncated past
        our position, or its number of partitions changed; whatever `assigned` raised. Nothing that was read is lost
        with it: deliveries are returned first, the error comes from the next call.
        """
        ...

    def pause(self, topic: str, partition: int, offset: int, seconds: float) -> None:
        """Deliver this partition again from `offset`, at the earliest after `seconds`; other partitions go on."""
        ...

    def committed(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Tell the broker how far we are, for lag displays only. Never raises."""
        ...

    def lag(self) -> dict[tuple[str, int], int]:
        """Messages between our position and the end, for each partition that is ours."""
        ...

    def close(self) -> None:
        """Leave the group; `revoked` is called for each partition that was ours."""
        ...


class Broker(Protocol):
    """A broker: makes topics, publishers and feeds."""

    def ensure(self, spec: TopicSpec) -> None:
        """Create the topic if it does not exist; an existing one is left as it is. Raises BrokerUnavailable."""
        ...

    def state(self, topic: str) -> TopicState | None:
        """The topic as it stands, None if there is none. Raises BrokerUnavailable."""
        ...

    def publisher(self) -> Publisher: ...

    def feed(self, group: str, topics: Sequence[str], assignments: Assignments) -> Feed:
        """Join a consumer group that reads these topics.

        Raises TopicChanged if one of them does not exist; BrokerUnavailable.
        """
        ...

    def read(self, topic: str, since: Mapping[int, int] | None = None) -> Iterator[Delivery]:
        """Every message from the earliest to the present end, once, outside any group. Ends at that end.

        `since` names, by partition, the offset to begin at where that is not the earliest. Raises TopicChanged if there
        is no such topic, or no such offset in it (any more); BrokerUnavailable.
        """
        ...

    def cut(self, topic: str, before: Mapping[int, int]) -> None:
        """Drop every message below these offsets, by partition; what comes later keeps its offset, and so does the end.

        Raises TopicChanged if there is no such topic or partition, or an offset behind its end; BrokerUnavailable.
        """
        ...

    def tidy(self) -> None:
        """Drop what compaction and retention allow. Kafka does so by itself; on SQLite some process calls this hourly.

        Raises BrokerUnavailable.
        """
        ...

    def close(self) -> None: ...
