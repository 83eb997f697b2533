"""The store's tables, declared once for SQLite and PostgreSQL.

Times are whole microseconds since 1970 in UTC (`Moment`): the same number in both databases, in the order of time, and
exact in every driver. JSON is canonical text, as it was hashed and compared: no database re-orders or rounds it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from exchange.store.database import Lineage

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

FACET_PARTITIONS = 16  # hash partitions of the facets table on PostgreSQL; fixed when the store is made
FACET_FILLFACTOR = 80  # room in each page for an update beside its row (a heap-only tuple)


def micros(moment: datetime) -> int:
    """An aware time as microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """Microseconds since 1970 as aware UTC."""
    return _EPOCH + timedelta(microseconds=value)


class Moment(sa.types.TypeDecorator[datetime]):
    """An aware time, stored as microseconds since 1970."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:
        return None if value is None else micros(value)

    def process_result_value(self, value: int | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else moment(value)


metadata = sa.MetaData()

LINEAGE = Lineage("store", Path(__file__).parent / "migrations", metadata)
