"""What the story of `exchange demo` changes in the sources while everything runs: a move, a licence that is taken back.

Written as an office's own program would: one row, its revision and its update time. The time is passed in and must be
the present one: a connector polls by update time and does not look back.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from exchange.city import instances, truth
from exchange.city.datasets import DATASETS
from exchange.city.sources import Dataset, Table
from exchange.city.tables import DELETED, KEY, UPDATED, table
from exchange.city.world import BEIJING, citizen
from exchange.errors import SettingWrong
from exchange.store.database import is_postgres, open_engine, writing


def move(out: Path, now: datetime, *, postgres: str | None = None) -> str:
    """The story's citizen moves: the civil registry writes another address. Answers the address."""
    address = citizen(truth.world(truth.read(out)), 0).place(9_000).full()
    _change(out, "civil.person", slot=0, changes={"residence": address}, now=now, postgres=postgres)
    return address


def withdraw(out: Path, now: datetime, *, postgres: str | None = None) -> str:
    """The second licence of the story's enterprise is taken back: its row is marked as deleted. Answers its number."""
    row = _change(out, "market.licence", slot=1, changes={DELETED: 1}, now=now, postgres=postgres)
    return str(row["licence_no"])


def _change(
    out: Path, contract: str, *, slot: int, changes: dict[str, Any], now: datetime, postgres: str | None
) -> dict[str, Any]:
    """Change one row of subject 0; answer the row as it was. Raises SettingWrong if it is not there."""
    dataset, source = _table(contract)
    engine = open_engine(postgres or instances.sqlite_url(out, dataset))
    try:
        rows = table(dataset, source, dataset.department if is_postgres(engine) else None)
        here = rows.c[KEY] == slot + 1  # the story's subject is number 0
        with writing(engine) as connection:
            before = connection.execute(sa.select(rows).where(here)).mappings().first()
            if before is None:
                raise SettingWrong(f"{out}: {contract} has no row of the story; generate the city anew")
            # Whole milliseconds: a finer time does not keep the contract of every one of these tables.
            written = now.replace(microsecond=now.microsecond // 1_000 * 1_000).astimezone(BEIJING)
            stamp = {"revision": rows.c["revision"] + 1, UPDATED: written.replace(tzinfo=None)}
            connection.execute(rows.update().where(here).values({**changes, **stamp}))
            return dict(before)
    finally:
        engine.dispose()


def _table(contract: str) -> tuple[Dataset, Table]:
    for dataset in DATASETS:
        if dataset.contract == contract and isinstance(dataset.source, Table):
            return dataset, dataset.source
    raise ValueError(f"{contract} is not kept in a table")
