"""The types that hold several values: record, array, map."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from exchange.contracts.node import FAULTS, Node, misformed, mistyped, own_names, within
from exchange.contracts.scalars import Text
from exchange.contracts.wire import MAX_VALUES, Budget, read_long
from exchange.errors import Rejected
from exchange.subjects import holds_identifier

# One name is a slip of another: so many of both names' letters, in their order, are the same, and so few are more.
ALIKE = 0.75
LONGER = 2


@dataclass(frozen=True, slots=True)
class Member:
    """A field of a record type. `absent` gives the value of a missing member; None where there is no default."""

    name: str
    aliases: tuple[str, ...]
    doc: str
    node: Node
    absent: Callable[[], Any] | None = None


class RecordNode(Node):
    """A record. Unknown members are refused, and missing ones that have no default."""

    word = "record"

    def __init__(self, fullname: str, members: Sequence[Member]) -> None:
        self.fullname = fullname
        self.members = tuple(members)
        self._by_name = {member.name: member for member in members}
        self.weight = 1 + sum(member.node.weight for member in members)
        self.unfolds = any(member.node.unfolds for member in members)
        self.plain = all(member.node.plain for member in members)
        self._checks = [(member.name, member.node.check, member.absent) for member in members]
        self._reads = [(member.name, member.node.read) for member in members]
        self._shows = [(member.name, member.node.show) for member in members if not member.node.plain]
        self._parses = [(member.name, member.node.parse, member.absent is None) for member in members]
        self._defaults = [(member.name, member.node.default, member.absent) for member in members]
        self._surpluses = [(member.name, member.node.surplus) for member in members if member.node.unfolds]

    def check(self, value: Any) -> Any:
        if type(value) is not dict and not isinstance(value, Mapping):
            raise mistyped("a mapping", value)
        return self._fill(value, self._checks)

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[dict[str, Any], int]:
        value: dict[str, Any] = {}
        name = ""
        try:
            for name, read in self._reads:
                value[name], at = read(data, at, budget)
        except FAULTS as fault:
            raise within(name, fault) from None
        return value, at

    def show(self, value: Any) -> dict[str, Any]:
        form = dict(value)
        for name, show in self._shows:
            form[name] = show(form[name])
        return form

    def parse(self, form: Any) -> dict[str, Any]:
        """Missing members that have a default stay missing; `check` fills them in."""
        if type(form) is not dict and not isinstance(form, Mapping):
            raise misformed("an object", form)
        value: dict[str, Any] = {}
        missing, name = False, ""
        try:
            for name, parse, required in self._parses:
                if name in form:
                    value[name] = parse(form[name])
                elif required:
                    missing = True
        except Rejected as fault:
            raise within(name, fault) from None
        if missing or len(value) != len(form):
            raise self._membership(form)
        return value

    def default(self, form: Any) -> Any:
        if type(form) is not dict:
            raise misformed("an object", form)
        return self._fill(form, self._defaults)

    def wrappers(self) -> set[str]:
        return own_names(self.fullname) - set(self._by_name)

    def surplus(self, value: Any) -> int:
        return sum(surplus(value[name]) for name, surplus in self._surpluses)

    def member(self, name: str) -> Member:
        """The field of this name. Raises KeyError if there is none."""
        return self._by_name[name]

    def _fill(
        self, given: Mapping[str, Any], makers: Sequence[tuple[str, Callable[[Any], Any], Callable[[], Any] | None]]
    ) -> dict[str, Any]:
        value: dict[str, Any] = {}
        found, name = 0, ""
        try:
            for name, make, absent in makers:
                if name in given:
                    value[name] = make(given[name])
                    found += 1
                elif absent is not None:
                    value[name] = absent()
        except Rejected as fault:
            raise within(name, fault) from None
        if found != len(given) or len(value) != len(makers):
            raise self._membership(given)
        return value

    def _membership(self, given: Mapping[str, Any]) -> Rejected:
        """Which members are unknown and which are missing, in one reason: a slip is often one of each."""
        unknown = [(place, name) for place, name in enumerate(given, 1) if name not in self._by_name]
        missing = [member.name for member in self.members if member.absent is None and member.name not in given]
        reasons = [f"unknown member {self._presentable(place, name)}" for place, name in unknown[:5]] + [
            f"missing member {name}" for name in missing[:5]
        ]
        return Rejected("; ".join(reasons))

    def _presentable(self, place: int, name: object) -> str:
        """An unknown member as a reason may tell it: by its name where that is a slip of a field's, else by its place.

        Any other name is data, and may be that of a person.
        """
        if isinstance(name, str) and _NAME.fullmatch(name) and not _NUMBER.search(name) and not holds_identifier(name):
            known = [one.lower() for one in self._by_name]
            close = get_close_matches(name.lower(), known, n=1, cutoff=ALIKE)
            if close and abs(len(name) - len(close[0])) <= LONGER:
                return name
        return f"{place}, whose name is not shown"


class ArrayNode(Node):
    """An array; its native value is a list."""

    word = "array"
    unfolds = True

    def __init__(self, items: Node) -> None:
        self.items = items
        self.plain = items.plain

    def check(self, value: Any) -> Any:
        if type(value) is not list:
            raise mistyped("a list", value)
        return self._each(value, self.items.check)

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[list[Any], int]:
        items: list[Any] = []
        read, weight = self.items.read, self.items.weight
        while True:
            count, at, end = _block(data, at)
            if count == 0:
                return items, at
            budget.spend(count * weight)
            try:
                for _ in range(count):
                    item, at = read(data, at, budget)
                    items.append(item)
            except FAULTS as fault:
                raise within(f"[{len(items)}]", fault) from None
            _ended(at, end)

    def show(self, value: Any) -> list[Any]:
        return [self.items.show(item) for item in value]

    def parse(self, form: Any) -> list[Any]:
        if type(form) is not list:
            raise misformed("an array", form)
        return self._each(form, self.items.parse)

    def default(self, form: Any) -> Any:
        if type(form) is not list:
            raise misformed("an array", form)
        return self._each(form, self.items.default)

    def surplus(self, value: Any) -> int:
        inner = sum(map(self.items.surplus, value)) if self.items.unfolds else 0
        return len(value) * self.items.weight + inner

    def _each(self, values: list[Any], make: Callable[[Any], Any]) -> list[Any]:
        if len(values) > MAX_VALUES:
            raise Rejected(f"more than {MAX_VALUES} items")
        made: list[Any] = []
        try:
            for value in values:
                made.append(make(value))  # noqa: PERF401  (its length says where it failed)
        except Rejected as fault:
            raise within(f"[{len(made)}]", fault) from None
        return made


class MapNode(Node):
    """A map from text; a key may be personal, so no reason names it."""

    word = "map"
    unfolds = True

    def __init__(self, values: Node) -> None:
        self.values = values
        self.plain = values.plain
        self._text = Text()

    def check(self, value: Any) -> Any:
        if type(value) is not dict:
            raise mistyped("a mapping", value)
        return self._each(value, self.values.check)

    def read(self, data: bytes, at: int, budget: Budget) -> tuple[dict[str, Any], int]:
        entries: dict[str, Any] = {}
        read, read_key, weight = self.values.read, self._text.read, 1 + self.values.weight
        while True:
            count, at, end = _block(data, at)
            if count == 0:
                return entries, at
            budget.spend(count * weight)
            try:
                for _ in range(count):
                    key, at = read_key(data, at, budget)
                    if key in entries:
                        raise Rejected("a key that stands twice in one map")
                    entries[key], at = read(data, at, budget)
            except FAULTS as fault:
                raise within("{}", fault) from None
            _ended(at, end)

    def show(self, value: Any) -> dict[str, Any]:
        return {key: self.values.show(entry) for key, entry in value.items()}

    def parse(self, form: Any) -> dict[str, Any]:
        if type(form) is not dict:
            raise misformed("an object", form)
        return self._each(form, self.values.parse)

    def default(self, form: Any) -> Any:
        if type(form) is not dict:
            raise misformed("an object", form)
        return self._each(form, self.values.default)

    def wrappers(self) -> set[str]:
        return set()  # any key may stand in a map

    def surplus(self, value: Any) -> int:
        inner = sum(map(self.values.surplus, value.values())) if self.values.unfolds else 0
        return len(value) * (1 + self.values.weight) + inner

    def _each(self, entries: dict[str, Any], make: Callable[[Any], Any]) -> dict[str, Any]:
        if len(entries) > MAX_VALUES:
            raise Rejected(f"more than {MAX_VALUES} entries")
        try:
            return {self._text.check(key): make(entry) for key, entry in entries.items()}
        except Rejected as fault:
            raise within("{}", fault) from None


def _block(data: bytes, at: int) -> tuple[int, int, int | None]:
    """(items, where they start, where they must end if the block says so). A negative count announces a byte size."""
    count, at = read_long(data, at)
    if count >= 0:
        return count, at, None
    size, at = read_long(data, at)
    if not 0 <= size <= len(data) - at:
        raise Rejected("a length that goes beyond the bytes")
    return -count, at, at + size


def _ended(at: int, end: int | None) -> None:
    if end is not None and at != end:
        raise Rejected("a block that is not as long as it says")


_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,47}")
_NUMBER = re.compile(r"[0-9]{6}")
