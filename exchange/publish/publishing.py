"""The first verb for one connector: rows -> contract check -> topic, with the cursor file as its memory.

    publishing = Publishing(contract, ...)
    reading = publishing.reading()
    for batch in reading.follow(connector.read(publishing.position)):
        connector.ack(batch.position)

Each batch is written to the cursor file, produced, and acknowledged, in this order; recovery after a crash is the next
reading, through the same code. While one is on its way to the topic, the next is read, converted and encoded, and no
more than that: what it says is decided when the one in front has been acknowledged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import structlog

from exchange import metrics
from exchange.clock import Clock
from exchange.contracts import Contract
from exchange.errors import SettingWrong, TooManyRejects, TopicChanged
from exchange.publish.cursor import CursorFile
from exchange.publish.deciding import Decider
from exchange.publish.encoding import Encoder, Stamp
from exchange.publish.entries import LEARNED
from exchange.publish.learning import Learning
from exchange.publish.plan import Plan
from exchange.publish.preparing import Prepared
from exchange.publish.rows import Batch, End, Keeps, Outcome
from exchange.publish.sending import Sender, Wait
from exchange.records import WATERMARKS_TOPIC, Watermark, rejects_topic
from exchange.registry import Registry
from exchange.settings import Settings
from exchange.subjects import KeyMaker
from exchange.topics import Broker, TopicSpec, inbox

log = structlog.get_logger()

AGAIN = "again"  # the position's name for the rows that the source is asked to tell again: places, one a line


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How many rejects a reading or a push may have: over `share` of its rows, once there are `least`, is too many."""

    share: float = 0.1
    least: int = 3

    def exceeded(self, rejected: int, read: int) -> bool:
        return rejected >= self.least and rejected > self.share * read


@dataclass(frozen=True, slots=True)
class Layout:
    """How topics are created that do not exist yet."""

    partitions: int = 12
    replication: int = 1
    rejects_days: int = 30
    inbox_days: int = 7

    @classmethod
    def of(cls, settings: Settings) -> Layout:
        """That of the settings."""
        broker = settings.broker
        return cls(broker.partitions, broker.replication, settings.rejects.keep_days, broker.inbox_days)

    def topics(self, topic: str, department: str) -> list[TopicSpec]:
        """The topics that one publisher needs: its contract's, its department's rejects, the watermarks."""
        rejects = rejects_topic(department)
        return [
            TopicSpec(topic, self.partitions, self.replication),
            TopicSpec(rejects, 1, self.replication, compacted=False, retention_days=self.rejects_days),
            TopicSpec(WATERMARKS_TOPIC, 1, self.replication),
        ]

    def inbox(self, dataset: str) -> TopicSpec:
        """The inbox of `<department>.<dataset>`: read within days, by its connector only."""
        return TopicSpec(
            inbox(dataset), self.partitions, self.replication, compacted=False, retention_days=self.inbox_days
        )


class Publishing:
    """Publishes what one connector instance reads to the topic of one contract. One thread uses it.

    `source` is `<department>/<instance name>`. `wait` pauses between attempts while the broker is away; it answers True
    to give up. Making one registers the schema, creates missing topics and brings the cursor file up: a new one learns
    from the topic.

    Raises SettingWrong if the contract is not this source's, or the cursor file belongs to another instance or other
    keys; TopicChanged if the topic is not the one that the cursor file speaks of; Incompatible, RegistryUnavailable,
    BrokerUnavailable.
    """

    def __init__(
        self,
        contract: Contract,
        *,
        source: str,
        keeps: Keeps,
        keys: KeyMaker,
        broker: Broker,
        registry: Registry,
        cursor: CursorFile,
        clock: Clock,
        wait: Wait,
        tolerance: Tolerance = Tolerance(),
        layout: Layout = Layout(),
    ) -> None:
        if contract.sharing == "withheld":
            raise SettingWrong(f"{contract.name} is withheld: it stands in the catalogue and has no topic")
        if source.partition("/")[0] != contract.department:
            raise SettingWrong(f"{source} cannot publish {contract.name}, which {contract.department} owns")
        self.contract = contract
        self.source = source
        self.keeps = keeps
        self.clock = clock
        self.tolerance = tolerance
        self.cursor = cursor
        schema_id = registry.lookup(contract.registry_subject, contract.schema_text)
        if schema_id is None:
            schema_id = registry.register(contract.registry_subject, contract.schema_text)
        for spec in layout.topics(contract.topic, contract.department):
            broker.ensure(spec)
        self._begin_cursor(broker, keys)
        if cursor.fresh:
            learning = Learning(broker, registry, keys, contract.topic, source)
            cursor.learn(learning.messages(), learning, keeps)
            log.info("cursor file filled from the topic", source=source, epoch=cursor.epoch)
        self.encoder = Encoder(contract, keys, schema_id)
        self.stamp = Stamp(self.encoder, source, cursor.epoch)
        self._publisher = broker.publisher()
        self.sender = Sender(self._publisher, wait)

    @property
    def position(self) -> Mapping[str, str]:
        """What the source is remembered by, for `Connector.read`."""
        return self.cursor.position

    def reading(self) -> Reading:
        """Start a reading."""
        return Reading(self)

    def close(self) -> None:
        """Release broker connection and cursor file."""
        self._publisher.close()
        self.cursor.close()

    def _begin_cursor(self, broker: Broker, keys: KeyMaker) -> None:
        state = broker.state(self.contract.topic)
        topic_id = "" if state is None else state.id
        known = self.cursor.state("topic_id")
        if known is not None and known != topic_id:
            raise TopicChanged(
                f"{self.contract.topic} was made again since {self.cursor.path} was written; if that was meant, remove "
                "the cursor file: it is rebuilt from the topic, and every row is published again"
            )
        self.cursor.begin(
            {
                "topic": self.contract.topic,
                "topic_id": topic_id,
                "source": self.source,
                "keeps": self.keeps.value,
                "key": keys.record("cursor", [keys.kid]),
            },
            by_key=self.keeps is Keeps.ROWS,
        )


