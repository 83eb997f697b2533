"""Durable topics for one machine: one SQLite file, any number of processes, no service.

In reading order:

    log       the file: tables, append, read, compaction and retention
    leases    who reads which topic of a group; taken over when the owner dies or stalls
    feed      the reader
    __init__  SqliteBroker, which makes them

A topic has one partition (0), whatever its specification says, so that log order is one order. A commit wakes the
readers in other processes within a few milliseconds: they look at `PRAGMA data_version`, never at the file system.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from exchange.clock import Clock, system_clock
from exchange.errors import TopicChanged
from exchange.records import Delivery, Message
from exchange.topics import Assignments, Publisher, TopicSpec, TopicState, beginning, check_cut, check_message
from exchange.topics.sqlite.feed import SqliteFeed
from exchange.topics.sqlite.log import Log

__all__ = ["SqliteBroker", "SqliteFeed", "SqlitePublisher"]

READ_AT_ONCE = 1_000


class SqlitePublisher(Publisher):
    """A Publisher over the file."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._log = Log(path, clock)

    def publish(self, topic: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """See Publisher."""
        for message in messages:
            check_message(message)
        return [(0, offset) for offset in self._log.append(topic, messages)]

    def close(self) -> None:
        """See Publisher."""
        self._log.close()


class SqliteBroker:
    """A Broker over the file at `path`, which is made when it is first used; its folder exists.

    The clock stamps messages for compaction and retention; nothing else looks at it.
    """

    def __init__(self, path: Path, clock: Clock = system_clock) -> None:
        self._path = Path(path).absolute()
        self._clock = clock

    def ensure(self, spec: TopicSpec) -> None:
        """See Broker. The number of partitions is always 1."""
        with self._opened() as log:
            log.ensure(spec)

    def state(self, topic: str) -> TopicState | None:
        """See Broker."""
        with self._opened() as log:
            found = log.topics([topic]).get(topic)
        return None if found is None else TopicState(topic, found.id, {0: (found.earliest, found.next)})

    def publisher(self) -> SqlitePublisher:
        """See Broker."""
        return SqlitePublisher(self._path, self._clock)

    def feed(self, group: str, topics: Sequence[str], assignments: Assignments) -> SqliteFeed:
        """See Broker."""
        return SqliteFeed(self._path, self._clock, group, topics, assignments)

    def read(self, topic: str, since: Mapping[int, int] | None = None) -> Iterator[Delivery]:
        """See Broker."""
        with self._opened() as log:
            found = log.topics([topic]).get(topic)
            if found is None:
                raise TopicChanged(f"there is no topic {topic}")
            position = beginning(topic, {0: (found.earliest, found.next)}, since)[0]
            while position < found.next:
                deliveries, position = log.read(found, position, READ_AT_ONCE)
                yield from deliveries

    def cut(self, topic: str, before: Mapping[int, int]) -> None:
        """See Broker."""
        with self._opened() as log:
            found = log.topics([topic]).get(topic)
            if found is None:
                raise TopicChanged(f"there is no topic {topic}")
            check_cut(topic, {0: (found.earliest, found.next)}, before)
            log.drop(found.number, before.get(0, 0))

    def tidy(self) -> None:
        """See Broker: compaction and retention."""
        with self._opened() as log:
            log.tidy()

    def close(self) -> None:
        """See Broker. Nothing is kept open between the calls, so that any thread may make them."""

    def _opened(self) -> closing[Log]:
        return closing(Log(self._path, self._clock))
