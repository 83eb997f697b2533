"""The sources over which the connector conformance suite runs: each kind holds the same people and can be changed.

source.put(1, name="甲")       a person, new or changed, written at the bench's present time
source.spoil(2)                a person whose row cannot be read as a record; the number can
source.remove(3)               as this source takes a row back
source.rename(4, 5)            the row of person 4 turns out to be about person 5
source.commit()                what was changed is there to be read
"""

from __future__ import annotations

import csv
import io
import json
import os
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import fastavro
import sqlalchemy as sa

from connectors.csv import CsvConnector, CsvSettings
from connectors.kafka import KafkaConnector, KafkaSettings
from connectors.protocol import Connector
from connectors.sql import SqlConnector, SqlSettings
from exchange import sqlite
from exchange.contracts import frame
from exchange.publish import Keeps, Layout
from exchange.records import Message
from exchange.topics import inbox
from tests.support.publishing import Bench, citizen

COLUMNS = ("citizen_id", "name", "address", "updated_at", "gone")
FORM = "%Y-%m-%d %H:%M:%S.%f"


class People:
    """What is common: the rows, by a number that stays while the person changes."""

    keeps: Keeps
    deletes_by_absence = False
    repeats = False  # whether an unchanged row that is delivered again is published again

    def __init__(self, folder: Path, bench: Bench) -> None:
        self.folder = folder
        self.bench = bench
        self.rows: dict[int, dict[str, Any]] = {}
        self.changed: list[int] = []

    def put(self, number: int, name: str = "甲某", address: str | None = None) -> None:
        self._write(number, citizen_id=citizen(number), name=name, address=address, gone=0)

    def spoil(self, number: int) -> None:
        self._write(number, citizen_id=citizen(number), name=None, address=None, gone=0)

    def remove(self, number: int) -> None:
        self._write(number, gone=1)

    def rename(self, number: int, to: int) -> None:
        self._write(number, citizen_id=citizen(to))

    def _write(self, number: int, **values: Any) -> None:
        self.bench.passes(0.001)
        self.rows.setdefault(number, {}).update(values, updated_at=self.bench.clock())
        self.changed.append(number)

    def commit(self) -> None:
        raise NotImplementedError

    def connector(self, batch_size: int = 3, **settings: Any) -> Connector:
        raise NotImplementedError

    def _settings(self, batch_size: int, **more: Any) -> dict[str, Any]:
        return {
            "name": "test", "contract": "civil.person", "timezone": "UTC", "batch_size": batch_size,
            "deleted_when": {"column": "gone", "values": [1]}, **more,
        }  # fmt: skip


