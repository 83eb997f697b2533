"""Canaries: a city in which every text, number and date of every record is unique and tells where it comes from.

Whoever finds one in an answer, a log or a metric can say which field of which subject leaked. Texts say it in words
(`canary-civil.person-name-17-0-0`: subject 17, slot 0, edition 0); numbers and dates carry it in their digits, from
years and amounts that nothing else has. `generate` lists all of them in canaries.ndjson. Symbols of enums, booleans,
the subject's identifier, versions and event times stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from exchange.city.life import CERTAIN, State
from exchange.city.sources import Dataset, Symbol, Values
from exchange.city.world import DAY_ZERO, World, citizen, enterprise

_FIRST_DAY = date(3000, 1, 1)
_DAYS_A_FIELD = 60_000  # of the 2.5 million days up to the year 9999, for 42 date fields
_FIRST_NUMBER = 1_000_000_000  # ten digits, within an Avro int
_NUMBERS_A_FIELD = 10_000_000
SUBJECTS = 6_000  # of each kind at most, with ten rows of a contract each


class Canaries:
    """Plants canaries. Unique for up to `SUBJECTS` subjects with at most ten rows of a contract each."""

    def __init__(self, datasets: tuple[Dataset, ...]) -> None:
        self._days: dict[tuple[str, str], int] = {}
        self._numbers: dict[tuple[str, str], int] = {}
        for dataset in datasets:
            for path, value in _probe(dataset):
                places = self._days if isinstance(value, date) else self._numbers
                places.setdefault((dataset.contract, path), len(places))

    def plant(self, dataset: Dataset, values: Values, subject: int, slot: int, edition: int) -> Values:
        """The same record with a canary in the place of each value that can hold one."""
        kept = kept_fields(dataset)
        row = subject * 10 + slot
        return {
            field: value
            if field in kept
            else self._canary(value, (dataset.contract, field), row, 0 if field in dataset.key else edition)
            for field, value in values.items()
        }

    def _canary(self, value: Any, path: tuple[str, str], row: int, edition: int) -> Any:
        contract, field = path
        if value is None or isinstance(value, Symbol | bool):
            return value
        if isinstance(value, str):
            return f"canary-{contract}-{field}-{row // 10}-{row % 10}-{edition}"
        if isinstance(value, list):  # each item of a list counts as a row of its own
            return [self._canary(item, path, row // 10 * 10 + at, edition) for at, item in enumerate(value)]
        if isinstance(value, dict):
            return {
                name: self._canary(part, (contract, f"{field}_{name}"), row, edition) for name, part in value.items()
            }
        if isinstance(value, date):
            day = _FIRST_DAY + timedelta(days=self._days[path] * _DAYS_A_FIELD + row)
            return datetime.combine(day, time(), UTC) if isinstance(value, datetime) else day
        number = _FIRST_NUMBER + self._numbers[path] * _NUMBERS_A_FIELD + row * 10 + edition % 10
        if isinstance(value, Decimal):
            return Decimal(number)
        return number + 0.5 if isinstance(value, float) else number


def kept_fields(dataset: Dataset) -> tuple[str | None, ...]:
    """The fields that stay as they are: identifier, version, event time."""
    return (dataset.subject_field, dataset.version, dataset.event_time)


def leaves(values: Values) -> Iterator[tuple[str, Any]]:
    """(path, value) of each text, number and date of a record; the parts of a nested record as `<field>_<part>`."""
    for field, value in values.items():
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict):
                yield from leaves({f"{field}_{name}": part for name, part in item.items()})
            elif item is not None and not isinstance(item, Symbol | bool):
                yield field, item


def _probe(dataset: Dataset) -> Iterator[tuple[str, Any]]:
    """Each number and date that the dataset's records have, found by looking at some of them."""
    world = World(seed=0, citizens=200, enterprises=200)
    state = State(present=True, deleted=False, fault=None, edition=1, born=DAY_ZERO, at=DAY_ZERO)
    make = citizen if dataset.subject_field == "citizen_id" else enterprise
    for index in range(200):
        subject = make(world, index)
        for slot in range(dataset.slots_of(subject, certain=index < CERTAIN)):
            for path, value in leaves(dataset.values(subject, slot, state)):
                if not isinstance(value, str) and path not in kept_fields(dataset):
                    yield path, value
