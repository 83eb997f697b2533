"""Who may do what on the cluster, and how its topics are configured: read, and made as they should be.

What is granted here is always an allowance; what a cluster denies is its operator's own affair.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ConfigResource,
    ResourcePatternType,
    ResourceType,
)

from exchange.errors import SettingWrong
from exchange.kafka.admin import Admin, config_of
from exchange.kafka.client import meaning
from exchange.topics import TopicSpec

Resource = Literal["topic", "group", "transactional_id", "cluster"]

WRITTEN, READ = "producer_byte_rate", "consumer_byte_rate"  # Kafka's names of its two quotas of bytes a second

_RESOURCES: Mapping[Resource, Any] = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactional_id": ResourceType.TRANSACTIONAL_ID,
    "cluster": ResourceType.BROKER,  # librdkafka's word for it
}
_WORDS = {value: word for word, value in _RESOURCES.items()}


class Acl(NamedTuple):
    """An allowance: `principal` (`User:civil-producer`) may do `operation` (`read`, `write`, ...) on a resource.

    `host` is an address that it must come from.
    `prefixed`: on every resource whose name begins with `name`.
    """

    principal: str
    operation: str
    resource: Resource
    name: str
    prefixed: bool = False
    host: str = "*"

    def __str__(self) -> str:
        name = f"{self.name}{'...' if self.prefixed else ''}"
        return f"{self.principal} may {self.operation} {self.resource} {name}" + (
            "" if self.host == "*" else f" from {self.host}"
        )

    def covers(self, resource: Resource, name: str) -> bool:
        """Whether it allows something on this resource."""
        return self.resource == resource and (
            self.name in (name, "*") or (self.prefixed and name.startswith(self.name))
        )


class Access:
    """The cluster's allowances and its topics' settings. Every call raises BrokerUnavailable or SettingWrong."""

    def __init__(self, admin: Admin) -> None:
        self._admin = admin

    def acls(self) -> set[Acl]:
        """All allowances."""
        anybody: Any = None
        everything = AclBindingFilter(
            ResourceType.ANY,
            anybody,
            ResourcePatternType.ANY,
            anybody,
            anybody,
            AclOperation.ANY,
            AclPermissionType.ALLOW,
        )
        found = self._answer(self._admin.opened().describe_acls(everything), "its access rules")
        return {
            Acl(
                each.principal,
                each.operation.name.lower(),
                _WORDS[each.restype],
                each.name,
                each.resource_pattern_type is ResourcePatternType.PREFIXED,
                each.host,
            )
            for each in found
            if each.restype in _WORDS
        }

    def grant(self, acls: Sequence[Acl]) -> None:
        """Add allowances; one that stands already stays."""
        if acls:
            for acl, future in zip(
                acls, self._admin.opened().create_acls(list(map(_binding, acls))).values(), strict=True
            ):
                self._answer(future, str(acl))

    def revoke(self, acls: Sequence[Acl]) -> None:
        """Take allowances away."""
        if acls:
            filters = [AclBindingFilter(*_parts(acl)) for acl in acls]
            for acl, future in zip(acls, self._admin.opened().delete_acls(filters).values(), strict=True):
                self._answer(future, str(acl))

    def wrong(self, specs: Iterable[TopicSpec]) -> dict[str, dict[str, tuple[str, str]]]:
        """By topic what of its settings is (found, as it should be). A topic that is not there is not in it."""
        by_name = {spec.name: spec for spec in specs}
        standing = self._admin.describe(list(by_name)) if by_name else {}
        found: dict[str, dict[str, tuple[str, str]]] = {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in standing]
        futures = self._admin.opened().describe_configs(resources) if resources else {}
        for resource, future in futures.items():
            entries = self._answer(future, f"topic {resource.name}")
            spec = by_name[resource.name]
            wanted = config_of(spec)
            other = {
                name: (str(entries[name].value), value)
                for name, value in wanted.items()
                if entries[name].value != value
            }
            if standing[spec.name].partitions != spec.partitions:
                other["partitions"] = (str(standing[spec.name].partitions), str(spec.partitions))
            found[spec.name] = other
        return found

    def configure(self, topic: str, settings: Mapping[str, str]) -> None:
        """Set these settings of a topic; others stay."""
        self._admin.configure(topic, settings)

    def _answer(self, future: Any, what: str) -> Any:
        try:
            return self._admin.result(future, what)
        except KafkaException as problem:
            raise _told(problem, what) from problem


def _told(problem: KafkaException, what: str) -> Exception:
    error = problem.args[0]
    if error.name() == "SECURITY_DISABLED":
        return SettingWrong("the cluster has no authorizer: set authorizer.class.name there (docs/broker.md)")
    return meaning(error, what)


def _binding(acl: Acl) -> AclBinding:
    return AclBinding(*_parts(acl))


def _parts(acl: Acl) -> tuple[Any, ...]:
    pattern = ResourcePatternType.PREFIXED if acl.prefixed else ResourcePatternType.LITERAL
    operation = getattr(AclOperation, acl.operation.upper())
    return _RESOURCES[acl.resource], acl.name, pattern, acl.principal, acl.host, operation, AclPermissionType.ALLOW
