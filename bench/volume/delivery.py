"""The first delivery of every office, through every part of `exchange up`, until it stands and is accounted for."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from exchange import city
from exchange.cli import token
from exchange.cli.demo.town import Town
from exchange.cli.supervisor import Supervisor, exchange_command
from exchange.cli.up import bring_up, commands
from exchange.errors import OperatorError
from exchange.store import Store
from exchange.store.database import reading
from exchange.store.tables import facets, rejects
from exchange.wiring import gateway_url

LOOK_EVERY = 1.0  # seconds
PUSH_LINES = 10_000  # in one request
PUSH_SECONDS = 300.0
_BUSY = (429, 503)
_ROWS = ("rows", "published", "unchanged", "deleted", "rejected")

Rows = dict[str, int]  # what became of a dataset's rows, by the words of _ROWS


@dataclass(slots=True)
class Sample:
    """So far after so many seconds: messages in the topics, and those of them that the materialiser has stored."""

    seconds: float
    published: int
    materialised: int


@dataclass(slots=True)
class Source:
    """How a dataset was delivered: seconds from the start until its first complete reading began and ended."""

    rows: Rows
    began: float
    ended: float


@dataclass(slots=True)
class Delivered:
    """What came of it. `wall_seconds` is from the start of the first process until every facet stood."""

    ready_seconds: float = 0.0
    wall_seconds: float = 0.0
    sources: dict[str, Source] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    standing: dict[str, int] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    pushes_repeated: int = 0
    wrong: list[str] = field(default_factory=list)


@contextmanager
def standing(town: Town) -> Iterator[Supervisor]:
    """A supervisor with the processes of `exchange up`, none started yet; they are stopped at the end."""
    folder = town.folder / "logs"
    folder.mkdir(mode=0o700)
    supervisor = Supervisor(commands(town.config, town.settings), logs=folder)
    try:
        yield supervisor
    finally:
        supervisor.stop()
        supervisor.end()


class Delivery:
    """Watches one delivery, from the start of the processes until everything stands."""

    def __init__(self, town: Town, supervisor: Supervisor, store: Store, tell: Callable[[str], None]) -> None:
        self._town = town
        self._supervisor = supervisor
        self._store = store
        self._tell = tell
        self._found = Delivered()
        self._pushed: dict[str, Source] = {}
        self._push_error: Exception | None = None

    def run(self, patience: float) -> Delivered:
        """Start everything, push, wait, account. Raises OperatorError after `patience` seconds."""
        began, clock = time.monotonic(), time.time()
        bring_up(self._town.settings, self._supervisor)
        self._found.ready_seconds = time.monotonic() - began
        pushing = threading.Thread(target=self._push, args=(began,), name="pushing", daemon=True)
        pushing.start()
        while pushing.is_alive() or not self._complete():
            self._look(began, patience)
            time.sleep(LOOK_EVERY)
        if self._push_error is not None:
            raise self._push_error
        expected = {name: self._town.truth["datasets"][name]["facets"] for name in self._town.contracts}
        while (stand := self._counted(facets, facets.c.payload.is_not(None))) != _without_zero(expected):
            self._look(began, patience)
            if self._idle():
                break
            time.sleep(LOOK_EVERY)
        self._found.wall_seconds = time.monotonic() - began
        self._found.standing = stand
        self._account(clock)
        return self._found

    # -- pushing, as the departments' own programs do --

    def _push(self, began: float) -> None:
        try:
            with httpx2.Client(base_url=gateway_url(self._town.settings), timeout=PUSH_SECONDS) as http:
                for contract, file in city.pushes(self._town.folder):
                    self._push_file(http, contract, file, began)
        except Exception as error:  # noqa: BLE001  told by the thread that waits
            self._push_error = error

    def _push_file(self, http: httpx2.Client, contract: str, file: Path, began: float) -> None:
        client = f"{contract.partition('.')[0]}-connector"
        source = self._pushed.setdefault(contract, Source(dict.fromkeys(_ROWS, 0), time.monotonic() - began, 0.0))
        for number, lines in enumerate(_parts(file)):
            headers = {
                "Authorization": f"Bearer {token.fetch(self._town.settings, client)['access_token']}",
                "Content-Type": "application/x-ndjson",
                "Idempotency-Key": f"{file.name}-{number}",
            }
            path = f"/v1/datasets/{contract}/records"
            while (answer := http.post(path, content=b"".join(lines), headers=headers)).status_code in _BUSY:
                self._found.pushes_repeated += 1
                time.sleep(1.0)
            if answer.status_code != 200:
                raise OperatorError(f"a push of {contract} was answered with {answer.status_code}: {answer.text}")
            told = answer.json()
            deletions = sum(line.startswith(b'{"delete":') for line in lines)
            source.rows["rows"] += told["accepted"] + told["rejected"]
            source.rows["published"] += told["accepted"] - deletions
            source.rows["deleted"] += deletions
            source.rows["rejected"] += told["rejected"]
        source.ended = time.monotonic() - began

    # -- waiting --

    def _complete(self) -> bool:
        """Whether the watermark of every dataset stands, so that the materialiser has passed what they speak of."""
        return {each.contract for each in self._store.watermarks()}.issuperset(self._town.contracts)

    def _idle(self) -> bool:
        """Whether nothing has come for a while: then what does not stand never will."""
        last = self._found.samples[-5:]
        return len(last) == 5 and last[0].materialised == last[-1].materialised == last[-1].published

    def _look(self, began: float, patience: float) -> None:
        seconds = time.monotonic() - began
        self._supervisor.look()
        waiting, done = self._materialiser()
        self._found.samples.append(Sample(round(seconds, 1), done + waiting, done))
        if len(self._found.samples) % 10 == 0:
            self._tell(f"{seconds:6.0f} s  {done + waiting:>10,} published  {done:>10,} materialised")
        for child in self._supervisor.children:
            if child.restarts:
                self._found.restarts[child.name] = child.restarts
        if any(restarts > 2 for restarts in self._found.restarts.values()):
            raise OperatorError(f"processes keep ending: {self._found.restarts}; see {self._town.folder / 'logs'}")
        if seconds > patience:
            missing = set(self._town.contracts) - {each.contract for each in self._store.watermarks()}
            raise OperatorError(f"after {patience:.0f} s these are not complete: {', '.join(sorted(missing))}")

    def _materialiser(self) -> tuple[int, int]:
        """Messages that wait in the topics, and those that were taken, by the materialiser's own metrics."""
        where = self._town.settings.materialise
        try:
            text = httpx2.get(f"http://{where.metrics_host}:{where.metrics_port}/metrics", timeout=5).text
        except httpx2.TransportError:  # not there yet
            return 0, 0
        waiting = done = 0.0
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "exchange_materialise_lag_records":
                    waiting += sample.value
                elif sample.name == "exchange_materialise_records_total" and sample.labels["outcome"] != "clash":
                    done += sample.value
        return int(waiting), int(done)

    # -- accounting --

    def _account(self, clock: float) -> None:
        found = self._found
        found.sources = self._readings(clock) | self._pushed
        found.rejected = self._counted(rejects)
        for contract in sorted(self._town.contracts):
            day = self._town.day(contract)
            expected = {name: day[name] for name in _ROWS[:-1]} | {"rejected": sum(day["rejected"].values())}
            got = found.sources[contract].rows if contract in found.sources else {}
            if got != expected:
                found.wrong.append(f"{contract}: {got} instead of {expected}")
            if got.get("rows") != sum(got.get(name, 0) for name in _ROWS[1:]):
                found.wrong.append(f"{contract}: not every row is accounted for: {got}")
            if found.standing.get(contract, 0) != (wanted := self._town.truth["datasets"][contract]["facets"]):
                found.wrong.append(f"{contract}: {found.standing.get(contract, 0)} facets instead of {wanted}")
            if found.rejected.get(contract, 0) != expected["rejected"]:
                found.wrong.append(f"{contract}: {found.rejected.get(contract, 0)} rejects stored, not {expected}")

    def _readings(self, clock: float) -> dict[str, Source]:
        """What became of every row up to each dataset's first complete reading, by `exchange connector status`."""
        files = sorted(self._town.settings.path(self._town.settings.connectors).glob("*.toml"))
        more = ("--readings", "200", "--json", "--config", str(self._town.config))
        command = exchange_command("connector", "status", *map(str, files), *more)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        by_topic = {contract.topic: name for name, contract in self._town.contracts.items()}
        return {by_topic[told["topic"]]: _first(told["readings"], clock) for told in json.loads(done.stdout)}

    def _counted(self, table: sa.Table, *where: sa.ColumnElement[bool]) -> dict[str, int]:
        counted = sa.select(table.c.contract, sa.func.count()).where(*where).group_by(table.c.contract)
        with reading(self._store.engine) as connection:
            return {row[0]: row[1] for row in connection.execute(counted)}


def _first(readings: list[dict[str, Any]], clock: float) -> Source:
    """The readings up to the first complete one, together; they come newest first."""
    total: dict[str, int] = defaultdict(int)
    began = ended = None
    for each in reversed(readings):
        began = began or each["began"]
        for name in _ROWS:
            total[name] += each["outcome"]["read" if name == "rows" else name]
        ended = each["ended"]
        if each["as_of"] is not None:
            break
    return Source(dict(total), _since(began, clock), _since(ended, clock))


def _since(moment: str | None, clock: float) -> float:
    return round(datetime.fromisoformat(moment).timestamp() - clock, 1) if moment else float("nan")


def _parts(file: Path) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    with file.open("rb") as lines:
        for line in lines:
            part.append(line)
            if len(part) == PUSH_LINES:
                yield part
                part = []
    if part:
        yield part


def _without_zero(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
