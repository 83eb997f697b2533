"""A broker in memory that fails the test when a caller breaks a promise of exchange.topics, and fails on demand.

    broker = FakeBroker()
    broker.faults.refuse(2)      the next two publishes raise BrokerUnavailable and store nothing (failed and lost)
    broker.faults.lose(keep=3)   the next one stores its first three messages and raises (failed but stored)
    broker.faults.down = True    nothing is answered until it is False again

It passes the same conformance suite as the real ones (tests/test_topics.py). `FailingPublisher` puts the same two
faults in front of any publisher.
"""

from __future__ import annotations

import secrets
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from exchange.errors import BrokerUnavailable, TopicChanged
from exchange.records import Delivery, Message
from exchange.topics import Assignments, Publisher, TopicSpec, TopicState, beginning, check_cut, check_message

Place = tuple[str, int]


class BrokenPromise(AssertionError):
    """The code under test used a topic in a way that a real one does not bear."""


@dataclass
class Faults:
    """What goes wrong next."""

    down: bool = False
    _refuse: int = 0
    _keep: list[int | None] = field(default_factory=list)

    def refuse(self, times: int = 1) -> None:
        """The next `times` publishes are lost before anything is stored."""
        self._refuse += times

    def lose(self, *, keep: int | None = None) -> None:
        """The next publish stores its first `keep` messages (all of them if not given), and its answer is lost."""
        self._keep.append(keep)

    def before(self, messages: Sequence[Message]) -> tuple[Sequence[Message], bool]:
        """What is stored of these messages, and whether it is acknowledged."""
        if self.down:
            raise BrokerUnavailable("the broker is down")
        if self._refuse:
            self._refuse -= 1
            raise BrokerUnavailable("nothing was stored")
        if self._keep:
            keep = self._keep.pop(0)
            return messages if keep is None else messages[:keep], False
        return messages, True


