"""`python -m bench`: measure, print a table or one JSON document. Exits with 1 only when it cannot measure."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import alike, connect, databases, facets, files, growth, members, stages, verify, views, visible
from bench.measuring import CannotMeasure, Measurement, machine, quiet
from exchange.sqlite import dbapi2

PARTS = (
    "facets", "sqlite", "connect", "memory", "processes", "views", "growth", "stages", "csv", "visible", "alike",
    "verify",
)  # fmt: skip
ON_KAFKA = {"facets", "connect", "memory", "processes", "csv", "visible"}
ON_POSTGRES = {"facets", "connect", "memory", "processes", "views", "growth", "visible"}


def main() -> int:
    options = _options()
    quiet()
    with tempfile.TemporaryDirectory(prefix="exchange-bench-") as folder:
        try:
            about, found = _measure(options, Path(folder))
        except CannotMeasure as reason:
            _tell(f"cannot measure: {reason}")
            return 1
    if options.json:
        document = about | {"measurements": [each.document() for each in found]}
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _print(about, found)
    return 0


def _measure(options: argparse.Namespace, folder: Path) -> tuple[dict[str, Any], list[Measurement]]:
    """What was measured, and on what. Raises CannotMeasure."""
    about: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(folder) | {"sqlite": dbapi2.sqlite_version},
        "rounds": options.rounds,
    }
    kafka = _service("EXCHANGE_TEST_KAFKA") if ON_KAFKA.intersection(options.parts) else ""
    postgres = ""
    if ON_POSTGRES.intersection(options.parts):
        postgres = _service("EXCHANGE_TEST_POSTGRES")
        about["machine"]["postgresql"] = databases.version(postgres)
    found = []
    if "facets" in options.parts:
        _tell("topic -> durable facet, Kafka + PostgreSQL")
        found += facets.on_kafka(kafka, postgres, options.records, options.rounds, _tell, profile=options.profile)
    if "sqlite" in options.parts:
        _tell("topic -> durable facet, SQLite")
        found.append(facets.on_sqlite(folder, options.records, options.rounds, _tell))
    if "connect" in options.parts:
        _tell("the same rows by Kafka Connect, Kafka + PostgreSQL")
        found += connect.beside_ours(folder / "connect", kafka, postgres, options.records, options.rounds, _tell)
    if "memory" in options.parts:
        _tell("memory of a materialiser, Kafka + PostgreSQL")
        found.append(members.of_memory(kafka, postgres, options.many, _tell))
    if "processes" in options.parts:
        _tell("two materialisers against one, Kafka + PostgreSQL")
        found.append(members.of_processes(kafka, postgres, options.records, options.rounds, _tell))
    if "views" in options.parts:
        _tell("views, PostgreSQL")
        load = views.Load(options.seconds, options.in_flight, options.citizens)
        found += views.on_postgres(folder, postgres, load, options.rounds, _tell, profile=options.profile)
    if "growth" in options.parts:
        _tell("growth, PostgreSQL")
        sizes = growth.Sizes(*(tuple(each) for each in (options.subjects, options.agreements, options.facets)))
        found += growth.of_views(
            folder / "growth", postgres, sizes, options.seconds, options.rounds, _tell, options.picture
        )
    if "stages" in options.parts:
        _tell("stages of a view")
        found += stages.of_a_view(folder / "stages", options.times)
    if "csv" in options.parts:
        _tell("CSV -> topic, Kafka")
        found.append(files.of_csv(folder / "files", kafka, options.records, options.rounds, _tell))
    if "visible" in options.parts:
        _tell("publish -> visible, Kafka + PostgreSQL")
        found.append(visible.of_records(kafka, postgres, options.rate, options.seconds, options.rounds, _tell))
    if "alike" in options.parts:
        _tell("what is forbidden, and what there is not")
        found += alike.of_pairs(folder / "alike", options.pairs, options.rounds, _tell)
    if "verify" in options.parts:
        _tell("audit verify, SQLite")
        found.append(verify.of_log(folder / "audit", options.entries, options.rounds, _tell))
    return about, found


def _service(variable: str) -> str:
    if not os.environ.get(variable):
        raise CannotMeasure(f"{variable} is not set; `make bench` starts the services and sets it")
    return os.environ[variable]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(about: Mapping[str, Any], found: list[Measurement]) -> None:
    print(f"\n{about['at']}, medians of {about['rounds']} rounds (least..greatest)")
    for name, value in about["machine"].items():
        print(f"{name:>15}: {value}")
    for each in found:
        facts = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in each.facts.items())
        print(f"\n{each.name}\n  {facts}")
        for side, figures in each.figures().items():
            print(f"  {side:10}" + "".join(f"  {name} {_spread(spread)}" for name, spread in figures.items()))
        if ratios := each.ratios():
            print(f"  ratio       {_spread(ratios)}")


def _spread(of: Mapping[str, float]) -> str:
    digits = 0 if of["median"] >= 100 else 1 if of["median"] >= 10 else 2
    return f"{of['median']:,.{digits}f} ({of['min']:,.{digits}f}..{of['max']:,.{digits}f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="|".join(PARTS), help="default: all of them")
    parser.add_argument(
        "--records", type=int, default=100_000, help="messages in a topic, rows of a file (default 100,000)"
    )
    parser.add_argument(
        "--many", type=int, default=200_000, help="messages over which memory is watched (default 200,000)"
    )
    parser.add_argument("--citizens", type=int, default=5_000, help="with 8 facets each (default 5,000)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of asking or publishing, in a round (default 5)")
    parser.add_argument("--in-flight", type=int, default=32, help="requests at once (default 32)")
    parser.add_argument("--rate", type=int, default=5_000, help="records a second until visible (default 5,000)")
    parser.add_argument("--pairs", type=int, default=10_000, help="of requests, of each kind (default 10,000)")
    parser.add_argument("--entries", type=int, default=200_000, help="of the audit log (default 200,000)")
    parser.add_argument("--subjects", type=int, nargs="+", default=growth.Sizes().subjects, help="in the store")
    parser.add_argument("--agreements", type=int, nargs="+", default=growth.Sizes().agreements, help="in force")
    parser.add_argument("--facets", type=int, nargs="+", default=growth.Sizes().facets, help="of a view")
    parser.add_argument("--times", type=int, default=50, help="that each stage is done in a run (default 50)")
    parser.add_argument("--picture", type=Path, help="where the growth is drawn too, as SVG")
    parser.add_argument("--rounds", type=int, default=3, help="of each side, in turn (default 3)")
    parser.add_argument("--profile", action="store_true", help="then run ours once more, and say where the time goes")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args()
    options.parts = options.parts or PARTS
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"nothing is called {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
