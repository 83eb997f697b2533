"""An exchange in a folder: its settings, its keys, its processes, and the one that starts again whatever ends.

Every process is one that an operator starts (`python -m exchange.cli ...`), with a log file. Two gateways and two
materialisers, because some faults are about one taking over from the other; a connector for each office.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent
from threading import Event, Lock

import httpx2

from rig.issuer import NAME, Issuer

PROJECT = Path(__file__).resolve().parent.parent
AGAIN = 0.2  # seconds after which what has ended is started again
PATIENCE = 60.0  # seconds for a command
GRACE = 15.0  # seconds for a process to end when it is asked to


class Failed(Exception):
    """A command of the product did not do what it must"""


@dataclass(frozen=True, slots=True)
class End:
    """A process ended: when (Unix time), how, and whether the rig had wanted it."""

    at: float
    part: str
    status: int
    wanted: bool


@dataclass(slots=True)
class Part:
    """A process that is kept running."""

    name: str
    command: Sequence[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    due: float = float("inf")
    excused: set[int] = field(default_factory=set)  # with these statuses it may end once: a signal was sent
    suffers: set[int] = field(default_factory=set)  # with these it may end as long as the fault lasts

    @property
    def kind(self) -> str:
        """gateway, materialise or connector."""
        return self.name.partition("-")[0]


class Site:
    """Used by the thread of the faults and by the one that runs `work`."""

    def __init__(self, folder: Path, broker: str = "", store: str = "", issuer: Issuer | None = None) -> None:
        """`broker` and `store` are the product's URLs; without them it uses files of the folder.

        Without `issuer` the product's built-in one issues the tokens.
        """
        self.folder = folder
        self._issuer = issuer
        self._lock = Lock()
        self.ends: list[End] = []
        first, second, *metrics = free_ports(8)
        self.gateways = [f"http://127.0.0.1:{port}" for port in (first, second)]
        self.metrics = [f"http://127.0.0.1:{port}/metrics" for port in metrics]
        self._instance_ports = iter(metrics[4:])
        places = f'schemas = "{PROJECT / "schemas"}"\npolicies = "{PROJECT / "policies"}"\nlog = "json"\n'
        places += f'[broker]\nurl = "{broker}"\npartitions = 3\n' if broker else ""
        places += f'[store]\nurl = "{store}"\n' if store else ""
        for number, port in ((1, first), (2, second)):
            (folder / f"exchange-{number}.toml").write_text(
                f'{places}[audit]\nwriter = "gateway-{number}"\n[gateway]\nport = {port}\n'
                f'metrics_port = {metrics[number - 1]}\npublic_url = "{self.gateways[0]}"\n'
                f"[materialise]\nmetrics_port = {metrics[number + 1]}\nbatch = 200\n"
                + (_trusted(issuer.discovery(f"gateway-{number}")) if issuer else "")
            )
        self.command("init")
        self.command("policy", "apply")
        self.parts = {
            name: Part(name, self._command(number, *command), folder / f"{name}.log")
            for name, number, command in (
                ("gateway-1", 1, ["gateway"]),
                ("gateway-2", 2, ["gateway"]),
                ("materialise-1", 1, ["materialise"]),
                ("materialise-2", 2, ["materialise"]),
                ("connector-register", 1, ["connector", "run", str(folder / "register.toml")]),
                ("connector-penalties", 2, ["connector", "run", str(folder / "penalties.toml")]),
            )
        }

    def instance(self, name: str, text: str) -> None:
        """Write a connector's instance file."""
        registry = self._issuer.registry(self.folder, self.gateways[0]) if self._issuer else ""
        port = f"metrics_port = {next(self._instance_ports)}\n"
        (self.folder / f"{name}.toml").write_text(port + dedent(text).lstrip() + registry, "utf-8")

    def command(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one command of the product to its end. Raises Failed if `check` and it fails."""
        command = self._command(1, *arguments)
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False, timeout=PATIENCE)
        if check and done.returncode:
            raise Failed(f"exchange {' '.join(arguments)}: {done.stderr.strip()}")
        return done

    # -- what runs --

    def work(self, over: Event) -> None:
        """Start again whatever ended, until it is over."""
        while not over.wait(0.02):
            with self._lock:
                for part in self.parts.values():
                    self._look(part)

    def start(self, *names: str) -> None:
        """Start these, or everything."""
        with self._lock:
            for part in self.parts.values():
                if part.name in names or not names:
                    self._spawn(part)

    def ready(self, name: str, seconds: float) -> None:
        """Wait until a gateway says that it is ready. Raises Failed."""
        url = self.gateways[int(name.rpartition("-")[2]) - 1]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with suppress(httpx2.TransportError):
                if httpx2.get(f"{url}/readyz", timeout=2).status_code == 200:
                    return
            time.sleep(0.05)
        raise Failed(f"{name} was not ready within {seconds:.0f} s: {tail(self.parts[name].log)}")

    def pids(self) -> dict[str, int]:
        """What runs now."""
        with self._lock:
            return {part.name: part.process.pid for part in self.parts.values() if part.process is not None}

    def signal(self, name: str, number: signal.Signals, *excused: int) -> None:
        """Send a signal to a part; with one of the `excused` statuses it may end then."""
        with self._lock:
            part = self.parts[name]
            part.excused |= set(excused)
            if part.process is not None:
                part.process.send_signal(number)

    def kill(self, name: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """kill -9; then `meanwhile`, before `work` starts it again."""
        with self._lock:
            part = self.parts[name]
            if part.process is not None:
                part.excused.add(-signal.SIGKILL)
                part.process.kill()
                part.process.wait()
                self._look(part)
            meanwhile()

    def suffer(self, name: str, *statuses: int) -> None:
        """This part may end with these statuses until it is said again, with none."""
        with self._lock:
            self.parts[name].suffers = set(statuses)

    def stop(self) -> list[str]:
        """SIGTERM to all; what did not end in order and in time is told (and killed)."""
        wrong = []
        with self._lock:
            for part in self.parts.values():
                if part.process is not None:
                    part.process.send_signal(signal.SIGCONT)
                    part.process.terminate()
            deadline = time.monotonic() + GRACE
            for part in self.parts.values():
                if part.process is None:
                    continue
                try:
                    status = part.process.wait(max(0.0, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    part.process.kill()
                    status = part.process.wait()
                if status:
                    wrong.append(f"{part.name} ended with {status} when it was asked to: {tail(part.log)}")
                part.process = None
        return wrong

    def _look(self, part: Part) -> None:
        if part.process is not None and (status := part.process.poll()) is not None:
            wanted = status in part.excused | part.suffers
            self.ends.append(End(time.time(), part.name, status, wanted))
            part.excused.clear()
            part.process = None
            part.due = time.monotonic() + AGAIN
        if part.process is None and time.monotonic() >= part.due:
            self._spawn(part)

    def _spawn(self, part: Part) -> None:
        with part.log.open("ab") as output:
            part.process = subprocess.Popen(
                part.command, env=environment(), stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def _command(self, number: int, *arguments: str) -> list[str]:
        config = str(self.folder / f"exchange-{number}.toml")
        return [sys.executable, "-m", "exchange.cli", *arguments, "--config", config]


def _trusted(discovery: str) -> str:
    return f'[dev_issuer]\nenabled = false\n[[issuers]]\nissuer = "{NAME}"\ndiscovery = "{discovery}"\n'


def environment() -> dict[str, str]:
    """Ours without what would change the product's settings."""
    return {name: value for name, value in os.environ.items() if not name.startswith("EXCHANGE_")}


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens on."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def tail(log: Path) -> str:
    """The last line that a process wrote."""
    lines = log.read_text("utf-8", "replace").splitlines() if log.exists() else []
    return lines[-1][:300] if lines else "(it wrote nothing)"
