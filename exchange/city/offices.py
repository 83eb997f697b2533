"""An office: takes the rows of one contract as they stand on a day and writes them as it keeps them.

`Office` is what all kinds share: what a row holds, with whose identifier, how a clerk spells and spoils it. The kinds
themselves stand in `files` (CSV), `tables` (SQL) and `lines` (push).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from exchange.city.draws import Draw
from exchange.city.life import STORIES, Fault, State
from exchange.city.sources import Dataset, Values
from exchange.city.truth import Count
from exchange.city.world import Subject

Item = TypeVar("Item")
# Plants canaries and notes them, if the city has any; else hands the values through.
Planting = Callable[[Dataset, Values, int, int, int], Values]

TWICE = 16  # the subject whose first row is certainly delivered twice
CLASH = 17  # the subject whose first row certainly comes a second time with another content
LATE = 4  # the subject whose earlier edition certainly arrives once more after the newer one (see life)
_DELAY = 40  # rows between a delivery and its repeat


class Office(ABC):
    """One contract's office on one day. `take` gets each row of the city's subjects, in order; then `close`."""

    def __init__(self, dataset: Dataset, day: int, plant: Planting) -> None:
        self.dataset = dataset
        self.day = day
        self.count = Count()
        self._plant = plant

    def take(self, subject: Subject, slot: int, before: State | None, now: State) -> None:
        """One row: as it stood at the end of the day before (None on day 0), and as it stands now."""
        self.count.facets += now.good
        self._write(subject, slot, before, now)

    @abstractmethod
    def _write(self, subject: Subject, slot: int, before: State | None, now: State) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Write what waits, and put the day's delivery in its place."""

    def _held(self, subject: Subject, slot: int, state: State) -> Values:
        """What the office holds of a row, with the identifier as the clerk typed it."""
        values = self.dataset.values(subject, slot, state)
        values = self._plant(self.dataset, values, subject.index, slot, state.edition)
        values[self.dataset.subject_field] = identifier(subject, state.fault, self._draw(subject, slot, "typed"))
        return values

    def _draw(self, subject: Subject, slot: int, what: str) -> Draw:
        return Draw(subject.world.seed, what, self.dataset.contract, subject.index, slot)

    def _again(self, subject: Subject, slot: int, state: State, what: str, certain: int, per_mille: int) -> bool:
        """Whether a sound row comes again: always for one certain subject, by chance for those behind the story's."""
        if state.fault is not None or subject.index < STORIES:
            return False
        if subject.index == certain and slot == 0:
            return True
        return self._draw(subject, slot, f"{what}/{self.day}").chance(per_mille)


class Later(Generic[Item]):
    """What is to be delivered again some rows later: a short queue, so that memory stays constant."""

    def __init__(self, deliver: Callable[[Item], None]) -> None:
        self._deliver = deliver
        self._waiting: deque[tuple[int, Item]] = deque()
        self._passed = 0

    def add(self, item: Item) -> None:
        self._waiting.append((self._passed + _DELAY, item))

    def passed(self) -> None:
        """One more row was written; deliver what is due."""
        self._passed += 1
        while self._waiting and self._waiting[0][0] <= self._passed:
            self._deliver(self._waiting.popleft()[1])

    def close(self) -> None:
        while self._waiting:
            self._deliver(self._waiting.popleft()[1])


def identifier(subject: Subject, fault: Fault | None, draw: Draw) -> str:
    """The identifier as it stands in the source: sound (small letters and blanks at the ends are), or spoilt."""
    sound = subject.id
    match fault:
        case Fault.WRONG_OWNER:
            return subject.ghost_id
        case Fault.BAD_CHECK:
            return sound[:-1] + ("7" if sound[-1] != "7" else "3")
        case Fault.OLD_NUMBER:
            return (sound[:6] + sound[8:17]).translate(_LETTERS_TO_DIGITS)
        case Fault.SPREADSHEET:
            return f"{sound[0]}.{sound[1:6]}E+17"
        case Fault.NO_IDENTIFIER:
            return ""
        case _ if subject.index < STORIES:
            return sound
    if draw.chance(5):
        return f" {sound} "
    return sound.lower() if draw.chance(100) else sound


_LETTERS_TO_DIGITS = {ord("A") + place: ord("0") + place % 10 for place in range(26)}
