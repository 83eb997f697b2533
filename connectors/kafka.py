"""kafka: what a department's own programs write into the inbox of a dataset, with any Kafka client.

Options: KafkaSettings below; docs/connectors.md explains each with an example.

    name = "inbox"                        [mapping]
    connector = "kafka"                   citizen_id = "idNumber"
    contract = "civil.person"             name = "fullName"
    value = "avro"
                                          [deleted_when]
                                          column = "deleted"
                                          values = [true]

Behaviour: `<department>.<dataset>.inbox` is read from the offsets behind the last batch that the contract's topic has
acknowledged to the end that it has when the reading begins. The offsets lie in the cursor file. A message that is no
record is set aside with its partition and offset, and the others go on. An inbox that was made again, or whose
retention passed over what was not read, is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from connectors.config import Duration, FieldSettings, Instance
from connectors.mapping import FieldMapping
from connectors.messages import Messages
from connectors.protocol import Finding, Means, NotReady, Weight
from exchange.contracts import Contract
from exchange.errors import ContractRefused, Rejected, SourceRefused, TopicChanged
from exchange.publish import Batch, End, Keeps, Row
from exchange.records import Delivery
from exchange.topics import TopicState, inbox

BATCH_BYTES = 8 << 20  # of the messages of one batch, whatever their number
TOPIC, AS_OF = "topic", "as_of"  # the position's names beside those of the partitions: 0, 1, ...


class KafkaSettings(Instance):
    """The settings of a kafka instance."""

    poll_interval: Duration = timedelta(seconds=1)
    """pause between readings; each reading goes to the end that the inbox has then"""
    max_reject_share: float = Field(default=1, ge=0, le=1)
    """more rejects than this share stop the connector: a stream is cut into readings by chance, so by default no share
    of them is too much"""
    value: Literal["avro", "json"] = "avro"
    """`avro`: framed (a zero byte, the schema id in four bytes, the datum), any schema that the registry knows.
    `json`: one object in UTF-8"""
    heartbeat: str | None = Field(default=None, min_length=1)
    """a field: a message that has it alone is no record but a heartbeat, such as Debezium's `{"ts_ms": ...}`"""
    passed: Literal["refuse", "go_on"] = "refuse"
    """what retention took before it was read: `refuse` stops, `go_on` goes on behind it and says so"""

    @model_validator(mode="after")
    def _by_name(self) -> KafkaSettings:
        columns = [said.column if isinstance(said, FieldSettings) else said for said in self.mapping.values()]
        if any(isinstance(column, int) for column in columns):
            raise ValueError("the fields of a message have names, not positions")
        return self


