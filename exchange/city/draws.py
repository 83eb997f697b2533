"""Draws: reproducible chance. The same seed and name give the same draws on every machine and Python version.

Everything in the city is drawn from its name (`3/civil.person/1041`), not from a stream that something else has used
before: so any record can be computed alone, in any order, and nothing has to be remembered.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date, timedelta
from typing import TypeVar

T = TypeVar("T")

_BLOCK_BITS = 512
_SPENT_BITS = 96  # with fewer bits left a new block is drawn; keeps the bias of any draw under 2**-60


class Draw:
    """Draws under one name. Each method takes from what is left and moves on."""

    __slots__ = ("_bits", "_block", "_left", "_name")

    def __init__(self, *name: object) -> None:
        self._name = "/".join(map(str, name)).encode()
        self._block = 0
        self._left = 0
        self._bits = 0

    def branch(self, *name: object) -> Draw:
        """Draws under a longer name; this one stays as it is."""
        return Draw(self._name.decode(), *name)

    def below(self, bound: int) -> int:
        """A whole number from 0 to bound - 1; `bound` is at most 2**32."""
        if self._bits < _SPENT_BITS:
            digest = hashlib.blake2b(self._name, salt=self._block.to_bytes(16, "big")).digest()
            self._block += 1
            self._left = int.from_bytes(digest, "big")
            self._bits = _BLOCK_BITS
        self._left, drawn = divmod(self._left, bound)
        self._bits -= bound.bit_length()
        return drawn

    def between(self, first: int, last: int) -> int:
        """A whole number from `first` to `last`, both included."""
        return first + self.below(last - first + 1)

    def chance(self, per_mille: int) -> bool:
        """True in `per_mille` of 1,000 cases."""
        return self.below(1000) < per_mille

    def pick(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def day(self, first: date, last: date) -> date:
        """A day from `first` to `last`, both included."""
        return first + timedelta(days=self.below((last - first).days + 1))

    def digits(self, count: int) -> str:
        """`count` digits as text; at most nine of them in one draw."""
        first = min(count, 9)
        text = f"{self.below(10**first):0{first}}"
        return text if first == count else text + self.digits(count - first)
