"""The loop: poll, turn into effects, put effects and position in one transaction.

Effects and the position that covers them are stored together, fenced by the owner epoch that `Store.take` gave: whoever
lost a partition cannot write to it any more. A crash at any line is a repeat at most, and a repeat changes nothing.

Two threads take turns: while one set of batches is stored, the next is gathered, a little at a time, until the store is
free or as much as one transaction takes is there. Never more than one set is being stored, and all of it is stored
before a partition is given up; what was only gathered is dropped then, for the next owner reads it again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from exchange import metrics
from exchange.errors import BrokerUnavailable, Fenced, PolicyUnavailable, RegistryUnavailable, StoreUnavailable
from exchange.materialise.effects import Effects
from exchange.records import Delivery, Facet, Reject, Watermark
from exchange.store import Applied, Batch, Store
from exchange.topics import Broker, Feed

log = structlog.get_logger()

T = TypeVar("T")

AT_ONCE = 500  # deliveries of one poll: so few that what is made of them is still in the processor's cache
LINGER = 0.002  # seconds: what was sent together comes in several answers, and one transaction costs as much as two
RETRY_SECONDS = 0.25
REGISTRY_RETRY_SECONDS = 1.0
LAG_SECONDS = 1.0
HOUSEKEEPING_SECONDS = 3600.0
REJOIN_SECONDS = 60.0  # who loses its place twice within so long has a namesake, or a machine that is too slow


class _Stopped(Exception):
    """`stop` was called while the store or the broker was away."""


@dataclass(slots=True)
class _Held:
    """A partition that is ours: the epoch that fences our writes, and what was gathered since the last batch of it.

    `offset` is that to decode next; what lies between `begin` and it is in the lists.
    """

    epoch: int
    begin: int
    offset: int
    facets: list[Facet] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    watermarks: list[Watermark] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.facets) + len(self.rejects) + len(self.watermarks)

    def batch(self, topic: str, partition: int) -> Batch:
        """What was gathered, as one batch; gathering begins anew behind it."""
        begin, self.begin = self.begin, self.offset
        facets, self.facets = self.facets, []
        rejects, self.rejects = self.rejects, []
        watermarks, self.watermarks = self.watermarks, []
        return Batch(topic, partition, self.epoch, begin, self.offset, facets, rejects, watermarks)


@dataclass(slots=True)
class _Storing:
    """Batches that are being stored, and what will have become of them."""

    batches: Sequence[Batch]
    applied: Future[list[Applied]]


class Materialiser:
    """One member of the consumer group of materialisers.

    `topics` says which topics there are; it is asked again every `refresh` seconds, and a change rejoins the group.
    `housekeeping` is called once an hour: what is kept for a time only goes then.
    """

    def __init__(
        self,
        broker: Broker,
        store: Store,
        effects: Effects,
        topics: Callable[[], Sequence[str]],
        *,
        group: str,
        owner: str,
        batch: int = 10_000,
        refresh: float = 5.0,
        housekeeping: Callable[[], object] | None = None,
    ) -> None:
        self._broker = broker
        self._store = store
        self._effects = effects
        self._topics = topics
        self._group = group
        self._owner = owner
        self._limit = batch
        self._refresh = refresh
        self._housekeeping = housekeeping
        self._housekept = float("-inf")
        self._rejoined = float("-inf")
        self._held: dict[tuple[str, int], _Held] = {}
        self._storing: _Storing | None = None
        self._writer = ThreadPoolExecutor(1, "store")
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Finish the batch in hand and leave; may be called from a signal handler."""
        self._stopping.set()

    def run(self) -> None:
        """Until `stop`; once. Raises OperatorError where a person must look: TopicChanged; Fenced, twice a minute."""
        try:
            with self._writer:
                self._run()
        except _Stopped:
            log.info("stopped while waiting; what was not stored will be read again")

    def _run(self) -> None:
        while not self._stopping.is_set():
            topics = self._patiently(self._topics)
            try:
                if topics:
                    self._read(topics)
                else:
                    self._stopping.wait(self._refresh)
            except Fenced as fenced:
                self._join_again(fenced)

    # -- Assignments, called by the feed --

    def assigned(self, topic: str, partition: int, topic_id: str) -> int:
        """Take the partition over: from here on an older owner's writes fail."""
        position = self._patiently(lambda: self._store.take(topic, partition, self._owner, topic_id))
        self._held[topic, partition] = _Held(position.epoch, position.offset, position.offset)
        log.info("partition assigned", topic=topic, partition=partition, offset=position.offset, epoch=position.epoch)
        return position.offset

    def revoked(self, topic: str, partition: int) -> None:
        """Nothing of this partition is written any more."""
        self._held.pop((topic, partition), None)  # and what was only gathered of it
        metrics.LAG.remove(topic, str(partition))  # the next owner shows the lag from now on
        log.info("partition revoked", topic=topic, partition=partition)
        self._stored()

    # -- one stay in the group --

    def _read(self, topics: Sequence[str]) -> None:
        feed = self._patiently(lambda: self._broker.feed(self._group, topics, self))
        try:
            renewed = shown = time.monotonic()
            while not self._stopping.is_set():
                try:
                    found = self._poll(feed)
                except BrokerUnavailable as unavailable:
                    log.warning("broker unavailable", error=str(unavailable))
                    self._stopping.wait(RETRY_SECONDS)
                    continue
                if not found or self._storing is None or self._storing.applied.done() or self._is_full():
                    self._store_next(feed)
                now = time.monotonic()
                if now - shown >= LAG_SECONDS:
                    shown = now
                    self._patiently(self._store.settle)
                    self._look_after(feed)
                if now - renewed >= self._refresh:
                    renewed = now
                    if set(self._topics_if_known(topics)) != set(topics):
                        break
            self._store_next(feed)
        finally:
            try:
                self._stored()
            finally:
                feed.close()

    def _join_again(self, fenced: Fenced) -> None:
        """Begin anew where others have taken our place while we stood still. Raises `fenced` if it was so a minute ago.

        Nothing is lost or written twice by it: what we held was not stored, and whatever was read meanwhile, and by
        whom, the epochs of the partitions fence the older owner. A broker that was killed may also remember an older
        session of this very process (NameTaken).
        """
        now = time.monotonic()
        if now - self._rejoined < REJOIN_SECONDS:
            raise fenced
        self._rejoined = now
        log.warning("another process has this one's place; it joins the consumer group again", error=str(fenced))

    def _poll(self, feed: Feed) -> bool:
        """Gather what is there; whether anything was. Who has waited for it waits a moment for the rest of it too."""
        size = min(AT_ONCE, self._limit)
        deliveries = feed.poll(size, 0.0 if self._storing else 0.25)
        self._gather(feed, deliveries)
        if deliveries and self._storing is None:
            ends = time.monotonic() + LINGER
            while (left := ends - time.monotonic()) > 0 and not self._is_full():
                self._gather(feed, feed.poll(size, left))
        return bool(deliveries)

    def _gather(self, feed: Feed, deliveries: Sequence[Delivery]) -> None:
        """Decode these and keep what they do with the partitions that are ours."""
        self._effects.polled()
        for (topic, partition), ours in _by_partition(deliveries).items():
            held = self._held.get((topic, partition))
            if held is not None:  # else revoked inside the same poll
                self._decode(feed, topic, partition, held, ours)

    def _is_full(self) -> bool:
        """Whether as much was gathered as one transaction takes."""
        return sum(map(len, self._held.values())) >= self._limit

    def _store_next(self, feed: Feed) -> None:
        """Begin to store what was gathered, effects and positions, once what came before it is durable."""
        feed.committed(self._stored())
        batches = [held.batch(*place) for place, held in self._held.items() if held.offset != held.begin]
        if batches:  # the line of no return
            self._storing = _Storing(batches, self._writer.submit(self._apply, batches))

    def _apply(self, batches: Sequence[Batch]) -> list[Applied]:
        started = time.monotonic()
        applied = self._patiently(lambda: self._store.apply(batches))
        metrics.MATERIALISE_SECONDS.observe(time.monotonic() - started)
        return applied

    def _stored(self) -> dict[tuple[str, int], int]:
        """Wait until what is being stored is durable; the positions that it reached. Raises what storing raised."""
        storing, self._storing = self._storing, None
        if storing is None:
            return {}
        for batch, outcome in zip(storing.batches, storing.applied.result(), strict=True):
            metrics.MATERIALISED.labels(batch.topic, "applied").inc(outcome.applied)
            metrics.MATERIALISED.labels(batch.topic, "repeat").inc(outcome.repeats)
            metrics.MATERIALISED.labels(batch.topic, "rejected").inc(len(batch.rejects))
            if outcome.clashes:
                metrics.MATERIALISED.labels(batch.topic, "clash").inc(outcome.clashes)
                log.warning("one version, two values", topic=batch.topic, records=outcome.clashes)
        return {(batch.topic, batch.partition): batch.next for batch in storing.batches}

    def _decode(self, feed: Feed, topic: str, partition: int, held: _Held, deliveries: Sequence[Delivery]) -> None:
        """Put what these deliveries of one partition do to what was gathered of it."""
        effect_of = self._effects.of
        for delivery in deliveries:
            if delivery.offset < held.offset:  # delivered again after a pause
                continue
            try:
                effect = effect_of(delivery)
            except RegistryUnavailable as unavailable:
                log.warning(
                    "partition waits for the registry", topic=topic, partition=partition, error=str(unavailable)
                )
                feed.pause(topic, partition, delivery.offset, REGISTRY_RETRY_SECONDS)
                return
            match effect:
                case Facet():
                    held.facets.append(effect)
                case Watermark():
                    held.watermarks.append(effect)
                case Reject():
                    held.rejects.append(effect)
            held.offset = delivery.offset + 1

    def _look_after(self, feed: Feed) -> None:
        for (topic, partition), messages in feed.lag().items():
            metrics.LAG.labels(topic, str(partition)).set(messages)
        for told in self._patiently(self._store.watermarks):
            metrics.WATERMARK.labels(told.contract, told.source).set(told.as_of.timestamp())
        if self._housekeeping is not None and time.monotonic() - self._housekept >= HOUSEKEEPING_SECONDS:
            self._housekept = time.monotonic()
            self._patiently(self._housekeeping)

    def _topics_if_known(self, present: Sequence[str]) -> Sequence[str]:
        try:
            return self._topics()
        except (StoreUnavailable, PolicyUnavailable):
            return present

    def _patiently(self, call: Callable[[], T]) -> T:
        """Repeat the call while a part is away: recovery goes through the same code as every day."""
        while True:
            try:
                return call()
            except (StoreUnavailable, BrokerUnavailable, PolicyUnavailable) as unavailable:
                log.warning("waiting", error=str(unavailable))
                if self._stopping.wait(RETRY_SECONDS):
                    raise _Stopped from None


def _by_partition(deliveries: Iterable[Delivery]) -> dict[tuple[str, int], list[Delivery]]:
    grouped: dict[tuple[str, int], list[Delivery]] = {}
    for delivery in deliveries:
        grouped.setdefault((delivery.topic, delivery.partition), []).append(delivery)
    return grouped
