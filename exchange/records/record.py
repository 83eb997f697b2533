"""What a record is, who said it, and what stands in the end: Origin, Record, Said, Facet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from exchange.records.forms import micros, moment
from exchange.subjects import Subject


class Origin(NamedTuple):
    """Who said a record, and where it stands in what they said.

    `source` is `<department>/<instance name>`; `epoch` grows each time the source starts afresh; `sequence` counts
    within the epoch. No (source, epoch, sequence) ever stands for two values.
    """

    source: str
    epoch: int
    sequence: int

    @property
    def department(self) -> str:
        return self.source.split("/", 1)[0]


@dataclass(frozen=True, slots=True)
class Record:
    """One value that has passed its contract. Made by `Contract.check` only.

    `record_key` holds the record key's values as text, in the contract's order; empty for one record per subject.
    `version` is the version field as an integer in the schema's own unit; `event_time` is aware UTC.
    """

    contract: str
    major: int
    subject: Subject
    record_key: tuple[str, ...]
    value: Mapping[str, Any]
    version: int | None
    event_time: datetime | None


class Said(NamedTuple):
    """Where the last word of a source on one identity stands in that source's own order."""

    source: str
    version: int | None
    epoch: int
    sequence: int


class Facet(NamedTuple):
    """The latest record under one (subject, contract, major, record key), with its origin: a row of the store.

    `payload` is the record as canonical JSON text; None is a tombstone. `record_key` is the record key's hash, "" where
    the contract has none. `source`, `epoch` and `sequence` are the origin's, `event_micros` is microseconds since 1970.
    `heard` is JSON text, the last word of each other source that spoke of this identity before, the latest last (see
    store.order); None for the most part.
    """

    subject_key: str
    contract: str
    major: int
    record_key: str
    payload: str | None
    schema_id: int | None
    source: str
    epoch: int
    sequence: int
    partition: int
    offset: int
    version: int | None
    event_micros: int
    heard: str | None = None

    @classmethod
    def of(
        cls,
        subject_key: str,
        contract: str,
        major: int,
        record_key: str,
        payload: str | None,
        schema_id: int | None,
        origin: Origin,
        partition: int,
        offset: int,
        version: int | None,
        event_time: datetime,
    ) -> Facet:
        """One that nobody else spoke of; `event_time` is aware."""
        return cls(
            subject_key, contract, major, record_key, payload, schema_id, *origin, partition, offset, version,
            micros(event_time),
        )  # fmt: skip

    @property
    def identity(self) -> tuple[str, str, int, str]:
        return self[:4]

    @property
    def origin(self) -> Origin:
        return Origin(self.source, self.epoch, self.sequence)

    @property
    def event_time(self) -> datetime:
        """Aware UTC."""
        return moment(self.event_micros)

    @property
    def others(self) -> tuple[Said, ...]:
        """What was heard of other sources."""
        return () if self.heard is None else tuple(Said(*said) for said in json.loads(self.heard))

    @property
    def shown_version(self) -> int:
        """The record version that a view shows: the version field, else the sequence."""
        return self.sequence if self.version is None else self.version


def heard(others: Sequence[Said]) -> str | None:
    """The inverse of `Facet.others`."""
    return json.dumps(others) if others else None
