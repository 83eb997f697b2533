"""How the cost of a view grows: with the subjects in the store, the agreements in force, and the facets of a view.

One thing grows and the others stay as they are: each point is a city of its own on PostgreSQL, and `exchange gateway`
over it. What counts is the processor time of the gateway for one view, and the time of an answer with few requests in
flight; the database's own time is in the second only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import city, plot
from bench.databases import fresh_database
from bench.measuring import Measurement, Round, shown
from bench.views import Load, ask, free_port, our_gateway
from exchange.cli.token import fetch

IN_FLIGHT = 8
USUAL = {"subjects": 1_000, "agreements": 10, "facets": 8}
TITLES = {"subjects": "subjects in the store", "agreements": "agreements in force", "facets": "facets of a view"}


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is tried of each."""

    subjects: Sequence[int] = (1_000, 10_000, 100_000)
    agreements: Sequence[int] = (10, 100, 1_000)
    facets: Sequence[int] = (1, 8, 30)


def of_views(
    folder: Path,
    postgres: str,
    sizes: Sizes,
    seconds: float,
    rounds: int,
    tell: Callable[[str], None],
    picture: Path | None = None,
) -> list[Measurement]:
    """One measurement for each thing that grows, its sizes as sides; with `picture` a plot of them too."""
    found, points = [], {}
    for what in USUAL:
        sides = {}
        for size in getattr(sizes, what):
            point = USUAL | {what: size}
            place = folder / f"{what}-{size}"
            sides[f"{size:,}"] = _point(place, postgres, point, seconds, rounds)
            tell(f"  {size:,} {TITLES[what]}: {shown(sides[f'{size:,}'][-1])}")
        measured = Measurement(f"growth: {TITLES[what]}", "cpu us", sides, USUAL | {what: "as named"}, grows=True)
        points[TITLES[what]] = [
            (size, figures["cpu us"]["median"])
            for size, figures in zip(getattr(sizes, what), measured.figures().values(), strict=True)
        ]
        found.append(measured)
    if picture is not None:
        picture.write_text(plot.panels(points, "us"), "utf-8")
    return found


def _point(folder: Path, postgres: str, point: dict[str, int], seconds: float, rounds: int) -> list[Round]:
    departments = [*city.DEPARTMENTS, *(f"office{number}" for number in range(100))][: point["facets"]]
    with fresh_database(postgres) as database:
        built = city.make(
            folder,
            database,
            free_port(),
            free_port(),
            departments=departments,
            others=max(0, point["agreements"] - len(departments)),
        )
        for _ in built.fill(point["subjects"]):
            pass
        load = Load(seconds, IN_FLIGHT, point["subjects"])
        with our_gateway(built) as server:
            token = fetch(built.settings, city.CLIENT)["access_token"]
            ask([server], token, load)  # connections, prepared statements, caches
            return [ask([server], token, load) for _ in range(rounds)]
