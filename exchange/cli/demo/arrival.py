"""Arrival: the first delivery of every office comes in. Who has published how much, and when all of it is there.

Figures come from where an operator would read them: the ends of the topics, the materialiser's metrics, the watermarks
in the store, `exchange connector status`.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from exchange import city
from exchange.city import instances
from exchange.cli.demo.desks import Call, Desks
from exchange.cli.demo.town import Town
from exchange.cli.supervisor import Supervisor, exchange_command
from exchange.errors import OperatorError
from exchange.records import rejects_topic
from exchange.store import Store
from exchange.topics import Broker

PATIENCE = 120.0  # seconds until everything must be there
_LOOK_EVERY = 0.3
_RESTARTS = 3  # a part that ends so often will not come up
_MATERIALISED = "exchange_materialise_records"


@dataclass(frozen=True, slots=True)
class Figures:
    """How far one department is: rows to come in; messages in its topics, rows set aside, messages materialised."""

    department: str
    rows: int
    published: int
    rejected: int
    materialised: int
    told: bool  # whether the watermark of each of its contracts stands


@dataclass(frozen=True, slots=True)
class Reading:
    """What became of the rows of one dataset's first delivery, in the words of truth.json."""

    rows: int
    published: int
    unchanged: int
    deleted: int
    rejected: int

    @property
    def accounted(self) -> bool:
        """Whether every row became something."""
        return self.rows == self.published + self.unchanged + self.deleted + self.rejected


class Arrival:
    """Watches the delivery of a town, and pushes what is to be pushed."""

    def __init__(self, town: Town, supervisor: Supervisor, broker: Broker, store: Store, desks: Desks) -> None:
        self._town = town
        self._supervisor = supervisor
        self._broker = broker
        self._store = store
        self._desks = desks
        self.pushes: dict[str, Call] = {}

    def watch(self) -> Iterator[list[Figures]]:
        """Push, then yield figures until every contract's watermark stands. Raises OperatorError after PATIENCE."""
        deadline = time.monotonic() + PATIENCE
        for contract, file in city.pushes(self._town.folder):
            client = f"{contract.partition('.')[0]}-connector"
            self.pushes[contract] = self._desks.push(client, contract, file)
            yield self.figures()
        while True:
            figures = self.figures()
            yield figures
            if all(each.told for each in figures):
                return
            self._look(deadline)
            time.sleep(_LOOK_EVERY)

    def figures(self) -> list[Figures]:
        """One look at every department."""
        town, materialised = self._town, self._materialised()
        told = {each.contract for each in self._store.watermarks()}
        contracts: Mapping[str, list[str]] = defaultdict(list)
        for name, contract in town.contracts.items():
            contracts[contract.department].append(name)
        return [
            Figures(
                department=department,
                rows=sum(town.day(name)["rows"] for name in names),
                published=sum(self._end(town.contracts[name].topic) for name in names),
                rejected=self._end(rejects_topic(department)),
                materialised=sum(materialised.get(town.contracts[name].topic, 0) for name in names),
                told=told.issuperset(names),
            )
            for department, names in sorted(contracts.items())
        ]

    def readings(self) -> dict[str, Reading]:
        """What became of every row of the first delivery, by contract. Raises OperatorError."""
        files = sorted((self._town.folder / instances.FOLDER).glob("*.toml"))
        more = ("--readings", "200", "--json", "--config", str(self._town.config))
        command = exchange_command("connector", "status", *map(str, files), *more)
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  it is ours
        if done.returncode != 0:
            raise OperatorError(f"exchange connector status ended with {done.returncode}: {done.stderr.strip()}")
        by_topic = {contract.topic: name for name, contract in self._town.contracts.items()}
        found = {by_topic[status["topic"]]: _first(status["readings"]) for status in json.loads(done.stdout)}
        return found | {contract: self._pushed(contract, call) for contract, call in self.pushes.items()}

    # -- inside --

    def _pushed(self, contract: str, call: Call) -> Reading:
        """The gateway's answer to a push; of what it accepted, deletions are counted by the file."""
        accepted, rejected = int(call.answer["accepted"]), int(call.answer["rejected"])
        deletions = sum(
            line.startswith(b'{"delete":')
            for name, file in city.pushes(self._town.folder)
            if name == contract
            for line in file.read_bytes().splitlines()
        )
        return Reading(accepted + rejected, accepted - deletions, 0, deletions, rejected)

    def _end(self, topic: str) -> int:
        state = self._broker.state(topic)
        return 0 if state is None else sum(end for _, end in state.bounds.values())

    def _materialised(self) -> dict[str, int]:
        """Messages taken from each topic, by the materialiser's own metrics."""
        where = self._town.settings.materialise
        try:
            text = httpx2.get(f"http://{where.metrics_host}:{where.metrics_port}/metrics", timeout=2).text
        except httpx2.TransportError:  # not there yet
            return {}
        found: dict[str, int] = defaultdict(int)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == f"{_MATERIALISED}_total" and sample.labels["outcome"] != "clash":
                    found[sample.labels["topic"]] += int(sample.value)
        return found

    def _look(self, deadline: float) -> None:
        """Raise OperatorError if a part does not come up, or the time is over."""
        for child in self._supervisor.children:
            if child.restarts >= _RESTARTS:
                raise OperatorError(f"{child.name} ended {child.restarts} times; {self._last_words(child.name)}")
        if time.monotonic() > deadline:
            told = {each.contract for each in self._store.watermarks()}
            missing = sorted(set(self._town.contracts) - told)
            raise OperatorError(f"after {PATIENCE:.0f} s nothing complete was told of {', '.join(missing)}")

    def _last_words(self, name: str) -> str:
        log = self._supervisor.log(name)
        if log is None or not log.exists():
            return "it left no log"
        lines = log.read_text("utf-8", "replace").splitlines()
        return f"{log} ends with: {lines[-1] if lines else '(nothing)'}"


def _first(readings: list[dict[str, Any]]) -> Reading:
    """The readings up to the first complete one, together; they come newest first."""
    total = dict.fromkeys(("read", "published", "unchanged", "deleted", "rejected"), 0)
    for reading in reversed(readings):
        for name in total:
            total[name] += reading["outcome"][name]
        if reading["as_of"] is not None:
            break
    return Reading(total["read"], total["published"], total["unchanged"], total["deleted"], total["rejected"])
