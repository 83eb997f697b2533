"""Where a reading of a table goes on: the keyset cursor (update time, key), exact, as the cursor file keeps it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

AFTER = "after"  # the position's names
WINDOW = "window"


@dataclass(frozen=True, slots=True)
class After:
    """The last row that was read, as the database ordered it: its update time and its key."""

    at: Any
    key: tuple[Any, ...]

    def text(self) -> str:
        """The form in which the cursor file keeps it, all digits of a second included."""
        return json.dumps([freeze(self.at), [freeze(part) for part in self.key]], ensure_ascii=False)

    @classmethod
    def read(cls, position: Mapping[str, str]) -> After | None:
        if AFTER not in position:
            return None
        at, key = json.loads(position[AFTER])
        return cls(thaw(at), tuple(thaw(part) for part in key))


@dataclass(frozen=True, slots=True)
class Window:
    """What the next reading has to read again.

    By the source's clock: `began`, when the last complete reading began; `still`, when the first one began that has met
    nothing behind the cursor, None if the last one has moved it. `settled` says that the last safety lag was read again
    after it had passed, and is too large to be read for ever.
    """

    began: datetime
    still: datetime | None = None
    settled: bool = False

    def text(self) -> str:
        still = None if self.still is None else self.still.isoformat()
        return json.dumps([self.began.isoformat(), still, self.settled])

    @classmethod
    def read(cls, position: Mapping[str, str]) -> Window | None:
        if WINDOW not in position:
            return None
        began, still, settled = json.loads(position[WINDOW])
        return cls(datetime.fromisoformat(began), None if still is None else datetime.fromisoformat(still), settled)

    @classmethod
    def during(cls, before: Window | None, *, began: datetime) -> Window:
        """The window while a reading goes on: if it breaks off, what was committed late meanwhile is still read."""
        return cls(began if before is None else before.began)

    @classmethod
    def following(
        cls, before: Window | None, *, began: datetime, moved: bool, last: datetime | None, lag: timedelta, large: bool
    ) -> Window:
        """The window after a complete reading. `last` is the cursor's instant; `large`: more than a batch was read.

        A cursor that lies ahead of the source's clock never settles: rows of the present time are still to come.
        """
        if moved or before is None:
            return cls(began)
        still = before.still or began
        passed = began - still >= lag and last is not None and last <= began
        return cls(began, still, settled=passed and (large or before.settled))


def place_of(key: Sequence[Any]) -> str:
    """The name of a row for the cursor file: its key."""
    return json.dumps([freeze(part) for part in key], ensure_ascii=False, separators=(",", ":"))


def key_of(place: str) -> tuple[Any, ...]:
    """The key behind `place_of`."""
    return tuple(thaw(part) for part in json.loads(place))


def freeze(value: Any) -> Any:
    """A value of a driver as JSON that `thaw` turns back into the same value. Raises TypeError for a foreign type."""
    if value is None or (isinstance(value, str | int) and not isinstance(value, bool)):
        return value
    for word, kind in _KINDS.items():
        if type(value) is kind:
            return {word: value.isoformat() if hasattr(value, "isoformat") else str(value)}
    if isinstance(value, bytes | memoryview):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, float):
        return {"float": value.hex()}
    raise TypeError(f"a key or update time of the type {type(value).__name__}")


def thaw(form: Any) -> Any:
    """The value that `freeze` was given."""
    if not isinstance(form, dict):
        return form
    ((word, text),) = form.items()
    if word == "bytes":
        return bytes.fromhex(text)
    if word == "float":
        return float.fromhex(text)
    kind = _KINDS[word]
    return kind.fromisoformat(text) if hasattr(kind, "fromisoformat") else kind(text)


_KINDS: dict[str, Any] = {"datetime": datetime, "date": date, "time": time, "decimal": Decimal, "uuid": UUID}
