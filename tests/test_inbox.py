"""The inbox of a dataset: what a department's own programs write there, sound or not, and what becomes of it.

What every source must do, the inbox does in tests/test_connectors.py; this is what it alone can meet.
"""

from __future__ import annotations

import io
import json
import secrets
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import fastavro
import pytest
from confluent_kafka import Producer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from connectors.kafka import KafkaConnector, KafkaSettings
from connectors.protocol import NotReady, Weight
from exchange.contracts import Contract, Shape, frame
from exchange.errors import ContractRefused, RegistryUnavailable, Rejected, SourceRefused
from exchange.kafka import KafkaBroker
from exchange.publish import Keeps, Layout, Outcome
from exchange.records import Message
from tests.support.backings import until
from tests.support.contracts import contract, field
from tests.support.publishing import NOW, NULLABLE_TEXT, PERSON, Bench, citizen
from tests.support.sources import AvroInbox

INBOX = "civil.person.inbox"
COUNTED = contract(
    field("name", "string"),
    field("count", ["null", "int"], default=None),
    field("ratio", ["null", "double"], default=None),
    field("share", ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}], default=None),
    field("tags", ["null", {"type": "array", "items": "double"}], default=None),
)
NUMBERS = contract(
    field("name", "string"),
    field("share", ["null", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}], default=None),
    field("ratio", ["null", "double"], default=None),
    field("tags", ["null", {"type": "array", "items": "string"}], default=None),
    field("secret", NULLABLE_TEXT, default=None),
    fields={"secret": {"level": 4}},
)
OTHER = {"type": "record", "name": "Other", "fields": [{"name": "idNumber", "type": "string"}]}


class Office:
    """A department that writes into its inbox, and the connector that reads it."""

    def __init__(self, folder: Path, said: Contract = PERSON, **settings: Any) -> None:
        self.bench = Bench(folder, said, keeps=Keeps.FLIGHT)
        self.folder = folder
        self.settings = settings
        self.bench.broker.ensure(Layout(partitions=1).inbox(said.name))

    def write(self, *values: bytes | None, key: bytes | None = b"any", timestamp: datetime | None = None) -> None:
        at = None if timestamp is None else int(timestamp.timestamp() * 1000)
        self.bench.broker.append_unchecked(INBOX, [Message(key, value, {}) for value in values], at)  # type: ignore[arg-type]

    def avro(self, schema: dict[str, Any], value: dict[str, Any]) -> bytes:
        schema_id = self.bench.registry.register(f"{INBOX}-value", json.dumps(schema))
        return frame(schema_id, _datum(schema, value))

    def person(self, number: int, name: str | None = "甲某") -> bytes:
        row = {"idNumber": citizen(number), "fullName": name, "homeAddress": None, "changed": self.bench.clock()}
        return self.avro(AvroInbox.schema, {**row, "gone": 0, "remark": []})

    def connector(self, **settings: Any) -> KafkaConnector:
        table: dict[str, Any] = {"name": "test", "connector": "kafka", "contract": self.bench.contract.name}
        if self.bench.contract is PERSON:
            table["mapping"] = AvroInbox.names
        return KafkaConnector(
            KafkaSettings.model_validate(table | self.settings | settings),
            self.bench.contract,
            self.bench.means(self.folder),
        )

    def read(self, **settings: Any) -> Outcome:
        return self.bench.read(self.connector(**settings))

    def standing(self) -> dict[int, str]:
        return {int(number): facet["name"] for number, facet in self.bench.facets().items()}


