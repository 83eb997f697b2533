"""What the conformance suite needs of each broker beside the protocol: another handle, a topic made anew, a cut log."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from confluent_kafka.admin import AdminClient

from exchange.kafka import KafkaBroker
from exchange.records import Delivery, Message
from exchange.sqlite import connect
from exchange.topics import Broker, Feed, TopicSpec
from exchange.topics.sqlite import SqliteBroker
from tests.support.broker import FakeBroker


class Backing(Protocol):
    """A broker under test."""

    url: str | None  # how another process opens it; None: it cannot
    takeover: float  # seconds until a dead member is replaced

    def broker(self) -> Broker: ...

    def recreate(self, topic: str) -> None:
        """Delete the topic and make it again under its name, empty."""


@dataclass
class FakeBacking:
    url: str | None = None
    takeover: float = 0.5
    fake: FakeBroker = field(default_factory=FakeBroker)

    def broker(self) -> Broker:
        return self.fake

    def recreate(self, topic: str) -> None:
        self.fake.recreate(topic)


@dataclass
class SqliteBacking:
    path: Path
    takeover: float = 3.0

    @property
    def url(self) -> str | None:
        return f"sqlite:///{self.path}"

    def broker(self) -> Broker:
        return SqliteBroker(self.path)

    def recreate(self, topic: str) -> None:
        with closing(connect(self.path)) as connection:
            connection.execute("DELETE FROM topics WHERE name = ?", (topic,))
        self.broker().ensure(TopicSpec(topic))


@dataclass
class KafkaBacking:
    servers: str
    takeover: float = 12.0  # session.timeout.ms is 6 s, and the group has to meet

    @property
    def url(self) -> str | None:
        return f"kafka://{self.servers}"

    def broker(self) -> Broker:
        return KafkaBroker(self.servers)

    def recreate(self, topic: str) -> None:
        broker, admin = self.broker(), self._admin()
        state = broker.state(topic)
        assert state is not None
        admin.delete_topics([topic])[topic].result(10)
        until(lambda: broker.state(topic) is None)
        broker.ensure(TopicSpec(topic, partitions=len(state.bounds), compacted=False))

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.servers})


def open_url(url: str) -> Broker:
    """The broker of a Backing's url, in another process."""
    if url.startswith("sqlite:///"):
        return SqliteBroker(Path(url.removeprefix("sqlite:///")))
    return KafkaBroker(url.removeprefix("kafka://"))


class Owner:
    """The Assignments of a test: answers from a dict, keeps what it was told, fails on what must not be told."""

    def __init__(self, positions: dict[tuple[str, int], int] | None = None) -> None:
        self.positions = positions or {}
        self.ids: dict[str, str] = {}
        self.owned: set[tuple[str, int]] = set()
        self.assignments: list[tuple[str, int]] = []
        self.revocations: list[tuple[str, int]] = []
        self.raises: BaseException | None = None

    def assigned(self, topic: str, partition: int, topic_id: str) -> int:
        if self.raises is not None:
            raise self.raises
        assert (topic, partition) not in self.owned, "assigned twice without a revocation between"
        self.owned.add((topic, partition))
        self.assignments.append((topic, partition))
        self.ids[topic] = topic_id
        return self.positions.get((topic, partition), 0)

    def revoked(self, topic: str, partition: int) -> None:
        assert (topic, partition) in self.owned, "revoked without having been assigned"
        self.owned.remove((topic, partition))
        self.revocations.append((topic, partition))


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    """Wait for a condition; fail if it does not come true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.02)


def take(feed: Feed, count: int, seconds: float = 15.0, limit: int = 1_000) -> list[Delivery]:
    """Poll until `count` deliveries have come."""
    found: list[Delivery] = []
    end = time.monotonic() + seconds
    while len(found) < count:
        assert time.monotonic() < end, f"{len(found)} of {count} deliveries within {seconds} s"
        found += feed.poll(limit, 0.2)
    return found


def poll_until(feed: Feed, condition: Callable[[], bool], seconds: float = 15.0) -> list[Delivery]:
    """Poll until the condition holds; what came meanwhile."""
    found: list[Delivery] = []
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s"
        found += feed.poll(1_000, 0.05)
    return found


def message(key: str, value: str | None, **headers: bytes) -> Message:
    return Message(key.encode(), None if value is None else value.encode(), headers)


def unique(name: str = "civil.person") -> str:
    return f"{name}.{secrets.token_hex(4)}.v1"
