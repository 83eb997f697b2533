"""Write a city: day 0 as its offices hold it, and each day after that as they change it.

    OUT/offices/<department>/...      CSV files, SQLite files, NDJSON to push
    OUT/connectors.d/*.toml           an instance file for each file and table, ready to run
    OUT/truth.json                    what was written, and what the exchange must make of it
    OUT/canaries.ndjson               with canaries: every planted value

One pass over the subjects writes all offices at once; nothing is remembered from one subject to the next.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

import sqlalchemy as sa

from exchange.city import instances, truth
from exchange.city.canaries import SUBJECTS, Canaries, kept_fields, leaves
from exchange.city.datasets import CITIZENS, DATASETS, ENTERPRISES
from exchange.city.files import AppendOffice, SnapshotOffice
from exchange.city.life import CERTAIN, State, live
from exchange.city.lines import PushOffice
from exchange.city.offices import Office, Planting
from exchange.city.sources import Append, Dataset, Push, Snapshot, Table, Values
from exchange.city.tables import TableOffice
from exchange.city.world import Subject, World, citizen, enterprise
from exchange.errors import SettingWrong
from exchange.store.database import open_engine

# Told now and then how far it is: what is being written ("citizens"), how many are done, how many there are.
Progress = Callable[[str, int, int], None]

LIMIT = 10_000_000  # subjects of a kind: numbers of plates and decisions are made for that many
_TELL_EVERY = 500


def _silent(what: str, done: int, total: int) -> None:
    """No progress."""


def generate(
    out: Path,
    *,
    citizens: int,
    enterprises: int,
    seed: int = 1,
    days: int = 0,
    postgres: str | None = None,
    canaries: bool = False,
    progress: Progress = _silent,
) -> None:
    """Write a city of this size into `out` (made if it does not exist; an earlier city there is replaced).

    The same arguments give the same bytes. `days` adds that many days after the first delivery. `postgres` is the URL
    of a database that takes the tables, in a schema for each department; without it they are SQLite files. `canaries`
    makes every value unique (see exchange.city.canaries). Raises SettingWrong for a size that cannot be.
    """
    limit = SUBJECTS if canaries else LIMIT
    if not (0 <= citizens <= limit and 0 <= enterprises <= limit and citizens + enterprises > 0):
        raise SettingWrong(f"a city has up to {limit} citizens and enterprises{' with canaries' if canaries else ''}")
    world = World(seed, citizens, enterprises, canaries)
    out.mkdir(parents=True, exist_ok=True)
    _clear(out)
    instances.write(out, world, postgres)
    _write_day(out, world, 0, postgres, {}, progress)
    for _ in range(days):
        advance(out, postgres=postgres, progress=progress)


def advance(out: Path, *, postgres: str | None = None, progress: Progress = _silent) -> int:
    """One more day for the city in `out`: changes, corrections, deletions, new rows. Answers the number of the day.

    `postgres` as at `generate`. Raises SettingWrong if there is no city, or its tables are in another kind of database.
    """
    known = truth.read(out)
    if known["city"]["tables"] != _kind(postgres):
        raise SettingWrong(f"{out}: its tables are in {known['city']['tables']}; --postgres says where")
    day: int = known["city"]["day"] + 1
    _write_day(out, truth.world(known), day, postgres, known["datasets"], progress)
    return day


def _write_day(
    out: Path, world: World, day: int, postgres: str | None, known: dict[str, truth.Figures], progress: Progress
) -> None:
    with ExitStack() as stack:
        plant = _planting(stack, out, world, day)
        engines = _Engines(stack, out, postgres)
        for what, datasets, total, make in (
            ("citizens", CITIZENS, world.citizens, citizen),
            ("enterprises", ENTERPRISES, world.enterprises, enterprise),
        ):
            offices = [_open(dataset, out, day, plant, engines) for dataset in datasets]
            for index in range(total):
                if index % _TELL_EVERY == 0:
                    progress(what, index, total)
                subject: Subject = make(world, index)
                for office in offices:
                    _take(office, subject, world, day)
            progress(what, total, total)
            for office in offices:
                office.close()
                known = truth.add(known, office.dataset, office.count, day)
    truth.write(out, world, day, known, tables=_kind(postgres))


def _kind(postgres: str | None) -> str:
    """The kind of database that holds the tables."""
    return "sqlite" if postgres is None else "postgresql"


def _take(office: Office, subject: Subject, world: World, day: int) -> None:
    dataset = office.dataset
    source = dataset.source
    for slot in range(dataset.slots_of(subject, certain=subject.index < CERTAIN)):
        life = live(world, dataset.contract, subject.index, slot, faults=source.faults, deletes=source.deletes)
        before: State | None = life.on(day - 1) if day > 0 else None
        office.take(subject, slot, before, life.on(day))


def _open(dataset: Dataset, out: Path, day: int, plant: Planting, engines: _Engines) -> Office:
    folder = instances.folder(out, dataset)
    folder.mkdir(parents=True, exist_ok=True)
    match dataset.source:
        case Snapshot() as source:
            return SnapshotOffice(dataset, source, folder, day, plant)
        case Append() as source:
            return AppendOffice(dataset, source, folder, day, plant)
        case Table() as source:
            return TableOffice(dataset, source, engines.of(dataset), day, plant)
        case Push() as source:
            return PushOffice(dataset, source, folder, day, plant)


class _Engines:
    """One engine for each department's SQLite file, or one for all in PostgreSQL; closed with the day."""

    def __init__(self, stack: ExitStack, out: Path, postgres: str | None) -> None:
        self._stack = stack
        self._out = out
        self._postgres = postgres
        self._engines: dict[str, sa.Engine] = {}

    def of(self, dataset: Dataset) -> sa.Engine:
        url = self._postgres or instances.sqlite_url(self._out, dataset)
        if url not in self._engines:
            self._engines[url] = open_engine(url)
            self._stack.callback(self._engines[url].dispose)
        return self._engines[url]


def _planting(stack: ExitStack, out: Path, world: World, day: int) -> Planting:
    if not world.canaries:
        return lambda dataset, values, subject, slot, edition: values
    canaries = Canaries(DATASETS)
    file = stack.enter_context((out / "canaries.ndjson").open("a" if day else "w", encoding="utf-8", newline="\n"))

    def plant(dataset: Dataset, values: Values, subject: int, slot: int, edition: int) -> Values:
        planted = canaries.plant(dataset, values, subject, slot, edition)
        _note(file, dataset, planted, subject)
        return planted

    return plant


def _note(file: TextIO, dataset: Dataset, planted: Values, subject: int) -> None:
    kept = kept_fields(dataset)
    for path, value in leaves({field: value for field, value in planted.items() if field not in kept}):
        note = {"value": str(value), "contract": dataset.contract, "field": path, "subject": subject}
        file.write(json.dumps(note, ensure_ascii=False) + "\n")


def _clear(out: Path) -> None:
    """Take away an earlier city: only what `generate` writes, by its own list of names."""
    for dataset in DATASETS:
        folder = instances.folder(out, dataset)
        for pattern in (f"{dataset.contract.partition('.')[2]}*.csv", f"{dataset.contract.partition('.')[2]}*.ndjson"):
            for file in folder.glob(pattern):
                file.unlink()
        for file in folder.glob(f"{dataset.department}.db*"):
            file.unlink()
    (out / truth.FILE).unlink(missing_ok=True)
    (out / "canaries.ndjson").unlink(missing_ok=True)
