"""What a cursor file tells a person: how far it is, and what became of the rows of each reading."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exchange import sqlite
from exchange.errors import NotFound, SettingWrong
from exchange.publish.entries import COUNT, SCHEMA, SET_ASIDE
from exchange.publish.rows import Outcome


@dataclass(frozen=True, slots=True)
class PastReading:
    """One reading. Times are RFC 3339; `as_of` is set if it was complete, else `note` says why not."""

    began: str
    ended: str | None
    as_of: str | None
    note: str | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Status:
    """`entries` are the records that stand in the topic by this source; `doubtful` ones may not have reached it.

    Where the source goes on is left out: it can hold a row's key, and a table's key may be somebody's number.
    """

    source: str
    topic: str
    epoch: int
    next_sequence: int
    entries: int
    doubtful: int
    readings: list[PastReading]  # newest first

    @property
    def complete(self) -> PastReading | None:
        """The newest complete reading."""
        return next((reading for reading in self.readings if reading.as_of is not None), None)

    def document(self) -> dict[str, Any]:
        """The status as a JSON object."""
        return asdict(self)


def read_status(path: Path, readings: int = 10) -> Status:
    """The status of a cursor file, also while a connector holds it. Raises NotFound, SettingWrong."""
    if not path.exists():
        raise NotFound(f"{path}: this instance has never run")
    with closing(sqlite.connect(path, readonly=True)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:  # it is being made
            raise NotFound(f"{path}: this instance has never run")
        if version != SCHEMA:
            raise SettingWrong(f"{path} has the format of another version of Exchange")
        state = dict(db.execute("SELECT name, value FROM state"))
        entries, doubtful = db.execute(COUNT, (int(state.get("acknowledged", 0)), SET_ASIDE)).fetchone()
        return Status(
            source=state.get("source", ""),
            topic=state.get("topic", ""),
            epoch=int(state.get("epoch", 0)),
            next_sequence=int(state.get("next_sequence", 1)),
            entries=entries,
            doubtful=doubtful,
            readings=[
                PastReading(row[0], row[1], row[2], row[3], Outcome(*row[4:]))
                for row in db.execute(
                    "SELECT began, ended, as_of, note, read, published, unchanged, deleted, rejected, gone"
                    " FROM readings ORDER BY id DESC LIMIT ?",
                    (readings,),
                )
            ],
        )
