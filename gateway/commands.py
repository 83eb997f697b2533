"""`exchange gateway`: the process."""

from __future__ import annotations

import typer

from exchange.cli.options import CONFIG, Config, load
from gateway import server
from gateway.parts import create_app

app = typer.Typer()


@app.command()
def gateway(config: Config = CONFIG) -> None:
    """Serve views, pushes and the registry until stopped (SIGTERM answers what is under way first)."""
    server.run(load(config), create_app)
