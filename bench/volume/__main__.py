"""`python -m bench.volume`: one city of any size through everything that `exchange up` starts.

    python -m bench.volume --citizens 100000 --enterprises 10000
    python -m bench.volume --kafka 127.0.0.1:9092 --postgres postgresql://exchange@127.0.0.1/exchange

Without --kafka and --postgres everything is in SQLite files. A cluster must be empty; on PostgreSQL a database is made
and dropped. Exits with 1 if anything stands that truth.json does not say, or does not stand, or is not accounted for.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.volume.delivery import Delivered, Delivery, standing
from bench.volume.printing import tables
from bench.volume.processes import Usage, Watch, listener, proportional_bytes
from bench.volume.sizes import sizes
from bench.volume.town import Founded, backing, found
from exchange import logs
from exchange.clock import system_clock
from exchange.errors import ExchangeError
from exchange.wiring import open_store


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all is stopped in order
    logs.configure("console", "error")
    try:
        with _folder(options.dir) as folder, backing(options.kafka, options.postgres) as database:
            run = _run(options, folder, database)
    except ExchangeError as error:
        _tell(str(error))
        return 1
    print(json.dumps(run, indent=2, ensure_ascii=False) if options.json else tables(run))
    return 0 if run["ok"] else 1


def _run(options: argparse.Namespace, folder: Path, database: str | None) -> dict[str, Any]:
    _tell(f"{options.citizens:,} citizens and {options.enterprises:,} enterprises in {folder}")
    load = round(os.getloadavg()[0], 2)
    founded = found(folder, citizens=options.citizens, enterprises=options.enterprises, seed=options.seed)
    _tell(f"{founded.rows:,} rows written in {founded.generated_seconds:.1f} s")
    town = founded.town
    with closing(open_store(town.settings, system_clock)) as store, standing(town) as supervisor:
        with closing(Watch(supervisor.pids)) as watch, closing(Watch(lambda: _servers(options))) as servers:
            before = servers.look()
            delivered = Delivery(town, supervisor, store, _tell).run(options.patience)
            used, served = watch.look(), servers.look()
            own = {name: used_now.cpu_seconds - before[name].cpu_seconds for name, used_now in served.items()}
            time.sleep(options.idle)
            idle = {**_rate(used, watch.look(), options.idle), **_rate(served, servers.look(), options.idle)}
            processes = {name: _process(usage, idle[name]) for name, usage in used.items()}
            for name, usage in served.items():
                usage.cpu_seconds = own[name]
                processes[name] = _process(usage, idle[name])
        resident = sum(map(proportional_bytes, supervisor.pids().values()))
        taken = sizes(town, options.kafka, database)
    document = _document(options, founded, delivered, load)
    return document | {"processes": processes, "resident_bytes": resident, "bytes": taken}


def _document(options: argparse.Namespace, founded: Founded, delivered: Delivered, load: float) -> dict[str, Any]:
    topics = "Kafka" if options.kafka else "SQLite"
    store = "PostgreSQL" if options.postgres else "SQLite"
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "ok": not delivered.wrong and not delivered.restarts,
        "wrong": [*delivered.wrong, *(f"{name} ended {n} times" for name, n in delivered.restarts.items())],
        "backing": f"topics in {topics}, store and audit log in {store}",
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "python": platform.python_version(),
            "load_at_start": load,
        },
        "city": {"citizens": options.citizens, "enterprises": options.enterprises, "seed": options.seed},
        "rows": founded.rows,
        "generated_seconds": founded.generated_seconds,
        "source_bytes": founded.source_bytes,
        "ready_seconds": delivered.ready_seconds,
        "wall_seconds": delivered.wall_seconds,
        "rows_per_second": founded.rows / delivered.wall_seconds,
        "facets": sum(delivered.standing.values()),
        "rejects": sum(delivered.rejected.values()),
        "pushes_repeated": delivered.pushes_repeated,
        "sources": {
            name: {**one.rows, "began": one.began, "ended": one.ended} for name, one in delivered.sources.items()
        },
        "samples": [asdict(sample) for sample in delivered.samples],
    }


def _servers(options: argparse.Namespace) -> dict[str, int]:
    """The processes of Kafka and PostgreSQL, if they run on this machine."""
    ports = {}
    if options.kafka:
        ports["Kafka"] = int(options.kafka.partition(",")[0].rpartition(":")[2])
    if options.postgres:
        ports["PostgreSQL"] = urlsplit(options.postgres).port or 5432
    return {name: pid for name, port in ports.items() if (pid := listener(port)) is not None}


def _rate(before: Mapping[str, Usage], after: Mapping[str, Usage], seconds: float) -> dict[str, float]:
    """Percent of one core between two looks."""
    return {
        name: (after[name].cpu_seconds - usage.cpu_seconds) / seconds * 100 if seconds else 0.0
        for name, usage in before.items()
    }


def _process(usage: Usage, idle: float) -> dict[str, float]:
    return {
        "peak_mib": usage.peak_bytes / 2**20,
        "cpu_seconds": usage.cpu_seconds,
        "idle_percent": idle,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    """An empty folder: a new one that is removed in the end, or the one given, which stays."""
    if given is None:
        with tempfile.TemporaryDirectory(prefix="exchange-volume-") as made:
            yield Path(made)
        return
    given.mkdir(parents=True, exist_ok=False)
    yield given.resolve()


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.volume", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--citizens", type=int, default=100_000)
    parser.add_argument("--enterprises", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kafka", metavar="HOST:PORT", help="topics there instead of in a SQLite file")
    parser.add_argument("--postgres", metavar="URL", help="store and audit log there; any database of that server")
    parser.add_argument("--dir", type=Path, help="a folder that does not exist yet and stays; default: one that goes")
    parser.add_argument("--idle", type=float, default=10.0, help="seconds of watching what the parts use at rest")
    parser.add_argument("--patience", type=float, default=1_800.0, help="seconds until it is given up")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
