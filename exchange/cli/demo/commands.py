"""The command line: set the city up, tell the story, then stop (--once) or keep serving."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange import logs
from exchange.cli.demo import town as towns
from exchange.cli.demo.arrival import Arrival
from exchange.cli.demo.desks import Desks
from exchange.cli.demo.folder import fresh
from exchange.cli.demo.printing import Printing
from exchange.cli.demo.stage import Stage
from exchange.cli.demo.steps import Told, tell
from exchange.cli.demo.story import STORY
from exchange.cli.demo.town import Town
from exchange.cli.demo.trying import invite
from exchange.cli.options import Json, print_json
from exchange.cli.supervisor import Supervisor
from exchange.cli.up import bring_up, commands
from exchange.clock import system_clock
from exchange.wiring import gateway_url, open_broker, open_store

app = typer.Typer()


@app.command()
def demo(
    once: Annotated[
        bool, typer.Option("--once", help="Stop after the story; status 0 if every step holds, else 1.")
    ] = False,
    json: Json = False,
    citizens: Annotated[int, typer.Option(min=20, max=100_000, help="How many people the city has.")] = 300,
    enterprises: Annotated[int, typer.Option(min=20, max=100_000, help="How many enterprises.")] = 60,
    seed: Annotated[int, typer.Option(help="The same seed gives the same city.")] = 1,
    folder: Annotated[Path, typer.Option("--dir", help="Where everything is put; emptied at each start.")] = Path(
        "demo"
    ),
) -> None:
    """A city on this machine: its departments publish, its agencies read, and every step is checked."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all is stopped in order
    logs.configure("console", "error")
    towns.forget_environment()
    printing = Printing(quiet=json)
    began = time.monotonic()
    with fresh(folder) as place:
        printing.headline(citizens, enterprises, f"{folder}/")
        town = _founded(printing, place, citizens=citizens, enterprises=enterprises, seed=seed)
        with _standing(printing, town) as (supervisor, desks):
            told = _story(printing, town, supervisor, desks)
            seconds = time.monotonic() - began
            printing.summary(told, seconds)
            if json:
                print_json(_document(town, told, seconds))
            if not once:
                invite(printing.console, town, desks)
                _stay(supervisor)
    if not all(step.ok for step in told):
        raise typer.Exit(1)


def _founded(printing: Printing, place: Path, *, citizens: int, enterprises: int, seed: int) -> Town:
    with printing.doing("settings, keys, a secret for each client"):
        config = towns.settle(place)
    with printing.doing("the offices of ten departments fill their files and tables, dirt included"):
        towns.populate(place, citizens=citizens, enterprises=enterprises, seed=seed)
    with printing.doing("contracts and policies checked, every case run, one bundle applied") as details:
        town = towns.govern(place, config)
        details.append(town.policy[:12])
    return town


@contextmanager
def _standing(printing: Printing, town: Town) -> Iterator[tuple[Supervisor, Desks]]:
    """Every part of the city running, as `exchange up` runs them; stopped at the end, whatever happens."""
    folder = town.folder / "logs"
    folder.mkdir(mode=0o700)
    parts = commands(town.config, town.settings)
    supervisor = Supervisor(parts, logs=folder)
    with printing.doing(f"{len(parts)} processes: gateway, materialiser, a connector for each source"):
        bring_up(town.settings, supervisor)
    watching = threading.Thread(target=supervisor.watch, name="supervisor")
    watching.start()
    try:
        with closing(Desks(town.settings)) as desks:
            yield supervisor, desks
    finally:
        supervisor.stop()
        watching.join()


def _story(printing: Printing, town: Town, supervisor: Supervisor, desks: Desks) -> list[Told]:
    store, broker = open_store(town.settings, system_clock), open_broker(town.settings)
    with closing(store), closing(broker):
        arrival = Arrival(town, supervisor, broker, store, desks)
        with printing.arriving() as board:
            for figures in arrival.watch():
                board.update(figures)
        number = iter(range(1, len(STORY) + 1))
        stage = Stage(town, desks, store, arrival)
        return tell(STORY, stage, lambda told: printing.step(next(number), told))


def _stay(supervisor: Supervisor) -> None:
    """Until Ctrl-C."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, lambda *_: stopped.set())
    stopped.wait()


def _document(town: Town, told: list[Told], seconds: float) -> dict[str, Any]:
    return {
        "ok": all(step.ok for step in told),
        "seconds": round(seconds, 1),
        "gateway": gateway_url(town.settings),
        "policy": town.policy,
        "city": town.truth["city"],
        "steps": [step.document() for step in told],
    }
