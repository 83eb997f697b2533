"""An exchange in a folder, and its parts as processes that can be killed and started again.

    with Site(folder) as site:
        gateway = site.gateway()              # returns once it is ready
        site.connector(instance).wait()       # one reading
        gateway.kill()

A process runs the installed `exchange` command. It is forked from a server that has loaded the packages already, which
saves seconds at each start; with `forked=False` it is `python -m exchange.cli`, as an operator starts it.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, Self

import httpx2

from exchange.cli.init import initialise
from exchange.cli.policy import apply_policies
from exchange.cli.supervisor import exchange_command
from exchange.cli.token import fetch
from exchange.settings import Settings
from tests.support.dying import Death
from tests.support.site import free_port

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(
    ["pytest", "exchange.cli.materialise", "connectors.commands", "gateway.commands", "exchange.kafka", __name__]
)


class _Started(Protocol):
    """What is common to both ways of starting a process."""

    def kill(self) -> None: ...
    def terminate(self) -> None: ...


class Process:
    """A part that runs. `log` is the file with what it writes."""

    def __init__(self, started: _Started, wait: Callable[[float], int | None], log: Path) -> None:
        self._started = started
        self._wait = wait
        self.log = log
        log.touch()

    def wait(self, seconds: float = 60.0) -> int:
        """How it ended: its exit status, or the negative number of the signal."""
        status = self._wait(seconds)
        assert status is not None, f"it still runs after {seconds} s\n{self.tail()}"
        return status

    def kill(self) -> None:
        """kill -9."""
        self._started.kill()
        self.wait()

    def stop(self) -> None:
        """SIGTERM, as a supervisor stops it; it must end well."""
        self._started.terminate()
        assert self.wait() == 0, self.tail()

    def tail(self) -> str:
        """The last lines that it wrote."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-30:])


class Site:
    """Settings, keys and policies in a folder, and the processes that were started there.

    `places` is TOML: where topics and store are, if not in files of the folder. `batch` is the materialiser's.
    """

    def __init__(
        self,
        folder: Path,
        places: str = "",
        *,
        batch: int = 5_000,
        forked: bool = True,
        policies: Path = ROOT / "policies",
    ) -> None:
        self.folder = folder
        self.config = folder / "exchange.toml"
        self._forked = forked
        self._started: list[Process] = []
        self.config.write_text(
            f'schemas = "{ROOT / "schemas"}"\npolicies = "{policies}"\n{places}'
            f"[gateway]\nport = {free_port()}\nmetrics_port = 0\n[materialise]\nmetrics_port = 0\nbatch = {batch}\n"
        )
        initialise(self.config, ROOT / "schemas", policies)
        self.settings = Settings.load(self.config)
        self.url = f"http://127.0.0.1:{self.settings.gateway.port}"
        apply_policies(self.settings)

    # -- processes --

    def start(self, *arguments: str, dies: Death | None = None, config: Path | None = None) -> Process:
        """Start the `exchange` command with these arguments and this folder's settings, or those of `config`."""
        log = self.folder / f"log-{len(self._started)}-{arguments[0]}"
        command = [*arguments, "--config", str(config or self.config)]
        started = _fork(command, dies, log) if self._forked else _spawn(command, log)
        self._started.append(started)
        return started

    def gateway(self, dies: Death | None = None) -> Process:
        """Start the gateway and wait until it is ready."""
        started = self.start("gateway", dies=dies)
        self.ready()
        return started

    def materialise(self, dies: Death | None = None) -> Process:
        """Start the materialiser."""
        return self.start("materialise", dies=dies)

    def connector(self, instance: Path, dies: Death | None = None, *, once: bool = True) -> Process:
        """Start the connector of an instance file: one reading, or until it is stopped."""
        return self.start("connector", "run", str(instance), *(["--once"] if once else []), dies=dies)

    # -- clients --

    def token(self, client: str) -> dict[str, str]:
        """The header with a new token of this client."""
        return {"Authorization": f"Bearer {fetch(self.settings, client)['access_token']}"}

    def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> float:
        """Wait for a condition; how long it took. If it does not come true, what all processes wrote is shown."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, f"not within {seconds} s\n{self._told()}"
            time.sleep(0.02)
        return time.monotonic() - began

    def ready(self) -> float:
        """Wait until the gateway says that it is ready; how long it took."""
        return self.until(self._is_ready, READY_SECONDS)

    def _is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def _told(self) -> str:
        return "\n".join(f"--- {one.log.name}\n{one.tail()}" for one in self._started)

    # -- the end --

    def close(self) -> None:
        """Kill whatever still runs."""
        for started in self._started:
            started.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _fork(command: Sequence[str], dies: Death | None, log: Path) -> Process:
    process = _SERVER.Process(target=_run, args=(command, dies, log), daemon=True)
    process.start()

    def wait(seconds: float) -> int | None:
        process.join(seconds)
        return process.exitcode

    return Process(process, wait, log)


def _run(command: Sequence[str], dies: Death | None, log: Path) -> None:
    """In the forked process: the command, as `python -m exchange.cli` runs it."""
    from exchange.cli import main

    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.argv = ["exchange", *command]
    if dies is not None:
        dies.arm()
    main()


def _spawn(command: Sequence[str], log: Path) -> Process:
    with log.open("wb") as output:
        process = subprocess.Popen(
            exchange_command(*command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )

    def wait(seconds: float) -> int | None:
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    return Process(process, wait, log)
