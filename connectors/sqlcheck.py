"""What somebody should know of a table before it is polled."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from connectors.protocol import Finding, Weight
from connectors.sqltable import Table
from exchange.contracts import Contract

_FLOAT_DIGITS = 15
_NO_DELETIONS = (
    "polling cannot see a row that is deleted at the source: its record stays, and only its as-of tells its age. A "
    "column that marks deletions (`deleted_when`) makes them visible"
)


def look(connection: sa.Connection, table: Table, contract: Contract, *, marks_deletions: bool) -> Iterator[Finding]:
    """Findings about the columns and about what polling cannot see."""
    name = table.source.name
    if not marks_deletions:
        yield Finding(Weight.NOTE, name, _NO_DELETIONS)
    if not table.source.indexed(connection, table.at):
        yield Finding(Weight.NOTE, name, f"no index begins with {table.at}: each poll looks through the whole table")
    untimed = table.untimed(connection)
    if untimed:
        yield Finding(Weight.NOTE, name, f"{untimed} rows have no {table.at}; they are read once they have one")
    for field, at in table.columns.bound:
        column = table.column(table.selected[at])
        yield from _unfit(connection, column.name, column.type, contract.fields[field].type)


def _unfit(connection: sa.Connection, column: str, found: object, wanted: str) -> Iterator[Finding]:
    """A column whose type cannot give the field's values."""
    if wanted == "string" and isinstance(found, sa.Integer):
        yield Finding(
            Weight.REFUSED,
            column,
            "a column of whole numbers for a field of text: leading zeros are lost already. Keep it as text at the "
            "source, or write the text out in a `query`",
        )
    sqlite = connection.dialect.name == "sqlite"
    if wanted == "decimal" and (isinstance(found, sa.Float) or (sqlite and isinstance(found, sa.Numeric))):
        yield Finding(
            Weight.NOTE,
            column,
            f"a column that keeps {_FLOAT_DIGITS} digits for a decimal field: a row with more digits is rejected. "
            "Keep such numbers as TEXT",
        )
