"""Steps: what is told, and whether it holds. One step that does not hold fails the demo; the others are told still."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from exchange.cli.demo.desks import Call
from exchange.errors import ExchangeError

Look = Literal["plain", "masked", "lead", "new", "gone", "faint"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table, and how it looks on a terminal."""

    text: str
    look: Look = "plain"

    def __str__(self) -> str:
        return self.text


Row = Sequence[Cell | str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table: titles of its columns (`>` in front: numbers, to the right), and its rows.

    What does not fit is cut, but for the last column of a table that `wraps`.
    """

    columns: Sequence[str]
    rows: Sequence[Row]
    note: str = ""
    wraps: bool = False

    def document(self) -> dict[str, Any]:
        """The table as JSON, without looks."""
        titles = [title.removeprefix(">").replace("\n", " ") for title in self.columns]
        return {"columns": titles, "rows": [[str(cell) for cell in row] for row in self.rows]}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must hold, in words."""

    text: str
    ok: bool


@dataclass(slots=True)
class Told:
    """A step as it was told: its title, a sentence that leads in, what was asked and answered, what was checked."""

    name: str
    title: str
    lead: str = ""
    parts: list[Call | Table | Check | str] = field(default_factory=list)
    milliseconds: float | None = None  # where the step measures something

    def show(self, part: Call | Table | str) -> None:
        """Tell a request with its answer, a table or a sentence."""
        self.parts.append(part)

    def check(self, ok: bool, text: str) -> None:
        """Tell what must hold, and whether it does."""
        self.parts.append(Check(text, bool(ok)))

    @property
    def checks(self) -> list[Check]:
        return [part for part in self.parts if isinstance(part, Check)]

    @property
    def ok(self) -> bool:
        """Whether something was checked and all of it holds."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    def document(self) -> dict[str, Any]:
        """The step as JSON."""
        found: dict[str, Any] = {"step": self.name, "title": self.title, "lead": self.lead, "ok": self.ok}
        if self.milliseconds is not None:
            found["milliseconds"] = round(self.milliseconds, 1)
        return found | {
            "checks": [{"ok": check.ok, "text": check.text} for check in self.checks],
            "said": [part for part in self.parts if isinstance(part, str)],
            "tables": [part.document() for part in self.parts if isinstance(part, Table)],
            "requests": [part.document() for part in self.parts if isinstance(part, Call)],
        }


Stage = TypeVar("Stage")


@dataclass(frozen=True, slots=True)
class Step(Generic[Stage]):
    """One step of a story: its name, its title, and the function that tells it on a stage.

    The function's docstring leads in: it is printed.
    """

    name: str
    title: str
    tell: Callable[[Stage, Told], None]


def tell(steps: Iterable[Step[Stage]], stage: Stage, hear: Callable[[Told], None]) -> list[Told]:
    """Tell the steps in order; `hear` gets each when it is told. Whatever breaks a step is a check that fails."""
    all_told = []
    for step in steps:
        told = Told(step.name, step.title, " ".join((inspect.getdoc(step.tell) or "").split()))
        try:
            step.tell(stage, told)
        except ExchangeError as error:
            told.check(False, str(error))
        except Exception as error:  # noqa: BLE001  the story goes on, and in the end everything is stopped in order
            told.check(False, f"the step broke off: {type(error).__name__}: {error}")
        hear(told)
        all_told.append(told)
    return all_told


def until(ask: Callable[[], Call], holds: Callable[[Call], bool], seconds: float = 15.0) -> tuple[Call, float]:
    """Ask until an answer holds, or for so long; the last answer, and the milliseconds until it was there."""
    began = time.perf_counter()
    while True:
        call = ask()
        spent = time.perf_counter() - began
        if (call.status == 200 and holds(call)) or spent > seconds:
            return call, spent * 1000
        time.sleep(0.01)
