"""Topics made, described and cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from exchange.errors import BrokerUnavailable
from exchange.kafka.client import LARGEST, Client, meaning
from exchange.topics import COMPACTION_HOURS, DELETIONS_DAYS, TopicSpec

T = TypeVar("T")
PATIENCE = 10.0  # seconds for one answer
HOUR_MS = 3_600_000
_POLICY = "cleanup.policy"
# What a topic says that was just made, or whose leader is moving: Java's client tries again after the same
# (org.apache.kafka.common.errors.InvalidMetadataException and its kin), librdkafka's ListOffsets does not.
_SOON = frozenset({
    KafkaError._NOENT, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.REPLICA_NOT_AVAILABLE, KafkaError.OFFSET_NOT_AVAILABLE, KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.LISTENER_NOT_FOUND, KafkaError.NETWORK_EXCEPTION,
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Described:
    """A topic's identity: `id` is made with the topic, so that a re-created one has another."""

    id: str
    partitions: int


class Admin:
    """An AdminClient, made when it is first needed; may be called from any thread."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._admin: AdminClient | None = None
        self._last_error: KafkaError | None = None  # why nothing answers: a refused log-in shows only here

    def close(self) -> None:
        """Let go of the connection; another call makes a new one."""
        with self._lock:
            self._admin = None

    def ensure(self, spec: TopicSpec) -> None:
        """Create the topic if there is none of this name, and wait until its partitions can be written.

        Raises BrokerUnavailable; SettingWrong if the cluster refuses it.
        """
        if spec.name in self.describe([spec.name]):
            return
        topic = NewTopic(spec.name, spec.partitions, spec.replication, config=config_of(spec))
        try:
            self.result(self.opened().create_topics([topic], request_timeout=PATIENCE)[spec.name], spec.name)
        except KafkaException as problem:
            if problem.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # else another process was faster
                raise meaning(problem.args[0], f"topic {spec.name}") from problem
        self._wait_for_leaders(spec.name)

    def describe(self, topics: Sequence[str]) -> dict[str, Described]:
        """The topics of these names that exist. Raises BrokerUnavailable, SettingWrong."""
        found = {}
        for name, future in self.describing(topics).items():
            described = self.described(future, name)
            if described is not None:
                found[name] = described
        return found

    def describing(self, topics: Iterable[str]) -> Mapping[str, Future[Any]]:
        """Ask without waiting."""
        return self.opened().describe_topics(TopicCollection(list(topics)), request_timeout=PATIENCE)

    def described(self, future: Future[Any], name: str) -> Described | None:
        """The answer to `describing`; None if there is no such topic. Raises BrokerUnavailable, SettingWrong."""
        try:
            description = self.result(future, f"topic {name}")
        except KafkaException as problem:
            if problem.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            raise meaning(problem.args[0], f"topic {name}") from problem
        return Described(str(description.topic_id), len(description.partitions))

    def bounds(self, topic: str, partitions: int) -> dict[int, tuple[int, int]]:
        """Per partition the earliest and the next offset. Raises BrokerUnavailable, TopicChanged."""
        earliest = self._offsets(topic, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        latest = self._offsets(topic, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        return {partition: (earliest[partition], latest[partition]) for partition in range(partitions)}

    def cut(self, topic: str, before: Mapping[int, int]) -> None:
        """Drop what lies below these offsets. Raises BrokerUnavailable, SettingWrong.

        Kafka refuses it for a topic that is compacted only (ReplicaManager.deleteRecords), so its policy is another one
        for that moment; its retention is set, so that nothing else goes meanwhile.
        """
        resource = ConfigResource(ResourceType.TOPIC, topic)
        (described,) = self.opened().describe_configs([resource], request_timeout=PATIENCE).values()
        policy = str(self.answer(described, f"topic {topic}")[_POLICY].value)
        if "delete" not in policy:
            self.configure(topic, {_POLICY: "compact,delete"})
        try:
            self._delete_records([TopicPartition(topic, partition, offset) for partition, offset in before.items()])
        finally:
            if "delete" not in policy:
                self.configure(topic, {_POLICY: policy})

    def configure(self, topic: str, settings: Mapping[str, str]) -> None:
        """Set these settings of a topic; others stay. Raises BrokerUnavailable, SettingWrong."""
        entries = [
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in settings.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        (future,) = self.opened().incremental_alter_configs([resource]).values()
        self.answer(future, f"topic {topic}")

    def size(self) -> int:
        """How many brokers the cluster has. Raises BrokerUnavailable, SettingWrong."""
        try:
            described = self.result(self.opened().describe_cluster(request_timeout=PATIENCE), "the cluster")
        except KafkaException as problem:
            raise meaning(problem.args[0], "the cluster") from problem
        return len(described.nodes)

    def _delete_records(self, places: list[TopicPartition]) -> None:
        """A broker that has not heard of the topic's new policy yet is asked again."""
        end = time.monotonic() + PATIENCE
        while places:
            refused = []
            for place, future in self.opened().delete_records(places, request_timeout=PATIENCE).items():
                try:
                    self.result(future, f"topic {place.topic}")
                except KafkaException as problem:
                    if problem.args[0].code() != KafkaError.POLICY_VIOLATION or time.monotonic() > end:
                        raise meaning(problem.args[0], f"topic {place.topic}") from problem
                    refused.append(place)
            places = refused
            time.sleep(0.05 if places else 0)

    def _wait_for_leaders(self, topic: str) -> None:
        """A topic that was just made cannot be written, nor its offsets listed, until each partition has a leader."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with suppress(KafkaException):
                description = self.result(self.describing([topic])[topic], f"topic {topic}")
                if all(partition.leader is not None for partition in description.partitions):
                    return
            time.sleep(0.02)
        raise BrokerUnavailable(f"topic {topic} was made, but its partitions have no leader")

    def _offsets(self, topic: str, partitions: int, spec: OffsetSpec) -> dict[int, int]:
        end = time.monotonic() + PATIENCE
        while True:
            asked = {TopicPartition(topic, partition): spec for partition in range(partitions)}
            # What a transaction that is still open has written is not there yet: nobody may pass over it.
            futures = self.opened().list_offsets(
                asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=PATIENCE / 3
            )
            try:
                return {
                    place.partition: self.result(future, f"topic {topic}").offset for place, future in futures.items()
                }
            except KafkaException as problem:
                if problem.args[0].code() not in _SOON or time.monotonic() > end:
                    raise meaning(problem.args[0], f"topic {topic}") from problem
            time.sleep(0.1)

    def opened(self) -> AdminClient:
        """The client of the administration; the answers of its calls go to `result`."""
        with self._lock:
            if self._admin is None:
                self._admin = AdminClient(self._client.admin(self._note))
            return self._admin

    def _note(self, error: KafkaError) -> None:
        self._last_error = error

    def answer(self, future: Future[T], what: str) -> T:
        """The future's result. Raises what a refusal means."""
        try:
            return self.result(future, what)
        except KafkaException as problem:
            raise meaning(problem.args[0], what) from problem

    def result(self, future: Future[T], what: str) -> T:
        """The future's result. A silence is told with the last thing that was heard of the connection."""
        try:
            return future.result(PATIENCE + 1)
        except (FutureTimeout, KafkaException) as problem:
            silence = isinstance(problem, FutureTimeout) or problem.args[0].code() in (
                KafkaError._TIMED_OUT,
                KafkaError._TRANSPORT,
            )
            if not silence:
                raise
            heard = self._last_error
            if heard is not None:
                raise meaning(heard, f"the cluster at {self._client.servers}") from problem
            raise BrokerUnavailable(f"{what}: {self._client.servers} does not answer") from problem


def config_of(spec: TopicSpec) -> dict[str, str]:
    """The topic's configuration. Only what differs from a broker's defaults or must not depend on them."""
    config: dict[str, Any] = {
        "max.message.bytes": LARGEST,
        "min.insync.replicas": 2 if spec.replication >= 3 else 1,
        "unclean.leader.election.enable": "false",
    }
    if spec.compacted:
        config[_POLICY] = "compact" if spec.retention_days is None else "compact,delete"
        config["max.compaction.lag.ms"] = COMPACTION_HOURS * HOUR_MS
        config["delete.retention.ms"] = DELETIONS_DAYS * 24 * HOUR_MS
    else:
        config[_POLICY] = "delete"
    config["retention.ms"] = -1 if spec.retention_days is None else spec.retention_days * 24 * HOUR_MS
    return {name: str(value) for name, value in config.items()}
