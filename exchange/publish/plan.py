"""What one batch will write, send and note as done; and which entries a reading has met."""

from __future__ import annotations

from dataclasses import dataclass, field

from exchange.publish.entries import Entry, Told
from exchange.publish.rows import Outcome
from exchange.records import Message


class Marks:
    """A set of entry ids, one bit each: a million rows take 125 kB."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, number: int) -> None:
        index = number >> 3
        if index >= len(self._bits):
            self._bits.extend(bytes(index + 4096 - len(self._bits)))
        self._bits[index] |= 1 << (number & 7)

    def __contains__(self, number: int) -> bool:
        index = number >> 3
        return index < len(self._bits) and bool(self._bits[index] >> (number & 7) & 1)


@dataclass(slots=True)
class Plan:
    """What one batch does. `fresh_rejects` are those that were not told in an earlier reading."""

    next_sequence: int
    outcome: Outcome = field(default_factory=Outcome)
    messages: list[Message] = field(default_factory=list)
    reject_messages: list[Message] = field(default_factory=list)
    entries: dict[int, Entry] = field(default_factory=dict)
    rejects: dict[str, Told] = field(default_factory=dict)
    claimed: list[Entry] = field(default_factory=list)
    settled: list[Entry] = field(default_factory=list)
    settled_rejects: list[str] = field(default_factory=list)
    forget: list[Entry] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    fresh_rejects: int = 0

    def number(self) -> int:
        """A sequence that was never used."""
        self.next_sequence += 1
        return self.next_sequence - 1
