"""What offices keep their data in: CSV files, a table, lines that they push; and how each column is written there.

One description serves twice: the writers write by it, and the connector's instance file is made from it. So what a
department's file says (`男`, `2026年3月1日`, a column by position) and how its connector reads it never part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

from exchange.city.life import Fault, State
from exchange.city.world import BEIJING, Citizen, Enterprise

Kind = Literal["citizen", "enterprise"]
Encoding = Literal["utf-8", "utf-8-sig", "gb18030"]
Values = dict[str, Any]


class Symbol(str):
    """A symbol of an enum: a word that cannot be made unique."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a source: the contract's field, its name there, and how values are written.

    `words` maps an enum's symbols or a boolean to the office's own words; `form` is a strftime format of a date or a
    time in a file (Beijing time, without a zone: offices write no zone); `kind` is the column's type in a table.
    """

    field: str
    header: str
    words: Mapping[Any, str] | None = None
    form: str | None = None
    kind: Literal["text", "number", "money", "day", "moment"] = "text"

    def text(self, value: Any) -> str:
        """The value as the office writes it in a file; null is an empty cell."""
        if value is None:
            return ""
        if self.words is not None:
            return self.words[value]
        if isinstance(value, datetime):
            return value.astimezone(BEIJING).strftime(self.form or "%Y-%m-%d %H:%M:%S")
        if isinstance(value, date):
            return _year(value, self.form or "%Y-%m-%d")
        if isinstance(value, Decimal):
            return f"{value:f}"
        return str(value)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """CSV: the whole state each day, in place of the day before. `split` writes one file for each district."""

    encoding: Encoding = "utf-8"
    delimiter: str = ","
    split: bool = False

    deletes = True
    faults = (
        Fault.BAD_CHECK,
        Fault.WRONG_OWNER,
        Fault.SHORT_LINE,
        Fault.BAD_DAY,
        Fault.OLD_NUMBER,
        Fault.LONG_LINE,
        Fault.NO_IDENTIFIER,
        Fault.BAD_BYTES,
        Fault.SPREADSHEET,
    )


@dataclass(frozen=True, slots=True)
class Append:
    """CSV: each day what is new or changed, in a file of its own or at the end of one that grows."""

    encoding: Encoding = "utf-8"
    delimiter: str = ","
    header: bool = True
    grows: bool = False

    deletes = False  # a file to which lines are only added cannot take anything back
    faults = (
        Fault.BAD_CHECK,
        Fault.SHORT_LINE,
        Fault.BAD_DAY,
        Fault.OLD_NUMBER,
        Fault.LONG_LINE,
        Fault.NO_IDENTIFIER,
        Fault.SPREADSHEET,
    )


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a serial key, an update time and a deletion mark. `hidden` are columns that no connector reads."""

    name: str
    hidden: tuple[str, ...] = ()

    deletes = True
    faults = (Fault.BAD_CHECK, Fault.WRONG_OWNER, Fault.OLD_NUMBER, Fault.NO_VALUE, Fault.NO_IDENTIFIER)


@dataclass(frozen=True, slots=True)
class Push:
    """NDJSON lines that the department's own program pushes over HTTP, in the contract's JSON form."""

    level_4: str | None = None  # a field that a careless program sends along

    deletes = True

    @property
    def faults(self) -> tuple[Fault, ...]:
        slip = (Fault.LEVEL_4,) if self.level_4 else ()
        return (
            Fault.BAD_CHECK,
            Fault.WRONG_OWNER,
            Fault.CUT_LINE,
            Fault.OLD_NUMBER,
            Fault.UNKNOWN_MEMBER,
            Fault.NO_VALUE,
            *slip,
        )


Source = Snapshot | Append | Table | Push


@dataclass(frozen=True, slots=True)
class Dataset:
    """One contract as one office keeps it.

    `slots` says how many rows a subject has; `values` gives one of them, by contract field, as native values; every
    edition of a row differs from the one before. `required` is a field that a clerk sometimes leaves out although the
    contract wants it; `dated` one that sometimes holds a day that does not exist.
    """

    contract: str
    source: Source
    columns: tuple[Column, ...]
    slots: Callable[[Any], int]
    values: Callable[[Any, int, State], Values]
    key: tuple[str, ...] = ()
    version: str | None = None
    event_time: str | None = None
    required: str = ""
    dated: str = ""

    @property
    def department(self) -> str:
        return self.contract.partition(".")[0]

    @property
    def subject_field(self) -> str:
        return self.columns[0].field

    def slots_of(self, subject: Citizen | Enterprise, certain: bool) -> int:
        """How many rows the subject has; at least one if the city must show something with it."""
        return max(self.slots(subject), 1 if certain else 0)


def _year(value: date, form: str) -> str:
    """strftime with four digits of the year on every platform."""
    return value.strftime(form.replace("%Y", f"{value.year:04}"))
