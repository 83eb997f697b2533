"""The seven compatibility levels: which versions count, and who must be able to read whom. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

from exchange.contracts.avro import Type, read
from exchange.contracts.resolution import Pairs, misreads
from exchange.errors import ContractRefused

MAX_READ = 8 * 1024 * 1024  # characters of older schemas and what they refer to that are read for one verdict

V = TypeVar("V")


class Level(NamedTuple):
    """`backward`: the new schema reads what older ones wrote; `forward`: they read what it writes."""

    backward: bool
    forward: bool
    transitive: bool


LEVELS = {
    "NONE": Level(backward=False, forward=False, transitive=False),
    "BACKWARD": Level(backward=True, forward=False, transitive=False),
    "BACKWARD_TRANSITIVE": Level(backward=True, forward=False, transitive=True),
    "FORWARD": Level(backward=False, forward=True, transitive=False),
    "FORWARD_TRANSITIVE": Level(backward=False, forward=True, transitive=True),
    "FULL": Level(backward=True, forward=True, transitive=False),
    "FULL_TRANSITIVE": Level(backward=True, forward=True, transitive=True),
}
DEFAULT_LEVEL = "BACKWARD_TRANSITIVE"


class Older(NamedTuple):
    """An older version, with what it takes to read it: the texts behind its references, and its own."""

    version: int
    referred: Sequence[str]
    text: str


def counted(level: str, history: Sequence[V]) -> Sequence[V]:
    """Those of the versions, oldest first, that a new one is compared with at this level."""
    rule = LEVELS[level]
    if not rule.backward and not rule.forward:
        return ()
    return history if rule.transitive else history[-1:]


def faults(level: str, newer: Type, history: Iterable[Older]) -> list[str]:
    """Why `newer` may not follow these versions at this level; empty if it may.

    They are those that count, and are asked for one by one. Raises ContractRefused if finding it out takes too much.
    """
    rule, pairs, left = LEVELS[level], Pairs(), MAX_READ
    found: list[str] = []
    for version, referred, text in history:
        left -= len(text) + sum(map(len, referred))
        if left < 0:
            raise ContractRefused(f"the older versions have more than {MAX_READ} characters: begin another subject")
        older = read(text, referred).type
        if rule.backward:
            found += [f"against version {version}: {reason}" for reason in misreads(newer, older, pairs)]
        if rule.forward:
            found += [f"version {version} against it: {reason}" for reason in misreads(older, newer, pairs)]
    return found
