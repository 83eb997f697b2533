"""`exchange city`: write the reference city, and let a day pass in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from exchange import city
from exchange.city import truth
from exchange.city.days import Progress as Tell

app = typer.Typer(no_args_is_help=True, help="The reference city: what its departments really have, dirt and all.")

Out = Annotated[Path, typer.Option("--out", "-o", help="The folder of the city.")]
Postgres = Annotated[
    str | None,
    typer.Option(
        "--postgres",
        envvar="EXCHANGE_CITY_POSTGRES",
        help="A database that takes the tables, postgresql://...; without it they are SQLite files.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]


@app.command()
def generate(
    out: Out,
    citizens: Annotated[int, typer.Option(min=0, help="How many people.")] = 1_000,
    enterprises: Annotated[int, typer.Option(min=0, help="How many enterprises.")] = 100,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 1,
    days: Annotated[int, typer.Option(min=0, max=366, help="Days that pass after the first delivery.")] = 0,
    postgres: Postgres = None,
    canaries: Annotated[bool, typer.Option(help="Make every value unique, for leak tests.")] = False,
    as_json: Json = False,
) -> None:
    """Write a city: CSV, tables, NDJSON, a connector's instance file for each, and truth.json, which counts it all."""
    with _shown(as_json) as progress:
        city.generate(
            out,
            citizens=citizens,
            enterprises=enterprises,
            seed=seed,
            days=days,
            postgres=postgres,
            canaries=canaries,
            progress=progress,
        )
    _report(out, as_json)


@app.command()
def advance(
    out: Out,
    days: Annotated[int, typer.Option(min=1, max=366, help="How many days.")] = 1,
    postgres: Postgres = None,
    as_json: Json = False,
) -> None:
    """Let days pass: changes, late corrections, deletions and new rows in the sources."""
    with _shown(as_json) as progress:
        for _ in range(days):
            city.advance(out, postgres=postgres, progress=progress)
    _report(out, as_json)


@contextmanager
def _shown(as_json: bool) -> Iterator[Tell]:
    """A bar for citizens and one for enterprises, on a terminal only."""
    console = Console(stderr=True)
    with Progress(
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=as_json or not console.is_terminal,
        transient=True,
    ) as progress:
        bars: dict[str, Any] = {}

        def tell(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=total)
            progress.update(bars[what], completed=done, total=total)

        yield tell


def _report(out: Path, as_json: bool) -> None:
    known = truth.read(out)
    if as_json:
        typer.echo(json.dumps(known, ensure_ascii=False, indent=2))
        return
    day = known["city"]["day"]
    typer.echo(f"{out}: day {day}, {known['city']['citizens']} citizens, {known['city']['enterprises']} enterprises")
    for contract, figures in sorted(known["datasets"].items()):
        last = figures["days"][-1]
        rejected = sum(last["rejected"].values())
        typer.echo(
            f"  {contract:24} {figures['source']:9} {last['rows']:>9} rows {rejected:>7} to be rejected"
            f" {figures['facets']:>9} records"
        )
