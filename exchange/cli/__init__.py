"""The `exchange` command.

Each room holds one noun's commands: init, up, policy, rejects, audit, token, demo, and the materialiser's process. The
other packages add theirs by the entry point group `exchange.commands`. An error that ends a command is printed as one
line; its exit status says who must act (see options.STATUS).
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import typer

from exchange.cli.options import exit_status
from exchange.errors import ExchangeError

GROUP = "exchange.commands"


def build() -> typer.Typer:
    """The command with everything that is installed: each entry point names a typer app."""
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, help=__doc__)
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        commands: typer.Typer = entry.load()
        if len(commands.registered_commands) == 1 and not commands.registered_groups:
            app.command(entry.name)(commands.registered_commands[0].callback)  # type: ignore[type-var]
        else:
            app.add_typer(commands, name=entry.name)
    return app


def main() -> None:
    """Run the command line; print an error as one line and exit with its status."""
    try:
        build()()
    except ExchangeError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        sys.exit(exit_status(error))
    except BrokenPipeError:
        sys.exit(0)
