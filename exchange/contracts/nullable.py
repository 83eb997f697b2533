"""Values that may be missing: a union of null and one type, and the field that must be missing."""

from __future__ import annotations

from typing import Any

from exchange.contracts.node import Node
from exchange.contracts.wire import Budget
from exchange.errors import Rejected


class Nullable(Node):
    """A union of null and one type; its form is null or the plain form of that type, never wrapped in its name."""

    def __init__(self, inner: Node, null_first: bool) -> None:
        self.inner = inner
        self.null_first = null_first
        self.plain = inner.plain
        self.unfolds = inner.unfolds or inner.weight > 1
        self._inner_weight = inner.weight - 1
        # Of two branches each index is one byte: 0 is 0x00, 1 is 0x02 (zig-zag). Nothing else is an index.
        self._null, self._other = (0, 2) if null_first else (2, 0)

    @property
    def name(self) -> str:
        return self.inner.name

    def check(self, value: Any) -> Any:
        return None if value is None else self.inner.check(value)

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[Any, int]:
        index = data[at]
        if index == self._null:
            return None, at + 1
        if index != self._other:
            raise Rejected("a union index that is neither null nor the other type")
        if self._inner_weight:
            budget.spend(self._inner_weight)
        return self.inner.read(data, at + 1, budget)

    def show(self, value: Any) -> Any:
        return None if value is None else self.inner.show(value)

    def parse(self, form: Any) -> Any:
        if form is None:
            return None
        if type(form) is dict and len(form) == 1:
            (wrapper,) = form
            if wrapper in self.inner.wrappers():
                raise Rejected(f'written plain, without {{"{wrapper}": ...}} around the value')
        return self.inner.parse(form)

    def default(self, form: Any) -> Any:
        """A default fits the first branch of its union (Avro 1.12, Complex Types, Records)."""
        if self.null_first:
            if form is not None:
                raise Rejected("null stands first in the union, so only null can be the default")
            return None
        if form is None:
            raise Rejected('the default null needs null to stand first: ["null", ...]')
        if type(form) is str and form.lower() in ("null", "none", "nil"):
            raise Rejected('the default is the word null as text; write ["null", ...] and null without quotation marks')
        return self.inner.default(form)

    def surplus(self, value: Any) -> int:
        return 0 if value is None else self._inner_weight + self.inner.surplus(value)


class Sealed(Node):
    """A field of level 4: it never leaves its department, so it is null here or the record is refused."""

    plain = True

    def __init__(self, inner: Node) -> None:
        self.inner = inner

    @property
    def name(self) -> str:
        return self.inner.name

    def check(self, value: Any) -> Any:
        if value is not None:
            raise Rejected("a level 4 field never leaves its department; leave it out")
        return None

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[Any, int]:
        value, at = self.inner.read(data, at, budget)
        return self.check(value), at

    def parse(self, form: Any) -> Any:
        return self.check(form)
