"""A table fitted to one instance: which columns are read, which make the key, which says when a row was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from connectors.mapping import Columns, FieldMapping
from connectors.sqlcursor import After
from connectors.sqlsource import Column, Source
from connectors.sqltimes import UpdateTime
from exchange.errors import SourceRefused

_SERIAL = 10**9  # a key below this is a row's number, not a person's
_NO_TIME = (
    "no column says when a row was written last (`updated_at`), and without one polling would lose rows: of a serial "
    "key alone a smaller number can be committed after a greater one, when that was passed already"
)
_NO_KEY = "the table has no primary key: name in `key` the columns that tell its rows apart"


@dataclass(frozen=True, slots=True)
class Table:
    """What of the table is read. `at` and `key` name columns; `selected` are all that are read, in this order."""

    source: Source
    all: Sequence[Column]
    selected: Sequence[str]
    at: str
    key: Sequence[str]
    columns: Columns
    personal: frozenset[str]  # columns from which subject and record key come
    rounding: Sequence[int] = ()  # places of columns that may have rounded a decimal before it was stored

    @classmethod
    def open(
        cls,
        connection: sa.Connection,
        source: Source,
        at: str | None,
        key: Sequence[str],
        mapping: FieldMapping,
    ) -> Table:
        """Look the table up. Raises SourceRefused, saying why it cannot be polled."""
        found = source.columns(connection)
        names = [column.name for column in found]
        key = key or source.primary_key(connection)
        if at is None:
            raise SourceRefused(f"{source.name}: {_NO_TIME}")
        if not key:
            raise SourceRefused(f"{source.name}: {_NO_KEY}")
        for name in (at, *key):
            if name not in names:
                raise SourceRefused(f"{source.name}: there is no column {name}")
        bound = mapping.bind(names, len(names), source.name)
        used = sorted({*bound.used, names.index(at), *map(names.index, key)})
        keys = {mapping.contract.subject_field, *mapping.contract.record_key}
        return cls(
            source=source,
            all=found,
            selected=[names[index] for index in used],
            at=at,
            key=key,
            columns=bound.moved({index: place for place, index in enumerate(used)}),
            personal=frozenset(names[index] for field, index in bound.bound if field in keys),
            rounding=[
                used.index(index)
                for field, index in bound.bound
                if connection.dialect.name == "sqlite"
                and isinstance(found[index].type, sa.Numeric)
                and mapping.contract.fields[field].type == "decimal"
            ],
        )

    def summary(self) -> str:
        """What was found, for `check`."""
        order = ", ".join((self.at, *self.key))
        return f"{len(self.selected)} of {len(self.all)} columns are read, in the order of {order}"

    def column(self, name: str) -> Column:
        """A column by name."""
        return next(column for column in self.all if column.name == name)

    def page(self, connection: sa.Connection, *, after: After | None, since: Any, size: int) -> Sequence[Sequence[Any]]:
        """The next rows; see Source.page."""
        rows = self.source.page(connection, self.selected, self.at, self.key, after=after, since=since, size=size)
        return [self._as_stored(row) for row in rows] if self.rounding else rows

    def _as_stored(self, row: Sequence[Any]) -> Sequence[Any]:
        """SQLite turns a rounded float without fraction into an integer: take it for the float that it was."""
        values = list(row)
        for place in self.rounding:
            if isinstance(values[place], int):
                values[place] = float(values[place])
        return values

    def row(self, connection: sa.Connection, key: Sequence[Any]) -> Sequence[Sequence[Any]]:
        """The row of a key, if it is still there."""
        return self.source.rows(connection, self.selected, self.key, key)

    def after(self, row: Sequence[Any]) -> After:
        """The cursor behind a row. Raises SourceRefused for a key of null, which has no place in any order."""
        key = self.key_of(row)
        if None in key:
            raise SourceRefused(f"{self.source.name}: a row has null in its key ({', '.join(self.key)})")
        return After(self.at_of(row), key)

    def at_of(self, row: Sequence[Any]) -> Any:
        return row[self.selected.index(self.at)]

    def key_of(self, row: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(row[self.selected.index(name)] for name in self.key)

    def described(self, key: Sequence[Any]) -> str | None:
        """A key as a person may see it: serial numbers. None if it could be somebody's number."""
        if not all(
            isinstance(part, int) and 0 <= part < _SERIAL and name not in self.personal
            for name, part in zip(self.key, key, strict=True)
        ):
            return None
        return ", ".join(f"{name} {part}" for name, part in zip(self.key, key, strict=True))

    def untimed(self, connection: sa.Connection) -> int:
        """How many rows have no update time, so that polling does not meet them."""
        if not self.column(self.at).nullable:
            return 0
        return self.source.count(connection, sa.column(self.at).is_(None))

    def refuse_mixed(self, connection: sa.Connection, kind: UpdateTime) -> None:
        """Raise SourceRefused if texts of another form stand among the update times: they would be passed over."""
        if not kind.patterns:
            return
        at: sa.ColumnElement[Any] = sa.column(self.at)
        strange = sa.and_(at.is_not(None), *[sa.not_(at.like(pattern)) for pattern in kind.patterns])
        number = self.source.count(connection, strange)
        if number:
            raise SourceRefused(
                f"{self.source.name}: {number} texts in {self.at} have another form than the others, so their order is "
                "not the order of times and rows would be lost. Write all of them in one form"
            )
