"""The command line of `exchange doctor`, and what it prints."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange import logs
from exchange.cli.options import CONFIG, Config, Json, print_json, say
from exchange.clock import system_clock
from exchange.doctor import CHECKS, Check, Finding, Means, Result, examine
from exchange.errors import BadRequest, SettingWrong
from exchange.settings import Settings
from gateway.doctor import issuers
from gateway.doctor.token import look_at_token
from gateway.jws import TOKEN_BYTES

app = typer.Typer()


@app.command()
def doctor(
    config: Config = CONFIG,
    token: Annotated[
        str | None,
        typer.Option(help="A file with an access token, or - for standard input: why would it be refused?"),
    ] = None,
    json: Json = False,
) -> None:
    """Look at the whole installation, or at one token, and say what is wrong, where, and what to do.

    Nothing is changed, and every look takes a bounded time. Exits with 1 if anything is found.
    docs/doctor.md has more.
    """
    logs.configure("console", "error")  # it says by itself what it finds
    text = None if token is None else _read(token)
    results = look(config, text)
    if json:
        print_json(document(results))
    else:
        _print(results)
    if any(result.findings for result in results):
        raise typer.Exit(1)


def look(config: Path, token: str | None) -> list[Result]:
    """What every check finds. Where the settings cannot be read there is nothing more to look at."""
    try:
        settings = Settings.load(config)
    except SettingWrong as wrong:
        findings = [
            Finding(each, str(config), "mend it (docs/reference/settings.md); `exchange init` makes what is missing")
            for each in wrong.detail.split("; ")
        ]
        return [Result("settings", findings)]
    means = Means(settings, system_clock)
    if token is not None:
        return examine([Check("token", "token", lambda given: look_at_token(token, given))], means)
    return examine([*CHECKS, *issuers.CHECKS], means)


def document(results: list[Result]) -> dict[str, Any]:
    """The findings as `--json` prints them."""
    return {
        "well": not any(result.findings for result in results),
        "checks": [
            {
                "check": result.name,
                "findings": [asdict(finding) for finding in result.findings],
                "facts": result.facts,
                "not_looked_at_for_want_of": list(result.skipped),
            }
            for result in results
        ],
    }


def _print(results: list[Result]) -> None:
    for result in results:
        if result.skipped:
            say(f"{result.name}: not looked at, for want of: {', '.join(result.skipped)}", fg=typer.colors.YELLOW)
            continue
        well = not result.findings
        say(f"{result.name}: {_number(result.findings)}", fg=typer.colors.GREEN if well else typer.colors.RED)
        for fact in result.facts:
            say(f"    {fact}")
        for finding in result.findings:
            say(f"  ! {finding.where}: {finding.what}", fg=typer.colors.RED)
            say(f"    {finding.do}")
    found = [finding for result in results for finding in result.findings]
    say(f"in all: {_number(found)}", fg=typer.colors.RED if found else typer.colors.GREEN)


def _number(found: list[Finding]) -> str:
    return "well" if not found else "1 finding" if len(found) == 1 else f"{len(found)} findings"


def _read(token: str) -> str:
    try:
        if token == "-":  # noqa: S105  not a secret: standard input
            body = sys.stdin.buffer.read(2 * TOKEN_BYTES)
        else:
            with Path(token).open("rb") as file:
                body = file.read(2 * TOKEN_BYTES)
    except OSError as error:
        raise BadRequest(f"--token: the file cannot be read ({error.strerror})") from None
    return body.decode("utf-8", "replace")
