"""Stores for tests: an empty one on each database, and facets to put into it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from exchange.records import Facet, Origin
from exchange.store import Store, open_reader
from exchange.store.database import open_engine, reading
from exchange.store.reading import FacetReader
from exchange.store.tables import facets

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)

DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.services)]


@dataclass
class Ticking:
    """A clock that stands still until it is moved."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Stores:
    """Opens stores over one empty, migrated database; each as another process would."""

    url: str
    clock: Ticking = field(default_factory=Ticking)
    _opened: list[Store] = field(default_factory=list)

    def open(self, **options: Any) -> Store:
        self._opened.append(Store(open_engine(self.url, options), self.clock))
        return self._opened[-1]

    def reader(self) -> FacetReader:
        return open_reader(self.url)

    def close(self) -> None:
        for store in self._opened:
            store.close()


def new_url(request: pytest.FixtureRequest, database: str, folder: Path) -> str:
    """The URL of a new, empty database."""
    if database == "sqlite":
        return f"sqlite:///{folder}/store-{next(_numbers)}.db"
    make: Callable[[], str] = request.getfixturevalue("fresh_postgres")
    return make()


_numbers = itertools.count()


@pytest.fixture(params=DATABASES)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    """An empty, migrated store on each database."""
    opened = Stores(new_url(request, request.param, tmp_path))
    opened.open().migrate()
    yield opened
    opened.close()


def facet(offset: int, /, **changes: Any) -> Facet:
    """A facet of one identity, said by one source in the order of its offsets, unless changed."""
    values: dict[str, Any] = {
        "subject_key": "k1.aaaaaaaaaaaaaaaaaaaaaa",
        "contract": "civil.person",
        "major": 1,
        "record_key": "",
        "payload": f'{{"name":"{offset}"}}',
        "schema_id": 1,
        "origin": Origin("civil/people", 1, offset),
        "partition": 0,
        "offset": offset,
        "version": None,
        "event_time": NOW + timedelta(seconds=offset),
    }
    return Facet.of(**values | changes)


def stored(store: Store) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """Every row of the facets table, by identity."""
    with reading(store.engine) as connection:
        return {tuple(row[:4]): tuple(row[4:]) for row in connection.execute(sa.select(facets))}


def expected(*standing: Facet) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """What `stored` gives if just these facets stand."""
    return {
        one.identity: (
            one.payload,
            one.schema_id,
            one.source,
            one.epoch,
            one.sequence,
            one.partition,
            one.offset,
            one.version,
            one.event_time,
            one.heard,
        )
        for one in standing
    }
