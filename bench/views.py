"""Authorised, merged, durably audited views per second: the gateway as shipped, and the obvious way.

Beside them the same core on a raw ASGI application, which tells what the gateway adds to it; two processes of the
gateway; and views that come by themselves. Each is one uvicorn process over PostgreSQL with the same facets, asked by
one client process for random citizens with the same token. First the answers to a sample are compared, to the last
value.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy as sa

from bench import city
from bench.city import City
from bench.databases import fresh_database
from bench.measuring import CannotMeasure, Measurement, Round, Side, cpu_seconds, interleaved
from bench.obvious_gateway import Permission, Settings, Watermark
from bench.obvious_materialise import facets as their_facets
from bench.obvious_materialise import metadata, open_engine
from bench.sampling import told
from exchange.cli.token import fetch
from exchange.records import Facet

PATH = "/v1/citizens/view"
SAMPLE = 50
PATIENCE = 120.0  # seconds for a server to start, on a machine that has other work too


@dataclass(frozen=True, slots=True)
class Load:
    """For how many seconds the client asks, how many requests it has in flight, about how many citizens."""

    seconds: float
    in_flight: int
    citizens: int


@dataclass(frozen=True, slots=True)
class Server:
    """A running gateway, ours or the obvious one."""

    port: int
    process: subprocess.Popen[bytes]


def on_postgres(
    folder: Path, postgres: str, load: Load, rounds: int, tell: Callable[[str], None], *, profile: bool = False
) -> list[Measurement]:
    """Ours against the obvious way, against the bare core, in two processes, and at half of the rate.

    Raises CannotMeasure if they do not give the same answers.
    """
    with ExitStack() as stack:
        ours, theirs = (stack.enter_context(fresh_database(postgres)) for _ in range(2))
        built = city.make(folder, ours, free_port(), free_port())
        _fill(built, theirs, load.citizens)
        exchange = stack.enter_context(our_gateway(built))
        second = stack.enter_context(_second_gateway(built))
        core = stack.enter_context(_core_gateway(built))
        obvious = stack.enter_context(_obvious_gateway(built, exchange, theirs))
        token = fetch(built.settings, city.CLIENT)["access_token"]
        compared = _compare([exchange, second, core, obvious], token, load)
        tell(f"  {load.citizens:,} citizens in 8 contracts; {compared} answers of all are the same")
        sides = [
            Side("exchange", lambda: ask([exchange], token, load)),
            Side("core", lambda: ask([core], token, load)),
            Side("two", lambda: ask([exchange, second], token, load)),
            Side("obvious", lambda: ask([obvious], token, load)),
        ]
        for side in sides:
            side.measure()  # connections, prepared statements, caches
        measured = interleaved(sides, rounds, tell)
        rate = statistics.median(one["views/s"] for one in measured["exchange"]) / 2
        half = interleaved([Side("exchange", lambda: ask([exchange], token, load, rate))], rounds, tell)
    if profile:
        with fresh_database(postgres) as again, fresh_database(postgres) as unused:
            profiled = city.make(folder / "profiled", again, free_port(), free_port())
            _fill(profiled, unused, load.citizens)
            tell(_profiled(profiled, load))
    facts = asdict(load) | {"contracts": len(built.contracts), "answers_compared": compared, "same_answers": True}

    def against(name: str, side: str) -> Measurement:
        return Measurement(name, "views/s", {"exchange": measured["exchange"], side: measured[side]}, facts)

    return [
        against("views, PostgreSQL", "obvious"),
        against("views; ceiling: the same core on a raw ASGI application", "core"),
        against("views; one process and two", "two"),
        Measurement("views, coming by themselves at half of that rate", "views/s", half, facts),
    ]


def ask(servers: Sequence[Server], token: str, load: Load, rate: float | None = None) -> Round:
    """Let the client process ask for random citizens; with a rate, so many a second come by themselves."""
    job = {
        "ports": [server.port for server in servers],
        "path": PATH,
        "headers": _headers(token),
        "bodies": [{"id": identifier} for identifier in city.citizens(load.citizens)],
        "connections": load.in_flight,
        "rate": rate,
        "seconds": load.seconds,
        "seed": random.randrange(2**32),
    }
    used = sum(cpu_seconds(server.process.pid) for server in servers)
    done = subprocess.run(
        [sys.executable, "-m", "bench.requests"], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotMeasure(f"the client: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    used = sum(cpu_seconds(server.process.pid) for server in servers) - used
    return {
        "views/s": found["answers"] / found["seconds"],
        "p50 ms": found["p50_ms"],
        "p99 ms": found["p99_ms"],
        "p99.9 ms": found["p999_ms"],
        "cpu us": used / found["answers"] * 1e6,
    }


def _profiled(built: City, load: Load) -> str:
    """Where a gateway's main thread spends its time under the same load."""
    file = built.config.parent / "looks.json"
    with our_gateway(built, "bench.sampling", str(file)) as server:
        token = fetch(built.settings, city.CLIENT)["access_token"]
        ask([server], token, load)
        server.process.send_signal(signal.SIGUSR1)
        found = ask([server], token, load)
    return told("exchange, a view, main thread", json.loads(file.read_text()), found["views/s"] * load.seconds)


