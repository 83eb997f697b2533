"""The second verb under a watch: a topic that is filled, a materialiser as `exchange materialise` builds it, and the
time from the first message in hand until the last transaction is durable."""

from __future__ import annotations

import gc
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from confluent_kafka.admin import AdminClient

from bench.citizens import KEYS, contract, messages
from bench.measuring import CannotMeasure, Round
from bench.sampling import Sampler
from exchange.cli.materialise import SQLITE_ROWS
from exchange.clock import system_clock
from exchange.contracts import Contract
from exchange.materialise import Effects, Materialiser
from exchange.records import Delivery
from exchange.registry import StoreRegistry
from exchange.store import Store
from exchange.store.database import is_postgres, open_engine
from exchange.topics import Assignments, Broker, Feed, TopicSpec
from exchange.wiring import spare_the_collector

PARTITIONS = 12
SCHEMA_ID = 1  # the first id of a fresh registry, ours and Confluent's alike
AT_ONCE = 10_000


# --- the topic --------------------------------------------------------------------------------------------------------


def contract_of_this_run() -> Contract:
    """A name of its own for each run: topics of other runs may stand on the same broker."""
    return contract("civil", f"resident{secrets.token_hex(4)}")


@contextmanager
def filled(broker: Broker, said: Contract, count: int, tell: Callable[[str], None]) -> Iterator[None]:
    """A topic with `count` messages."""
    broker.ensure(TopicSpec(said.topic, partitions=PARTITIONS))
    publisher = broker.publisher()
    try:
        for batch in slices(messages(said, SCHEMA_ID, count)):
            publisher.publish(said.topic, batch)
    finally:
        publisher.close()
    tell(f"  {count:,} messages in {said.topic}")
    yield


def delete_topic(kafka: str, topic: str) -> None:
    """Delete a topic of a measurement."""
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([topic])[topic].result(10)


def slices(values: Iterable[Any]) -> Iterator[list[Any]]:
    """Lists of so many as a transaction takes."""
    rest = iter(values)
    while batch := list(islice(rest, AT_ONCE)):
        yield batch


# --- the materialiser -------------------------------------------------------------------------------------------------


def empty_store(url: str, said: Contract) -> Store:
    """A migrated store that knows the schema under SCHEMA_ID."""
    store = Store(open_engine(url), system_clock)
    store.migrate()
    if StoreRegistry(store.engine).register(said.registry_subject, said.schema_text) != SCHEMA_ID:
        raise CannotMeasure("the schema has another id than the messages say")
    return store


def effects_of(store: Store) -> Effects:
    """As `exchange materialise` makes them."""
    return Effects(StoreRegistry(store.engine), KEYS, system_clock)


def materialiser(
    broker: Broker, store: Store, topic: str, effects: Effects | None = None, group: str | None = None
) -> Materialiser:
    """One over one topic, as `exchange materialise` builds it; in a group of its own unless told otherwise."""
    return Materialiser(
        broker,
        store,
        effects or effects_of(store),
        lambda: [topic],
        group=group or f"bench-{secrets.token_hex(4)}",
        owner=f"bench-{os.getpid()}",
        batch=AT_ONCE if is_postgres(store.engine) else SQLITE_ROWS,
    )


def materialised(
    broker: Broker,
    url: str,
    said: Contract,
    count: int,
    effects: Callable[[Store], Effects] = effects_of,
    sampler: Sampler | None = None,
) -> Round:
    """The whole topic into an empty store."""
    store = empty_store(url, said)
    watch = Stopwatch(count, sampler)
    running = materialiser(WatchedBroker(broker, watch), store, said.topic, effects(store))
    watch.stop = running.stop
    before = gc.get_threshold()
    spare_the_collector()
    try:
        running.run()
    finally:
        gc.set_threshold(*before)
        store.close()
    return watch.figures()


# --- the watch --------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Stopwatch:
    """From the first message in hand until `count` of them are durable; then it stops the reader."""

    count: int
    sampler: Sampler | None = None  # looks for just as long
    stop: Callable[[], None] = lambda: None
    started: float = 0.0
    used: float = 0.0  # processor time, of all threads of this process
    seconds: float = 0.0
    cpu: float = 0.0

    def begin(self) -> None:
        if not self.started:
            self.started, self.used = time.perf_counter(), time.process_time()
            if self.sampler is not None:
                self.sampler.start()

    def durable(self, messages: int) -> None:
        """So many messages are durable now."""
        if messages >= self.count and not self.seconds:
            self.seconds, self.cpu = time.perf_counter() - self.started, time.process_time() - self.used
            if self.sampler is not None:
                self.sampler.stop()
            self.stop()

    def figures(self) -> Round:
        return {"records/s": self.count / self.seconds, "cpu us": self.cpu / self.count * 1e6}


class Watch(Protocol):
    """What is told of the first message in hand, and of how many are durable."""

    def begin(self) -> None: ...

    def durable(self, messages: int) -> None: ...


class WatchedBroker:
    """A Broker whose feeds are watched."""

    def __init__(self, broker: Broker, watch: Watch) -> None:
        self._broker = broker
        self._watch = watch

    def feed(self, group: str, topics: Sequence[str], assignments: Assignments) -> WatchedFeed:
        return WatchedFeed(self._broker.feed(group, topics, assignments), self._watch)


class WatchedFeed:
    """A Feed that tells the watch of the first delivery, and of positions, which come when they are durable."""

    def __init__(self, feed: Feed, watch: Watch) -> None:
        self._feed = feed
        self._watch = watch
        self._positions: dict[tuple[str, int], int] = {}
        self.pause, self.lag, self.close = feed.pause, feed.lag, feed.close

    def poll(self, limit: int, timeout: float) -> list[Delivery]:
        found = self._feed.poll(limit, timeout)
        if found:
            self._watch.begin()
        return found

    def committed(self, positions: Mapping[tuple[str, int], int]) -> None:
        self._feed.committed(positions)
        self._positions.update(positions)
        self._watch.durable(sum(self._positions.values()))