class KafkaConnector:
    """Reads the inbox of one dataset."""

    Settings: ClassVar[type[Instance]] = KafkaSettings

    def __init__(self, settings: KafkaSettings, contract: Contract, means: Means) -> None:
        self._settings = settings
        self._contract = contract
        self._means = means
        self._ended: Mapping[str, str] = {}  # the position of which this process has said the end
        self._topic = inbox(contract.name)
        mapping = FieldMapping(settings, contract)
        self._messages = Messages(mapping, settings.value, means.registry, self._topic, settings.heartbeat)

    @property
    def keeps(self) -> Keeps:
        return Keeps.FLIGHT

    def check(self) -> Sequence[Finding]:
        """Whether the inbox is there, and whether the schema that was registered last for it fits the contract."""
        findings = [
            Finding(Weight.NOTE, name, "a level 4 field stays at its department; it is not read")
            for name in self._messages.sealed
        ]
        state = self._means.broker().state(self._topic)
        if state is None:
            findings.append(Finding(Weight.NOTE, self._topic, "there is no such topic yet; `run` makes it"))
        else:
            waiting = sum(end - first for first, end in state.bounds.values())
            findings.append(Finding(Weight.NOTE, self._topic, f"{len(state.bounds)} partitions, {waiting} messages"))
        if self._settings.value == "avro":
            findings.append(self._look_at_schema(f"{self._topic}-value"))
        return findings

    def read(self, position: Mapping[str, str]) -> Iterator[Batch]:
        """One reading: up to the end that each partition has now."""
        began = self._means.clock()
        state = self._state()
        since, notes = self._beginning(state, position)
        told = datetime.fromisoformat(position[AS_OF]) if AS_OF in position else None
        moved = {TOPIC: state.id, **{str(partition): str(at) for partition, at in since.items()}}
        total = sum(end - since[partition] for partition, (_, end) in state.bounds.items())
        if not total and self._ended == {**position, **moved}:
            return  # nothing has come since, and that was said
        rows: list[Row] = []
        size = 0
        for read, delivery in enumerate(self._deliveries(state, since) if total else (), 1):
            row = self._row(delivery)
            if row is not None:
                rows.append(row)
            size += len(delivery.value or b"")
            moved[str(delivery.partition)] = str(delivery.offset + 1)
            at = _written(delivery, began)
            told = at if told is None else max(told, at)
            if len(rows) >= self._settings.batch_size or size >= BATCH_BYTES:
                yield Batch(rows, dict(moved), progress=min(1.0, read / total), notes=notes)
                rows, notes, size = [], (), 0
        # Where a transaction ends stands something that is no message: the end counts as read, whatever was there.
        moved |= {str(partition): str(end) for partition, (_, end) in state.bounds.items()}
        if told is None:  # nobody has written anything yet, so nothing is known until any time
            yield Batch((), moved, notes=notes)
            return
        moved[AS_OF] = told.isoformat()
        self._ended = {**position, **moved}
        yield Batch(rows, moved, End(told), progress=1.0, notes=notes)

    def ack(self, position: Mapping[str, str | None]) -> None:
        """Nothing: retention empties the inbox."""

    def close(self) -> None:
        """Nothing is held open between readings."""

    # -- inside --

    def _deliveries(self, state: TopicState, since: Mapping[int, int]) -> Iterator[Delivery]:
        """What is there up to the ends of `state`; what has come since is for the next reading. Raises NotReady."""
        try:
            for delivery in self._means.broker().read(self._topic, since):
                if delivery.offset < state.bounds.get(delivery.partition, (0, 0))[1]:
                    yield delivery
        except TopicChanged as changed:  # retention went by, or somebody: the next look says what that means
            raise NotReady(f"{changed.detail}; it is looked at again", again=timedelta(seconds=1)) from None

    def _look_at_schema(self, subject: str) -> Finding:
        latest = self._means.registry().latest(subject)
        if latest is None:
            return Finding(Weight.NOTE, subject, "no schema is registered yet")
        try:
            names = self._messages.fitted(latest.text)
        except (ContractRefused, Rejected) as refused:
            text = f"version {latest.version} does not fit, its messages become rejects: {refused.detail}"
            return Finding(Weight.NOTE, subject, text)
        return Finding(Weight.NOTE, subject, f"version {latest.version} gives {', '.join(names)}")

    def _state(self) -> TopicState:
        """The inbox as it stands; it is made if there is none."""
        broker = self._means.broker()
        state = broker.state(self._topic)
        if state is None:
            broker.ensure(self._means.layout.inbox(self._contract.name))
            state = broker.state(self._topic)
        if state is None:
            raise SourceRefused(f"there is no topic {self._topic}")
        return state

    def _beginning(self, state: TopicState, position: Mapping[str, str]) -> tuple[dict[int, int], Sequence[str]]:
        """Where each partition is read on, and what is to be told of it. Raises SourceRefused."""
        if position.get(TOPIC, state.id) != state.id:
            raise SourceRefused(
                f"{self._topic} was made again; what it is now is another topic. If that was meant, remove the cursor "
                "file: the inbox is read from its beginning"
            )
        since: dict[int, int] = {}
        notes: list[str] = []
        for partition, (first, end) in state.bounds.items():
            at = int(position.get(str(partition), first))
            if at > end:
                raise SourceRefused(
                    f"{self._topic} partition {partition} ends at {end}, and was read up to {at} before"
                )
            if at < first:
                gone = f"{self._topic} partition {partition}: retention took offsets {at} to {first - 1} unread"
                if self._settings.passed == "refuse":
                    raise SourceRefused(
                        f'{gone}; have them written again, and set passed = "go_on" until they are read'
                    )
                notes.append(gone)
                at = first
            since[partition] = at
        return since, notes

    def _row(self, delivery: Delivery) -> Row | None:
        """What a message says; None of a heartbeat."""
        if delivery.key is None and delivery.value is None:
            return None
        where = f"{delivery.topic} partition {delivery.partition} offset {delivery.offset}"
        place = f"{delivery.partition}/{delivery.offset}"
        at = _written(delivery, self._means.clock())
        try:
            columns, cells = self._messages.read(delivery.value)
        except Rejected as rejected:
            return Row({}, where, place, rejected.kept(), event_time=at)
        if columns is None:
            return None
        if columns.deleted(cells):
            return Row(columns.remains(cells), where, place, deleted=True, event_time=at)
        try:
            return Row(columns.read(cells), where, place, event_time=at)
        except Rejected as rejected:
            return Row(columns.remains(cells), where, place, rejected.kept(), event_time=at)


def _written(delivery: Delivery, now: datetime) -> datetime:
    """When the message was written, as its producer or the broker says: never after `now`."""
    if delivery.timestamp is None or not 0 <= delivery.timestamp / 1000 < now.timestamp():
        return now
    return datetime.fromtimestamp(delivery.timestamp / 1000, UTC)
