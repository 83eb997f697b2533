"""What a record is, who said it, and what stands in the end: Origin, Record, Said, Facet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

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
    """The latest record under one (subject, contract, major, record key), with its origin.

    `payload` is the record as canonical JSON text; None is a tombstone. `record_key` is the record key's hash, "" where
    the contract has none. `event_time` is aware UTC. `heard` is the last word of each other source that spoke of this
    identity before, the latest last (see store.order); empty for the most part.
    """

    subject_key: str
    contract: str
    major: int
    record_key: str
    payload: str | None
    schema_id: int | None
    origin: Origin
    partition: int
    offset: int
    version: int | None
    event_time: datetime
    heard: tuple[Said, ...] = ()

    @property
    def identity(self) -> tuple[str, str, int, str]:
        return (self.subject_key, self.contract, self.major, self.record_key)

    @property
    def shown_version(self) -> int:
        """The record version that a view shows: the version field, else the sequence."""
        return self.origin.sequence if self.version is None else self.version
