"""A Kafka of this machine that asks who it is (SASL/SCRAM) and has access rules, and those who log in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from exchange.kafka import KafkaBroker
from tests.support.services import LocalServices


class Secured:
    """A Kafka with SASL/SCRAM and access rules, and the passwords of those who log in."""

    def __init__(self, services: LocalServices) -> None:
        self.servers = services.start("kafka", "--secured")
        self._passwords = {"admin": (services.folder / "kafka" / "admin.password").read_text()}

    def properties(self, user: str) -> dict[str, str]:
        return {
            "security.protocol": "sasl_plaintext", "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user, "sasl.password": self._passwords[user],
        }  # fmt: skip

    def add(self, *users: str) -> None:
        admin = AdminClient({"bootstrap.servers": self.servers, **self.properties("admin")})
        for user in users:
            self._passwords[user] = f"password of {user}"
            info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
            change = UserScramCredentialUpsertion(user, info, self._passwords[user].encode())
            for future in admin.alter_user_scram_credentials([change]).values():
                future.result(10)

    @contextmanager
    def broker(self, user: str) -> Iterator[KafkaBroker]:
        with closing(KafkaBroker(self.servers, self.properties(user))) as broker:
            yield broker

    def write(self, user: str, topic: str, value: bytes, **options: str) -> KafkaError | None:
        """Produce as a foreign client does; the error, if it is refused."""
        told: list[KafkaError | None] = []
        producer = Producer({"bootstrap.servers": self.servers, **self.properties(user), **options})
        producer.produce(topic, value, b"k", on_delivery=lambda error, _: told.append(error))
        assert producer.flush(15) == 0
        return told[0]

    def read(self, user: str, topic: str, group: str) -> int | KafkaError:
        """Consume as a foreign client does: how many messages, or the error."""
        options = {"group.id": group, "auto.offset.reset": "earliest", "enable.partition.eof": True}
        consumer = Consumer({"bootstrap.servers": self.servers, **self.properties(user), **options})
        consumer.subscribe([topic])
        found, ended, deadline = 0, 0, time.monotonic() + 20
        try:
            while time.monotonic() < deadline and ended < 2:
                message = consumer.poll(0.5)
                error = None if message is None else message.error()
                if error is not None and error.code() != KafkaError._PARTITION_EOF:
                    return error
                ended += error is not None
                found += message is not None and error is None
        finally:
            consumer.close()
        return found
