"""Topics on Apache Kafka: the protocols of exchange.topics over librdkafka, the only user of confluent_kafka.

In reading order:

    client        configurations, and what Kafka's errors mean here
    admin         topics made, described and cut
    access        who may do what, and how topics are configured
    quotas        how much a user may write and read
    partitioner   which partition a key belongs to, as Kafka's own clients have it
    publisher     the Publisher
    feed          the Feed: one member of a consumer group
    reading       a whole topic once
    __init__      KafkaBroker, which makes them
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from exchange.errors import TopicChanged
from exchange.kafka.access import Access
from exchange.kafka.admin import Admin
from exchange.kafka.client import Client, Properties
from exchange.kafka.feed import KafkaFeed
from exchange.kafka.publisher import KafkaPublisher
from exchange.kafka.reading import read_topic
from exchange.records import Delivery
from exchange.topics import Assignments, TopicSpec, TopicState, check_cut

if TYPE_CHECKING:
    from exchange.kafka.quotas import Quotas

__all__ = ["KafkaBroker", "KafkaFeed", "KafkaPublisher"]


class KafkaBroker:
    """A Broker on the cluster whose first contacts are `servers` (host:port, separated by commas).

    `properties` go to librdkafka as they are (TLS, SASL, timeouts). Those that would break what Publisher and Feed
    promise are refused with SettingWrong. `member` is this process's name in every consumer group it joins: one that no
    other living process has and that its successor gets. With it, a process that was killed goes on as soon as it is
    back; one that stays away, killed or stopped, is replaced after `session.timeout.ms`.
    """

    def __init__(self, servers: str, properties: Properties | None = None, member: str | None = None) -> None:
        self._client = Client(servers, properties or {})
        self._admin = Admin(self._client)
        self._member = member

    def ensure(self, spec: TopicSpec) -> None:
        """See Broker. Raises SettingWrong if the cluster refuses the topic."""
        self._admin.ensure(spec)

    def state(self, topic: str) -> TopicState | None:
        """See Broker."""
        found = self._admin.describe([topic]).get(topic)
        if found is None:
            return None
        try:
            return TopicState(topic, found.id, self._admin.bounds(topic, found.partitions))
        except TopicChanged:  # deleted since it was found
            return None

    def publisher(self) -> KafkaPublisher:
        """See Broker."""
        return KafkaPublisher(self._client, self._admin)

    def feed(self, group: str, topics: Sequence[str], assignments: Assignments) -> KafkaFeed:
        """See Broker."""
        return KafkaFeed(self._client, self._admin, group, topics, assignments, self._member)

    def read(self, topic: str, since: Mapping[int, int] | None = None) -> Iterator[Delivery]:
        """See Broker."""
        return read_topic(self._client, self._admin, topic, since)

    def cut(self, topic: str, before: Mapping[int, int]) -> None:
        """See Broker. Raises SettingWrong if the cluster refuses it."""
        found = self._admin.describe([topic]).get(topic)
        if found is None:
            raise TopicChanged(f"there is no topic {topic}")
        check_cut(topic, self._admin.bounds(topic, found.partitions), before)
        self._admin.cut(topic, before)

    def access(self) -> Access:
        """Who may do what on the cluster."""
        return Access(self._admin)

    def quotas(self) -> Quotas:
        """How much its users may write and read."""
        from exchange.kafka.quotas import Quotas  # here: no other process loads a second client

        return Quotas(self._client.servers, self._client.properties)

    def size(self) -> int:
        """How many brokers the cluster has. Raises BrokerUnavailable, SettingWrong."""
        return self._admin.size()

    def tidy(self) -> None:
        """See Broker: Kafka compacts by itself."""

    def close(self) -> None:
        """See Broker."""
        self._admin.close()
