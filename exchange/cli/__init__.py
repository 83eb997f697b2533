"""The `exchange` command.

Each room holds one noun's commands, in the order in which a city meets them: init, policy, client, broker, up,
materialise, token, rejects, audit, erase, backup, restored, keys, demo. The other packages
add theirs by the entry point group `exchange.commands`. An error that ends a command is printed as one line; its exit
status says who must act (see options.STATUS).

Only the command that was named is loaded: of the twenty processes of a city on one machine none should carry what
another one needs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.metadata import entry_points

import typer

from exchange import logs
from exchange.cli.options import exit_status, say
from exchange.errors import ExchangeError

GROUP = "exchange.commands"
OWN = {
    "init": "exchange.cli.init",
    "policy": "exchange.cli.policy",
    "client": "exchange.cli.client",
    "broker": "exchange.cli.broker",
    "up": "exchange.cli.up",
    "materialise": "exchange.cli.materialise",
    "token": "exchange.cli.token",
    "rejects": "exchange.cli.rejects",
    "audit": "exchange.cli.audit",
    "erase": "exchange.cli.erase",
    "backup": "exchange.cli.backup",
    "restored": "exchange.cli.restored",
    "keys": "exchange.cli.keys",
    "city": "exchange.city.commands",
    "demo": "exchange.cli.demo",
}


def build(only: str | None = None) -> typer.Typer:
    """The command with everything that is installed; with `only` that one command, if there is one of this name."""
    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        help="The bus over which departments share data: publish, materialise, disclose.",
    )
    app.callback()(_nothing)  # a command stays a word of its own where it is the only one
    known = installed()
    for name in [only] if only is not None and only in known else known:
        commands = known[name]()
        registered = commands.registered_commands
        alone = registered[0].callback if len(registered) == 1 and not commands.registered_groups else None
        if alone is not None and not commands.info.help:
            app.command(name)(alone)
        else:
            app.add_typer(commands, name=name)
    return app


def main() -> None:
    """Run the command line; print an error as one line and exit with its status."""
    logs.guard()
    try:
        build(sys.argv[1] if len(sys.argv) > 1 else None)()
    except ExchangeError as error:
        for line in str(error).split("\n"):  # some name every problem at once, each on its line
            say(line, fg=typer.colors.RED, err=True)
        sys.exit(exit_status(error))
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:  # noqa: BLE001  a defect; a traceback would show values
        logs.unexpected(error)
        sys.exit(70)  # EX_SOFTWARE


def installed() -> Mapping[str, Callable[[], typer.Typer]]:
    """How each command is loaded, by name: our own, then those of other packages."""
    found: dict[str, Callable[[], typer.Typer]] = {name: partial(_own, module) for name, module in OWN.items()}
    return found | {entry.name: entry.load for entry in sorted(entry_points(group=GROUP), key=lambda one: one.name)}


def _own(module: str) -> typer.Typer:
    app: typer.Typer = import_module(module).app
    return app


def _nothing() -> None: ...