class _UnderWay(NamedTuple):
    """A batch that was written down and handed over; `wait` waits for the topic."""

    batch: Batch
    plan: Plan
    wait: Callable[[], dict[int, int]]


class Reading:
    """One reading of the source: counts its rows, and at its end deletes what is gone and sends the watermark."""

    def __init__(self, publishing: Publishing) -> None:
        self._publishing = publishing
        self._cursor = publishing.cursor
        self._clock = publishing.clock
        self._began = publishing.clock()
        self._cursor.open_reading(self._began)
        self._decider = Decider(
            publishing.keeps, publishing.cursor, publishing.encoder, publishing.stamp, publishing.clock
        )
        self._fresh_rejects = 0
        self.outcome = Outcome()
        self.as_of: datetime | None = None  # set when the reading was complete
        self._closed = False

    def follow(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Publish batch after batch; each is given back when the topic has acknowledged it and the cursor file says so.

        The source is read one batch ahead. Whatever ends this, what is on its way then is waited for. Raises
        BrokerUnavailable if waiting was given up; TooManyRejects at the end of a reading that is over the limit (its
        good rows are published by then).
        """
        under_way: _UnderWay | None = None
        source = iter(batches)
        try:
            while True:
                batch = next(source, None)
                prepared = self._decider.prepare.batch(() if batch is None else batch.rows)
                if under_way is not None:
                    done, under_way = under_way, None
                    self._settle(done)
                    yield done.batch
                if batch is None:
                    return
                under_way = self._begin(batch, prepared)
        finally:
            if under_way is not None:
                self._settle(under_way)

    def close(self, note: str | None = None) -> None:
        """End a reading that is not complete; `note` says why. One that came to its end is closed already."""
        if not self._closed:
            self._closed = True
            self._cursor.close_reading(self._clock(), as_of=None, note=note or "not complete")

    @property
    def complete(self) -> bool:
        """Whether the source has been read to its end and the watermark says so."""
        return self.as_of is not None

    # -- inside --

    def _begin(self, batch: Batch, prepared: Prepared) -> _UnderWay:
        end = batch.end
        plan = self._decider.decide(prepared, end.as_of if end is not None else self._began)
        return _UnderWay(batch, plan, self._send(plan))

    def _settle(self, under_way: _UnderWay) -> None:
        batch, plan = under_way.batch, under_way.plan
        whole = batch.end is not None and batch.end.whole
        self._acknowledge(plan, under_way.wait(), {} if whole else batch.position)
        if batch.end is not None:
            self._finish(batch.end, batch.position if whole else {})

    def _carry_out(self, plan: Plan) -> None:
        self._acknowledge(plan, self._send(plan)(), {})

    def _send(self, plan: Plan) -> Callable[[], dict[int, int]]:
        """Write the plan down and hand it over; what it answers waits for the topic and gives its offsets."""
        publishing, cursor = self._publishing, self._cursor
        if plan.entries or plan.rejects:
            cursor.write(list(plan.entries.values()), plan.rejects.values(), plan.next_sequence, plan.claimed)
        started = time.monotonic()
        # The line of no return: from here on any part of the batch may be in the topic.
        wait_for_topic = publishing.sender.begin(publishing.contract.topic, plan.messages)

        def wait() -> dict[int, int]:
            offsets = wait_for_topic()
            publishing.sender.send(rejects_topic(publishing.contract.department), plan.reject_messages)
            if plan.messages:
                metrics.PUBLISH_SECONDS.labels(publishing.contract.name).observe(time.monotonic() - started)
            return offsets

        return wait

    def _acknowledge(self, plan: Plan, offsets: Mapping[int, int], position: Mapping[str, str | None]) -> None:
        self._cursor.acknowledge(
            settled=plan.settled,
            settled_rejects=plan.settled_rejects,
            forget=plan.forget,
            position={**position, **self._again(plan, position)},
            offsets=offsets,
            outcome=plan.outcome,
            in_flight_only=self._publishing.keeps is Keeps.FLIGHT,
        )
        self.outcome.add(plan.outcome)
        self._fresh_rejects += plan.fresh_rejects
        self._count(plan.outcome)

    def _again(self, plan: Plan, position: Mapping[str, str | None]) -> dict[str, str]:
        """Ask the source for rows whose value was overwritten in the topic by a row that stood under their key."""
        places = [place for place in plan.again if not place.startswith(LEARNED)]
        if not places:
            return {}
        asked = "" if position.get(AGAIN, "") is None else self._cursor.position.get(AGAIN, "")
        return {AGAIN: "\n".join(dict.fromkeys([*asked.split("\n"), *places])).strip()}

    def _finish(self, end: End, position: Mapping[str, str | None]) -> None:
        keeps, cursor = self._publishing.keeps, self._cursor
        self._stop_if_too_many(end)
        repeated = self._decider.repeat_deletions(end.as_of)
        if repeated.messages:
            self._carry_out(repeated)
        if end.whole and keeps is Keeps.KEYS:
            self._delete_gone("", end.as_of)
        elif end.whole and cursor.learned:
            self._delete_gone(LEARNED, end.as_of)
            cursor.learned_is_seen()
        cursor.acknowledge(position=position)
        self._send_watermark(end.as_of)
        cursor.close_reading(
            self._clock(), as_of=end.as_of, note=None, forget_rejects=keeps is Keeps.KEYS and end.whole
        )
        self._closed = True
        self.as_of = end.as_of

    def _stop_if_too_many(self, end: End) -> None:
        """A snapshot is judged as a whole; of a source that is polled, what an earlier reading told is not counted."""
        told_before = 0 if self._publishing.keeps is Keeps.KEYS else self.outcome.rejected - self._fresh_rejects
        rejected, read = self.outcome.rejected - told_before, self.outcome.read - told_before
        tolerance = self._publishing.tolerance
        if not tolerance.exceeded(rejected, read):
            return
        gone = "; nothing was deleted and the snapshot does not count as read" if end.whole else ""
        reason = (
            f"{rejected} of {read} rows ({rejected / read:.0%}; max_reject_share is {tolerance.share:.0%}). The good "
            f"rows are published{gone}. See `exchange rejects list`, mend the source, or raise max_reject_share"
        )
        self.close("too many rejects")
        raise TooManyRejects(f"{self._publishing.source}: {reason}")

    def _delete_gone(self, prefix: str, moment: datetime) -> None:
        for entries in self._cursor.rows.rest(self._decider.holds, prefix):
            plan = self._decider.gone(entries, moment)
            if plan.messages or plan.forget:
                self._carry_out(plan)

    def _send_watermark(self, as_of: datetime) -> None:
        publishing = self._publishing
        watermark = Watermark(
            contract=publishing.contract.name,
            topic=publishing.contract.topic,
            source=publishing.source,
            epoch=self._cursor.epoch,
            as_of=as_of,
            offsets=self._cursor.offsets,
        )
        publishing.sender.send(WATERMARKS_TOPIC, [watermark.message()])

    def _count(self, outcome: Outcome) -> None:
        contract, instance = self._publishing.contract.name, self._publishing.source.partition("/")[2]
        for name, number in (
            ("published", outcome.published),
            ("unchanged", outcome.unchanged),
            ("deleted", outcome.deleted + outcome.gone),
            ("rejected", outcome.rejected),
        ):
            if number:
                metrics.ROWS.labels(contract, instance, name).inc(number)
