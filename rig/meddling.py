"""Meddling with the topics, all the time: copies, late copies, and bytes that are no record.

A copy is what a producer writes that was not answered. A late one comes behind newer messages of its key, a deletion
included. Poison is made of a good message. What the rig writes carries a header, by which it is known again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from threading import Event

from rig.topics import Away, Message, Topics

MARK = "rig"  # the header of what the rig has written
KEPT = 3_000  # messages of a topic from which late copies are drawn

DUPLICATES, LATE, POISON = "duplicates", "late", "poison"
SHARES = {DUPLICATES: 0.10, LATE: 0.05, POISON: 0.10}  # of the messages that the product writes

Spoiler = Callable[[bytes, str, str], tuple[str, bytes]]  # value, its key, somebody else's -> what is written instead

SPOILERS: list[Spoiler] = [
    lambda value, key, other: (key, b"\x01" + value[1:]),  # another framing
    lambda value, key, other: (key, b"\x00\x7f\xff\xff\xff" + value[5:]),  # a schema id that nobody knows
    lambda value, key, other: (key, value[: len(value) // 2]),
    lambda value, key, other: (key, value + b"\x00"),
    lambda value, key, other: (key, value[:5] + b"\xff" * 10 + value[5:]),  # a length that is none
    lambda value, key, other: (other, value),  # a key that disagrees with the value
    lambda value, key, other: ("no key of ours", value),
]


class Meddler:
    """Used by one thread."""

    def __init__(self, topics: Topics, names: list[str], wanted: Mapping[str, float], dice: Random) -> None:
        """`wanted`: which kinds, and their share of the product's own messages."""
        self._topics = topics
        self._wanted = wanted
        self._dice = dice
        self._read: dict[str, dict[int, int]] = {name: {} for name in names}
        self._kept: dict[str, list[Message]] = defaultdict(list)

    def work(self, over: Event, pause: float) -> None:
        """Meddle until it is over."""
        while not over.wait(pause):
            for name, positions in self._read.items():
                try:
                    self._meddle(name, positions)
                except Away:
                    continue

    def _meddle(self, name: str, positions: dict[int, int]) -> None:
        new = self._topics.since(name, positions)
        for message in new:
            positions[message.partition] = message.offset + 1
        kept = self._kept[name]
        kept += [message for message in new if mark(message) is None]
        del kept[:-KEPT]
        made = [made for message in new if mark(message) is None for made in self._made(message, kept)]
        self._topics.append(made)

    def _made(self, message: Message, kept: list[Message]) -> list[Message]:
        made = []
        if self._falls(DUPLICATES):
            made.append(_marked(message, DUPLICATES))
        if self._falls(LATE):
            made.append(_marked(self._dice.choice(kept), LATE))
        if self._falls(POISON) and message.value is not None:
            others = [each.key for each in kept if each.key != message.key] or ["nobody"]
            key, value = self._dice.choice(SPOILERS)(message.value, message.key, self._dice.choice(others))
            made.append(replace(_marked(message, POISON), key=key, value=value))
        return made

    def _falls(self, kind: str) -> bool:
        return self._dice.random() < self._wanted.get(kind, 0.0)


def mark(message: Message) -> str | None:
    """As what the rig has written a message; None if the product has."""
    return dict(message.headers).get(MARK)


def _marked(message: Message, kind: str) -> Message:
    return replace(message, headers=(*message.headers, (MARK, kind)))
