"""Topic -> durable facet: `exchange.materialise` as shipped, the obvious way, and what SQLite could do at best.

Both sides read the same topic, each in a consumer group of its own, into an empty database. The time is from the first
message in hand until the last transaction is durable; afterwards every facet of both is compared.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer

from bench import obvious_materialise
from bench.citizens import KEYS, contract, messages
from bench.databases import fresh_database
from bench.measuring import CannotMeasure, Measurement, Round, Side, interleaved
from bench.obvious_materialise import ROWS, ObviousMaterialiser
from bench.sampling import Sampler, told
from exchange.clock import system_clock
from exchange.contracts import Contract
from exchange.kafka import KafkaBroker
from exchange.materialise import Effects, Materialiser
from exchange.records import Delivery
from exchange.registry import StoreRegistry
from exchange.sqlite import connect
from exchange.store import Store, tables
from exchange.store.database import open_engine
from exchange.topics import Assignments, Broker, Feed, TopicSpec
from exchange.topics.sqlite import SqliteBroker

PARTITIONS = 12
SCHEMA_ID = 1  # the first id of a fresh registry, ours and Confluent's alike
AT_ONCE = 5_000

Row = tuple[Any, ...]
Made = tuple[list[Row], list[Row]]  # facets and the places of rejects


# --- on Kafka and PostgreSQL ------------------------------------------------------------------------------------------


def on_kafka(
    kafka: str, postgres: str, count: int, rounds: int, tell: Callable[[str], None], *, profile: bool = False
) -> Measurement:
    """Ours against the obvious way. Raises CannotMeasure if they do not make the same facets."""
    said, count = _contract(), _whole(count)
    made: dict[str, Made] = {}
    broker = KafkaBroker(kafka)

    def ours() -> Round:
        with fresh_database(postgres) as url:
            found = _materialise(broker, url, said, count)
            made["exchange"] = _made(open_engine(url), tables.facets, tables.rejects)
            return found

    def theirs() -> Round:
        with fresh_database(postgres) as url:
            found = _materialise_obviously(kafka, url, said, count)
            made["obvious"] = _made(
                obvious_materialise.open_engine(url), obvious_materialise.facets, obvious_materialise.rejects
            )
            _compare(made)
            return found

    with closing(broker), _filled(broker, said, count, tell):
        try:
            measured = interleaved([Side("exchange", ours), Side("obvious", theirs)], rounds, tell)
            if profile:
                with fresh_database(postgres) as url:
                    sampler = Sampler()
                    _materialise(broker, url, said, count, sampler)
                    tell(told("exchange, a record", sampler.seconds, count))
        finally:
            delete_topic(kafka, said.topic)
    facets, rejects = (len(rows) for rows in made["exchange"])
    facts = {
        "messages": count,
        "partitions": PARTITIONS,
        "facets": facets,
        "rejects": rejects,
        "same_facets_and_rejects": True,
    }
    return Measurement("topic -> durable facet, Kafka + PostgreSQL", "records/s", measured, facts)


def _materialise_obviously(kafka: str, url: str, said: Contract, count: int) -> Round:
    registry = SchemaRegistryClient.new_client({"url": "mock://bench"})  # in this process: it costs no round trip
    if registry.register_schema(said.registry_subject, Schema(said.schema_text, "AVRO")) != SCHEMA_ID:
        raise CannotMeasure("the schema has another id than the messages say")
    engine = obvious_materialise.open_engine(url)
    obvious_materialise.metadata.create_all(engine)
    watch = Stopwatch(count)
    consumer = WatchedConsumer(
        {
            "bootstrap.servers": kafka,
            "group.id": f"bench-{secrets.token_hex(4)}",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        },
        watch,
    )
    consumer.subscribe([said.topic])
    materialiser = ObviousMaterialiser(consumer, AvroDeserializer(registry), engine, KEYS, json.loads(said.schema_text))
    watch.stop = materialiser.stop
    try:
        materialiser.run()
    finally:
        consumer.close()
        engine.dispose()
    return watch.figures()


def _made(engine: sa.Engine, facets: sa.Table, rejects: sa.Table) -> Made:
    """Every facet as it is shown, its payload parsed, and the place of every reject."""
    shown = [column for column in facets.columns if column.name != "heard"]  # of one source nothing else was heard
    columns = (rejects.c.topic, rejects.c.log_partition, rejects.c.log_offset)
    with engine.connect() as connection:
        rows = [(*row[:4], _parsed(row[4]), *row[5:]) for row in connection.execute(sa.select(*shown))]
        places = [tuple(row) for row in connection.execute(sa.select(*columns))]
    engine.dispose()
    return sorted(rows), sorted(places)


def _parsed(payload: Any) -> Any:
    return json.loads(payload) if isinstance(payload, str) else payload


def _compare(made: Mapping[str, Made]) -> None:
    ours, theirs = made.values()
    for what, mine, others in zip(("facets", "rejects"), ours, theirs, strict=True):
        if mine != others:
            different = sum(1 for one, other in zip(mine, others, strict=False) if one != other)
            raise CannotMeasure(f"not the same {what}: {len(mine)} and {len(others)}, of those {different} differ")


# --- on SQLite --------------------------------------------------------------------------------------------------------


def on_sqlite(folder: Path, count: int, rounds: int, tell: Callable[[str], None]) -> Measurement:
    """Ours, topic and store in SQLite files, against the ceiling: the same rows, ready, into the same table."""
    said, count = _contract(), _whole(count)
    rows: list[Row] = []

    def ours() -> Round:
        with _fresh_file(folder) as path:
            found = _materialise(broker, f"sqlite:///{path}", said, count)
            with closing(connect(path)) as connection:
                rows[:] = connection.execute("SELECT * FROM facets").fetchall()
            return found

    def ceiling() -> Round:
        with _fresh_file(folder) as path:
            return _insert(path, rows)

    with _fresh_file(folder) as topics, closing(SqliteBroker(topics)) as broker, _filled(broker, said, count, tell):
        measured = interleaved([Side("exchange", ours), Side("ceiling", ceiling)], rounds, tell)
    facts = {"messages": count, "facets": len(rows)}
    return Measurement(
        "topic -> durable facet, SQLite; ceiling: executemany of ready rows", "records/s", measured, facts
    )


def _insert(path: Path, rows: Sequence[Row]) -> Round:
    """Rows that are ready into the facets' table, so many in a transaction as ours."""
    store = Store(open_engine(f"sqlite:///{path}"), system_clock)
    store.migrate()
    store.close()
    with closing(connect(path)) as connection:
        started, used = time.perf_counter(), time.process_time()
        for batch in _slices(rows):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(f"INSERT INTO facets VALUES ({', '.join('?' for _ in rows[0])})", batch)
            connection.execute("COMMIT")
        seconds, cpu = time.perf_counter() - started, time.process_time() - used
    return {"records/s": len(rows) / seconds, "cpu us": cpu / len(rows) * 1e6}


