"""What stands in a Lanting of canaries, and who its people are: from the generator's own rules alone.

A record is told by its canaries: every text, number and date that it holds.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from exchange.city import truth
from exchange.city.canaries import Canaries as Planter
from exchange.city.canaries import kept_fields, leaves
from exchange.city.datasets import CITIZENS, DATASETS, ENTERPRISES
from exchange.city.draws import Draw
from exchange.city.life import CERTAIN, Fault, State, live
from exchange.city.offices import identifier
from exchange.city.sources import Dataset, Table
from exchange.city.tables import KEY, TableOffice
from exchange.city.world import DAY_ZERO, Citizen, Subject, World, citizen, enterprise
from exchange.store.database import open_engine
from tests.support.canaries import Canaries, mark

SCHEME = {"citizen": "cn.ric", "enterprise": "cn.uscc"}
SPOILT = (Fault.BAD_CHECK, Fault.OLD_NUMBER)


class Lanting:
    """A city that `exchange city generate --canaries` wrote into a folder."""

    def __init__(self, folder: Path) -> None:
        known = truth.read(folder)
        self.folder = folder
        self.world: World = truth.world(known)
        self.day: int = known["city"]["day"]
        self.datasets = {dataset.contract: dataset for dataset in DATASETS}
        self.truth = known["datasets"]

    def subjects(self, kind: str) -> list[Subject]:
        """Its citizens or its enterprises."""
        if kind == "citizen":
            return [citizen(self.world, number) for number in range(self.world.citizens)]
        return [enterprise(self.world, number) for number in range(self.world.enterprises)]

    def canaries(self) -> Canaries:
        """Everything that can be recognised: what was planted, and each identifier with its spoilt forms."""
        found = Canaries()
        found.read(self.folder / "canaries.ndjson")
        for kind in SCHEME:
            for subject in self.subjects(kind):
                found.know(subject.id, f"{kind} {subject.index}")
                found.know(subject.ghost_id, f"ghost of {kind} {subject.index}")
                for fault in SPOILT:
                    spoilt = identifier(subject, fault, Draw(0, "spoilt"))
                    found.know(spoilt, f"{kind} {subject.index}: {fault}")
        return found

    def standing(self) -> dict[tuple[str, str], list[frozenset[str]]]:
        """By (identifier, contract): the canaries of each record that must stand now."""
        found: dict[tuple[str, str], list[frozenset[str]]] = defaultdict(list)
        planter = Planter(DATASETS)
        for dataset, subject, slot, state in self._rows():
            if not state.good:
                continue
            values = planter.plant(dataset, dataset.values(subject, slot, state), subject.index, slot, state.edition)
            owner = subject.ghost_id if state.fault is Fault.WRONG_OWNER else subject.id
            found[owner, dataset.contract].append(frozenset(text for _, text in told(dataset, values)))
        return found

    def _rows(self) -> Iterator[tuple[Dataset, Subject, int, State]]:
        for kind, datasets in (("citizen", CITIZENS), ("enterprise", ENTERPRISES)):
            for subject in self.subjects(kind):
                for dataset in datasets:
                    for slot in range(dataset.slots_of(subject, certain=subject.index < CERTAIN)):
                        source = dataset.source
                        life = live(
                            self.world, dataset.contract, subject.index, slot,
                            faults=source.faults, deletes=source.deletes,
                        )  # fmt: skip
                        yield dataset, subject, slot, life.on(self.day)


class ByNumber:
    """A second office, which keeps driving licences in a table whose key is the person's number."""

    CONTRACT = "transport.licence"
    SUBJECTS = range(500, 504)  # behind the city's citizens

    def __init__(self, folder: Path) -> None:
        """Write the table, and its instance file beside that of the first office."""
        world = Lanting(folder).world
        self._people: list[Citizen] = [citizen(world, number) for number in self.SUBJECTS]
        self._dataset = next(one for one in DATASETS if one.contract == self.CONTRACT)
        self._planter = Planter(DATASETS)
        self._state = State(present=True, deleted=False, fault=None, edition=0, born=DAY_ZERO, at=DAY_ZERO)
        source = self._dataset.source
        assert isinstance(source, Table)
        engine = open_engine(f"sqlite:///{folder}/offices/transport/by_number.db")
        office = TableOffice(self._dataset, source, engine, 0, self._planter.plant)
        for person in self._people:
            office.take(person, 0, None, self._state)
        office.close()
        engine.dispose()
        _rekey(folder / "offices/transport/by_number.db", source.name, self._dataset.columns[0].header)
        text = (folder / "connectors.d/transport-licence.toml").read_text("utf-8")
        changed = text.replace('name = "licence"', 'name = "by-number"').replace("transport.db", "by_number.db")
        changed = changed.replace(f'key = "{KEY}"', f'key = "{self._dataset.columns[0].header}"')
        (folder / "connectors.d/transport-by-number.toml").write_text(changed, "utf-8")

    def plant(self, canaries: Canaries) -> None:
        """Let its people and their values be recognised."""
        for person in self._people:
            canaries.know(person.id, f"citizen {person.index}")
            for field, text in told(self._dataset, self._values(person)):
                canaries.plant(text, self.CONTRACT, field, person.index)

    def standing(self) -> dict[tuple[str, str], list[frozenset[str]]]:
        """See Lanting.standing."""
        return {
            (person.id, self.CONTRACT): [frozenset(text for _, text in told(self._dataset, self._values(person)))]
            for person in self._people
        }

    def _values(self, person: Citizen) -> dict[str, object]:
        return self._planter.plant(self._dataset, self._dataset.values(person, 0, self._state), person.index, 0, 0)


def _rekey(file: Path, table: str, column: str) -> None:
    """Make this column the table's primary key."""
    with closing(sqlite3.connect(file)) as db, db:
        (made,) = db.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        made = made.replace(f"PRIMARY KEY ({KEY})", f"PRIMARY KEY ({column})")
        made = made.replace(f"{column} TEXT", f"{column} TEXT NOT NULL")
        db.execute(made.replace(f"CREATE TABLE {table}", "CREATE TABLE keyed"))
        db.execute(f"INSERT INTO keyed SELECT * FROM {table}")
        db.execute(f"DROP TABLE {table}")
        db.execute(f"ALTER TABLE keyed RENAME TO {table}")


def told(dataset: Dataset, values: dict[str, object]) -> Iterator[tuple[str, str]]:
    """(field, canary) of all that the office tells of a record."""
    hidden = {*kept_fields(dataset), *getattr(dataset.source, "hidden", ())}
    for field, value in leaves({field: value for field, value in values.items() if field not in hidden}):
        yield field, mark(str(value))
