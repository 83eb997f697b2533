"""What happens to one row of one office over the days: when it appears, changes, goes; what is wrong with it.

A row is (contract, subject, slot): the slot counts the rows of one subject (a person's second vehicle). Its whole life
follows from the seed, so that the state on any day can be computed alone, and what the exchange must make of it too.

Faults and deletions befall a subject's first row only: a line of which no more than the subject can be read keeps all
that was published of that subject, so the two together would have no plain outcome.

The first subjects are the story's: nothing is wrong with them and nothing happens to them. The subjects after them
have one certain event each, so that even the smallest city shows everything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from exchange.city.draws import Draw
from exchange.city.world import DAY_ZERO, World

STORIES = 4  # subjects 0 to 3
CERTAIN = 20  # subjects up to here have at least one row in each office that can hold them


class Fault(StrEnum):
    """What can be wrong with a row. All but WRONG_OWNER must be rejected."""

    BAD_CHECK = "the identifier fails its check"
    OLD_NUMBER = "the identifier is an old one of 15 digits"
    SPREADSHEET = "the identifier was damaged by a spreadsheet"
    NO_IDENTIFIER = "the identifier is missing"
    NO_VALUE = "a required value is missing"
    BAD_DAY = "a date does not exist"
    BAD_WORD = "a word is not in the value mapping"
    SHORT_LINE = "the line has a value too few"
    LONG_LINE = "the line has a value too many"
    BAD_BYTES = "the line has bytes that are no text"
    CUT_LINE = "the line is no JSON"
    UNKNOWN_MEMBER = "the line has a member that the contract does not have"
    LEVEL_4 = "the line has a level 4 value"
    WRONG_OWNER = "the identifier is somebody else's"


@dataclass(frozen=True, slots=True)
class State:
    """A row as its office holds it at the end of a day.

    `edition` counts its changes; `born` is when it was entered, `at` when it was last changed (what was there from the
    start: some time in the two years before day 0 ends); `deleted` is whether it was taken back, `fault` what is wrong
    with it now.
    """

    present: bool
    deleted: bool
    fault: Fault | None
    edition: int
    born: datetime
    at: datetime

    @property
    def good(self) -> bool:
        """Whether the exchange takes it: there, not taken back, nothing wrong that can be seen."""
        return self.present and not self.deleted and self.fault in (None, Fault.WRONG_OWNER)

    @property
    def rejected(self) -> bool:
        return self.present and not self.deleted and self.fault not in (None, Fault.WRONG_OWNER)


@dataclass(frozen=True, slots=True)
class Life:
    """A row's days: when it appears, when it changes (three times at most), when it is taken back; its fault."""

    appears: int
    changes: tuple[int, ...]
    deleted: int | None
    fault: Fault | None
    repaired: int | None
    moments: Draw

    def on(self, day: int) -> State:
        """The state at the end of `day`; a day before the row appears gives one that is not present."""
        repaired = self.repaired is not None and self.repaired <= day
        changes = [change for change in self.changes if change <= day]
        gone = self.deleted is not None and self.deleted <= day
        events = (self.appears, *self.changes, self.repaired, self.deleted)
        last = max((event for event in events if event is not None and event <= day), default=self.appears)
        born = moment(self.moments, self.appears)
        return State(
            present=self.appears <= day,
            deleted=gone,
            fault=None if repaired else self.fault,
            edition=len(changes) + repaired,
            born=born,
            at=born if last == self.appears else moment(self.moments, last),
        )


def live(world: World, contract: str, index: int, slot: int, *, faults: tuple[Fault, ...], deletes: bool) -> Life:
    """The life of one row. `faults` are those that its kind of source can have; `deletes`: it can take rows back."""
    draw = Draw(world.seed, "life", contract, index, slot)
    moments = Draw(world.seed, "moments", contract, index, slot)
    if index < STORIES:
        return Life(0, (), None, None, None, moments)
    certain = _certain(index, faults, moments) if slot == 0 else None
    if certain is not None:
        return certain if deletes else replace(certain, deleted=None)
    if draw.chance(15) and slot == 0:
        repaired = draw.between(1, 6) if draw.chance(500) else None
        return Life(0, (), None, draw.pick(faults), repaired, moments)
    appears = draw.between(1, 10) if draw.chance(50) else 0
    first = appears + draw.between(1, 100)
    second = first + draw.between(1, 100)
    third = second + draw.between(1, 100)
    deleted = third + draw.between(1, 100) if draw.chance(300) else None
    if appears == 0 and draw.chance(5):
        deleted = draw.between(0, 3)
    if not deletes or slot > 0:
        deleted = None
    changes = tuple(change for change in (first, second, third) if deleted is None or change < deleted)
    return Life(appears, changes, deleted, None, None, moments)


def _certain(index: int, faults: tuple[Fault, ...], moments: Draw) -> Life | None:
    """One event for each of the subjects behind the story's."""
    lives = {
        4: Life(0, (1,), None, None, None, moments),
        5: Life(0, (), 1, None, None, moments),
        6: Life(0, (), 0, None, None, moments),
        7: Life(1, (), None, None, None, moments),
        8: Life(0, (), None, faults[0], 1, moments),
        9: Life(0, (), None, faults[-1], 1, moments),
    }
    if index in lives:
        return lives[index]
    if index < 10 + len(faults) and index < CERTAIN:
        return Life(0, (), None, faults[index - 10], None, moments)
    return None


def moment(name: Draw, day: int) -> datetime:
    """When an event of that day was made: whole seconds, never after the day's end.

    Of what was there from the start, one in three rows was written by one of the monthly batches, all at one time.
    """
    draw = name.branch(day)
    if day > 0:
        return DAY_ZERO + timedelta(days=day - 1, seconds=draw.below(20 * 3600))
    if draw.chance(333):
        return DAY_ZERO - timedelta(days=30 * draw.between(1, 24), hours=22)
    return DAY_ZERO - timedelta(seconds=draw.between(3600, 730 * 86400))
