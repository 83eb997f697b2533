"""How long from publishing a record until a view shows it, at a steady rate: Kafka, materialiser, PostgreSQL.

A process publishes small batches at a steady pace, as connectors and pushes do, and waits for Kafka's acknowledgement
of each, which is told too: where that takes long, Kafka or its disk was slow. A materialiser runs in a process of its
own. A record is visible when the transaction is committed that holds its effect and the reader's position, which is
asked for every two milliseconds.
"""

from __future__ import annotations

import gc
import multiprocessing
import signal
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import closing
from itertools import islice

import psycopg

from bench.citizens import messages
from bench.databases import fresh_database
from bench.materialising import (
    PARTITIONS,
    SCHEMA_ID,
    contract_of_this_run,
    delete_topic,
    empty_store,
    materialiser,
)
from bench.measuring import CannotMeasure, Measurement, Round, quiet
from exchange.clock import system_clock
from exchange.contracts import Contract
from exchange.kafka import KafkaBroker
from exchange.store import Store
from exchange.store.database import open_engine
from exchange.topics import TopicSpec
from exchange.wiring import spare_the_collector

TICK = 0.01  # seconds between two batches
LOOK = 0.002
WARM = 2.0  # seconds that are not counted
PATIENCE = 60.0


def of_records(
    kafka: str, postgres: str, rate: int, seconds: float, rounds: int, tell: Callable[[str], None]
) -> Measurement:
    """Milliseconds from the call that publishes until a record is visible. Raises CannotMeasure."""
    found = []
    for number in range(1, rounds + 1):
        found.append(_round(kafka, postgres, rate, seconds))
        tell(f"  round {number}/{rounds}  " + "  ".join(f"{name} {value:,.1f}" for name, value in found[-1].items()))
    facts = {"records_s": rate, "seconds": seconds, "partitions": PARTITIONS}
    return Measurement("publish -> visible, Kafka + PostgreSQL", "p99 ms", {"exchange": found}, facts)


def _round(kafka: str, postgres: str, rate: int, seconds: float) -> Round:
    said = contract_of_this_run()
    with fresh_database(postgres) as url, closing(KafkaBroker(kafka)) as broker:
        empty_store(url, said).close()
        broker.ensure(TopicSpec(said.topic, partitions=PARTITIONS))
        reader = multiprocessing.get_context("spawn").Process(target=_materialise, args=(kafka, url, said.topic))
        reader.start()
        try:
            watch = _Watch(url, said.topic)
            published = _publish(broker, said, rate, seconds + WARM, watch)
            watch.finish()
        finally:
            reader.terminate()
            reader.join(PATIENCE)
            delete_topic(kafka, said.topic)
    gc.unfreeze()
    times = sorted(watch.times)
    if not times:
        raise CannotMeasure("nothing became visible")
    return {
        "p99 ms": times[len(times) * 99 // 100] * 1e3,
        "p50 ms": statistics.median(times) * 1e3,
        "max ms": times[-1] * 1e3,
        "acknowledged p50 ms": statistics.median(watch.acknowledged) * 1e3,
        "acknowledged p99 ms": sorted(watch.acknowledged)[len(watch.acknowledged) * 99 // 100] * 1e3,
        "records/s": published / (seconds + WARM),
    }


def _publish(broker: KafkaBroker, said: Contract, rate: int, seconds: float, watch: _Watch) -> int:
    """Publish at a steady pace; how many records it were."""
    ready = messages(said, SCHEMA_ID, int(rate * seconds))
    batches = [list(islice(ready, int(rate * TICK))) for _ in range(int(seconds / TICK))]
    published = 0
    with closing(broker.publisher()) as publisher:
        publisher.publish(said.topic, batches[0])  # connections, and the reader's assignment
        watch.until_read()
        gc.collect()
        gc.freeze()  # else what waits to be published is looked through while it is published
        began = time.monotonic()
        for number, batch in enumerate(batches[1:]):
            time.sleep(max(0.0, began + number * TICK - time.monotonic()))
            sent = time.monotonic()
            places = publisher.publish(said.topic, batch)
            published += len(batch)
            if sent - began >= WARM:
                watch.expect(sent, places)
    return published


class _Watch:
    """Notes when what was published became visible."""

    def __init__(self, url: str, topic: str) -> None:
        self.times: list[float] = []
        self.acknowledged: list[float] = []  # seconds until Kafka had answered, by batch
        self._url = url
        self._topic = topic
        self._expected: deque[tuple[float, int, int]] = deque()
        self._positions: dict[int, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def expect(self, sent: float, places: list[tuple[int, int]]) -> None:
        self.acknowledged.append(time.monotonic() - sent)
        self._expected.extend((sent, partition, offset) for partition, offset in places)

    def until_read(self) -> None:
        """Wait until anything was read."""
        ends = time.monotonic() + PATIENCE
        while not any(self._positions.values()):
            if time.monotonic() > ends:
                self._over.set()
                raise CannotMeasure("the materialiser reads nothing")
            time.sleep(0.05)

    def finish(self) -> None:
        """Wait until all of it is visible."""
        ends = time.monotonic() + PATIENCE
        while self._expected and time.monotonic() < ends:
            time.sleep(0.05)
        self._over.set()
        self._thread.join()
        if self._expected:
            raise CannotMeasure("not everything became visible")

    def _look(self) -> None:
        query = "SELECT partition, next FROM positions WHERE topic = %s"
        with psycopg.connect(self._url, autocommit=True) as connection:
            while not self._over.wait(LOOK):
                self._positions = dict(connection.execute(query, (self._topic,)).fetchall())
                now, waiting = time.monotonic(), []
                while self._expected:
                    sent, partition, offset = self._expected.popleft()
                    if self._positions.get(partition, 0) > offset:
                        self.times.append(now - sent)
                    else:
                        waiting.append((sent, partition, offset))
                self._expected.extendleft(reversed(waiting))


def _materialise(kafka: str, url: str, topic: str) -> None:
    """The second verb as `exchange materialise` builds it, until SIGTERM."""
    quiet()
    store = Store(open_engine(url), system_clock)
    with closing(store), closing(KafkaBroker(kafka)) as broker:
        running = materialiser(broker, store, topic)
        signal.signal(signal.SIGTERM, lambda *_: running.stop())
        spare_the_collector()
        running.run()
