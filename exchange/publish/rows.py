"""What a connector hands to `publish`, and what becomes of it: Row, Batch, End, Outcome.

A connector knows its source and nothing of topics; `publish` knows topics and nothing of sources. These types are all
that passes between them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from exchange.errors import Rejected


class Keeps(StrEnum):
    """What the cursor file remembers of a source, and so what `publish` can conclude from a reading.

    KEYS    a snapshot: one entry per message key; what a complete snapshot no longer has is deleted
    ROWS    a table that is polled: one entry per row (by its primary key); a corrected key deletes the old one first
    FLIGHT  a stream of changes: only the batch in flight
    """

    KEYS = "keys"
    ROWS = "rows"
    FLIGHT = "flight"


@dataclass(slots=True)
class Row:
    """One row of a source.

    `value` holds native values by field of the contract, without level 4 fields; of a `rejected` row it holds what
    could be read, and texts that could not be converted as they stood. `where` names the row for a person
    (`people.csv line 5`), never by a personal value. `place` names it for the cursor file, the same in every reading
    (Keeps.KEYS needs none: there the message key does). `deleted` says that the source marks the row as deleted.
    `event_time` (aware) stands in where the contract has no event time field. `line` is what a reject shows of a row
    that could not be divided into fields.

    `raw` is the digest of what the row was read from, where it came Unread.
    """

    value: Mapping[str, Any]
    where: str
    place: str = ""
    rejected: Rejected | None = None
    deleted: bool = False
    event_time: datetime | None = None
    line: Sequence[str] | str | None = None
    raw: bytes | None = None


class Unread(Protocol):
    """A row of a snapshot that was not converted yet, so that one which is known costs little.

    `raw` is a digest of everything that its record is made from; `event_time` as in Row.
    """

    raw: bytes
    event_time: datetime

    def keys(self) -> Mapping[str, Any]:
        """The fields of subject and record key alone, as far as they can be read."""
        ...

    def value(self) -> Mapping[str, Any]:
        """What `read().value` is of a row that is good. Raises Rejected for any other."""
        ...

    def read(self) -> Row:
        """The whole row."""
        ...


@dataclass(frozen=True, slots=True)
class End:
    """The end of a complete reading: the source has told everything until `as_of` (aware).

    `whole` says that the reading was a complete snapshot: what was published before and was not in it, is deleted.
    """

    as_of: datetime
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in the order of the source. `end` stands on the last batch of a complete reading (which may have no rows).

    `position` is what the cursor file remembers, by name, once all of the batch has been acknowledged; None forgets a
    name. `progress` is the share of the reading that is done (0 to 1), None where the source does not tell. `notes`
    are for the log and for `connector status`.
    """

    rows: Sequence[Row | Unread]
    position: Mapping[str, str | None] = field(default_factory=dict)
    end: End | None = None
    progress: float | None = None
    notes: Sequence[str] = ()


@dataclass(slots=True)
class Outcome:
    """What became of rows: `read` = `published` + `unchanged` + `deleted` + `rejected`, always.

    `deleted` counts rows that the source marks as deleted; `gone` counts, outside the equation, the entries that were
    deleted because a complete snapshot no longer had them.
    """

    read: int = 0
    published: int = 0
    unchanged: int = 0
    deleted: int = 0
    rejected: int = 0
    gone: int = 0

    def add(self, other: Outcome) -> None:
        """Count the other's rows in."""
        for part in fields(self):
            setattr(self, part.name, getattr(self, part.name) + getattr(other, part.name))

    @property
    def accounted(self) -> bool:
        """Whether every row that was read became something."""
        return self.read == self.published + self.unchanged + self.deleted + self.rejected

    def __str__(self) -> str:
        gone = f"; {self.gone} no longer in the snapshot were deleted" if self.gone else ""
        return (
            f"{self.read} rows in = {self.published} published + {self.unchanged} unchanged + {self.deleted} deleted"
            f" + {self.rejected} rejected{gone}"
        )
