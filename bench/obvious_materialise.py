"""The obvious way from a topic to facets: what one writes with the documentation of the libraries at hand.

Poll a message, deserialise it with Confluent's AvroDeserializer, check it, collect rows, upsert 500 of them in one
transaction with SQLAlchemy, then commit the offsets. A repeat after a crash is harmless, because the upsert only
replaces what is older. It keeps the same rules as `exchange.materialise`: headers, owner, identifier, key and value
agree, the same order of records, tombstones, rejects with their place; of the fence by owner epochs, of contracts that
bound what a datum may unfold to, and of watermarks it has nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from confluent_kafka import Consumer, KafkaException, Message
from confluent_kafka.error import SerializationError
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from sqlalchemy.dialects.postgresql import JSONB, insert

from exchange.errors import Rejected
from exchange.records import Envelope, rfc3339
from exchange.subjects import KeyMaker, parse, split_key

ROWS = 500  # messages in one transaction

metadata = sa.MetaData()

facets = sa.Table(
    "facets",
    metadata,
    sa.Column("subject_key", sa.Text, primary_key=True),
    sa.Column("contract", sa.Text, primary_key=True),
    sa.Column("major", sa.Integer, primary_key=True),
    sa.Column("record_key", sa.Text, primary_key=True),
    sa.Column("payload", JSONB(none_as_null=True)),
    sa.Column("schema_id", sa.BigInteger),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("log_partition", sa.Integer, nullable=False),
    sa.Column("log_offset", sa.BigInteger, nullable=False),
    sa.Column("version", sa.BigInteger),
    sa.Column("event_time", sa.DateTime(timezone=True), nullable=False),
)

rejects = sa.Table(
    "rejects",
    metadata,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("log_partition", sa.Integer, primary_key=True),
    sa.Column("log_offset", sa.BigInteger, primary_key=True),
    sa.Column("reason", sa.Text, nullable=False),
)


def upsert() -> sa.Executable:
    """Insert a facet; replace the one that stands if it is older.

    By version where both have one and they differ, else by epoch and sequence of one source, else by place in the log.
    """
    statement = insert(facets)
    new, old = statement.excluded, facets.c
    newer = sa.case(
        (new.version != old.version, new.version > old.version),
        (new.source == old.source, sa.tuple_(new.epoch, new.sequence) > sa.tuple_(old.epoch, old.sequence)),
        else_=sa.tuple_(new.log_partition, new.log_offset) > sa.tuple_(old.log_partition, old.log_offset),
    )
    replaced = {column.name: new[column.name] for column in facets.columns if not column.primary_key}
    return statement.on_conflict_do_update(index_elements=list(facets.primary_key), set_=replaced, where=newer)


class ObviousMaterialiser:
    """Reads one topic into the tables until `stop`.

    The consumer is subscribed, starts at the earliest message and commits nothing by itself. `schema` is the contract's
    Avro schema, parsed.
    """

    def __init__(
        self, consumer: Consumer, deserialize: AvroDeserializer, engine: sa.Engine, keys: KeyMaker, schema: Any
    ) -> None:
        self._consumer = consumer
        self._deserialize = deserialize
        self._engine = engine
        self._keys = keys
        self._terms: Mapping[str, Any] = schema["exchange"]
        self._longs = {field["name"] for field in schema["fields"] if field["type"] == "long"}
        self._upsert = upsert()
        self._set_aside = insert(rejects).on_conflict_do_nothing()
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        rows: list[dict[str, Any]] = []
        refused: list[dict[str, Any]] = []
        while not self._stopping.is_set():
            message = self._consumer.poll(1.0)
            if message is not None:
                if message.error():
                    raise KafkaException(message.error())
                try:
                    rows.append(self._row(message))
                except (Rejected, SerializationError) as error:
                    refused.append(
                        {
                            "topic": message.topic(),
                            "log_partition": message.partition(),
                            "log_offset": message.offset(),
                            "reason": str(error),
                        }
                    )
            waiting = len(rows) + len(refused)
            if waiting >= ROWS or (waiting and message is None):
                self._store(rows, refused)
                rows, refused = [], []

    def _store(self, rows: list[dict[str, Any]], refused: list[dict[str, Any]]) -> None:
        with self._engine.begin() as connection:
            if rows:
                connection.execute(self._upsert, rows)
            if refused:
                connection.execute(self._set_aside, refused)
        self._consumer.commit(asynchronous=False)

    def _row(self, message: Message) -> dict[str, Any]:
        topic, key, value = message.topic(), message.key(), message.value()
        envelope = Envelope.read(dict(message.headers() or []))
        contract, _, major = topic.rpartition(".v")
        if envelope.origin.department != self._terms["owner"]:
            raise Rejected("header ce_source names another department than the topic's owner")
        if key is None:
            raise Rejected("the message has no key")
        subject_key, record_key = split_key(key)
        schema_id = payload = None
        version = envelope.version
        if value is not None:
            record = self._deserialize(value, SerializationContext(topic, MessageField.VALUE))
            schema_id = int.from_bytes(value[1:5], "big")
            said_of = self._terms["subject"]
            subject = parse(said_of["scheme"], record[said_of["field"]])
            record_values = [str(record[name]) for name in self._terms["record_key"]]
            if self._keys.message_key(subject, contract, record_values) != key:
                raise Rejected("the message key disagrees with the value")
            if self._terms["version"] is not None:
                version = record[self._terms["version"]]
            payload = {name: self._plain(name, field) for name, field in record.items()}
        return {
            "subject_key": subject_key,
            "contract": contract,
            "major": int(major),
            "record_key": record_key,
            "payload": payload,
            "schema_id": schema_id,
            "source": envelope.origin.source,
            "epoch": envelope.origin.epoch,
            "sequence": envelope.origin.sequence,
            "log_partition": message.partition(),
            "log_offset": message.offset(),
            "version": version,
            "event_time": envelope.event_time,
        }

    def _plain(self, name: str, value: Any) -> Any:
        """A value in the form that JSON takes: longs and decimals as text, times in RFC 3339."""
        if isinstance(value, datetime):
            return rfc3339(value)
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, Decimal) or name in self._longs:
            return str(value)
        return value


def open_engine(url: str) -> sa.Engine:
    """The database, as one opens it."""
    return sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"), json_serializer=json.dumps)
