"""`exchange up`: every part on one machine, from one settings file."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx2
import typer

from exchange.cli.options import CONFIG, Config, Json, load, print_json, say
from exchange.cli.policy import apply_policies
from exchange.cli.supervisor import Supervisor, exchange_command
from exchange.errors import OperatorError, SettingWrong
from exchange.settings import Settings
from exchange.wiring import gateway_url, refuse_while_restoring

app = typer.Typer()

READY_SECONDS = 60.0


@app.command()
def up(config: Config = CONFIG, json: Json = False) -> None:
    """Apply the policies, then run gateway, materialiser and connectors until stopped; what ends is started again."""
    settings = load(config)
    refuse_while_restoring(settings)
    parts = commands(config, settings)  # before anything is changed
    applied = apply_policies(settings)
    supervisor = Supervisor(parts)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    bring_up(settings, supervisor)
    told = {"gateway": gateway_url(settings), "policy": applied["policy"], "processes": supervisor.pids()}
    if json:
        print_json(told)
    else:
        say(f"Exchange is up: {told['gateway']}/docs, policy {applied['policy'][:12]}; Ctrl-C stops it")
    supervisor.watch()


def commands(config: Path, settings: Settings) -> dict[str, list[str]]:
    """The processes of one machine by name: one connector for each instance file. Raises SettingWrong."""
    common = ["--config", str(config)]
    parts = {
        "gateway": exchange_command("gateway", *common),
        "materialise": exchange_command("materialise", *common),
    }
    for instance in _instances(settings):
        parts[f"connector {instance.stem}"] = exchange_command("connector", "run", str(instance), *common)
    return parts


def _instances(settings: Settings) -> list[Path]:
    """The instance files. Only the default folder may be missing: a city without connectors has none to make."""
    folder = settings.path(settings.connectors)
    if not folder.is_dir() and "connectors" in settings.model_fields_set:
        raise SettingWrong(f"connectors: {folder} is no folder; make it, or name the folder of the instance files")
    return sorted(folder.glob("*.toml"))


def bring_up(settings: Settings, supervisor: Supervisor) -> None:
    """Start the gateway, on which connectors wait for their schemas, then the rest; end all of them if it fails."""
    try:
        supervisor.start("gateway", "materialise")
        wait_until_ready(settings, supervisor)
        supervisor.start()
    except BaseException:
        supervisor.end()
        raise


def wait_until_ready(settings: Settings, supervisor: Supervisor, seconds: float = READY_SECONDS) -> None:
    """Return when the gateway says that it is ready, or a stop was asked for. Raises OperatorError after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        supervisor.look()
        if supervisor.stopping:
            return
        try:
            if httpx2.get(f"{gateway_url(settings)}/readyz", timeout=2).status_code == 200:
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    where = supervisor.log("gateway") or "its log above"
    raise OperatorError(f"the gateway at {gateway_url(settings)} was not ready within {seconds:.0f} s; see {where}")
