"""How many bytes a second a user of the cluster may write and read, at each broker (KIP-13, KIP-546).

librdkafka has no call for it; kafka-python has the messages but no call either, so they go through its administration
client, which knows brokers, log-in and versions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaError
from kafka.protocol.admin.client_quotas import AlterClientQuotasRequest, DescribeClientQuotasRequest

from exchange.errors import BrokerUnavailable, SettingWrong
from exchange.kafka.access import READ, WRITTEN
from exchange.kafka.client import Properties

PATIENCE_MS = 10_000
_ANY_USER = 2  # the filter's match type: every user that is named

_SPELLED = {
    "security.protocol": "security_protocol",
    "sasl.mechanism": "sasl_mechanism",
    "sasl.mechanisms": "sasl_mechanism",
    "sasl.username": "sasl_plain_username",
    "sasl.password": "sasl_plain_password",
    "ssl.ca.location": "ssl_cafile",
    "ssl.certificate.location": "ssl_certfile",
    "ssl.key.location": "ssl_keyfile",
    "ssl.key.password": "ssl_password",
}
logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what it finds is raised


class Quotas:
    """The quotas of a cluster's users. Every call raises BrokerUnavailable or SettingWrong."""

    def __init__(self, servers: str, properties: Properties) -> None:
        self._servers = servers
        self._options = _options(properties)

    def standing(self) -> dict[str, dict[str, float]]:
        """By user, what is set of WRITTEN and READ."""
        component = DescribeClientQuotasRequest.ComponentData(entity_type="user", match_type=_ANY_USER, match=None)
        with self._client() as client:
            answer = _sent(client, DescribeClientQuotasRequest(components=[component], strict=True))
        _refuse(answer)
        return {
            entry.entity[0].entity_name: {
                value.key: value.value for value in entry.values if value.key in (WRITTEN, READ)
            }
            for entry in answer.entries or ()
        }

    def set(self, changes: Mapping[tuple[str, str], float | None]) -> None:
        """Set what a user may do, by (user, WRITTEN or READ); None lifts it."""
        kind = AlterClientQuotasRequest.EntryData
        entries = [
            kind(
                entity=[kind.EntityData(entity_type="user", entity_name=user)],
                ops=[kind.OpData(key=key, value=rate or 0.0, remove=rate is None)],
            )
            for (user, key), rate in changes.items()
        ]
        if not entries:
            return
        with self._client() as client:
            answer = _sent(client, AlterClientQuotasRequest(entries=entries, validate_only=False))
        for entry in answer.entries:
            _refuse(entry)

    @contextmanager
    def _client(self) -> Iterator[Any]:
        try:
            client = KafkaAdminClient(
                bootstrap_servers=self._servers.split(","), request_timeout_ms=PATIENCE_MS, **self._options
            )
        except (KafkaError, OSError, ValueError) as problem:
            raise BrokerUnavailable(f"the cluster at {self._servers}: {type(problem).__name__}") from None
        try:
            yield client
        except KafkaError as problem:
            raise BrokerUnavailable(f"the cluster at {self._servers}: {type(problem).__name__}") from None
        finally:
            client.close()


def _options(properties: Properties) -> dict[str, Any]:
    """librdkafka's properties in kafka-python's spelling. Raises SettingWrong for a log-in that it does not have."""
    unknown = [name for name in properties if name.startswith(("sasl.", "ssl.", "security.")) and name not in _SPELLED]
    if unknown:
        raise SettingWrong(
            f"broker.properties.{unknown[0]}: quotas cannot be set with it; take [broker.quotas] out of the settings"
        )
    options: dict[str, Any] = {_SPELLED[name]: value for name, value in properties.items() if name in _SPELLED}
    if "security_protocol" in options:
        options["security_protocol"] = str(options["security_protocol"]).upper()
    return options


def _sent(client: Any, request: Any) -> Any:
    return client._manager.run(client._manager.send, request)


def _refuse(answer: Any) -> None:
    if answer.error_code:
        raise SettingWrong(f"the cluster refuses quotas: {answer.error_message or answer.error_code}")
