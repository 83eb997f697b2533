"""Trying: what a person may do while the city stands, as lines to paste into another terminal."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from exchange.cli.demo.desks import VIEWS, Desks
from exchange.cli.demo.town import Town
from exchange.wiring import gateway_url

_CLIENT, _PURPOSE, _CASE = "tax-desk", "tax-assessment", "TA-2026-0093"


def invite(console: Console, town: Town, desks: Desks) -> None:
    """Print addresses, a token, and requests to send."""
    settings, here, exchange = town.settings, gateway_url(town.settings), _command()
    console.print()
    for title, text in (
        ("API, with examples", f"{here}/docs"),
        ("gateway's metrics", f"http://{settings.gateway.metrics_host}:{settings.gateway.metrics_port}/metrics"),
        ("materialiser's", f"http://{settings.materialise.metrics_host}:{settings.materialise.metrics_port}/metrics"),
        ("sources to change", f"{_near(town.folder / 'offices')}/"),
        ("policies to change", f"{_near(town.folder / 'policies')}/, in force after `{exchange} policy apply`"),
        ("logs", f"{_near(town.folder / 'logs')}/"),
    ):
        console.print(Text.assemble((f" {title:20}", "dim"), text), soft_wrap=True)
    _lines(console, "In another terminal, in this folder", f"export EXCHANGE_CONFIG={_near(town.config)}")
    _lines(console, "A token of the tax office, for ten minutes", f"TOKEN=$({exchange} token {_CLIENT})")
    _lines(console, "The same, as it is now", f"TOKEN={desks.token(_CLIENT)}")
    _lines(console, "The story's citizen, and its enterprise", *_curl(here, "citizen", town.citizen))
    _lines(console, "", *_curl(here, "enterprise", town.enterprise))
    _lines(
        console,
        "Why does the tax office see of a vehicle what it sees? What was set aside? Does the log verify?",
        f"{exchange} policy explain {_CLIENT} {_PURPOSE} transport.vehicle",
        f"{exchange} rejects list --department transport",
        f"{exchange} audit verify",
    )
    console.print()
    console.print(Rule(Text("The city stands. Ctrl-C stops it.", "bold")))


def _lines(console: Console, title: str, *lines: str) -> None:
    """Lines to paste: never broken, whatever the terminal's width."""
    if title:
        console.print()
        console.print(Text(f"# {title}", "dim"))
    for line in lines:
        console.print(Text(line, "cyan"), soft_wrap=True)


def _curl(here: str, kind: str, subject: str) -> list[str]:
    headers = ("Content-Type: application/json", f"Exchange-Purpose: {_PURPOSE}", f"Exchange-Case: {_CASE}")
    sent = " ".join(f"-H {shlex.quote(header)}" for header in headers)
    return [
        f'curl -s {here}{VIEWS[kind]} -H "Authorization: Bearer $TOKEN" \\',
        f"  {sent} \\",
        f"  -d {shlex.quote(json.dumps({'id': subject}))} | {_pretty()}",
    ]


def _pretty() -> str:
    """How JSON is shown: by jq where it is installed."""
    return "jq" if shutil.which("jq") else f"{_near(Path(sys.executable))} -m json.tool --no-ensure-ascii"


def _command() -> str:
    """How this installation's `exchange` is called from here."""
    beside = Path(sys.executable).with_name("exchange")
    if shutil.which("exchange") == str(beside):
        return "exchange"
    return _near(beside) if beside.exists() else f"{_near(Path(sys.executable))} -m exchange.cli"


def _near(path: Path) -> str:
    """A path as it is written from here: relative where it lies below, else absolute."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path.absolute()) if relative.startswith("..") else relative)
