"""What every command shares: where the settings are, and the exit status of each kind of error."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange import logs
from exchange.errors import AuditBroken, BadRequest, CallerError, ExchangeError, OperatorError, PublisherError, TryLater
from exchange.printable import shown
from exchange.settings import Settings
from exchange.subjects import SCHEMES, Subject, parse

Config = Annotated[
    Path, typer.Option("--config", "-c", envvar="EXCHANGE_CONFIG", help="The settings file.", show_default=True)
]
CONFIG = Path("exchange.toml")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]

# sysexits.h, so that a supervisor can tell what can be tried again from what a person must mend.
STATUS: tuple[tuple[type[ExchangeError], int], ...] = (
    (AuditBroken, 1),  # the command did what was asked, and the answer is no
    (PublisherError, 65),  # EX_DATAERR
    (CallerError, 64),  # EX_USAGE
    (TryLater, 75),  # EX_TEMPFAIL
    (OperatorError, 78),  # EX_CONFIG
)


def load(config: Path) -> Settings:
    """The settings of a command, with its logs set up. Raises SettingWrong."""
    settings = Settings.load(config)
    logs.configure(settings.log)
    return settings


def asked_subject(scheme: str) -> Subject:
    """The subject whose identifier is asked for at a terminal, or read from standard input: never an argument.

    Raises BadRequest for a scheme that does not exist; InvalidIdentifier.
    """
    if scheme not in SCHEMES:
        raise BadRequest(f"--scheme: one of {', '.join(SCHEMES)}")
    given = typer.prompt("Identifier", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    return parse(scheme, given.strip())


def exit_status(error: ExchangeError) -> int:
    """The exit status for an error that ended a command."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 70)


def say(line: str = "", *, fg: str | None = None, err: bool = False) -> None:
    """One line for a person; whatever data brought into it, it stays one line and steers no terminal."""
    typer.secho(shown(line), fg=fg, err=err)


def print_json(document: Any) -> None:
    """One JSON document on standard output, with the same escapes: they are JSON's own."""
    text = json.dumps(document, ensure_ascii=False, indent=2, default=str)
    typer.echo("\n".join(shown(line) for line in text.split("\n")))
