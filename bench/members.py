"""Materialisers in processes of their own: what a second one adds, and whether memory stays flat over many records.

The members of a group first share out the partitions of a topic that is full, and begin at one word; the time is from
the first message that one of them has in hand until the last transaction of any is durable.
"""

from __future__ import annotations

import multiprocessing
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

import psycopg

from bench.databases import fresh_database
from bench.materialising import (
    PARTITIONS,
    WatchedBroker,
    contract_of_this_run,
    delete_topic,
    empty_store,
    filled,
    materialiser,
)
from bench.measuring import CannotMeasure, Measurement, Round, Side, interleaved, quiet, shown
from exchange.clock import system_clock
from exchange.contracts import Contract
from exchange.kafka import KafkaBroker
from exchange.records import Delivery
from exchange.store import Store
from exchange.store.database import open_engine
from exchange.topics import Assignments, Broker, Feed
from exchange.wiring import spare_the_collector

PATIENCE = 60.0  # seconds until the partitions are shared out, and for a process to end
SLOWEST = 500.0  # records/s: who is slower than that has stopped
LOOK = 0.02
HOLD = 0.2  # seconds for which a partition is held back, again and again, before the word
WARM = 100_000  # records after which memory should not grow
MIB = 1 << 20


def of_processes(kafka: str, postgres: str, count: int, rounds: int, tell: Callable[[str], None]) -> Measurement:
    """Two processes against one. Raises CannotMeasure if one of the two had nothing to do."""
    said = contract_of_this_run()
    shares: list[float] = []

    def two() -> Round:
        accounts = run(kafka, postgres, said, count, 2)
        shares.append(min(account.messages for account in accounts) / count)
        return figures(accounts, count)

    def one() -> Round:
        return figures(run(kafka, postgres, said, count, 1), count)

    with _topic(kafka, said, count, tell):
        measured = interleaved([Side("two", two), Side("one", one)], rounds, tell)
    facts = {"messages": count, "partitions": PARTITIONS, "least_share": round(min(shares), 3)}
    return Measurement(
        "topic -> durable facet, Kafka + PostgreSQL, two processes against one", "records/s", measured, facts
    )