class _Guard:
    """One call at a time, none after close."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._lock = threading.Lock()
        self.closed = False

    @contextmanager
    def call(self) -> Iterator[None]:
        if self.closed:
            raise BrokenPromise(f"the {self._what} was used after its close")
        if not self._lock.acquire(blocking=False):
            raise BrokenPromise(f"the {self._what} was called by two threads at once")
        try:
            yield
        finally:
            self._lock.release()


@dataclass
class _Topic:
    name: str
    id: str
    partitions: list[list[Delivery]]
    earliest: list[int]


class FakeBroker:
    """A Broker in memory. Feeds of one group own whole topics: the first that asks, until it closes or dies."""

    def __init__(self) -> None:
        self.faults = Faults()
        self._topics: dict[str, _Topic] = {}
        self._owners: dict[tuple[str, str], FakeFeed] = {}
        self._changed = threading.Condition()
        self._open: list[FakePublisher | FakeFeed] = []

    # --- the protocol -------------------------------------------------------------------------------------------------

    def ensure(self, spec: TopicSpec) -> None:
        self._answer()
        if spec.name not in self._topics:
            self._make(spec.name, spec.partitions)

    def state(self, topic: str) -> TopicState | None:
        self._answer()
        found = self._topics.get(topic)
        if found is None:
            return None
        bounds = {number: (found.earliest[number], len(partition)) for number, partition in enumerate(found.partitions)}
        return TopicState(topic, found.id, bounds)

    def publisher(self) -> FakePublisher:
        publisher = FakePublisher(self)
        self._open.append(publisher)
        return publisher

    def feed(self, group: str, topics: Sequence[str], assignments: Assignments) -> FakeFeed:
        self._answer()
        for topic in topics:
            self._topic(topic)
        feed = FakeFeed(self, group, topics, assignments)
        self._open.append(feed)
        return feed

    def append_unchecked(self, topic: str, messages: Sequence[Message], timestamp: int | None = None) -> None:
        """As a producer that is not ours would write: nothing is checked, a key may be missing."""
        self._append(self._topic(topic), messages, timestamp)

    def read(self, topic: str, since: Mapping[int, int] | None = None) -> Iterator[Delivery]:
        self._answer()
        found = self._topic(topic)
        bounds = {n: (found.earliest[n], len(partition)) for n, partition in enumerate(found.partitions)}
        for number, first in beginning(topic, bounds, since).items():
            yield from found.partitions[number][first : bounds[number][1]]

    def cut(self, topic: str, before: Mapping[int, int]) -> None:
        self._answer()
        found = self._topic(topic)
        check_cut(topic, {n: (found.earliest[n], len(each)) for n, each in enumerate(found.partitions)}, before)
        for partition, offset in before.items():
            found.earliest[partition] = max(found.earliest[partition], offset)

    def tidy(self) -> None:
        self._answer()

    def close(self) -> None:
        """Nothing to do; `assert_closed` tells what was left open."""

    # --- what a test does to it ---------------------------------------------------------------------------------------

    def assert_closed(self) -> None:
        """Fail if a publisher or feed was left open."""
        left = [type(part).__name__ for part in self._open if not part.guard.closed]
        if left:
            raise BrokenPromise(f"left open: {', '.join(left)}")

    def messages(self, topic: str) -> list[Delivery]:
        """All that is stored in a topic, by partition and offset; empty if there is no topic."""
        found = self._topics.get(topic)
        return [] if found is None else [delivery for part in found.partitions for delivery in part]

    def recreate(self, topic: str) -> None:
        """Delete the topic and make it again, empty."""
        with self._changed:
            self._make(topic, len(self._topics[topic].partitions))

    # --- inside -------------------------------------------------------------------------------------------------------

    def _make(self, name: str, partitions: int) -> None:
        self._topics[name] = _Topic(name, secrets.token_hex(8), [[] for _ in range(partitions)], [0] * partitions)

    def _answer(self) -> None:
        if self.faults.down:
            raise BrokerUnavailable("the broker is down")

    def _topic(self, name: str) -> _Topic:
        found = self._topics.get(name)
        if found is None:
            raise TopicChanged(f"there is no topic {name}")
        return found

    def _append(
        self, topic: _Topic, messages: Sequence[Message], timestamp: int | None = None
    ) -> list[tuple[int, int]]:
        places = []
        with self._changed:
            for message in messages:
                number = zlib.crc32(message.key or b"") % len(topic.partitions)
                offset = len(topic.partitions[number])
                headers = dict(message.headers)
                topic.partitions[number].append(
                    Delivery(topic.name, number, offset, message.key, message.value, headers, timestamp)
                )
                places.append((number, offset))
            self._changed.notify_all()
        return places


class FakePublisher(Publisher):
    """A Publisher in memory."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self.guard = _Guard("publisher")

    def publish(self, topic: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
        with self.guard.call():
            for message in messages:
                check_message(message)
                _check_promises(message)
            found = self._broker._topic(topic)
            stored, acknowledged = self._broker.faults.before(messages)
            places = self._broker._append(found, stored)
            if not acknowledged:
                raise BrokerUnavailable(f"{len(stored)} messages were stored, and the answer was lost")
            return places

    def close(self) -> None:
        self.guard.closed = True


class FakeFeed:
    """A Feed in memory."""

    def __init__(self, broker: FakeBroker, group: str, topics: Sequence[str], assignments: Assignments) -> None:
        self._broker = broker
        self._group = group
        self._ids = {topic: broker._topics[topic].id for topic in topics}
        self._counts = {topic: len(broker._topics[topic].partitions) for topic in topics}
        self._assignments = assignments
        self._positions: dict[Place, int] = {}
        self._delivered: dict[Place, int] = {}
        self._paused: dict[Place, float] = {}
        self._dead = False
        self.guard = _Guard("feed")

    def poll(self, limit: int, timeout: float) -> list[Delivery]:
        if limit < 1:
            raise BrokenPromise("poll was asked for no message at all")
        with self.guard.call():
            deadline = time.monotonic() + timeout
            while True:
                self._broker._answer()
                self._own()
                found = self._take(limit)
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return found
                with self._broker._changed:
                    self._broker._changed.wait(min(left, 0.01))

    def pause(self, topic: str, partition: int, offset: int, seconds: float) -> None:
        with self.guard.call():
            if (topic, partition) in self._positions:
                self._positions[topic, partition] = offset
                self._paused[topic, partition] = time.monotonic() + seconds

    def committed(self, positions: Mapping[tuple[str, int], int]) -> None:
        with self.guard.call():
            for place, position in positions.items():
                if place in self._positions and position > self._delivered.get(place, 0):
                    raise BrokenPromise(f"{position} was committed of {place}, which was not delivered so far")

    def lag(self) -> dict[tuple[str, int], int]:
        with self.guard.call():
            return {
                (topic, partition): len(self._broker._topics[topic].partitions[partition]) - position
                for (topic, partition), position in self._positions.items()
            }

    def close(self) -> None:
        with self.guard.call():
            self._revoke()
            self._leave()
        self.guard.closed = True

    def die(self) -> None:
        """As kill -9: nobody is told, another member takes over."""
        self._leave()
        self.guard.closed = True

    def stall(self) -> None:
        """As a process that was stopped for long: another member can take over before the next poll."""
        self._leave()

    def _leave(self) -> None:
        for key, owner in list(self._broker._owners.items()):
            if owner is self:
                del self._broker._owners[key]

    def _own(self) -> None:
        for topic, known in self._ids.items():
            found = self._broker._topic(topic)
            if found.id != known or len(found.partitions) != self._counts[topic]:
                raise TopicChanged(f"topic {topic} is not the one that was joined")
            key = (self._group, topic)
            if self._broker._owners.get(key) is not self:
                for place in [place for place in self._positions if place[0] == topic]:
                    self._lost(place)
                if key in self._broker._owners:
                    continue
                self._broker._owners[key] = self
            for partition in range(len(found.partitions)):
                if (topic, partition) not in self._positions:
                    position = self._assignments.assigned(topic, partition, found.id)
                    self._positions[topic, partition] = position or found.earliest[partition]
                    self._delivered[topic, partition] = self._positions[topic, partition]

    def _take(self, limit: int) -> list[Delivery]:
        out: list[Delivery] = []
        for place, position in list(self._positions.items()):
            topic = self._broker._topics[place[0]]
            log, earliest = topic.partitions[place[1]], topic.earliest[place[1]]
            if not earliest <= position <= len(log):
                raise TopicChanged(f"{place} has offsets {earliest} to {len(log)}, {position} was to be read next")
            if self._paused.get(place, 0) > time.monotonic():
                continue
            self._paused.pop(place, None)
            found = log[position : position + limit - len(out)]
            out += found
            self._positions[place] = position + len(found)
            self._delivered[place] = max(self._delivered[place], self._positions[place])
        return out

    def _revoke(self) -> None:
        for place in list(self._positions):
            self._lost(place)

    def _lost(self, place: Place) -> None:
        del self._positions[place]
        self._paused.pop(place, None)
        self._assignments.revoked(*place)


class FailingPublisher(Publisher):
    """Puts the faults of a FakeBroker in front of any publisher."""

    def __init__(self, inner: Publisher) -> None:
        self._inner = inner
        self.faults = Faults()

    def publish(self, topic: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
        stored, acknowledged = self.faults.before(messages)
        places = self._inner.publish(topic, stored) if stored else []
        if not acknowledged:
            raise BrokerUnavailable(f"{len(stored)} messages were stored, and the answer was lost")
        return places

    def close(self) -> None:
        self._inner.close()


def _check_promises(message: Message) -> None:
    if not message.key or not message.key.isascii():
        raise BrokenPromise("a message key is ASCII and not empty")
    if message.value is not None and not isinstance(message.value, bytes):
        raise BrokenPromise("a message value is bytes or None")
    for name, value in message.headers.items():
        if not name.isascii() or not isinstance(value, bytes):
            raise BrokenPromise(f"header {name} is not an ASCII name with bytes")
