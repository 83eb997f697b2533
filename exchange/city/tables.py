"""SQL: a table with a serial key, an update time and a deletion mark, in a SQLite file or in PostgreSQL.

Times are Beijing time without a zone, as such tables have them. SQLite has no exact decimals, so money is text there.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from exchange.city.life import Fault, State
from exchange.city.offices import Office, Planting
from exchange.city.sources import Column, Dataset, Table
from exchange.city.world import BEIJING, Subject
from exchange.store.database import is_postgres, writing

KEY = "row_id"
DELETED = "is_deleted"
UPDATED = "updated_at"
SLOTS = 16  # rows of one subject at most; the serial key is subject * SLOTS + slot + 1
_BATCH = 2_000

_TYPES: dict[str, sa.types.TypeEngine[Any]] = {
    "text": sa.Text(),
    "number": sa.BigInteger(),
    "money": sa.Numeric(18, 2).with_variant(sa.Text(), "sqlite"),
    "day": sa.Date(),
    "moment": sa.DateTime(),
}


def table(dataset: Dataset, source: Table, schema: str | None) -> sa.Table:
    """The table of a dataset; in PostgreSQL in a schema named like the department."""
    return sa.Table(
        source.name,
        sa.MetaData(schema=schema),
        sa.Column(KEY, sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=False),
        *(
            sa.Column(column.header, _TYPES[column.kind], nullable=column.header != UPDATED)
            for column in dataset.columns
        ),
        sa.Column(DELETED, sa.Integer(), nullable=False),
        sa.Index(f"{source.name}_by_time", UPDATED, KEY),
    )


class TableOffice(Office):
    """One table. Day 0 makes it anew; a later day inserts, updates and marks rows, in batches of one transaction."""

    def __init__(self, dataset: Dataset, source: Table, engine: sa.Engine, day: int, plant: Planting) -> None:
        super().__init__(dataset, day, plant)
        self._engine = engine
        self._exact = is_postgres(engine)
        self._table = table(dataset, source, dataset.department if self._exact else None)
        self._inserts: list[dict[str, Any]] = []
        self._updates: list[dict[str, Any]] = []
        if day == 0:
            with writing(engine) as connection:
                if self._exact:
                    connection.execute(sa.schema.CreateSchema(dataset.department, if_not_exists=True))
                self._table.drop(connection, checkfirst=True)
                self._table.create(connection)

    def _write(self, subject: Subject, slot: int, before: State | None, now: State) -> None:
        if not now.present:
            return
        fresh = before is None or not before.present
        if not fresh and before is not None and (before.edition, before.deleted) == (now.edition, now.deleted):
            return
        (self._inserts if fresh else self._updates).append(self._row(subject, slot, now))
        if now.deleted:
            # Of a row that comes marked nobody was told; only that a version is out of date is worth telling.
            (self.count.keep if fresh and self.dataset.version is None else self.count.delete)()
        elif now.rejected and now.fault is not None:
            self.count.reject(now.fault)
        else:
            self.count.publish()
        if len(self._inserts) + len(self._updates) >= _BATCH:
            self._flush()

    def _row(self, subject: Subject, slot: int, now: State) -> dict[str, Any]:
        values = self._held(subject, slot, now)
        if now.fault is Fault.NO_VALUE:
            values[self.dataset.required] = None
        row = {column.header: self._cell(column, values.get(column.field)) for column in self.dataset.columns}
        if now.fault is Fault.NO_IDENTIFIER:
            row[self.dataset.columns[0].header] = None
        return {KEY: subject.index * SLOTS + slot + 1, DELETED: int(now.deleted), **row}

    def _cell(self, column: Column, value: Any) -> Any:
        if value is None:
            return None
        if column.words is not None:
            return column.words[value]
        if isinstance(value, datetime):
            return value.astimezone(BEIJING).replace(tzinfo=None)
        if isinstance(value, Decimal) and not self._exact:
            return f"{value:.2f}"
        return value

    def _flush(self) -> None:
        with writing(self._engine) as connection:
            if self._inserts:
                connection.execute(self._table.insert(), self._inserts)
            if self._updates:
                names = [name for name in self._updates[0] if name != KEY]
                changed: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in names}
                connection.execute(
                    self._table.update().where(self._table.c[KEY] == sa.bindparam("at_key")).values(changed),
                    [{"at_key": row[KEY], **{f"new_{name}": row[name] for name in names}} for row in self._updates],
                )
        self._inserts.clear()
        self._updates.clear()

    def close(self) -> None:
        self._flush()
