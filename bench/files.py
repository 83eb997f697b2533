"""CSV -> topic: the csv connector as shipped, against the same rows checked and encoded with fastavro into a file.

Ours is one complete snapshot: conversion, contract check, encoding, keys, digests, cursor file, Kafka's
acknowledgement, watermark. The other side has no keys, no memory of what was published and no topic: `csv`, plain
conversion, `fastavro.validate`, a container file.
"""

from __future__ import annotations

import csv
import gc
import json
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
from fastavro.validation import validate

from bench.citizens import KEYS, contract, value
from bench.materialising import PARTITIONS, delete_topic
from bench.measuring import CannotMeasure, Measurement, Round, Side, interleaved, timed
from connectors.csv import CsvConnector, CsvSettings
from connectors.protocol import Means
from exchange.clock import system_clock
from exchange.kafka import KafkaBroker
from exchange.publish import CursorFile, Layout, Publishing
from exchange.registry import StoreRegistry
from exchange.store import Store
from exchange.store.database import open_engine
from exchange.wiring import spare_the_collector

COLUMNS = ("citizen_id", "name", "address", "status", "amount", "since", "revision", "updated_at")


def of_csv(folder: Path, kafka: str, rows: int, rounds: int, tell: Callable[[str], None]) -> Measurement:
    """Ours against csv and fastavro. Raises CannotMeasure if a row is rejected."""
    folder.mkdir()
    with (folder / "residents.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_line(number) for number in range(rows))
    tell(f"  {rows:,} rows, {(folder / 'residents.csv').stat().st_size:,} bytes")
    sides = [
        Side("exchange", lambda: _publish(folder, kafka, rows)),
        Side("fastavro", lambda: _write(folder, rows)),
    ]
    measured = interleaved(sides, rounds, tell)
    return Measurement("CSV -> topic, Kafka; ceiling: csv and fastavro", "rows/s", measured, {"rows": rows})


def _line(number: int) -> list[Any]:
    said = value(number, 10, random.Random(number))
    said["updated_at"] = said["updated_at"].isoformat()
    return [said[name] for name in COLUMNS]


def _publish(folder: Path, kafka: str, rows: int) -> Round:
    """One reading of a connector that has just started."""
    said = contract("civil", f"resident{secrets.token_hex(4)}")
    store = Store(open_engine(f"sqlite:///{folder / f'{said.dataset}.db'}"), system_clock)
    store.migrate()
    settings = CsvSettings.model_validate(
        {"name": "residents", "connector": "csv", "contract": said.name, "path": "residents.csv", "settle": "0s"}
        | {"mapping": {name: name for name in COLUMNS}}
    )
    with closing(store), closing(KafkaBroker(kafka)) as broker:
        registry = StoreRegistry(store.engine)
        connector = CsvConnector(settings, said, Means(folder, system_clock, lambda: broker, lambda: registry))
        publishing = Publishing(
            said,
            source="civil/residents",
            keeps=connector.keeps,
            keys=KEYS,
            broker=broker,
            registry=registry,
            cursor=CursorFile(folder / f"{said.dataset}.cursor"),
            clock=system_clock,
            wait=lambda seconds: True,
            layout=Layout(PARTITIONS),
        )
        with closing(publishing):
            before = gc.get_threshold()
            spare_the_collector()  # as `exchange connector run` does
            figures = timed("rows/s", rows, lambda: _read(connector, publishing, rows))
            gc.set_threshold(*before)
        delete_topic(kafka, said.topic)
    return figures


def _read(connector: CsvConnector, publishing: Publishing, rows: int) -> None:
    reading = publishing.reading()
    for batch in reading.follow(connector.read(publishing.position)):
        connector.ack(batch.position)
    if reading.outcome.published != rows:
        raise CannotMeasure(f"not every row was published: {reading.outcome}")


def _write(folder: Path, rows: int) -> Round:
    said = contract("civil", "resident")
    schema = fastavro.parse_schema(json.loads(said.schema_text))
    with (folder / "residents.csv").open(encoding="utf-8", newline="") as file, (folder / "out.avro").open("wb") as out:
        return timed("rows/s", rows, lambda: fastavro.writer(out, schema, _checked(csv.DictReader(file), schema)))


def _checked(lines: Iterator[dict[str, Any]], schema: Any) -> Iterator[dict[str, Any]]:
    for line in lines:
        line["address"] = line["address"] or None
        line["amount"] = Decimal(line["amount"])
        line["since"] = date.fromisoformat(line["since"])
        line["revision"] = int(line["revision"])
        line["updated_at"] = datetime.fromisoformat(line["updated_at"])
        validate(line, schema)
        yield line
