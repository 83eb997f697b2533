"""The Feed on Kafka: one member of a consumer group, whose positions come from the store and never from the broker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from exchange.errors import BrokerUnavailable, ExchangeError, OperatorError, SettingWrong, TopicChanged, TryLater
from exchange.kafka.admin import Admin, Described
from exchange.kafka.client import Client, delivery, log, meaning
from exchange.kafka.partitioner import partition_of
from exchange.records import Delivery
from exchange.topics import INBOX, Assignments

SLICE = 0.1  # seconds of one wait: what a callback left to be raised, or a pause that ends, waits no longer
LEAVE = 6.0  # seconds for a clean leave of the group
CHECK = 3.0  # seconds between two looks whether the topics are still the ones that were joined

Place = tuple[str, int]


@dataclass(eq=False, slots=True)
class _Owned:
    """A partition that is ours. A new assignment makes a new object, even of the same partition."""

    position: int
    paused_until: float | None = None  # monotonic seconds


class KafkaFeed:
    """A Feed on Kafka.

    librdkafka calls back from inside `consume` and `close`, on the caller's thread. The callbacks never raise: they
    leave the error for `poll`, because after one that fails librdkafka would start at an offset of its own choice.
    """

    def __init__(
        self,
        client: Client,
        admin: Admin,
        group: str,
        topics: Sequence[str],
        assignments: Assignments,
        member: str | None = None,
    ) -> None:
        self._admin = admin
        self._assignments = assignments
        self._names = tuple(dict.fromkeys(topics))
        self._topics = admin.describe(self._names)
        for name in self._names:
            if name not in self._topics:
                raise TopicChanged(f"there is no topic {name}")
        self._owned: dict[Place, _Owned] = {}
        self._waiting: set[Place] = set()  # ours, but `assigned` has not answered yet
        self._errors: list[BaseException] = []  # to be raised by the next poll, once
        self._broken: OperatorError | None = None  # raised by every poll
        self._missing: set[str] = set()  # topics that the last look did not find
        self._strangers: set[str] = set()  # topics with a producer that partitions differently
        self._asked: Mapping[str, Future[Any]] = {}
        self._checked = time.monotonic()
        self._consumer = Consumer(client.consumer(group, self._on_error, member))
        self._consumer.subscribe(
            list(self._names), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke
        )

    def poll(self, limit: int, timeout: float) -> list[Delivery]:
        """See Feed. Raises also SettingWrong and OperatorError, for what Kafka refuses for good."""
        self._raise()
        deadline = time.monotonic() + timeout
        while True:
            self._check_topics()
            if self._waiting:
                self._begin(sorted(self._waiting), self._consumer.incremental_assign)
            self._end_pauses()
            now = time.monotonic()
            # Also after an error: only in here does librdkafka tell of a rebalance, and the others wait for our answer.
            found = self._consume(limit, max(0.0, min(SLICE, deadline - now)))
            if found:
                return found
            self._raise()
            if now >= deadline:
                return []

    def pause(self, topic: str, partition: int, offset: int, seconds: float) -> None:
        """See Feed."""
        owned = self._owned.get((topic, partition))
        if owned is not None:
            owned.position = offset
            owned.paused_until = time.monotonic() + seconds
            with suppress(KafkaException):  # what still comes of it is dropped, and the seek happens all the same
                self._consumer.pause([TopicPartition(topic, partition)])

    def committed(self, positions: Mapping[tuple[str, int], int]) -> None:
        """See Feed."""
        offsets = [TopicPartition(*place, position) for place, position in positions.items() if place in self._owned]
        if offsets:
            with suppress(KafkaException, RuntimeError):
                self._consumer.commit(offsets=offsets, asynchronous=True)

    def lag(self) -> dict[tuple[str, int], int]:
        """See Feed. As of the last fetch; where nothing is fetched, the broker is asked."""
        lags = {}
        for (topic, partition), owned in self._owned.items():
            place = TopicPartition(topic, partition)
            with suppress(KafkaException):
                bounds = None
                if owned.paused_until is None:
                    bounds = self._consumer.get_watermark_offsets(place, cached=True)
                if bounds is None or bounds[1] < 0:
                    bounds = self._consumer.get_watermark_offsets(place, timeout=1.0)
                if bounds is not None and bounds[1] >= 0:
                    lags[topic, partition] = max(0, bounds[1] - max(owned.position, bounds[0]))
        return lags

    def close(self) -> None:
        """See Feed. Raises what `revoked` raised.

        librdkafka leaves the group in a thread of its own: with a broker that hangs and a commit under way it would
        wait without end. After LEAVE seconds it is left behind, and the group finds out by itself.
        """
        self._errors.clear()
        self._release(list(self._owned))
        leaving = threading.Thread(target=self._consumer.close, name="leave", daemon=True)
        leaving.start()
        leaving.join(LEAVE)
        for error in self._errors:
            if not isinstance(error, TryLater):
                raise error

    # --- reading ------------------------------------------------------------------------------------------------------

    def _consume(self, limit: int, timeout: float) -> list[Delivery]:
        """One message as soon as there is one, and then what else is there: the batches grow by themselves."""
        messages = self._consumer.consume(1, timeout)
        if not messages:
            return []
        first = messages[0]
        owned = self._owned.get(_place(first))
        if limit > 1:
            messages += self._consumer.consume(limit - 1, 0)
        if self._owned.get(_place(first)) is not owned:  # revoked, perhaps assigned anew, by the second call
            del messages[0]
        found = []
        here: Place | None = None
        for message in messages:
            error = message.error()
            if error is not None:
                self._fail(error, message)
                continue
            place = _place(message)
            if place != here:  # they come partition by partition
                here, owned = place, self._owned.get(place)
            if owned is None or owned.paused_until is not None:
                continue
            found.append(delivery(message, *here))
            owned.position = found[-1].offset + 1
        if found:
            self._check_partition(found[0])
        return found

    def _fail(self, error: KafkaError, message: Message) -> None:
        if error.code() in (KafkaError._MAX_POLL_EXCEEDED, KafkaError._PARTITION_EOF):
            return  # the first: what was ours is revoked, and the next poll joins again
        topic, partition = message.topic(), message.partition()
        self._stop(meaning(error, "the cluster" if topic is None else f"topic {topic} partition {partition}"))

    def _on_error(self, error: KafkaError) -> None:
        """What concerns no message. A single lost connection is librdkafka's to mend."""
        if error.code() != KafkaError._TRANSPORT:
            self._stop(meaning(error, "the cluster"))

    def _leave(self, error: BaseException) -> None:
        """Keep an error for the next poll. One that time mends is kept once, however often it is told meanwhile."""
        if not (isinstance(error, TryLater) and any(isinstance(kept, TryLater) for kept in self._errors)):
            self._errors.append(error)

    def _stop(self, error: ExchangeError) -> None:
        """Keep what Kafka said for the next poll; what no later call can mend, for every poll."""
        if isinstance(error, OperatorError) and not isinstance(error, SettingWrong):
            self._broken = self._broken or error
        else:
            self._leave(error)

    def _raise(self) -> None:
        if self._broken is not None:
            raise self._broken
        if self._errors:
            raise self._errors.pop(0)

    def _end_pauses(self) -> None:
        now = time.monotonic()
        for (topic, partition), owned in self._owned.items():
            if owned.paused_until is not None and owned.paused_until <= now:
                with suppress(KafkaException):  # its fetcher is only starting: the next round tries again
                    self._consumer.seek(TopicPartition(topic, partition, _offset(owned.position)))
                    self._consumer.resume([TopicPartition(topic, partition)])
                    owned.paused_until = None

    # --- ownership ----------------------------------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._begin([(place.topic, place.partition) for place in partitions], consumer.incremental_assign)

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        places = [(place.topic, place.partition) for place in partitions]
        self._release(places)
        self._waiting.difference_update(places)
        running = {(place.topic, place.partition) for place in consumer.assignment()}
        consumer.incremental_unassign([TopicPartition(*place) for place in places if place in running])

    def _begin(self, places: list[Place], assign: Callable[[list[TopicPartition]], None]) -> None:
        """Ask where to start, and start. What has no answer now waits for the next poll, which asks again."""
        positions: dict[Place, int] = {}
        try:
            topics = self._admin.describe(sorted({topic for topic, _ in places})) if places else {}
            for place in places:
                positions[place] = self._ask(place, topics.get(place[0]))
        except BaseException as error:  # noqa: BLE001 poll raises it
            self._leave(error)
        try:
            assign([TopicPartition(*place, _offset(position)) for place, position in positions.items()])
        except KafkaException as problem:
            self._leave(meaning(problem.args[0], "the cluster"))
            positions.clear()
        self._owned.update({place: _Owned(position) for place, position in positions.items()})
        self._waiting.update(places)
        self._waiting.difference_update(positions)

    def _ask(self, place: Place, found: Described | None) -> int:
        if found is None:
            raise BrokerUnavailable(f"topic {place[0]} is not known to the broker that was asked")
        self._compare(place[0], found)
        if self._broken is not None:
            raise self._broken
        return self._assignments.assigned(*place, found.id)

    def _release(self, places: Iterable[Place]) -> None:
        for place in places:
            if self._owned.pop(place, None) is not None:
                try:
                    self._assignments.revoked(*place)
                except BaseException as error:  # noqa: BLE001 poll raises it
                    self._leave(error)

    # --- are the topics still the same? -------------------------------------------------------------------------------

    def _check_topics(self) -> None:
        """Every CHECK seconds; the question is asked in one poll and the answer read in a later one."""
        if self._asked:
            if all(future.done() for future in self._asked.values()):
                asked, self._asked = self._asked, {}
                for name, future in asked.items():
                    with suppress(TryLater, SettingWrong):  # no answer says nothing of the topic
                        self._heard(name, self._admin.described(future, name))
        elif time.monotonic() - self._checked >= CHECK:
            self._checked = time.monotonic()
            with suppress(KafkaException):
                self._asked = self._admin.describing(self._names)

    def _heard(self, name: str, found: Described | None) -> None:
        """A topic counts as gone when it is missing twice: a broker that just started may not know all of them yet."""
        if found is not None:
            self._missing.discard(name)
            self._compare(name, found)
        elif name in self._missing:
            self._stop(TopicChanged(f"topic {name} no longer exists"))
        else:
            self._missing.add(name)

    def _compare(self, name: str, found: Described) -> None:
        known = self._topics[name]
        if found.id != known.id:
            self._stop(TopicChanged(f"topic {name} was re-created while it was read"))
        elif found.partitions != known.partitions:
            change = f"had {known.partitions} partitions and has {found.partitions}"
            self._stop(TopicChanged(f"topic {name} {change}: its keys may now be in another partition"))

    def _check_partition(self, sample: Delivery) -> None:
        """Tell, once a topic, of a producer that puts a key elsewhere than ours: its order per key is lost."""
        topic, partition, offset, key = sample.topic, sample.partition, sample.offset, sample.key
        if key is None or topic in self._strangers or topic.endswith(INBOX):
            return
        if partition_of(key, self._topics[topic].partitions) != partition:
            self._strangers.add(topic)
            log.error(
                "topic %s partition %d offset %d does not fit its key: who writes there?", topic, partition, offset
            )


def _place(message: Message) -> Place:
    return message.topic() or "", message.partition() or 0


def _offset(position: int) -> int:
    """0 means from the earliest that is there, wherever retention has moved it."""
    return position or OFFSET_BEGINNING