def _compare(servers: Sequence[Server], token: str, load: Load) -> int:
    """Ask all for a sample, and for a citizen whom nobody knows; how many answers were the same."""
    asked = city.citizens(load.citizens + 1)
    sample = random.Random(1).sample(asked, min(SAMPLE, len(asked))) + asked[-1:]
    for identifier in sample:
        answers = [
            httpx2.post(
                f"http://127.0.0.1:{server.port}{PATH}",
                json={"id": identifier},
                headers=_headers(token),
                timeout=PATIENCE,
            )
            for server in servers
        ]
        one, *others = answers
        for other in others:
            if (one.status_code, other.status_code) != (200, 200) or one.json() != other.json():
                raise CannotMeasure(
                    f"not the same answers: {one.status_code} {one.text}\n{other.status_code} {other.text}"
                )
    return len(sample)


def _headers(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}", "exchange-purpose": city.PURPOSE}


# --- the two gateways -------------------------------------------------------------------------------------------------


@contextmanager
def our_gateway(built: City, *runner: str) -> Iterator[Server]:
    """`exchange gateway` over the city; `runner` is a module that runs it, with its arguments."""
    command = ["-m", *runner, "exchange.cli", "gateway", "--config", str(built.config)]
    port = built.settings.gateway.port
    with _serving(command, port, built.config.parent / "gateway.log") as process:
        yield Server(port, process)


@contextmanager
def _second_gateway(built: City) -> Iterator[Server]:
    """Another process of the same gateway, beside it; as an operator starts one."""
    port = free_port()
    variables = {
        "EXCHANGE_AUDIT__WRITER": "gateway-2",
        "EXCHANGE_GATEWAY__PORT": str(port),
        "EXCHANGE_GATEWAY__METRICS_PORT": str(free_port()),
    }
    command = ["-m", "exchange.cli", "gateway", "--config", str(built.config)]
    with _serving(command, port, built.config.parent / "second.log", **variables) as process:
        yield Server(port, process)


@contextmanager
def _core_gateway(built: City) -> Iterator[Server]:
    port = free_port()
    command = ["-m", "uvicorn", "--factory", "bench.core_gateway:create_app", "--port", str(port), "--no-access-log"]
    variables = {"EXCHANGE_AUDIT__WRITER": "gateway-3", "BENCH_CONFIG": str(built.config)}
    with _serving(command, port, built.config.parent / "core.log", **variables) as process:
        yield Server(port, process)


@contextmanager
def _obvious_gateway(built: City, exchange: Server, database: str) -> Iterator[Server]:
    settings = built.settings
    known = Settings(
        database=database,
        jwks=httpx2.get(f"http://127.0.0.1:{exchange.port}/oauth/jwks.json").json(),
        issuer=city.ISSUER,
        audience=settings.gateway.audience,
        kid=settings.keys.bus_kid,
        secret=settings.secret("keys.bus", settings.keys.bus).decode().strip(),
    )
    port = free_port()
    command = ["-m", "uvicorn", "--factory", "bench.obvious_gateway:create_app", "--port", str(port)]
    log = built.config.parent / "obvious.log"
    with _serving(command, port, log, BENCH_GATEWAY=json.dumps(asdict(known))) as process:
        yield Server(port, process)


@contextmanager
def _serving(command: Sequence[str], port: int, log: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server process that answers on `port`, until the block ends."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *command], stdout=output, stderr=output, env={**os.environ, **variables}
        )
    try:
        ends = time.monotonic() + PATIENCE
        while not _answers(port):
            if process.poll() is not None or time.monotonic() > ends:
                raise CannotMeasure(f"{' '.join(command)} did not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _answers(port: int) -> bool:
    """Whether a server is ready; the obvious one has no such page, and is ready when it can say so."""
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code in (200, 404)
    except httpx2.TransportError:
        return False


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


# --- what both know ---------------------------------------------------------------------------------------------------


def _fill(built: City, theirs: str, citizens: int) -> None:
    """Policies, facets and watermarks into both databases: ours by our own code, the other's by plain inserts."""
    engine = open_engine(theirs)
    metadata.create_all(engine)
    with engine.begin() as connection:
        for _, facets in built.fill(citizens):
            connection.execute(sa.insert(their_facets), [_their_row(facet) for facet in facets])
        for said in built.contracts:
            watermark = built.watermark(said, 0)
            as_of = {"contract": said.name, "source": watermark.source, "as_of": watermark.as_of}
            connection.execute(sa.insert(Watermark), as_of)
            connection.execute(
                sa.insert(Permission),
                {
                    "client_id": city.CLIENT,
                    "purpose": city.PURPOSE,
                    "contract": said.name,
                    "major": said.major,
                    "department": said.department,
                    "cycle_s": said.cycle.total_seconds() if said.cycle else 0,
                    "fields": {name: _field(said.fields[name]) for name in city.GRANTED},
                },
            )
    city.vacuumed(engine)
    engine.dispose()


def _their_row(facet: Facet) -> Mapping[str, Any]:
    return {
        "subject_key": facet.subject_key,
        "contract": facet.contract,
        "major": facet.major,
        "record_key": facet.record_key,
        "payload": json.loads(facet.payload or "null"),
        "schema_id": facet.schema_id,
        "source": facet.origin.source,
        "epoch": facet.origin.epoch,
        "sequence": facet.origin.sequence,
        "log_partition": facet.partition,
        "log_offset": facet.offset,
        "version": facet.version,
        "event_time": facet.event_time,
    }


def _field(field: Any) -> dict[str, Any]:
    return {"concept": field.concept, "leads": field.leads}