def _datum(schema: dict[str, Any], value: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_what_is_no_record_is_set_aside_with_its_offset_and_the_others_go_on(office: Office) -> None:
    good = office.person(1)
    recursive = {"type": "record", "name": "R", "fields": [{"name": "next", "type": ["null", "R"]}]}
    bad = {
        b"": "not framed",
        b"{}": "not framed",
        b"\x01" + good[1:]: "not framed",
        frame(77, good[5:]): "does not know its schema id 77",
        good[:-1]: "the bytes end before the record does",
        good + b"\0": "bytes are left over",
        frame(1, b"\xff" * 40): "integer of more than 64 bits",
        office.avro(OTHER, {"idNumber": citizen(2)}): "there is no column fullName",
        frame(office.bench.registry.register("x", json.dumps(recursive)), b"\0"): "next: recursive type R",
        office.person(3, name=None): "text expected, null found",
        None: "a message without a value names nobody",
    }
    office.write(good, *bad, office.person(4))
    assert office.read() == Outcome(read=len(bad) + 2, published=2, rejected=len(bad))
    assert office.standing() == {1: "甲某", 4: "甲某"}
    told = office.bench.reasons()
    assert [place for place, _, _ in told] == [f"{INBOX} partition 0 offset {n}" for n in range(1, len(bad) + 1)]
    for (_, _, reason), expected in zip(told, bad.values(), strict=True):
        assert expected in reason
    assert office.read() == Outcome(), "what was set aside is not read again"


def test_no_reject_tells_a_value_of_what_could_not_be_read(office: Office) -> None:
    office.write(office.person(1)[:-1], b"\0\0\0\0\1" + citizen(5).encode())
    office.read()
    for reject in office.bench.rejects():
        assert citizen(1) not in str(reject)
        assert citizen(5) not in str(reject)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spoilt=st.data())
def test_no_bytes_stop_the_connector(office: Office, spoilt: st.DataObject) -> None:
    """Whatever bytes come: each is a record or a reject, and what is written behind them is read."""
    good = bytearray(office.person(1))
    for _ in range(spoilt.draw(st.integers(0, 4))):
        at = spoilt.draw(st.integers(0, len(good) - 1))
        good[at : at + spoilt.draw(st.integers(0, 3))] = spoilt.draw(st.binary(max_size=6))
    office.write(bytes(good), office.person(9))
    outcome = office.read()
    assert outcome.read == 2
    assert outcome.published >= 1
    assert 9 in office.standing()


def test_values_of_every_kind_come_through(tmp_path: Path) -> None:
    office = Office(tmp_path, NUMBERS)
    schema = {
        "type": "record", "name": "kinds", "namespace": "com.example",
        "fields": [
            {"name": "citizen_id", "type": {"type": "string", "avro.java.string": "String"}},
            {"name": "name", "type": "string"},
            {"name": "share", "type": ["null", "string"]},
            {"name": "ratio", "type": "float"},
            {"name": "tags", "type": {"type": "array", "items": "string"}},
            {"name": "secret", "type": "string"},
        ],
    }  # fmt: skip
    row = {"citizen_id": citizen(1), "name": "甲某", "share": "12.50", "ratio": 0.5, "tags": ["a", "b"]}
    office.write(office.avro(schema, {**row, "secret": "canary"}))
    office.write(json.dumps({**row, "citizen_id": citizen(2), "share": 12.5, "secret": "canary"}).encode())
    assert office.read(value="avro").published == 1
    (standing,) = office.bench.facets().values()
    office.bench.cursor = tmp_path / "another.cursor"
    office.bench.source = "civil/second"
    office.write(json.dumps({**row, "citizen_id": citizen(2), "share": 12.5, "secret": "canary"}).encode())
    assert office.read(value="json").published == 2
    for facet in office.bench.facets().values():
        assert {**facet, "citizen_id": "", "secret": None} == {**standing, "citizen_id": "", "secret": None}
        assert facet["share"] == "12.50"
    assert not any(b"canary" in (each.value or b"") for each in office.bench.deliveries())


@pytest.mark.parametrize(
    "value",
    [
        b"", b"[]", b"1", b"null", b"{", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff{}", b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a": ' + b"9" * 5_000 + b"}", b'{"idNumber": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}", b"\xef\xbb\xbf{}",
        b'{"fullName": "\\ud800", "idNumber": "x", "changed": "2026-01-01 00:00:00"}', b'"' + b"x" * 2_000_000 + b'"',
    ],
)  # fmt: skip
def test_json_that_is_no_record_is_a_reject(office: Office, value: bytes) -> None:
    office.write(value)
    assert office.read(value="json") == Outcome(read=1, rejected=1)


