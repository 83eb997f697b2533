"""A Lanting of canaries on a running exchange.

`Town` is the city with its sources. `Here` runs every part inside the test's process; `Apart` each as a process of its
own, as `exchange up` does, with two gateways: one logs JSON, the other for people.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy as sa
import structlog
from prometheus_client import generate_latest

from connectors.reporting import JsonReport
from connectors.runner import run
from exchange import city
from exchange.cli.demo.town import free_ports
from exchange.cli.init import initialise
from exchange.cli.materialise import topics_to_read
from exchange.cli.policy import apply_policies
from exchange.cli.supervisor import Supervisor, exchange_command
from exchange.cli.token import fetch
from exchange.clock import system_clock
from exchange.materialise import Effects, Materialiser
from exchange.registry import StoreRegistry
from exchange.settings import Settings
from exchange.store import tables
from exchange.subjects import Subject
from exchange.wiring import key_maker, open_broker, open_store
from gateway.parts import create_app
from tests.support.bus import Running, until
from tests.support.canaries import Canaries
from tests.support.lanting import SCHEME, ByNumber, Lanting
from tests.support.server import serving
from tests.support.sharing import Sharing

ROOT = Path(__file__).parents[2]
PATIENCE = 180.0  # seconds until what twenty processes publish must stand, on a machine with other work


@dataclass(frozen=True)
class Left:
    """Bytes that left, and from where."""

    where: str
    data: bytes


class Town(ABC):
    """The city, its settings, and what must stand in it."""

    gateways: list[str]  # URLs

    def __init__(self, folder: Path, *, citizens: int, enterprises: int, places: str = "") -> None:
        """`places` is TOML: where topics and store are."""
        self.folder = folder
        for name in ("schemas", "policies"):
            shutil.copytree(ROOT / name, folder / name)
        self.config = folder / "exchange.toml"
        self.config.write_text(f'schemas = "schemas"\npolicies = "policies"\nlog = "json"\n{places}', "utf-8")
        initialise(self.config, Path("schemas"), Path("policies"))
        self.settings = Settings.load(self.config)
        self.keys = key_maker(self.settings)
        city.generate(folder, citizens=citizens, enterprises=enterprises, seed=7, canaries=True)
        self._by_number = ByNumber(folder)
        for file in self.instances:
            text = file.read_text("utf-8").replace('poll_interval = "2s"', 'poll_interval = "1s"')
            settles = '"csv"' in text
            file.write_text(('settle = "100ms"\n' if settles else "") + text, "utf-8")
        self.refresh()
        apply_policies(self.settings)
        self.tokens: dict[str, str] = {}

    def refresh(self) -> None:
        """Know the city as it is now."""
        self.lanting = Lanting(self.folder)
        self.canaries: Canaries = self.lanting.canaries()
        self._by_number.plant(self.canaries)
        self.expected = self.lanting.standing() | self._by_number.standing()
        self.sharing = Sharing(self.folder / "policies", self.folder / "schemas", datetime.now(UTC).date())
        known = {kind: self.lanting.subjects(kind) for kind in SCHEME}
        told = {number for number, _ in self.expected} - {one.id for subjects in known.values() for one in subjects}
        self.numbers = {
            kind: [one.id for one in subjects]
            + [one.ghost_id for one in subjects if one.index < 2 or one.ghost_id in told]
            for kind, subjects in known.items()
        }
        self.numbers["citizen"] += [number for number, _ in self._by_number.standing()]

    def advance(self) -> None:
        """A day passes in the offices."""
        city.advance(self.folder)
        self.refresh()

    @property
    def instances(self) -> list[Path]:
        return sorted((self.folder / "connectors.d").glob("*.toml"))

    def subject_keys(self) -> dict[str, str]:
        """Each subject key of the city, and whose it is."""
        return {
            self.keys.subject(Subject(SCHEME[kind], number)): number
            for kind in SCHEME
            for number in (
                *(number for one in self.lanting.subjects(kind) for number in (one.id, one.ghost_id)),
                *self.numbers[kind],
            )
        }

    def rows(self) -> dict[tuple[str, str], list[str]]:
        """The payloads that stand in the store, by (identifier, contract)."""
        owners, facets = self.subject_keys(), tables.facets
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        wanted = sa.select(facets.c.subject_key, facets.c.contract, facets.c.payload)
        with closing(open_store(self.settings, system_clock)) as store, store.engine.connect() as connection:
            for key, contract, payload in connection.execute(wanted.where(facets.c.payload.is_not(None))):
                found[owners[key], contract].append(payload)
        return found

    def stands(self) -> bool:
        """Whether exactly those records stand that must, each with exactly its values."""
        return not self.differs()

    def differs(self) -> dict[str, int]:
        """In how many subjects each contract differs from what must stand."""
        found = {
            place: sorted(sorted(self.canaries.found(payload.encode())) for payload in payloads)
            for place, payloads in self.rows().items()
        }
        expected = {place: sorted(map(sorted, records)) for place, records in self.expected.items()}
        return Counter(place[1] for place in found | expected if found.get(place) != expected.get(place))

    def push(self) -> Iterator[Left]:
        """Push each NDJSON file, as the departments' own programs do; the answers."""
        for contract, file in city.pushes(self.folder):
            yield from left(
                f"push of {file.name}",
                httpx2.post(
                    f"{self.gateways[0]}/v1/datasets/{contract}/records",
                    content=file.read_bytes(),
                    headers=self.bearer(f"{contract.partition('.')[0]}-connector")
                    | {"Content-Type": "application/x-ndjson", "Idempotency-Key": file.name},
                    timeout=60,
                ),
            )

    def bearer(self, client: str) -> dict[str, str]:
        """The header that shows who calls."""
        if client not in self.tokens:
            at = self.settings.model_copy(
                update={"gateway": self.settings.gateway.model_copy(update={"public_url": self.gateways[0]})}
            )
            self.tokens[client] = fetch(at, client)["access_token"]
        return {"Authorization": f"Bearer {self.tokens[client]}"}

    @abstractmethod
    def deliver(self) -> Iterable[Left]:
        """Have what the offices hold published and materialised."""

    @abstractmethod
    def logs(self) -> Iterable[Left]:
        """What the parts have written while they worked."""

    @abstractmethod
    def metrics(self) -> Iterable[Left]:
        """What watches the parts sees of them."""

    @abstractmethod
    def close(self) -> None: ...