# --- both -------------------------------------------------------------------------------------------------------------


def _contract() -> Contract:
    """A name of its own for each run: topics of other runs may stand on the same broker."""
    return contract("civil", f"resident{secrets.token_hex(4)}")


def _whole(count: int) -> int:
    """Whole transactions only, so that the obvious way never waits for a message that does not come."""
    return -(-count // ROWS) * ROWS


@contextmanager
def _filled(broker: Broker, said: Contract, count: int, tell: Callable[[str], None]) -> Iterator[None]:
    """A topic with `count` messages."""
    broker.ensure(TopicSpec(said.topic, partitions=PARTITIONS))
    with closing(broker.publisher()) as publisher:
        for batch in _slices(messages(said, SCHEMA_ID, count)):
            publisher.publish(said.topic, batch)
    tell(f"  {count:,} messages in {said.topic}")
    yield


def _materialise(broker: Broker, url: str, said: Contract, count: int, sampler: Sampler | None = None) -> Round:
    """The second verb as `exchange materialise` builds it, over one topic."""
    store = Store(open_engine(url), system_clock)
    store.migrate()
    registry = StoreRegistry(store.engine)
    if registry.register(said.registry_subject, said.schema_text) != SCHEMA_ID:
        raise CannotMeasure("the schema has another id than the messages say")
    watch = Stopwatch(count, sampler)
    materialiser = Materialiser(
        WatchedBroker(broker, watch),
        store,
        Effects(registry, KEYS, system_clock),
        lambda: [said.topic],
        group=f"bench-{secrets.token_hex(4)}",
        owner="bench",
    )
    watch.stop = materialiser.stop
    try:
        materialiser.run()
    finally:
        store.close()
    return watch.figures()


@contextmanager
def _fresh_file(folder: Path) -> Iterator[Path]:
    path = folder / f"{secrets.token_hex(4)}.db"
    try:
        yield path
    finally:
        for file in folder.glob(f"{path.name}*"):
            file.unlink()


def _slices(values: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(values)
    while batch := list(islice(rest, AT_ONCE)):
        yield batch


def delete_topic(kafka: str, topic: str) -> None:
    """Delete a topic of a measurement."""
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([topic])[topic].result(10)


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


class WatchedBroker:
    """A Broker whose feeds are watched."""

    def __init__(self, broker: Broker, watch: Stopwatch) -> None:
        self._broker = broker
        self._watch = watch

    def feed(self, group: str, topics: Sequence[str], assignments: Assignments) -> WatchedFeed:
        return WatchedFeed(self._broker.feed(group, topics, assignments), self._watch)


class WatchedFeed:
    """A Feed that tells the watch of the first delivery, and of positions, which come when they are durable."""

    def __init__(self, feed: Feed, watch: Stopwatch) -> None:
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


class WatchedConsumer(Consumer):
    """The same for a consumer that is polled, and commits what is durable."""

    def __init__(self, config: dict[str, Any], watch: Stopwatch) -> None:
        super().__init__(config)
        self._watch = watch
        self._polled = 0

    def poll(self, timeout: float) -> Any:
        message = super().poll(timeout)
        if message is not None:
            self._watch.begin()
            self._polled += 1
        return message

    def commit(self, *arguments: Any, **options: Any) -> Any:
        done = super().commit(*arguments, **options)
        self._watch.durable(self._polled)
        return done
