"""Foreign clients against a running gateway, as a department installs them: Confluent's for Python, two for Node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.schema_registry_client import (
    ConfigCompatibilityLevel,
    Metadata,
    MetadataProperties,
    ServerConfig,
)
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.support.registry_site import SECRET, Site, registry_site
from tests.support.services import skip_or_fail

NODE = Path(__file__).parent / "clients" / "node"
TOPIC = "hotline.call.inbox"
SUBJECT = f"{TOPIC}-value"
CALL = {"ticket": "T-1", "minutes": 7, "topic": "Straßenlicht 路灯"}


def record(*fields: dict[str, Any]) -> str:
    return json.dumps({"type": "record", "name": "Call", "namespace": "gov.hotline", "fields": fields})


TICKET, MINUTES = {"name": "ticket", "type": "string"}, {"name": "minutes", "type": "int"}
TOPIC_FIELD = {"name": "topic", "type": ["null", "string"], "default": None}
ONE, TWO = record(TICKET, MINUTES), record(TICKET, MINUTES, TOPIC_FIELD)
BREAKS = record(TICKET, MINUTES, {"name": "town", "type": "string"})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with registry_site(tmp_path) as running:
        yield running


def client(site: Site, client_id: str = "hotline-push", **more: Any) -> SchemaRegistryClient:
    return SchemaRegistryClient({**site.credentials(client_id), "max.retries": 0, **more})


def refused(status: int, code: int, call: Any, *given: Any) -> None:
    with pytest.raises(SchemaRegistryError) as caught:
        call(*given)
    assert (caught.value.http_status_code, caught.value.error_code) == (status, code)


def test_confluents_python_client_registers_evolves_looks_up_and_deletes(site: Site) -> None:
    registry, reader = client(site), client(site, "civil-push")
    first = registry.register_schema(SUBJECT, Schema(ONE, "AVRO"))
    second = registry.register_schema(SUBJECT, Schema(TWO, "AVRO"))
    assert second > first
    refused(409, 409, registry.register_schema, SUBJECT, Schema(BREAKS))
    refused(403, 403, reader.register_schema, SUBJECT, Schema(ONE))
    refused(422, 42201, registry.register_schema, SUBJECT, Schema("{}", "JSON"))
    assert json.loads(reader.get_schema(second).schema_str) == json.loads(TWO)
    found = reader.lookup_schema(SUBJECT, Schema(ONE, "AVRO"))
    assert (found.schema_id, found.version, found.subject) == (first, 1, SUBJECT)
    assert json.loads(reader.get_schema_by_guid(found.guid).schema_str) == json.loads(ONE)
    assert reader.get_latest_version(SUBJECT).schema_id == second
    assert reader.get_version(SUBJECT, 1).schema_id == first
    assert reader.get_versions(SUBJECT) == [1, 2]
    assert reader.get_subjects(subject_prefix="hotline.call.inbox") == [SUBJECT]
    assert reader.get_subjects_by_schema_id(first) == [SUBJECT]
    assert [(one.subject, one.version) for one in reader.get_schema_versions(first)] == [(SUBJECT, 1)]
    assert reader.get_schema_types() == ["AVRO"]
    assert reader.get_contexts() == ["."]
    assert reader.test_compatibility(SUBJECT, Schema(BREAKS)) is False
    assert reader.test_compatibility_all_versions(SUBJECT, Schema(TWO)) is True
    assert registry.delete_version(SUBJECT, 2) == 2
    refused(404, 40402, registry.get_version, SUBJECT, 2)
    assert registry.delete_subject(SUBJECT) == [1]
    assert registry.delete_subject(SUBJECT, permanent=True) == [1, 2]
    refused(404, 40401, registry.get_latest_version, SUBJECT)


def test_confluents_python_client_sets_levels_modes_metadata_and_references(site: Site) -> None:
    registry = client(site)
    assert registry.get_compatibility() == "BACKWARD_TRANSITIVE"
    assert registry.set_compatibility(SUBJECT, "FULL")["compatibility"] == "FULL"
    assert registry.get_compatibility(SUBJECT) == "FULL"
    registry.set_config(SUBJECT, ServerConfig(compatibility=ConfigCompatibilityLevel.NONE))
    assert registry.get_config(SUBJECT).compatibility_level is ConfigCompatibilityLevel.NONE
    registry.delete_config(SUBJECT)
    refused(404, 40408, registry.get_compatibility, SUBJECT)
    refused(403, 403, registry.set_compatibility, None, "NONE")
    refused(422, 42205, client(site, "civil-push").set_compatibility, "civil.person.v1-value", "NONE")
    assert registry.get_global_mode() == "READWRITE"
    assert registry.update_mode(SUBJECT, "READONLY") == "READONLY"
    refused(422, 42205, registry.register_schema, SUBJECT, Schema(ONE))
    registry.delete_mode(SUBJECT)
    metadata = Metadata(tags=None, properties=MetadataProperties({"owner": "hotline"}), sensitive=None)
    registry.register_schema("hotline.street", Schema('{"type":"enum","name":"Street","symbols":["N","S"]}', "AVRO"))
    using = Schema(
        '{"type":"map","values":"Street"}', "AVRO", [SchemaReference("Street", "hotline.street", 1)], metadata
    )
    made = registry.register_schema_full_response(SUBJECT, using)
    assert registry.get_referenced_by("hotline.street", 1) == [made.schema_id]
    assert registry.get_latest_with_metadata(SUBJECT, {"owner": "hotline"}).schema_id == made.schema_id
    read = client(site).get_schema(made.schema_id)
    assert [(one.name, one.subject, one.version) for one in read.references] == [("Street", "hotline.street", 1)]
    refused(422, 42206, registry.delete_subject, "hotline.street")


def test_confluents_serializer_and_deserializer_meet_through_the_registry(site: Site) -> None:
    context = SerializationContext(TOPIC, MessageField.VALUE)
    written = AvroSerializer(client(site), TWO)(CALL, context)
    assert AvroDeserializer(client(site, "civil-push"))(written, context) == CALL
    assert AvroDeserializer(client(site), ONE)(written, context) == {"ticket": "T-1", "minutes": 7}
    refused(409, 409, AvroSerializer(client(site), BREAKS), {**CALL, "town": "x"}, context)


def test_a_wrong_secret_is_401(site: Site) -> None:
    refused(401, 401, client(site, **{"basic.auth.user.info": "hotline-push:wrong"}).get_subjects)


@pytest.mark.services
def test_what_a_python_producer_writes_a_consumer_reads(site: Site, kafka_servers: str) -> None:
    topic = f"hotline.call_{uuid.uuid4().hex[:8]}.inbox"
    admin = AdminClient({"bootstrap.servers": kafka_servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(30)
    context = SerializationContext(topic, MessageField.VALUE)
    producer = Producer({"bootstrap.servers": kafka_servers, "enable.idempotence": True})
    for schema, value in ((ONE, {"ticket": "T-0", "minutes": 1}), (TWO, CALL)):
        producer.produce(topic, key="k", value=AvroSerializer(client(site), schema)(value, context))
    assert producer.flush(30) == 0
    consumer = Consumer(
        {"bootstrap.servers": kafka_servers, "group.id": topic, "auto.offset.reset": "earliest",
         "enable.auto.commit": False}
    )  # fmt: skip
    consumer.subscribe([topic])
    decode, found, end = AvroDeserializer(client(site, "civil-push"), TWO), [], time.monotonic() + 60
    while len(found) < 2 and time.monotonic() < end:
        message = consumer.poll(1.0)
        if message is not None and message.error() is None:
            found.append(decode(message.value(), context))
    consumer.close()
    assert found == [{"ticket": "T-0", "minutes": 1, "topic": None}, CALL]


@pytest.mark.slow
@pytest.mark.services
def test_two_clients_for_node_register_evolve_produce_and_read(site: Site, kafka_servers: str) -> None:
    """Both are what npm installs from tests/clients/node/package-lock.json (`make test-services` installs it)."""
    if shutil.which("node") is None or not (NODE / "node_modules").is_dir():
        skip_or_fail("no Node, or its clients are not installed: run `make test-services`")
    ran = subprocess.run(
        ["node", str(NODE / "registry.js")],
        env={
            "PATH": os.environ["PATH"], "REGISTRY": site.url, "CLIENT": "hotline-push", "SECRET": SECRET,
            "KAFKA": kafka_servers, "SUFFIX": uuid.uuid4().hex[:8],
        },
        capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == ["@confluentinc/schemaregistry: ok", "@kafkajs/confluent-schema-registry: ok"]
    assert {entry.act for entry in site.city.log.entries if entry.outcome == "done"} == {
        "register", "schema level", "schema delete", "schema delete permanent",
    }  # fmt: skip