class Here(Town):
    """Every part in the test's process; the logs as they are before anything is dropped from them."""

    def __init__(self, folder: Path, **size: Any) -> None:
        super().__init__(folder, **size)
        self._stack = ExitStack()
        self._logged: list[Any] = self._stack.enter_context(structlog.testing.capture_logs())
        self._told = StringIO()
        port = self._stack.enter_context(serving(create_app(self.settings), lifespan=True))
        self.gateways = [f"http://127.0.0.1:{port}"]
        self._here = self.settings.model_copy(
            update={"gateway": self.settings.gateway.model_copy(update={"port": port})}
        )
        store = self._stack.enter_context(closing(open_store(self.settings, system_clock)))
        broker = self._stack.enter_context(closing(open_broker(self.settings)))
        effects = Effects(StoreRegistry(store.engine), self.keys, system_clock)
        reading = Materialiser(broker, store, effects, lambda: topics_to_read(store), group="town", owner="town")
        self._stack.enter_context(Running(reading))

    def deliver(self) -> Iterable[Left]:
        """See Town."""
        time.sleep(0.1)  # until the files have settled
        for file in self.instances:
            report = lambda name: JsonReport(name, self._told)  # noqa: E731
            outcome = run(file, self._here, system_clock, report, threading.Event(), once=True)
            assert outcome is not None
            assert outcome.accounted
        answers = list(self.push())
        until(self.stands, 20)
        return answers

    def logs(self) -> Iterable[Left]:
        """See Town."""
        yield Left("logs", "\n".join(map(str, self._logged)).encode())
        yield Left("connectors", self._told.getvalue().encode())

    def metrics(self) -> Iterable[Left]:
        """See Town."""
        yield Left("/metrics", generate_latest())

    def close(self) -> None:
        """See Town."""
        self._stack.close()


