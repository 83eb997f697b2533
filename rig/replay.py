"""What a topic says must stand: docs/semantics.md, section 5, once more and from its text.

Slow and plain on purpose: it keeps every source's last word of every key, also of what lost against another source, and
goes through the topic in its order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from rig.topics import Message

Word = tuple[int | None, tuple[int, int]]  # version, and epoch with sequence


@dataclass(slots=True)
class Stands:
    """The message that stands under a key, and the last word of each source on it."""

    message: Message
    version: int | None
    words: dict[str, Word] = field(default_factory=dict)


def replay(messages: Iterable[Message], poison: Collection[tuple[str, int, int]]) -> dict[str, Stands]:
    """By message key what stands, once every message was read in log order; `poison` is passed over."""
    standing: dict[str, Stands] = {}
    for message in messages:
        if message.place in poison:
            continue
        now = standing.get(message.key)
        if now is None:
            now = standing[message.key] = Stands(message, message.version)
            now.words[message.source] = message.version, message.number
        elif _newer(message, now):
            now.message = message
            now.version = now.version if message.version is None else message.version
            now.words[message.source] = now.version, message.number
        elif _later((message.version, message.number), now.words.get(message.source)):
            now.words[message.source] = message.version, message.number
    return standing


def _newer(message: Message, now: Stands) -> bool:
    if message.version is not None and now.version is not None and message.version != now.version:
        return message.version > now.version
    return _later((message.version, message.number), now.words.get(message.source))  # of two sources, log order


def _later(word: Word, last: Word | None) -> bool:
    if last is None:
        return True
    if word[0] is not None and last[0] is not None and word[0] != last[0]:
        return word[0] > last[0]
    return word[1] > last[1]
