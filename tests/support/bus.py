"""A small bus for tests of the second verb: a broker, a store in a file, contracts, and a way to say records."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from exchange.contracts import Contract, frame
from exchange.materialise import Effects, Materialiser
from exchange.materialise.schemas import SchemaSource
from exchange.records import WATERMARKS_TOPIC, Envelope, Facet, Message, Origin, rejects_topic
from exchange.registry import StoreRegistry
from exchange.store import Store, tables
from exchange.store.database import open_engine
from exchange.store.reading import FacetReader
from exchange.subjects import KeyMaker
from exchange.topics import Broker, TopicSpec

NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
KEYS = KeyMaker("k1", b"a secret of the tests, 32 bytes long")


def clock() -> datetime:
    return NOW


class Bus:
    """Topics of `contracts` on `broker`, a migrated store at `url`, and a registry on it."""

    def __init__(self, broker: Broker, url: str, contracts: Sequence[Contract], *, partitions: int = 4) -> None:
        self.broker = broker
        self.url = url
        self.store = Store(open_engine(url), clock)
        self.store.migrate()
        self.registry = StoreRegistry(self.store.engine)
        self.contracts = {contract.name: contract for contract in contracts}
        self.ids = {
            contract.name: self.registry.register(contract.registry_subject, contract.schema_text)
            for contract in contracts
        }
        self.topics = sorted(
            {contract.topic for contract in contracts}
            | {rejects_topic(contract.department) for contract in contracts}
            | {WATERMARKS_TOPIC}
        )
        for topic in self.topics:
            broker.ensure(TopicSpec(topic, partitions=partitions))
        self._publisher = broker.publisher()

    def close(self) -> None:
        self._publisher.close()
        self.store.close()

    def message(
        self,
        contract: str,
        value: Mapping[str, Any],
        sequence: int,
        *,
        source: str | None = None,
        epoch: int = 1,
        delete: bool = False,
        version: int | None = None,
        keys: KeyMaker = KEYS,
    ) -> Message:
        """A record, or the deletion of the one under its key."""
        said = self.contracts[contract]
        record = said.check(value)
        envelope = Envelope(
            Origin(source or f"{said.department}/test", epoch, sequence), said.topic, NOW, version or record.version
        )
        key = keys.message_key(record.subject, said.name, record.record_key)
        datum = None if delete else frame(self.ids[contract], said.encode(record))
        return Message(key, datum, envelope.headers())

    def store_position(self, topic: str, partition: int) -> int:
        """The offset that the store says is to be read next."""
        wanted = sa.select(tables.positions.c.next).where(
            tables.positions.c.topic == topic, tables.positions.c.partition == partition
        )
        with self.store.engine.connect() as connection:
            return int(connection.scalar(wanted) or 0)

    def store_payloads(self) -> list[str]:
        """Every payload that stands, without tombstones."""
        wanted = sa.select(tables.facets.c.payload).where(tables.facets.c.payload.is_not(None))
        with self.store.engine.connect() as connection:
            return sorted(connection.scalars(wanted))

    def store_facets(self) -> int:
        """How many records stand."""
        return len(self.store_payloads())

    def say(self, topic: str, *messages: Message) -> list[tuple[int, int]]:
        return self._publisher.publish(topic, list(messages))

    def materialiser(
        self,
        *,
        registry: SchemaSource | None = None,
        owner: str = "test",
        store: Store | None = None,
        broker: Broker | None = None,
        keys: KeyMaker = KEYS,
    ) -> Materialiser:
        return Materialiser(
            broker or self.broker,
            store or self.store,
            Effects(registry or self.registry, keys, clock),
            lambda: self.topics,
            group="test",
            owner=owner,
            refresh=0.2,
        )


class Running:
    """A materialiser in a thread; what it raised is raised when the block ends."""

    def __init__(self, materialiser: Materialiser) -> None:
        self.materialiser = materialiser
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.materialiser.run()
        except BaseException as error:  # handed to the test
            self.error = error

    def __enter__(self) -> Running:
        self._thread.start()
        return self

    def join(self, seconds: float = 10) -> BaseException | None:
        """Wait until it ends by itself; what it raised."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), "it still runs"
        return self.error

    def __exit__(self, kind: object, *_: object) -> None:
        self.materialiser.stop()
        error = self.join()
        if kind is None and error is not None:
            raise error


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something that another thread does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


async def facets(reader: FacetReader, contract: Contract, value: Mapping[str, Any]) -> list[Facet]:
    """The facets of the subject of `value` in `contract`."""
    return await reader.facets(KEYS.subject(contract.check(value).subject), [(contract.name, contract.major)])


def sqlite_url(tmp_path: Path, name: str = "store") -> str:
    return f"sqlite:///{tmp_path}/{name}.db"
