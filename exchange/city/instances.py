"""The connectors' instance files for what was written: one TOML file for each file or table, ready to run beside it.

They are made from the same columns by which the sources are written. A push has none: its lines are sent to the gateway
by the department's own program. docs/connectors.md describes the settings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from exchange.city.datasets import DATASETS
from exchange.city.sources import Append, Column, Dataset, Push, Snapshot, Table
from exchange.city.tables import DELETED, KEY, UPDATED
from exchange.city.world import World

FOLDER = "connectors.d"
# In a small city the rows that show each kind of dirt are a large part of all rows.
_SMALL = 2_000


def folder(out: Path, dataset: Dataset) -> Path:
    """Where a dataset's files are."""
    return out / "offices" / dataset.department


def sqlite_url(out: Path, dataset: Dataset) -> str:
    """The URL of the department's SQLite file."""
    return f"sqlite:///{folder(out, dataset) / f'{dataset.department}.db'}"


def pushes(out: Path) -> list[tuple[str, Path]]:
    """What is to be pushed, as (contract, NDJSON file), the oldest day first."""
    found = []
    for dataset in DATASETS:
        if isinstance(dataset.source, Push):
            name = dataset.contract.partition(".")[2]
            found += [(dataset.contract, file) for file in sorted(folder(out, dataset).glob(f"{name}-*.ndjson"))]
    return found


def write(out: Path, world: World, postgres: str | None) -> None:
    """Write the instance files; the path of a source is relative to its instance file."""
    target = out / FOLDER
    target.mkdir(exist_ok=True)
    for dataset in DATASETS:
        if not isinstance(dataset.source, Push):
            text = "\n".join(_instance(dataset, world, postgres)) + "\n"
            (target / f"{dataset.contract.replace('.', '-').replace('_', '-')}.toml").write_text(text, "utf-8")


def _instance(dataset: Dataset, world: World, postgres: str | None) -> Iterator[str]:
    name = dataset.contract.partition(".")[2]
    subjects = world.citizens if dataset.subject_field == "citizen_id" else world.enterprises
    yield f"name = {_toml(name.replace('_', '-'))}"
    yield f"connector = {_toml('sql' if isinstance(dataset.source, Table) else 'csv')}"
    yield f"contract = {_toml(dataset.contract)}"
    yield 'timezone = "Asia/Shanghai"'
    yield f"max_reject_share = {0.1 if subjects >= _SMALL else 0.6}"
    match dataset.source:
        case Snapshot() as source:
            yield from _file(dataset, source.encoding, source.delimiter)
            yield f"path = {_path(dataset, f'{name}-*.csv' if source.split else f'{name}.csv')}"
            yield 'mode = "snapshot"'
        case Append() as source:
            yield from _file(dataset, source.encoding, source.delimiter)
            yield f"path = {_path(dataset, f'{name}.csv' if source.grows else f'{name}-*.csv')}"
            yield 'mode = "append"'
            if not source.header:
                yield "header = false"
        case Table() as source:
            yield 'poll_interval = "1s"'
            yield from _database(dataset, source, postgres)
        case Push():
            raise ValueError(f"{dataset.contract} has no connector")
    yield ""
    yield "[mapping]"
    hidden = dataset.source.hidden if isinstance(dataset.source, Table) else ()
    positions = isinstance(dataset.source, Append) and not dataset.source.header
    for column in dataset.columns:
        if column.field not in hidden:
            yield f"{column.field} = {_source(column, positions=positions)}"
    if isinstance(dataset.source, Table):
        yield ""
        yield "[deleted_when]"
        yield f"column = {_toml(DELETED)}"
        yield "values = [1]"


def _file(dataset: Dataset, encoding: str, delimiter: str) -> Iterator[str]:
    yield 'poll_interval = "2s"'
    yield f"encoding = {_toml(encoding.removesuffix('-sig'))}"
    if delimiter != ",":
        yield f"delimiter = {_toml(delimiter)}"


def _database(dataset: Dataset, source: Table, postgres: str | None) -> Iterator[str]:
    if postgres is None:
        yield f"url = {_toml(f'sqlite:///../offices/{dataset.department}/{dataset.department}.db')}"
        yield f"table = {_toml(source.name)}"
    else:
        yield 'url = "env:EXCHANGE_CITY_POSTGRES"'
        yield f"table = {_toml(f'{dataset.department}.{source.name}')}"
    yield f"key = {_toml(KEY)}"
    yield f"updated_at = {_toml(UPDATED)}"


def _path(dataset: Dataset, name: str) -> str:
    return _toml(f"../offices/{dataset.department}/{name}")


def _source(column: Column, *, positions: bool) -> str:
    """Where a field comes from: a column alone, or with its words or form."""
    where = int(column.header) if positions else column.header
    settings: dict[str, Any] = {"column": where}
    if column.words is not None:
        settings["values"] = {word: symbol for symbol, word in column.words.items()}
    if column.form is not None:
        settings["formats"] = [column.form]
    return _toml(settings if len(settings) > 1 else where)


def _toml(value: Any) -> str:
    """A value as TOML writes it on one line; JSON's strings and numbers are TOML's."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_toml(part)}" for name, part in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else json.dumps(name, ensure_ascii=False)
