"""Topic -> rows in PostgreSQL by Kafka Connect's own runtime with Debezium's JDBC sink, beside ours.

Like against like: one materialiser against one task, and two, each a process of its own and both of one consumer group,
against two tasks, which are threads of one process. All four in turn.

Connect's part is the easier one: its topic holds the rows that came out of ours, ready, one JSON document each, whose
schema it is given beforehand; it checks nothing, decides nothing and remembers nothing but offsets. Its time runs from
the first rows that are seen in the table, so neither the start of its virtual machine nor its first batch counts (but
for a table that is full when it is first seen to have rows). Both end in the same table, and the rows are compared.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
from confluent_kafka import Producer
from sqlalchemy.dialects import postgresql

from bench.databases import fresh_database
from bench.materialising import PARTITIONS, contract_of_this_run, delete_topic, filled, materialised
from bench.measuring import CannotMeasure, Measurement, Round, Side, cpu_seconds, interleaved
from bench.members import figures, run
from bench.views import free_port
from exchange.clock import system_clock
from exchange.kafka import KafkaBroker
from exchange.store import Store, tables
from exchange.store.database import open_engine
from exchange.topics import TopicSpec

HERE = Path(__file__).parent
POM = HERE / "java" / "pom.xml"
RESOLVE = HERE.parent / "deploy" / "local" / "jars.py"
JARS = HERE.parent / ".services" / "connect-jars"
HEAP = "1g"
MEMBERS = {1: "one", 2: "two"}  # materialisers, or tasks: each reads and writes by itself
PATIENCE = 120.0  # seconds, for Connect to start and to finish
Row = tuple[Any, ...]

_DIALECT = postgresql.dialect()
_COLUMNS = [column.name for column in tables.facets.columns]
_KEYS = [column.name for column in tables.facets.primary_key]

WORKER = """\
bootstrap.servers={kafka}
listeners=http://127.0.0.1:{port}
plugin.discovery=service_load
offset.storage.file.filename={folder}/offsets
offset.flush.interval.ms=1000
connector.client.config.override.policy=All
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
value.converter.schemas.enable=true
value.converter.schema.content={schema}
"""

# As fast as it goes here: batches as large as ours, statements rewritten by the driver.
SINK = """\
name={name}
connector.class=io.debezium.connector.jdbc.JdbcSinkConnector
topics={topic}
tasks.max={tasks}
connection.url=jdbc:postgresql://{host}:{port}/{database}?reWriteBatchedInserts=true
connection.username={user}
connection.password={password}
insert.mode=upsert
primary.key.mode=record_value
primary.key.fields={keys}
schema.evolution=none
collection.name.format=facets
batch.size=10000
consumer.override.auto.offset.reset=earliest
consumer.override.max.poll.records=10000
"""


def beside_ours(
    folder: Path, kafka: str, postgres: str, count: int, rounds: int, tell: Callable[[str], None]
) -> list[Measurement]:
    """Ours against Kafka Connect. Raises CannotMeasure if Connect cannot be had or does not write the same rows."""
    java, jars = _java(), _jars()
    said = contract_of_this_run()
    topic = f"{said.topic}.rows"
    rows: list[Row] = []
    broker = KafkaBroker(kafka)

    def look(url: str) -> None:
        if not rows:
            rows[:] = _standing(url)
            _fill(broker, kafka, topic, rows)
        elif _standing(url) != rows:
            raise CannotMeasure("ours has written other rows than before")

    def ours(members: int) -> Round:
        if members > 1:
            return figures(run(kafka, postgres, said, count, members, look), count)
        with fresh_database(postgres) as url:
            found = materialised(broker, url, said, count)
            look(url)
            return found

    def theirs(tasks: int) -> Round:
        with fresh_database(postgres) as url:
            store = Store(open_engine(url), system_clock)
            store.migrate()
            store.close()
            with _connect(java, jars, folder, kafka, url, topic, tasks) as process:
                found = _until_all_stand(url, len(rows), process, folder)
            if _standing(url) != rows:
                raise CannotMeasure("Kafka Connect has written other rows")
            return found

    with closing(broker), filled(broker, said, count, tell):
        try:
            measured = interleaved(
                [
                    Side(f"{side} {name}", partial(measure, number))
                    for number, name in MEMBERS.items()
                    for side, measure in (("exchange", ours), ("connect", theirs))
                ],
                rounds,
                tell,
            )
        finally:
            delete_topic(kafka, said.topic)
            delete_topic(kafka, topic)
    facts = {"messages": count, "rows": len(rows), "same_rows": True}
    return [
        Measurement(
            f"topic -> durable facet, {name} against {name}; Kafka Connect with Debezium's JDBC sink",
            "records/s",
            {side: measured[f"{side} {name}"] for side in ("exchange", "connect")},
            facts,
        )
        for name in MEMBERS.values()
    ]


def _standing(url: str) -> list[Row]:
    with psycopg.connect(url) as connection:
        return sorted(connection.execute("SELECT * FROM facets").fetchall(), key=repr)


def _fill(broker: KafkaBroker, kafka: str, topic: str, rows: Sequence[Row]) -> None:
    """A topic with the rows, by subject."""
    broker.ensure(TopicSpec(topic, partitions=PARTITIONS))
    producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True, "linger.ms": 20})
    for row in rows:
        document = dict(zip(_COLUMNS, row, strict=True))
        while True:
            try:
                producer.produce(topic, key=row[0], value=json.dumps(document).encode())
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(60):
        raise CannotMeasure("the rows could not be written to their topic")


def _schema() -> str:
    """What Connect's JsonConverter takes for the rows' schema."""
    fields = []
    for column in tables.facets.columns:
        kind = column.type.compile(_DIALECT)
        type_ = {"TEXT": "string", "INTEGER": "int32", "BIGINT": "int64"}[kind.split(" ")[0]]
        fields.append({"field": column.name, "type": type_, "optional": bool(column.nullable)})
    return json.dumps({"type": "struct", "name": "facet", "optional": False, "fields": fields})


def _until_all_stand(url: str, count: int, process: subprocess.Popen[bytes], folder: Path) -> Round:
    """Look at the table until all rows stand; the time runs from the first rows that were seen."""
    seen, started, used = 0, 0.0, 0.0
    end = time.monotonic() + PATIENCE
    with psycopg.connect(url, autocommit=True) as connection:
        while time.monotonic() < end and process.poll() is None:
            found = connection.execute("SELECT count(*) FROM facets").fetchone()
            now, cpu = time.perf_counter(), cpu_seconds(process.pid)
            standing = found[0] if found is not None else 0
            if not seen and standing < count:
                seen, started, used = standing, now, cpu  # again, until there is a row
            if standing == count:
                done = count - seen
                return {"records/s": done / (now - started), "cpu us": (cpu - used) / done * 1e6}
            time.sleep(0.1)
    log = (folder / "connect.log").read_text(errors="replace").splitlines()[-15:]
    raise CannotMeasure("\n".join(["Kafka Connect did not write all rows; the end of its log:", *log]))


@contextmanager
def _connect(
    java: str, jars: Path, folder: Path, kafka: str, url: str, topic: str, tasks: int
) -> Iterator[subprocess.Popen[bytes]]:
    """Kafka Connect, standalone, with the sink; it is ended in the end."""
    place = folder / secrets.token_hex(4)
    place.mkdir(parents=True)
    at = urlsplit(url)
    worker, sink = place / "worker.properties", place / "sink.properties"
    worker.write_text(WORKER.format(kafka=kafka, port=free_port(), folder=place, schema=_schema()))
    sink.write_text(
        SINK.format(
            name=f"{topic}.{place.name}",  # its consumer group's too, which else would go on where the last run ended
            topic=topic,
            tasks=tasks,
            host=at.hostname,
            port=at.port,
            database=at.path.lstrip("/"),
            user=unquote(at.username or ""),
            password=unquote(at.password or ""),
            keys=",".join(_KEYS),
        )
    )
    sink.chmod(0o600)
    command = [java, f"-Xmx{HEAP}", "-cp", f"{jars}/*", "org.apache.kafka.connect.cli.ConnectStandalone"]
    with (folder / "connect.log").open("wb") as log:
        process = subprocess.Popen([*command, str(worker), str(sink)], stdout=log, stderr=log, cwd=place)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _java() -> str:
    java = shutil.which("java")
    if java is None:
        raise CannotMeasure("Kafka Connect needs Java 17 or newer: install Debian's package openjdk-17-jre-headless")
    return java


def _jars() -> Path:
    done = subprocess.run(
        [sys.executable, str(RESOLVE), str(POM), str(JARS)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotMeasure(done.stderr.strip())
    return JARS
