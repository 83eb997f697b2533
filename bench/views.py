"""Authorised, merged, durably audited views per second: the gateway as shipped, and the obvious way.

Both are one uvicorn process over PostgreSQL with the same facets, asked by one client process for random citizens with
the same token. First the answers to a sample are compared, to the last value.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
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
from exchange.cli.policy import apply_policies
from exchange.cli.token import fetch
from exchange.clock import system_clock
from exchange.records import Facet
from exchange.store import Batch
from exchange.wiring import key_maker, open_store

PATH = "/v1/citizens/view"
SAMPLE = 50
PATIENCE = 30.0  # seconds for a server to start
AT_ONCE = 5_000


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
) -> Measurement:
    """Ours against the obvious way. Raises CannotMeasure if they do not give the same answers."""
    with fresh_database(postgres) as ours, fresh_database(postgres) as theirs:
        built = city.make(folder, ours, free_port(), free_port())
        _fill(built, theirs, load.citizens)
        with our_gateway(built) as exchange, _obvious_gateway(built, exchange, theirs) as obvious:
            token = fetch(built.settings, city.CLIENT)["access_token"]
            compared = _compare([exchange, obvious], token, load)
            tell(f"  {load.citizens:,} citizens in 8 contracts; {compared} answers of both are the same")
            sides = [
                Side("exchange", lambda: ask(exchange, token, load)),
                Side("obvious", lambda: ask(obvious, token, load)),
            ]
            for side in sides:
                side.measure()  # connections, prepared statements, caches
            measured = interleaved(sides, rounds, tell)
        if profile:
            tell(_profiled(built, load))
    facts = asdict(load) | {"contracts": len(built.contracts), "answers_compared": compared, "same_answers": True}
    return Measurement("views, PostgreSQL", "views/s", measured, facts)


def ask(server: Server, token: str, load: Load) -> Round:
    """Let the client process ask for random citizens."""
    job = {
        "port": server.port,
        "path": PATH,
        "headers": _headers(token),
        "bodies": [{"id": identifier} for identifier in city.citizens(load.citizens)],
        "connections": load.in_flight,
        "seconds": load.seconds,
        "seed": random.randrange(2**32),
    }
    used = cpu_seconds(server.process.pid)
    done = subprocess.run(
        [sys.executable, "-m", "bench.requests"], input=json.dumps(job), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CannotMeasure(f"the client: {done.stderr.strip()}")
    found = json.loads(done.stdout)
    return {
        "views/s": found["answers"] / found["seconds"],
        "p50 ms": found["p50_ms"],
        "p99 ms": found["p99_ms"],
        "cpu us": (cpu_seconds(server.process.pid) - used) / found["answers"] * 1e6,
    }


def _profiled(built: City, load: Load) -> str:
    """Where a gateway's main thread spends its time under the same load."""
    file = built.config.parent / "looks.json"
    with our_gateway(built, "bench.sampling", str(file)) as server:
        token = fetch(built.settings, city.CLIENT)["access_token"]
        ask(server, token, load)
        server.process.send_signal(signal.SIGUSR1)
        found = ask(server, token, load)
    return told("exchange, a view, main thread", json.loads(file.read_text()), found["views/s"] * load.seconds)


def _compare(servers: Sequence[Server], token: str, load: Load) -> int:
    """Ask both for a sample, and for a citizen whom nobody knows; how many answers were the same."""
    asked = city.citizens(load.citizens + 1)
    sample = random.Random(1).sample(asked, min(SAMPLE, len(asked))) + asked[-1:]
    for identifier in sample:
        one, other = (
            httpx2.post(f"http://127.0.0.1:{server.port}{PATH}", json={"id": identifier}, headers=_headers(token))
            for server in servers
        )
        if (one.status_code, other.status_code) != (200, 200) or one.json() != other.json():
            raise CannotMeasure(f"not the same answers: {one.status_code} {one.text}\n{other.status_code} {other.text}")
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
    apply_policies(built.settings)
    store, engine = open_store(built.settings, system_clock), open_engine(theirs)
    metadata.create_all(engine)
    with closing(store), engine.begin() as connection:
        for said, facets in zip(built.contracts, built.facets(citizens, key_maker(built.settings)), strict=True):
            epoch = store.take(said.topic, 0, "bench", "bench").epoch
            for at in range(0, len(facets), AT_ONCE):
                batch = facets[at : at + AT_ONCE]
                watermarks = [built.watermark(said, len(facets) - 1)]
                store.apply([Batch(said.topic, 0, epoch, at, at + len(batch), batch, (), watermarks)])
                connection.execute(sa.insert(their_facets), [_their_row(facet) for facet in batch])
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
    for database in (store.engine, engine):
        with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")
        database.dispose()


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
