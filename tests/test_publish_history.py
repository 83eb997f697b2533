"""Any history of changes, crashes and losses of the cursor file ends in what the source's last state asks for.

Two sources in memory, one as a snapshot and one as a polled table, are changed at random; the process dies at random
points. At the end, after a few readings without crash, what stands in the topic is what the source holds; and no number
ever stood for two values (the bench checks that after every step).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.config import Instance
from exchange.errors import Rejected
from exchange.publish import AGAIN, Batch, End, Keeps, Row, read_status
from exchange.records import Envelope
from tests.support.contracts import contract, field
from tests.support.publishing import CRASHES, Bench, citizen

NAMED = contract(field("name", "string"))
EDITIONS = contract(field("name", "string"), field("revision", "long"), version="revision")
BATCH = 2


class Memory:
    """A source in memory: rows by place, each with a number and a name; a row of None was marked as deleted.

    As a table it gives what changed since it was read last, as a snapshot all of it.
    """

    Settings = Instance

    def __init__(self, keeps: Keeps) -> None:
        self.keeps = keeps
        self.rows: dict[str, tuple[int, str] | None] = {}
        self.refused: set[str] = set()  # places whose rows are rejected as they stand
        self.changes: list[str] = []  # places, in the order of their changes

    def set(self, place: str, row: tuple[int, str] | None) -> None:
        if row is None and place not in self.rows:
            return
        self.rows[place] = row
        self.changes.append(place)

    def refuse(self, place: str, refused: bool) -> None:
        """The row is rejected from now on, or no longer; for a table that is a change of it."""
        (self.refused.add if refused else self.refused.discard)(place)
        if place in self.rows:
            self.set(place, self.rows[place])

    def check(self) -> Any:
        return ()

    def read(self, position: Mapping[str, str]) -> Iterator[Batch]:
        if self.keeps is Keeps.KEYS:
            rows = [self._row(place) for place in self.present()]
            for start in range(0, len(rows), BATCH):
                yield Batch(rows[start : start + BATCH])
            yield Batch((), end=End(self.as_of, whole=True))
            return
        if position.get(AGAIN):
            yield Batch([self._row(place) for place in position[AGAIN].split("\n")], {AGAIN: None})
        start = int(position.get("after", 0))
        for at in range(start, len(self.changes), BATCH):
            places = self.changes[at : at + BATCH]
            yield Batch([self._row(place) for place in places], {"after": str(at + len(places))})
        yield Batch((), end=End(self.as_of, whole=True))

    def present(self) -> list[str]:
        """What a snapshot holds."""
        return [place for place, row in self.rows.items() if row is not None]

    def _row(self, place: str) -> Row:
        row = self.rows[place]
        if row is None:
            return Row({}, place, place, deleted=True, event_time=self.as_of)
        bad = Rejected("not yet", "name") if place in self.refused else None
        return Row({"citizen_id": citizen(row[0]), "name": row[1]}, place, place, bad, event_time=self.as_of)

    def ack(self, position: Mapping[str, str | None]) -> None:
        pass

    def close(self) -> None:
        pass

    def wanted(self) -> dict[str, str]:
        return {str(row[0]): row[1] for row in self.rows.values() if row is not None}


class Editions(Memory):
    """Rows with an edition each; one that is marked as deleted has an edition too."""

    def __init__(self, keeps: Keeps) -> None:
        super().__init__(keeps)
        self.editions: dict[str, int] = {}

    def set(self, place: str, row: tuple[int, str] | None) -> None:
        self.rows[place] = row
        self.editions[place] = self.editions.get(place, 0) + 1
        self.changes.append(place)

    def present(self) -> list[str]:
        return list(self.rows)

    def _row(self, place: str) -> Row:
        row, key = self.rows[place], {"citizen_id": citizen(ord(place)), "revision": self.editions[place]}
        if row is None:
            return Row(key, place, place, deleted=True, event_time=self.as_of)
        bad = Rejected("not yet", "name") if place in self.refused else None
        return Row({**key, "name": row[1]}, place, place, bad, event_time=self.as_of)


PLACES = st.sampled_from(["p", "q", "r", "s"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), PLACES, st.tuples(st.integers(1, 4), st.sampled_from("abc"))),
        st.tuples(st.just("set"), PLACES, st.none()),
        st.tuples(st.just("crash"), st.sampled_from(CRASHES), st.integers(1, 3)),
        st.tuples(st.just("read"), st.none(), st.none()),
        st.tuples(st.just("lose"), st.none(), st.none()),
        st.tuples(st.just("refuse"), PLACES, st.booleans()),
        st.tuples(st.just("replay"), st.none(), st.none()),
    ),
    max_size=25,
)


def run(keeps: Keeps, steps: list[tuple[str, Any, Any]], *, unique: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), NAMED, keeps=keeps)
        source = Memory(keeps)
        happen(bench, source, steps, unique=unique)
        for place in list(source.refused):
            source.refuse(place, False)
        settle(source)
        for _ in range(3):
            bench.read(source)
        assert {number: value["name"] for number, value in bench.facets().items()} == source.wanted()
        assert bench.read(source).published == 0


def happen(bench: Bench, source: Memory, steps: list[tuple[str, Any, Any]], *, unique: bool) -> None:
    Memory.as_of = bench.now  # type: ignore[attr-defined]
    for step, first, second in steps:
        match step:
            case "set":
                held = {row[0] for place, row in source.rows.items() if row is not None and place != first}
                if not (unique and second is not None and second[0] in held):
                    source.set(first, second)
            case "crash":
                crash(bench, source, first, second)
            case "read":
                bench.read(source)
            case "lose":
                bench.cursor.unlink(missing_ok=True)
            case "refuse":
                source.refuse(first, second)
            case "replay" if bench.cursor.exists():  # a new file knows nothing of rejects before it
                bench.replay(read_status(bench.cursor).epoch)


def crash(bench: Bench, source: Memory, where: str, batch: int) -> None:
    try:
        bench.crash(source, where, batch)
    except AssertionError as error:
        if "fewer than" not in str(error):  # the reading ended before the process could die
            raise


def settle(source: Memory) -> None:
    """Rows that ended up under one number: all but one go, as an office would mend it."""
    seen: set[int] = set()
    for place, row in list(source.rows.items()):
        if row is not None and row[0] in seen:
            source.set(place, None)
        elif row is not None:
            seen.add(row[0])


MODEST = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@MODEST
@given(STEPS)
def test_a_snapshot_ends_as_it_is(steps: list[tuple[str, Any, Any]]) -> None:
    run(Keeps.KEYS, steps, unique=True)


@MODEST
@given(STEPS)
def test_a_table_ends_as_it_is(steps: list[tuple[str, Any, Any]]) -> None:
    run(Keeps.ROWS, steps, unique=True)


@MODEST
@given(STEPS)
def test_a_table_in_which_rows_exchange_their_numbers_ends_as_it_is(steps: list[tuple[str, Any, Any]]) -> None:
    run(Keeps.ROWS, steps, unique=False)


@pytest.mark.parametrize("keeps", [Keeps.KEYS, Keeps.ROWS])
@MODEST
@given(steps=STEPS)
def test_of_every_row_the_newest_edition_is_told_also_that_it_was_deleted(
    keeps: Keeps, steps: list[tuple[str, Any, Any]]
) -> None:
    """So an older edition that another source says late never stands."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), EDITIONS, keeps=keeps)
        source = Editions(keeps)
        happen(bench, source, steps, unique=False)
        for place in list(source.refused):
            source.refuse(place, False)
        bench.read(source)
        told: dict[bytes | None, tuple[int, bool]] = {}
        for delivery in bench.deliveries():
            version = Envelope.read(delivery.headers).version
            assert version is not None
            told[delivery.key] = max(told.get(delivery.key, (0, False)), (version, delivery.value is not None))
        assert sorted(told.values()) == sorted(
            (source.editions[place], row is not None) for place, row in source.rows.items()
        )
        assert bench.read(source).unchanged == (len(source.rows) if keeps is Keeps.KEYS else 0)
