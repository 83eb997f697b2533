"""`exchange connector`: look at a source, publish it, see what became of its rows. docs/connectors.md has more."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from connectors.config import load_instance
from connectors.protocol import Weight
from connectors.reporting import report_to
from connectors.runner import Loaded, cursor_path
from connectors.runner import run as run_instance
from exchange.cli.options import CONFIG, Config, Json, load, print_json, say
from exchange.clock import system_clock
from exchange.publish import Status, read_status
from exchange.wiring import spare_the_collector

app = typer.Typer(no_args_is_help=True, help=__doc__)
File = Annotated[Path, typer.Argument(metavar="FILE", help="The instance file.")]
Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Instance files.")]


@app.command()
def check(files: Files, config: Config = CONFIG, json: Json = False) -> None:
    """Look at the sources without publishing: what keeps a connector from running, and what is worth knowing."""
    settings = load(config)
    told, refused = [], False
    for file in files:
        loaded = Loaded(file, settings, system_clock)
        try:
            findings = loaded.connector.check()
        finally:
            loaded.close()
        good = not any(found.weight is Weight.REFUSED for found in findings)
        refused = refused or not good
        told.append(
            {
                "source": loaded.source,
                "contract": loaded.contract.name,
                "file": str(file),
                "ok": good,
                "findings": [
                    {"weight": found.weight.value, "subject": found.subject, "text": found.text} for found in findings
                ],
            }
        )
    if json:
        print_json(told)
    else:
        for each in told:
            say(f"{each['source']} ({each['contract']}): {'can run' if each['ok'] else 'cannot run'}")
            for found in each["findings"]:  # type: ignore[attr-defined]
                say(f"    {found['weight']:8} {found['subject']}: {found['text']}")
    if refused:
        raise typer.Exit(65)


@app.command()
def run(
    file: File,
    config: Config = CONFIG,
    once: Annotated[bool, typer.Option("--once", help="One complete reading, then stop.")] = False,
) -> None:
    """Publish what the source has, again at every poll interval; SIGTERM finishes the batch in hand.

    On a terminal a progress bar is shown, else each event is one JSON line. The exit status says who must act: 65 the
    publisher (source refused, too many rejects), 75 time (with --once), 78 the operator (a setting).
    """
    settings = load(config)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    spare_the_collector()
    run_instance(file, settings, system_clock, lambda source: report_to(sys.stdout, source), stop, once=once)


@app.command()
def status(
    files: Files,
    config: Config = CONFIG,
    readings: Annotated[int, typer.Option(min=1, max=200, help="So many of the newest readings.")] = 5,
    json: Json = False,
) -> None:
    """What became of the rows: in = published + unchanged + deleted + rejected, reading by reading."""
    settings = load(config)
    told = []
    for file in files:
        _, instance = load_instance(file)
        told.append(read_status(cursor_path(file, instance, settings), readings))
    if json:
        print_json([each.document() for each in told])
        return
    for each in told:
        _show(each)


def _show(status: Status) -> None:
    complete = status.complete
    say(f"{status.source} -> {status.topic}")
    say(f"    epoch {status.epoch}, next number {status.next_sequence}, {status.entries} records stand")
    if status.doubtful:
        say(f"    {status.doubtful} of them may not have reached the topic; the next reading sends them again")
    say(f"    everything told as of {complete.as_of if complete else 'never yet'}")
    for reading in status.readings:
        end = "complete" if reading.as_of else (reading.note or "goes on")
        say(f"    {reading.began}  {reading.outcome}  ({end})")
