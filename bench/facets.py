"""Topic -> durable facet: `exchange.materialise` as shipped, the obvious way, and what could be done at best.

All sides read the same topic, each in a consumer group of its own, into an empty database. The time is from the first
message in hand until the last transaction is durable; afterwards every facet of all is compared.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from confluent_kafka import Consumer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer

from bench import obvious_materialise
from bench.citizens import KEYS
from bench.databases import fresh_database
from bench.materialising import (
    PARTITIONS,
    SCHEMA_ID,
    Stopwatch,
    contract_of_this_run,
    delete_topic,
    effects_of,
    filled,
    materialised,
    slices,
)
from bench.measuring import CannotMeasure, Measurement, Round, Side, interleaved, timed
from bench.obvious_materialise import ROWS, ObviousMaterialiser
from bench.sampling import Sampler, told
from exchange.clock import system_clock
from exchange.contracts import Contract
from exchange.kafka import KafkaBroker
from exchange.materialise import Effects
from exchange.materialise.effects import Effect
from exchange.records import Delivery
from exchange.sqlite import connect
from exchange.store import Store, tables
from exchange.store.database import open_engine
from exchange.topics.sqlite import SqliteBroker

Row = tuple[Any, ...]
Made = tuple[list[Row], list[Row]]  # facets and the places of rejects
WHAT = ("facets", "rejects")


# --- on Kafka and PostgreSQL ------------------------------------------------------------------------------------------


def on_kafka(
    kafka: str, postgres: str, count: int, rounds: int, tell: Callable[[str], None], *, profile: bool = False
) -> list[Measurement]:
    """Ours against the obvious way, and against itself where no record need be decoded and checked.

    Raises CannotMeasure if they do not make the same facets.
    """
    said, count = contract_of_this_run(), _whole(count)
    made: dict[str, Made] = {}
    broker = KafkaBroker(kafka)

    def ours() -> Round:
        with fresh_database(postgres) as url:
            found = materialised(broker, url, said, count)
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

    def ready() -> Round:
        with fresh_database(postgres) as url:
            found = materialised(broker, url, said, count, lambda store: _Ready(broker, said.topic, effects_of(store)))
            made["ready rows"] = _made(open_engine(url), tables.facets, tables.rejects)
            _compare(made)
            return found

    with closing(broker), filled(broker, said, count, tell):
        try:
            measured = interleaved(
                [Side("exchange", ours), Side("obvious", theirs), Side("ready rows", ready)], rounds, tell
            )
            if profile:
                with fresh_database(postgres) as url:
                    sampler = Sampler()
                    materialised(broker, url, said, count, sampler=sampler)
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
    name = "topic -> durable facet, Kafka + PostgreSQL"
    return [
        Measurement(title, "records/s", {side: measured[side] for side in ("exchange", other)}, facts)
        for title, other in ((name, "obvious"), (f"{name}; ceiling: decoded and checked before", "ready rows"))
    ]


class _Ready(Effects):
    """What every delivery does, known before: what is left is to poll it, and to store what it does."""

    def __init__(self, broker: KafkaBroker, topic: str, effects: Effects) -> None:
        effects.polled()
        self._made: list[dict[int, Effect]] = [{} for _ in range(PARTITIONS)]
        for delivery in broker.read(topic):
            self._made[delivery.partition][delivery.offset] = effects.of(delivery)

    def polled(self) -> None:
        """No schema is asked for."""

    def of(self, delivery: Delivery) -> Effect:
        return self._made[delivery.partition][delivery.offset]


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
    ours, *rest = made.values()
    for what, mine, others in (
        (what, mine, others) for theirs in rest for what, mine, others in zip(WHAT, ours, theirs, strict=True)
    ):
        if mine != others:
            different = sum(1 for one, other in zip(mine, others, strict=False) if one != other)
            raise CannotMeasure(f"not the same {what}: {len(mine)} and {len(others)}, of those {different} differ")


# --- on SQLite --------------------------------------------------------------------------------------------------------


def on_sqlite(folder: Path, count: int, rounds: int, tell: Callable[[str], None]) -> Measurement:
    """Ours, topic and store in SQLite files, against the ceiling: the same rows, ready, into the same table."""
    said, count = contract_of_this_run(), _whole(count)
    rows: list[Row] = []

    def ours() -> Round:
        with _fresh_file(folder) as path:
            found = materialised(broker, f"sqlite:///{path}", said, count)
            with closing(connect(path)) as connection:
                rows[:] = connection.execute("SELECT * FROM facets").fetchall()
            return found

    def ceiling() -> Round:
        with _fresh_file(folder) as path:
            return _insert(path, rows)

    with _fresh_file(folder) as topics, closing(SqliteBroker(topics)) as broker, filled(broker, said, count, tell):
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

        def insert() -> None:
            for batch in slices(rows):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(f"INSERT INTO facets VALUES ({', '.join('?' for _ in rows[0])})", batch)
                connection.execute("COMMIT")

        return timed("records/s", len(rows), insert)


# --- both -------------------------------------------------------------------------------------------------------------


def _whole(count: int) -> int:
    """Whole transactions only, so that the obvious way never waits for a message that does not come."""
    return -(-count // ROWS) * ROWS


@contextmanager
def _fresh_file(folder: Path) -> Iterator[Path]:
    path = folder / f"{secrets.token_hex(4)}.db"
    try:
        yield path
    finally:
        for file in folder.glob(f"{path.name}*"):
            file.unlink()


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