def of_memory(kafka: str, postgres: str, count: int, tell: Callable[[str], None]) -> Measurement:
    """One process over many records: the memory that it holds, at WARM (or after half of fewer) and at most later."""
    said, warm = contract_of_this_run(), min(WARM, count // 2)
    with _topic(kafka, said, count, tell):
        (account,) = run(kafka, postgres, said, count, 1)
    later = [resident for messages, resident in account.memory if messages >= warm]
    found = {"growth": max(later) / later[0], "MiB warm": later[0] / MIB, "MiB at most": max(later) / MIB}
    tell(f"  {shown(found)}")
    facts = {"messages": count, "warm_after": warm, "looks": len(later)}
    return Measurement("memory of a materialiser, Kafka + PostgreSQL", "growth", {"exchange": [found]}, facts)


@dataclass(slots=True)
class Account:
    """What a member did: when it had its first message, when its last was durable, and at what expense."""

    began: float = 0.0  # of the clock that all processes share
    ended: float = 0.0
    used: float = 0.0  # processor time, of all its threads
    messages: int = 0
    memory: list[tuple[int, int]] = field(default_factory=list)  # messages that were durable, bytes resident

    def begin(self) -> None:
        if not self.began:
            self.began, self.used = time.monotonic(), -time.process_time()

    def durable(self, messages: int) -> None:
        if messages > self.messages:
            self.messages, self.ended = messages, time.monotonic()
            self.memory.append((messages, _resident()))

    def close(self) -> None:
        self.used += time.process_time()


def figures(accounts: Sequence[Account], count: int) -> Round:
    """From the first message that one had in hand until the last was durable."""
    seconds = max(account.ended for account in accounts) - min(account.began for account in accounts)
    return {"records/s": count / seconds, "cpu us": sum(account.used for account in accounts) / count * 1e6}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _topic(kafka: str, said: Contract, count: int, tell: Callable[[str], None]) -> Iterator[None]:
    with closing(KafkaBroker(kafka)) as broker, filled(broker, said, count, tell):
        try:
            yield
        finally:
            delete_topic(kafka, said.topic)


def run(
    kafka: str,
    postgres: str,
    said: Contract,
    count: int,
    members: int,
    look: Callable[[str], None] = lambda url: None,
) -> list[Account]:
    """So many members over the whole topic, into an empty store; `look` sees its URL before it goes."""
    context = multiprocessing.get_context("spawn")
    group, go = f"bench-{secrets.token_hex(4)}", context.Event()
    with fresh_database(postgres) as url:
        empty_store(url, said).close()
        pipes = [context.Pipe(duplex=False) for _ in range(members)]
        processes = [
            context.Process(target=_member, args=(kafka, url, said.topic, group, go, told)) for _, told in pipes
        ]
        try:
            for process in processes:
                process.start()
            _until(url, said.topic, lambda rows: _shared(rows, members), PATIENCE)
            go.set()
            _until(url, said.topic, lambda rows: sum(next_ for _, next_ in rows) >= count, PATIENCE + count / SLOWEST)
        finally:
            for process in processes:
                process.terminate()
        accounts = [heard.recv() if heard.poll(PATIENCE) else Account() for heard, _ in pipes]
        for process in processes:
            process.join(PATIENCE)
        look(url)
    if sum(account.messages for account in accounts) != count:
        raise CannotMeasure("a materialiser did not say what it had done")
    return accounts


def _shared(rows: Sequence[tuple[str, int]], members: int) -> bool:
    """Whether each member has its part of the partitions."""
    owners = [owner for owner, _ in rows]
    return len(owners) == PARTITIONS and {owners.count(owner) for owner in owners} == {PARTITIONS // members}


def _until(url: str, topic: str, done: Callable[[Sequence[tuple[str, int]]], bool], patience: float) -> None:
    ends = time.monotonic() + patience
    with psycopg.connect(url, autocommit=True) as connection:
        while not done(connection.execute("SELECT owner, next FROM positions WHERE topic = %s", (topic,)).fetchall()):
            if time.monotonic() > ends:
                raise CannotMeasure("the materialisers do not get on")
            time.sleep(LOOK)


def _member(kafka: str, url: str, topic: str, group: str, go: Event, told: Connection) -> None:
    """One process: reads from the word on until SIGTERM, and then says what it has done."""
    quiet()
    account = Account()
    with closing(Store(open_engine(url), system_clock)) as store, closing(KafkaBroker(kafka)) as broker:
        running = materialiser(WatchedBroker(_HeldBack(broker, go), account), store, topic, group=group)
        signal.signal(signal.SIGTERM, lambda *_: running.stop())
        spare_the_collector()
        running.run()
        account.close()
    with suppress(BrokenPipeError):
        told.send(account)


class _HeldBack:
    """A Broker whose feeds share out the partitions, but give nothing before the word."""

    def __init__(self, broker: Broker, go: Event) -> None:
        self._broker = broker
        self._go = go

    def feed(self, group: str, topics: Sequence[str], assignments: Assignments) -> _HeldBackFeed:
        return _HeldBackFeed(self._broker.feed(group, topics, assignments), self._go)


class _HeldBackFeed:
    def __init__(self, feed: Feed, go: Event) -> None:
        self._feed = feed
        self._go = go
        self.pause, self.lag, self.close = feed.pause, feed.lag, feed.close

    def poll(self, limit: int, timeout: float) -> list[Delivery]:
        found = self._feed.poll(limit, timeout)
        if not found or self._go.is_set():
            return found
        for delivery in reversed(found):  # the first of each partition has the last word
            self._feed.pause(delivery.topic, delivery.partition, delivery.offset, HOLD)
        return []

    def committed(self, positions: Mapping[tuple[str, int], int]) -> None:
        self._feed.committed(positions)
