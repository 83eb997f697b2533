"""Accounts: every row that came in is published, unchanged, deleted or set aside; and what was set aside, and why."""

from __future__ import annotations

import sqlalchemy as sa

from exchange.cli.demo.arrival import Reading
from exchange.cli.demo.stage import Stage
from exchange.cli.demo.steps import Cell, Table, Told
from exchange.store import Store
from exchange.store.database import reading
from exchange.store.rejects import SetAside
from exchange.store.tables import facets

_ALL = 100_000
_EXAMPLES = 4


def accounting(stage: Stage, told: Told) -> None:
    """Each dataset against truth.json, in which the generator of the city counted what it wrote."""
    town = stage.town
    readings, standing = stage.arrival.readings(), standing_records(stage.store)
    expected = {contract: _truth(stage, contract) for contract in town.contracts}
    rows: list[list[Cell | str]] = []
    for contract, found in sorted(readings.items()):
        right = found == expected[contract] and standing.get(contract, 0) == town.truth["datasets"][contract]["facets"]
        figures = (found.rows, found.published, found.unchanged, found.deleted, found.rejected)
        kind = str(town.truth["datasets"][contract]["source"])
        cells = [Cell(f"{figure:,}", "plain" if figure else "faint") for figure in figures]
        rows.append([contract, Cell(kind, "faint"), *cells, f"{standing.get(contract, 0):,}", "✓" if right else "✗"])
    total = [sum(getattr(one, name) for one in readings.values()) for name in Reading.__dataclass_fields__]
    rows.append(["all", "", *(f"{each:,}" for each in total), f"{sum(standing.values()):,}", ""])
    columns = ("dataset", "kept as", ">rows in", ">published", ">unchanged", ">deleted", ">rejected", ">records", "")
    told.show(Table(columns, rows))
    told.check(set(readings) == set(town.contracts), f"all {len(town.contracts)} datasets have told everything")
    told.check(
        all(one.accounted for one in readings.values()), "rows in = published + unchanged + deleted + rejected, in each"
    )
    told.check(readings == expected, "and each figure is the one that truth.json foretold")
    told.check(
        all(standing.get(name, 0) == figures["facets"] for name, figures in town.truth["datasets"].items()),
        f"{sum(standing.values()):,} records stand in the store, as many of each dataset as there should be",
    )


def rejects(stage: Stage, told: Told) -> None:
    """It stops nothing else. Its values stay hidden, but for its owner, and then the log says so."""
    found = stage.store.list_rejects(limit=_ALL)
    expected = sum(_truth(stage, contract).rejected for contract in stage.town.contracts)
    told.show(Table(("dataset", "place", "field", "reason"), [_row(one) for one in _examples(found)], wraps=True))
    told.check(len(found) == expected, f"{len(found)} rows are set aside, as many as truth.json says are wrong")
    told.check(
        all(one.reject.place and one.reject.reason for one in found), "each of them with its place and its reason"
    )


def standing_records(store: Store) -> dict[str, int]:
    """How many records stand in the store, by contract; what was deleted does not count."""
    counted = (
        sa.select(facets.c.contract, sa.func.count()).where(facets.c.payload.is_not(None)).group_by(facets.c.contract)
    )
    with reading(store.engine) as connection:
        return {row[0]: row[1] for row in connection.execute(counted)}


def _truth(stage: Stage, contract: str) -> Reading:
    day = stage.town.day(contract)
    return Reading(day["rows"], day["published"], day["unchanged"], day["deleted"], sum(day["rejected"].values()))


def _examples(found: list[SetAside]) -> list[SetAside]:
    """A few, each of another dataset and with another reason."""
    chosen: dict[str, SetAside] = {}
    for one in sorted(found, key=lambda one: (len(one.reject.reason), one.id), reverse=True):
        seen = {other.reject.reason for other in chosen.values()}
        if one.reject.contract not in chosen and one.reject.reason not in seen:
            chosen[one.reject.contract] = one
    return list(chosen.values())[:_EXAMPLES]


def _row(one: SetAside) -> list[Cell | str]:
    return [one.reject.contract, one.reject.place, one.reject.field or "", one.reject.reason]