NUMBERS_OF_JSON = st.one_of(
    st.integers(0, 10**9).map(lambda exponent: f"1e{exponent}"),
    st.integers(0, 10**9).map(lambda exponent: f"-7.5E-{exponent}"),
    st.integers(1, 5_000).map(lambda digits: "9" * digits),
    st.integers(1, 5_000).map(lambda digits: "0." + "1" * digits),
    st.sampled_from(["1e99999999999999999999", "1e400", "1e308", "-0", "0e0", "0.5", "3", "3.0", "1E2", "-1e-399"]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(member=st.sampled_from(["count", "ratio", "share", "tags", "name", "nobody"]), number=NUMBERS_OF_JSON)
def test_no_number_stops_the_connector(tmp_path: Path, member: str, number: str) -> None:
    """It is a record or a reject within a moment, and what is written behind it is read."""
    office = Office(tmp_path, COUNTED, value="json")
    office.bench.cursor = tmp_path / f"{secrets.token_hex(4)}.cursor"
    value = number if member != "tags" else f"[{number}]"
    text = f'{{"citizen_id": "{citizen(1)}", "name": "x", "{member}": {value}}}'.replace(
        '"name": "x", "name"', '"name"'
    )
    began = time.process_time()
    office.write(text.encode(), json.dumps({"citizen_id": citizen(9), "name": "y"}).encode())
    outcome = office.read()
    assert outcome.read == 2
    assert 9 in office.standing()
    assert time.process_time() - began < 2


def test_what_comes_while_a_reading_goes_on_is_for_the_next_and_published_once(office: Office) -> None:
    office.write(office.person(1))
    broker = office.bench.broker
    read = broker.read

    def and_then_another(topic: str, since: Any = None) -> Any:
        if topic == INBOX and len(broker.messages(INBOX)) < 3:
            office.write(office.person(len(broker.messages(INBOX)) + 1))
        return read(topic, since)

    broker.read = and_then_another
    outcomes = [office.read() for _ in range(4)]
    assert [each.published for each in outcomes] == [1, 1, 1, 0]
    assert sorted(office.bench.sequences()) == [1, 2, 3]
    assert office.standing() == {1: "甲某", 2: "甲某", 3: "甲某"}


def test_what_retention_takes_during_a_reading_is_looked_at_again(office: Office) -> None:
    office.write(*(office.person(number) for number in (1, 2, 3)))
    broker = office.bench.broker
    state = broker.state

    def and_then_retention(topic: str) -> Any:
        found = state(topic)
        if topic == INBOX:
            broker.cut(INBOX, {0: 2})
        return found

    broker.state = and_then_retention
    with pytest.raises(NotReady, match="looked at again"):
        list(office.connector().read({}))
    broker.state = state
    with pytest.raises(SourceRefused, match="retention took offsets 0 to 1 unread"):
        list(office.connector().read({"topic": state(INBOX).id, "0": "0"}))


def test_a_batch_is_bounded_in_bytes_too(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.write(*(office.person(number) for number in range(1, 8)))
    monkeypatch.setattr("connectors.kafka.BATCH_BYTES", 2 * len(office.person(1)))
    assert [len(batch.rows) for batch in office.connector().read({})] == [2, 2, 2, 1]
    assert office.read().published == 7


def test_an_id_that_is_not_known_is_not_asked_for_with_each_message(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    schema = office.bench.registry.schema
    monkeypatch.setattr(office.bench.registry, "schema", lambda schema_id: asked.append(schema_id) or schema(schema_id))
    connector = office.connector()
    office.write(*[frame(1, b"x")] * 50)
    (batch,) = connector.read({})
    assert len(batch.rows) == 50
    assert asked == [1]
    monkeypatch.setattr("connectors.messages.UNKNOWN_SECONDS", 0.0)
    good = office.person(1)  # it is registered now
    connector = office.connector()
    office.write(good)
    rows = [row for batch in connector.read({}) for row in batch.rows]
    assert rows[-1].rejected is None


def test_an_inbox_that_was_made_again_is_refused(office: Office) -> None:
    office.write(office.person(1))
    office.read()
    office.bench.broker.recreate(INBOX)
    office.write(office.person(2), office.person(3))
    with pytest.raises(SourceRefused, match="was made again"):
        office.read()
    assert office.standing() == {1: "甲某"}


def test_what_retention_took_unread_is_an_alarm_and_the_way_on_is_named(office: Office) -> None:
    office.write(office.person(1))
    office.read()
    office.write(*(office.person(number) for number in (2, 3, 4)))
    office.bench.broker.cut(INBOX, {0: 3})
    with pytest.raises(SourceRefused, match=r'offsets 1 to 2 unread.*passed = "go_on"'):
        office.read()
    assert office.read(passed="go_on").published == 1
    assert office.standing() == {1: "甲某", 4: "甲某"}
    assert office.read() == Outcome(), "from then on it need not be set"


def test_its_as_of_is_when_it_was_written_last_and_never_later_than_now(office: Office) -> None:
    yesterday = NOW - timedelta(days=1)
    office.write(office.person(1), timestamp=yesterday)
    office.read()
    assert office.bench.watermarks()[-1].as_of == yesterday
    office.write(office.person(2), timestamp=NOW + timedelta(days=9))
    office.read()
    assert office.bench.watermarks()[-1].as_of == NOW
    office.write(office.person(3), timestamp=yesterday)
    office.read()
    assert office.bench.watermarks()[-1].as_of == NOW, "an as-of does not go back"


def test_a_heartbeat_says_that_all_was_told_and_is_no_record(office: Office) -> None:
    office.write(office.person(1), timestamp=NOW - timedelta(hours=2))
    office.read()
    office.write(None, key=None, timestamp=NOW - timedelta(hours=1))
    assert office.read() == Outcome()
    assert office.bench.watermarks()[-1].as_of == NOW - timedelta(hours=1)


@pytest.mark.parametrize("form", ["avro", "json"])
def test_a_heartbeat_may_have_a_field_of_its_own(tmp_path: Path, form: str) -> None:
    """As Debezium's has, which cannot be told to send none. Whatever has more fields, or another, is no heartbeat."""
    office = Office(tmp_path, value=form)

    def write(row: dict[str, Any], at: datetime) -> None:
        fields = [{"name": name, "type": "long"} for name in row]
        schema = {"type": "record", "name": "Heartbeat", "fields": fields}
        value = office.avro(schema, row) if form == "avro" else json.dumps(row).encode()
        office.write(value, timestamp=at)

    write({"ts_ms": 1}, NOW - timedelta(hours=3))
    assert office.read(heartbeat="ts_ms") == Outcome()
    assert office.bench.watermarks()[-1].as_of == NOW - timedelta(hours=3)
    for row in ({"ts_ms": 1, "other": 2}, {"other": 2}, {"ts_mS": 1}):
        write(row, NOW - timedelta(hours=2))
    assert office.read(heartbeat="ts_ms") == Outcome(read=3, rejected=3)
    write({"ts_ms": 1}, NOW - timedelta(hours=1))
    assert office.read() == Outcome(read=1, rejected=1), "unless it is set there are none"


def test_nothing_is_said_again_while_nothing_comes(office: Office) -> None:
    office.write(office.person(1))
    connector = office.connector()
    (batch,) = connector.read({})
    position = {name: value for name, value in batch.position.items() if value is not None}
    assert list(connector.read(position)) == []
    office.write(office.person(2))
    (batch,) = connector.read(position)
    assert len(batch.rows) == 1


def test_an_inbox_in_which_nobody_has_written_says_nothing(office: Office) -> None:
    (batch,) = office.connector().read({})
    assert batch.end is None
    assert not batch.rows


def test_a_registry_that_is_away_is_waited_for(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.write(office.person(1))
    connector = office.connector()

    def away(schema_id: int) -> str:
        raise RegistryUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(office.bench.registry, "schema", away)
        with pytest.raises(RegistryUnavailable):
            list(connector.read({}))
    (batch,) = connector.read({})
    assert [row.rejected for row in batch.rows] == [None]


def test_check_says_whether_the_newest_schema_fits(office: Office) -> None:
    def found() -> list[tuple[Weight, str]]:
        return [(each.weight, each.text) for each in office.connector().check()]

    assert (Weight.NOTE, "no schema is registered yet") in found()
    office.person(1)
    assert (Weight.NOTE, "version 1 gives citizen_id, name, address, updated_at") in found()
    office.avro(OTHER, {"idNumber": ""})
    why = "version 2 does not fit, its messages become rejects: the message: there is no column fullName"
    assert (Weight.NOTE, why) in found(), "what somebody registers does not stop the connector at its next start"


def test_columns_by_position_are_refused() -> None:
    with pytest.raises(ValidationError, match="names, not positions"):
        KafkaSettings.model_validate({"name": "x", "connector": "kafka", "contract": "a.b", "mapping": {"name": 2}})


def _of(name: str, type_: str) -> str:
    return f'{{"type": "record", "name": "R", "fields": [{{"name": {name}, "type": {type_}}}]}}'


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ("[]", "type record"),
        ('"string"', "type record"),
        ("{", "not JSON"),
        ('{"type": "record", "name": "R", "fields": []}', "without fields"),
        (_of('"a"', '{"type": "array", "items": "null"}'), "no bytes"),
        (_of('"a"', '["int", "string"]'), "union"),
        (_of('"a b"', '"int"'), "ASCII letters"),
        (_of('"a"', '"Unknown"'), "unknown type"),
    ],
)  # fmt: skip
def test_a_shape_that_could_be_misread_or_unfold_without_bound_is_refused(schema: str, reason: str) -> None:
    with pytest.raises(ContractRefused, match=reason):
        Shape.from_text(schema)


def test_a_shape_reads_as_fastavro_writes() -> None:
    schema = AvroInbox.schema
    now = datetime(2026, 3, 1, 8, 5, tzinfo=UTC)
    value = {"idNumber": "x", "fullName": None, "homeAddress": "y", "changed": now, "gone": -3, "remark": ["a", "b"]}
    shape = Shape.from_text(json.dumps(schema))
    assert dict(zip(shape.fields, shape.cells(_datum(schema, value)), strict=True)) == value
    with pytest.raises(Rejected, match="1 MiB"):
        shape.cells(b"\0" * (1 << 20))


# --- on a real Kafka --------------------------------------------------------------------------------------------------


@pytest.mark.services
def test_a_real_inbox_is_read_on_where_it_ended(tmp_path: Path, kafka_servers: str) -> None:
    """With a transaction's end in it, which takes an offset and is no message, and with times that the producer set."""
    said = contract(field("name", "string"), name="Person" + secrets.token_hex(4).capitalize())
    office = Office(tmp_path, said, value="json")
    written = NOW - timedelta(hours=1)
    with closing(KafkaBroker(kafka_servers)) as broker:
        office.bench.broker = broker
        assert office.connector().check()[0].text == "there is no such topic yet; `run` makes it"
        assert [batch.end for batch in office.connector().read({})] == [None]

        def shown(count: int) -> None:
            """A commit returns when it is certain; partitions hear of it a moment later, and show it then only."""
            until(lambda: sum(1 for _ in broker.read(f"{said.name}.inbox")) == count)

        producer = Producer({"bootstrap.servers": kafka_servers, "transactional.id": said.name})
        producer.init_transactions(30)
        for numbers in ((1, 2, 3), (4, 5)):
            producer.begin_transaction()
            for number in numbers:
                value = json.dumps({"citizen_id": citizen(number), "name": f"name {number}"})
                producer.produce(f"{said.name}.inbox", value, None, timestamp=int(written.timestamp() * 1000))
            producer.commit_transaction(30)
            shown(max(numbers))
            assert office.read() == Outcome(read=len(numbers), published=len(numbers))
        # One that is still open hides what stands behind it too; nothing of that is passed over.
        producer.begin_transaction()
        producer.produce(f"{said.name}.inbox", json.dumps({"citizen_id": citizen(6), "name": "name 6"}), b"k")
        producer.flush(10)
        plain = Producer({"bootstrap.servers": kafka_servers})
        plain.produce(f"{said.name}.inbox", json.dumps({"citizen_id": citizen(7), "name": "name 7"}), b"k")
        assert plain.flush(10) == 0
        assert office.read() == Outcome()
        producer.commit_transaction(30)
        shown(7)
        assert office.read() == Outcome(read=2, published=2)
        producer.begin_transaction()
        producer.produce(f"{said.name}.inbox", json.dumps({"citizen_id": citizen(8), "name": "taken back"}), b"k")
        producer.flush(10)
        producer.abort_transaction(30)
        assert office.read() == Outcome()
        assert office.standing() == {number: f"name {number}" for number in range(1, 8)}
        last = office.bench.watermarks()
        assert [each.as_of for each in last if each.contract == said.name][:2] == [written, written]
