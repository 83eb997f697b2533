"""A folder as a city has it, for a real gateway: eight contracts about citizens, and one client that may read them.

The guardrails are the project's own; each department grants five of the eight fields to the client's department.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from bench.citizens import START, contract, identifier, value
from exchange.cli.init import initialise
from exchange.cli.policy import apply_policies
from exchange.clock import system_clock
from exchange.contracts import Contract
from exchange.records import Facet, Origin, Watermark
from exchange.settings import Settings
from exchange.store import Batch
from exchange.subjects import KeyMaker
from exchange.wiring import key_maker, open_store

AT_ONCE = 5_000
GUARDRAILS = Path(__file__).parent.parent / "policies" / "guardrails"
ISSUER = "https://issuer.exchange.invalid"
CLIENT, CONSUMER, PURPOSE = "credit-office", "credit", "credit-assessment"
DEPARTMENTS = ("civil", "social", "tax", "housing", "health", "education", "transport", "market")
GRANTED = ("name", "address", "status", "amount", "since")

_SETTINGS = """\
schemas = "schemas"
policies = "policies"
log = "json"

[broker]
url = "sqlite:///data/topics.db"

[store]
url = "{store}"

[gateway]
port = {port}
metrics_port = {metrics_port}
subjects_per_day = 1_000_000_000

[dev_issuer]
enabled = true
lifetime_s = 3600
"""
_CLIENTS = f"""\
[[clients]]
issuer = "{ISSUER}"
client_id = "{CLIENT}"
name = "Credit assessment"
department = "{CONSUMER}"
scopes = ["view"]
purposes = ["{PURPOSE}"]
"""
_PURPOSES = f"""\
[{PURPOSE}]
title = {{ zh-CN = "信用评估", en = "Credit assessment" }}
legal_basis = "社会信用体系建设法"
sensitive = []
"""
_AGREEMENT = """\
[[agreements]]
id = "{department}-{consumer}"
consumer = "{consumer}"
contract = "{name}"
major = 1
purpose = "{purpose}"
from = 2026-01-01
until = 2099-12-31
approved_by = "Data office"
condition = {condition}

[agreements.fields]
{fields}
"""


@dataclass(frozen=True, slots=True)
class City:
    """The folder's settings, its contracts in the order of DEPARTMENTS, and when each office last told everything."""

    settings: Settings
    config: Path
    contracts: Sequence[Contract]
    told: Mapping[str, datetime]

    def facets(self, citizens: range, keys: KeyMaker, **all_alike: Any) -> Iterator[list[Facet]]:
        """Contract by contract what the offices say of these citizens; these fields of all alike."""
        for at, said in enumerate(self.contracts):
            yield [self._facet(said, _said_by(at, number) | all_alike, number, keys) for number in citizens]

    def fill(self, citizens: int, **all_alike: Any) -> Iterator[tuple[Contract, list[Facet]]]:
        """Policies, facets and watermarks into the city's store; what was stored, in pieces."""
        apply_policies(self.settings)
        store, keys = open_store(self.settings, system_clock), key_maker(self.settings)
        with closing(store):
            epochs = {said.name: store.take(said.topic, 0, "bench", "bench").epoch for said in self.contracts}
            for begin in range(0, citizens, AT_ONCE):
                some = range(begin, min(begin + AT_ONCE, citizens))
                for said, facets in zip(self.contracts, self.facets(some, keys, **all_alike), strict=True):
                    told = [self.watermark(said, some[-1])]
                    store.apply([Batch(said.topic, 0, epochs[said.name], begin, some[-1] + 1, facets, (), told)])
                    yield said, facets
            vacuumed(store.engine)

    def watermark(self, said: Contract, offset: int) -> Watermark:
        return Watermark(said.name, said.topic, _source(said), 1, self.told[said.name], {0: offset})

    def _facet(self, said: Contract, value: Mapping[str, Any], number: int, keys: KeyMaker) -> Facet:
        record = said.check(value)
        return Facet.of(
            subject_key=keys.subject(record.subject),
            contract=said.name,
            major=said.major,
            record_key="",
            payload=said.to_json(record.value),
            schema_id=1,
            origin=Origin(_source(said), 1, number),
            partition=0,
            offset=number,
            version=record.version,
            event_time=record.event_time or START,
        )


def make(
    folder: Path,
    store: str,
    port: int,
    metrics_port: int,
    *,
    departments: Sequence[str] = DEPARTMENTS,
    denies: Sequence[str] = (),
    condition: str = "[]",
    others: int = 0,
) -> City:
    """Write settings, contracts, policies and keys. `store` is the URL of an empty database.

    Each of the departments has a contract. Those of `denies` grant nothing; the others grant the rows that fulfil the
    `condition`, in TOML. So many `others` have agreements too, each with one of the contracts.
    """
    contracts = [contract(department, "resident", leads=department == departments[0]) for department in departments]
    for at, said in enumerate(contracts):
        _write(folder / "schemas" / said.department / "resident.avsc", said.schema_text)
        if said.department in denies:
            continue
        consumers = [CONSUMER, *(f"desk{number}" for number in range(at, others, len(contracts)))]
        agreements = [
            _AGREEMENT.format(
                department=said.department,
                name=said.name,
                consumer=consumer,
                purpose=PURPOSE,
                condition=condition,
                fields="\n".join(f'{name} = "plain"' for name in GRANTED),
            )
            for consumer in consumers
        ]
        _write(folder / "policies" / said.department / "agreements.toml", "\n".join(agreements))
    _write(folder / "policies" / "clients.toml", _CLIENTS)
    _write(folder / "policies" / "purposes.toml", _PURPOSES)
    shutil.copytree(GUARDRAILS, folder / "policies" / "guardrails")
    config = folder / "exchange.toml"
    _write(config, _SETTINGS.format(store=store, port=port, metrics_port=metrics_port))
    initialise(config, Path("schemas"), Path("policies"))
    now = datetime.now(UTC).replace(microsecond=0)
    told = {said.name: now - timedelta(days=3 * (said.department == "market")) for said in contracts}
    return City(Settings.load(config), config, contracts, told)


def _said_by(at: int, number: int) -> dict[str, Any]:
    """Most offices have the same address; of twenty citizens one has another at one office, one another spelling."""
    said = value(number, 10 + at, random.Random(number))
    said["amount"] += at
    said["since"] += timedelta(days=at)
    if at == 3 and said["address"] and number % 20 == 7:
        said["address"] = "兰亭市文汇区长桥街1号"
    if at == 5 and said["address"] and number % 20 == 9:
        said["address"] = f" {said['address']} "
    return said


def _source(said: Contract) -> str:
    return f"{said.department}/bench"


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf-8")


def citizens(count: int) -> list[str]:
    """Their identity numbers."""
    return [identifier(number) for number in range(count)]


def vacuumed(engine: sa.Engine) -> None:
    """After a large load a database is tidied, by itself or by hand; here before anything is measured."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
