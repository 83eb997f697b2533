"""Another bus secret: every record goes under its key of the new one, and the facets are made anew from the topics.

While nothing runs, and in this order, so that a crash at any line loses nothing and a second run goes on:

1. what the topics hold is copied into a file beside them, each record under its new key; then a plan is written;
2. the store is closed to both secrets (`Store.begin_keying`);
3. each topic is cut at the end that the plan names, and the copy is published behind it. Sources, numbers and times
   stay those of the original, so what is published twice, after a crash, is a repeat;
4. the facets are emptied, the topics are read from their cuts on, and the store is open to the new secret.

The old keys are gone with that: from the broker's files when it removes what was cut. A deletion has a key and no
value: its new key is known from the record that it deleted, if the topic still has that; else there is nothing left
that it could delete, and it is left out. Of what is deleted the value is not copied. What materialise sets aside is
left out too: it stands among the rejects.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

from exchange.clock import Clock
from exchange.contracts import unframe
from exchange.errors import Conflict, SettingWrong
from exchange.files import synced
from exchange.materialise import Effects
from exchange.materialise.schemas import Schemas, SchemaSource
from exchange.records import Delivery, Facet, Message
from exchange.store import Store
from exchange.subjects import KeyMaker
from exchange.topics import Broker, TopicSpec
from exchange.topics.sqlite import SqliteBroker

PLAN = "plan.json"
COPY = "topics.db"
FORM = 1
AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What was copied. `ends` is, by topic and partition, the offset at which the copy was complete."""

    old: str  # key ids
    new: str
    secret: str  # where the new secret is, as the settings will name it
    ends: Mapping[str, Mapping[int, int]]
    records: Mapping[str, int] = field(default_factory=dict)

    @property
    def cuts(self) -> dict[tuple[str, int], int]:
        """The ends, by topic and partition."""
        return {(topic, partition): end for topic, ends in self.ends.items() for partition, end in ends.items()}

    def write(self, folder: Path) -> None:
        """Durable, whole or not at all."""
        partial = folder / f".{PLAN}"
        partial.write_text(json.dumps({f"form {FORM}": True, **asdict(self)}) + "\n", "utf-8")
        synced(partial)
        partial.rename(folder / PLAN)
        synced(folder)

    @classmethod
    def read(cls, folder: Path) -> Plan | None:
        """The plan in this folder, None if there is none. Raises SettingWrong if it is damaged."""
        try:
            document = json.loads((folder / PLAN).read_text("utf-8"))
            document.pop(f"form {FORM}")
            ends = {
                topic: {int(partition): int(end) for partition, end in each.items()}
                for topic, each in document.pop("ends").items()
            }
            return cls(ends=ends, **document)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise SettingWrong(f"{folder / PLAN} is damaged, or was written by another version of Exchange") from None


def of_contracts(topics: Iterable[str], store: Store) -> list[str]:
    """These topics, and those that were read before and are served no longer: all that hold subject keys."""
    read = {topic for topic in store.topics_read() if not topic.startswith("exchange.") and ".rejects." not in topic}
    return sorted(read.union(topics))


class Rekeying:
    """Puts the records of `topics` under the keys of another secret, by way of `folder`, where the copy stands.

    Every method raises StoreUnavailable, BrokerUnavailable, RegistryUnavailable, after which it may be called again.
    """

    def __init__(
        self, store: Store, broker: Broker, registry: SchemaSource, folder: Path, *, new: KeyMaker, clock: Clock
    ) -> None:
        self._store = store
        self._broker = broker
        self._registry = registry
        self._schemas = Schemas(registry)
        self._folder = folder
        self._new = new
        self._clock = clock

    def copy(self, topics: Sequence[str], old: KeyMaker, secret: str) -> Plan:
        """Copy what these topics hold; the plan, not written yet.

        Raises Conflict if materialisers have not read all of it, or something is published meanwhile.
        """
        shutil.rmtree(self._folder, ignore_errors=True)  # of one that was killed
        self._folder.mkdir(parents=True, mode=0o700)
        standing = {topic: state for topic in topics if (state := self._broker.state(topic)) is not None}
        self._check_read(list(standing))
        effects = Effects(self._registry, old, self._clock)
        records = {}
        with closing(self._copied()) as copy, closing(copy.publisher()) as publisher:
            for topic in standing:
                copy.ensure(TopicSpec(topic, partitions=1, compacted=False))
                records[topic] = 0
                for batch in _batches(self._under_new_keys(topic, effects)):
                    publisher.publish(topic, batch)
                    records[topic] += len(batch)
        ends = {}
        for topic, before in standing.items():
            now = self._broker.state(topic)
            if now is None or now.bounds != before.bounds:
                raise Conflict(f"stop everything first: something was published to {topic} just now")
            ends[topic] = {partition: end for partition, (_, end) in before.bounds.items()}
        return Plan(old.kid, self._new.kid, secret, ends, records)

    def carry_out(self, plan: Plan) -> None:
        """Put the copy in the place of what was copied. May be called again until it returns, and after that too."""
        self._store.begin_keying(self._new.mark)
        with closing(self._copied()) as copy, closing(self._broker.publisher()) as publisher:
            for topic, ends in plan.ends.items():
                self._broker.cut(topic, ends)
                for batch in _batches(_message(delivery) for delivery in copy.read(topic)):
                    publisher.publish(topic, batch)
        self._store.finish_keying(plan.cuts)

    def _copied(self) -> SqliteBroker:
        return SqliteBroker(self._folder / COPY, self._clock)

    def _check_read(self, topics: Sequence[str]) -> None:
        """What was not read yet may be set aside when it is, and would then be nowhere."""
        positions = self._store.positions(topics)
        for topic in topics:
            begin = {partition: offset for (of, partition), offset in positions.items() if of == topic}
            if next(iter(self._broker.read(topic, begin)), None) is not None:
                raise Conflict(f"materialisers have not read all of {topic}: let them, stop them, and try again")

    def _under_new_keys(self, topic: str, effects: Effects) -> Iterator[Message]:
        stands = {
            delivery.key: self._stands(effect)
            for delivery in self._broker.read(topic)
            if delivery.value is None and isinstance(effect := effects.of(delivery), Facet)
        }
        renamed: dict[bytes, bytes] = {}  # of those that were deleted at some time
        for delivery in self._broker.read(topic):
            if not isinstance(effects.of(delivery), Facet) or delivery.key is None:
                continue
            if delivery.value is None:
                key = renamed.get(delivery.key)
            else:
                key = self._key(delivery.value)
                if delivery.key in stands:
                    renamed[delivery.key] = key
                    if not stands[delivery.key]:
                        continue
            if key is not None:
                yield Message(key, delivery.value, delivery.headers)

    def _stands(self, deletion: Facet) -> bool:
        """Whether there is a record under this key in spite of a deletion: it came later, or was newer."""
        identity = (deletion.contract, deletion.major, deletion.record_key)
        return identity in self._store.known_of(deletion.subject_key)

    def _key(self, value: bytes) -> bytes:
        schema_id, datum = unframe(value)
        contract = self._schemas.contract(schema_id)
        record = contract.unpack(datum)
        return self._new.message_key(record.subject, contract.name, record.record_key)


def _message(delivery: Delivery) -> Message:
    return Message(delivery.key or b"", delivery.value, delivery.headers)


def _batches(messages: Iterable[Message]) -> Iterator[list[Message]]:
    following = iter(messages)
    while batch := list(islice(following, AT_ONCE)):
        yield batch