class Apart(Town):
    """Each part a process; every other one logs for people instead of JSON."""

    def __init__(self, folder: Path, **size: Any) -> None:
        super().__init__(folder, **size)
        self._ports = free_ports(5)
        first, second, *metrics = self._ports
        self._metrics = metrics
        self.gateways = [f"http://127.0.0.1:{port}" for port in (first, second)]
        json_, people = self._settings("json", first, metrics[0]), self._settings("console", second, metrics[1])
        logs = folder / "logs"
        logs.mkdir()
        commands = {
            "gateway-1": exchange_command("gateway", "--config", json_),
            "gateway-2": exchange_command("gateway", "--config", people),
            "materialise": exchange_command("materialise", "--config", people),
        }
        for number, file in enumerate(self.instances):
            config = (json_, people)[number % 2]
            commands[file.stem] = exchange_command("connector", "run", str(file), "--config", config)
        self._supervisor = Supervisor(commands, logs=logs)
        self._supervisor.start("gateway-1", "gateway-2", "materialise")
        until(lambda: all(map(self._ready, self.gateways)), 60)

    def _settings(self, log: str, port: int, metrics: int) -> str:
        """A settings file in the same folder; what logs JSON is what connectors and clients call."""
        file = self.folder / f"{log}.toml"
        places = self.config.read_text("utf-8").replace('log = "json"', f'log = "{log}"')
        gateway = f"[gateway]\nport = {port}\nmetrics_port = {metrics}\n"
        if log == "console":
            gateway += f'public_url = "http://127.0.0.1:{self._ports[0]}"\n[audit]\nwriter = "gateway-2"\n'
        file.write_text(f"{places}\n{gateway}[materialise]\nmetrics_port = {self._metrics[2]}\n", "utf-8")
        return str(file)

    @staticmethod
    def _ready(gateway: str) -> bool:
        try:
            return httpx2.get(f"{gateway}/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def deliver(self) -> Iterable[Left]:
        """See Town."""
        self._supervisor.start()
        answers = list(self.push())
        deadline = time.monotonic() + PATIENCE
        while not self.stands():
            for child in self._supervisor.children:
                assert child.process is not None
                assert child.process.poll() is None, f"{child.name} ended\n{self._last(child.name)}"
            assert time.monotonic() < deadline, f"not all stands\n{self.differs()}\n{self._last('materialise')}"
            time.sleep(0.3)
        return answers

    def logs(self) -> Iterable[Left]:
        """See Town."""
        for child in self._supervisor.children:
            file = self._supervisor.log(child.name)
            assert file is not None
            yield Left(file.name, file.read_bytes())

    def _last(self, name: str) -> str:
        file = self._supervisor.log(name)
        return "" if file is None else "\n".join(file.read_text("utf-8").splitlines()[-20:])

    def metrics(self) -> Iterable[Left]:
        """See Town."""
        for port in self._metrics:
            yield from left(f"/metrics at {port}", httpx2.get(f"http://127.0.0.1:{port}/metrics"))

    def command(self, *arguments: str) -> Left:
        """What a command of the operator's prints."""
        done = subprocess.run(
            exchange_command(*arguments, "--config", str(self.folder / "json.toml")), capture_output=True, check=False
        )
        assert done.returncode == 0, (arguments, done.stderr)
        return Left(f"exchange {' '.join(arguments)}", done.stdout + done.stderr)

    def close(self) -> None:
        """See Town."""
        self._supervisor.end()


def left(where: str, answer: httpx2.Response) -> Iterator[Left]:
    """An answer's head and body, as they left."""
    head = "\n".join(f"{name}: {value}" for name, value in answer.headers.multi_items())
    yield Left(f"{where}: head of {answer.status_code}", head.encode())
    yield Left(f"{where}: body of {answer.status_code}", answer.content)
