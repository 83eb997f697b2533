"""A part that dies at one of its writes: failed and lost, or done and not heard."""

from __future__ import annotations

from typing import Any

WRITES = ("publish", "cut", "erase", "drop_rejects", "begin_keying", "finish_keying")


class Died(BaseException):
    """As if the process had been killed."""


class Dying:
    """Passes every call on to a part, and dies at the n-th of those that write: before it, or just behind it."""

    def __init__(self, part: Any, count: list[int], at: int, behind: bool) -> None:
        self._part, self._count, self._at, self._behind = part, count, at, behind

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if name == "publisher":
            return lambda: Dying(found(), self._count, self._at, self._behind)
        if name not in WRITES:
            return found

        def counted(*arguments: Any) -> Any:
            self._count[0] += 1
            if self._count[0] == self._at and not self._behind:
                raise Died
            answer = found(*arguments)
            if self._count[0] == self._at:
                raise Died
            return answer

        return counted