class CsvPeople(People):
    """A CSV file."""

    mode = ""

    @property
    def file(self) -> Path:
        return self.folder / "people.csv"

    def _lines(self, rows: list[dict[str, Any]], mode: str) -> None:
        with self.file.open(mode, encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            if file.tell() == 0:
                writer.writerow(COLUMNS)
            for row in rows:
                writer.writerow([_text(row[column]) for column in COLUMNS])
        self.age()

    def age(self, seconds: float = 60) -> None:
        """Let the file look as if it had been written that long ago."""
        at = (self.bench.clock() - timedelta(seconds=seconds)).timestamp()
        os.utime(self.file, (at, at))

    def connector(self, batch_size: int = 3, **settings: Any) -> Connector:
        table = self._settings(batch_size, connector="csv", path="people.csv", mode=self.mode, settle=1)
        return CsvConnector(
            CsvSettings.model_validate(table | settings), self.bench.contract, self.bench.means(self.folder)
        )


class CsvSnapshot(CsvPeople):
    """Each delivery is the whole state; a row that is taken back is not in it."""

    keeps = Keeps.KEYS
    mode = "snapshot"
    deletes_by_absence = True

    def remove(self, number: int) -> None:
        self.bench.passes(0.001)
        del self.rows[number]

    def commit(self) -> None:
        self._lines(list(self.rows.values()), "w")


class CsvAppend(CsvPeople):
    """What is new or changed stands at the end."""

    keeps = Keeps.FLIGHT
    mode = "append"
    repeats = True

    def commit(self) -> None:
        self._lines([self.rows[number] for number in self.changed], "a")
        self.changed.clear()


class SqlPeople(People):
    """A table with a serial key, an update time and a mark for deletions."""

    keeps = Keeps.ROWS

    def __init__(self, folder: Path, bench: Bench, url: str | None = None) -> None:
        super().__init__(folder, bench)
        self.url = url or f"sqlite:///{folder / 'people.db'}"
        if url is None:
            sqlite.connect(folder / "people.db").close()
            creator = sqlite.creator(folder / "people.db")
            self.engine = sa.create_engine("sqlite+pysqlite://", module=sqlite.dbapi2, creator=creator)
        else:
            self.engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        self.table = sa.Table(
            "people",
            sa.MetaData(),
            sa.Column("row_id", sa.Integer, primary_key=True, autoincrement=False),
            sa.Column("citizen_id", sa.Text),
            sa.Column("name", sa.Text),
            sa.Column("address", sa.Text),
            sa.Column("updated_at", sa.DateTime, nullable=False),
            sa.Column("gone", sa.Integer, nullable=False),
        )
        self.table.create(self.engine)

    def commit(self) -> None:
        with self.engine.connect() as connection:
            for number in self.changed:
                row = self.rows[number]
                row = row | {"updated_at": row["updated_at"].replace(tzinfo=None)}
                connection.execute(self.table.delete().where(self.table.c.row_id == number))
                connection.execute(self.table.insert().values(row_id=number, **row))
            connection.commit()
        self.changed.clear()

    def connector(self, batch_size: int = 3, **settings: Any) -> Connector:
        table = self._settings(
            batch_size, connector="sql", url=self.url, table="people", updated_at="updated_at", safety_lag=1
        )
        return SqlConnector(
            SqlSettings.model_validate(table | settings), self.bench.contract, self.bench.means(self.folder)
        )


class InboxPeople(People):
    """An inbox into which the department's own program writes whatever is new or changed, under names of its own."""

    keeps = Keeps.FLIGHT
    repeats = True
    form = ""
    names = {"citizen_id": "idNumber", "name": "fullName", "address": "homeAddress", "updated_at": "changed"}  # noqa: RUF012

    def __init__(self, folder: Path, bench: Bench) -> None:
        super().__init__(folder, bench)
        self.topic = inbox(bench.contract.name)

    def commit(self) -> None:
        self.bench.broker.ensure(Layout(partitions=2).inbox(self.bench.contract.name))
        written = [{self.names.get(name, name): value for name, value in self.rows[n].items()} for n in self.changed]
        messages = [Message(b"" if number % 2 else b"any", self._value(row), {}) for number, row in enumerate(written)]
        heartbeat = Message(None, None, {})  # type: ignore[arg-type]
        self.bench.broker.append_unchecked(self.topic, messages or [heartbeat])
        self.changed.clear()

    def _value(self, row: dict[str, Any]) -> bytes:
        raise NotImplementedError

    def connector(self, batch_size: int = 3, **settings: Any) -> Connector:
        table = self._settings(batch_size, connector="kafka", value=self.form, mapping=self.names)
        return KafkaConnector(
            KafkaSettings.model_validate(table | settings), self.bench.contract, self.bench.means(self.folder)
        )


class AvroInbox(InboxPeople):
    """With a serializer of the schema registry."""

    form = "avro"
    schema: ClassVar[dict[str, Any]] = {
        "type": "record",
        "name": "person",
        "fields": [
            {"name": "idNumber", "type": "string"},
            {"name": "fullName", "type": ["null", "string"]},
            {"name": "homeAddress", "type": ["null", "string"], "default": None},
            {"name": "changed", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "gone", "type": "int"},
            {"name": "remark", "type": {"type": "array", "items": "string"}},
        ],
    }

    def _value(self, row: dict[str, Any]) -> bytes:
        datum = io.BytesIO()
        fastavro.schemaless_writer(datum, fastavro.parse_schema(self.schema), row | {"remark": ["of no field"]})
        return frame(self.bench.registry.register(f"{self.topic}-value", json.dumps(self.schema)), datum.getvalue())


class JsonInbox(InboxPeople):
    """As JSON objects."""

    form = "json"

    def _value(self, row: dict[str, Any]) -> bytes:
        return json.dumps(row | {"changed": row["changed"].isoformat(" ")[:23].ljust(23, "0")}).encode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.strftime(FORM) if isinstance(value, datetime) else str(value)
