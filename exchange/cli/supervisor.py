"""Keeps the processes of one machine running: starts them, restarts what ends, stops all of them in order.

A process that ends is started again after 0.2 s, then twice as long, at most 5 s; one that ran for a minute counts as
new. Should the supervisor itself be killed, the kernel ends its children (PR_SET_PDEATHSIG), so none is left behind.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger()

FIRST_DELAY = 0.2
LAST_DELAY = 5.0
SETTLED = 60.0
GRACE = 10.0
PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Child:
    """One process: how it is started, and how it has fared."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    restarts: int = 0
    delay: float = FIRST_DELAY
    due: float = float("inf")  # not before `start`


class Supervisor:
    """Starts the commands in the order given and watches them until `stop`.

    With `logs`, a folder that exists, what a process writes goes into a file there (mode 0600), else where ours goes.
    """

    def __init__(self, commands: Mapping[str, Sequence[str]], *, quiet: bool = False, logs: Path | None = None) -> None:
        self.children = [Child(name, command) for name, command in commands.items()]
        self._quiet = quiet
        self._logs = logs
        self._stopping = threading.Event()

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self._stopping.is_set()

    def start(self, *names: str) -> None:
        """Start these processes, or all that were not started yet."""
        for child in self.children:
            if child.process is None and (child.name in names or not names):
                self._spawn(child)

    def watch(self) -> None:
        """Restart what ends, until `stop`; then end all of them."""
        try:
            while not self._stopping.wait(0.1):
                self.look()
        finally:
            self.end()

    def look(self) -> None:
        """One look at every process: note what ended, start again what is due."""
        now = time.monotonic()
        for child in self.children:
            if child.process is not None and (status := child.process.poll()) is not None:
                child.process = None
                child.delay = FIRST_DELAY if now - child.started > SETTLED else min(child.delay * 2, LAST_DELAY)
                child.due = now + child.delay
                child.restarts += 1
                log.warning("process ended", process=child.name, status=status, again_in_s=child.delay)
            if child.process is None and now >= child.due:
                self._spawn(child)

    def stop(self) -> None:
        """End the watch; may be called from a signal handler."""
        self._stopping.set()

    def end(self) -> None:
        """SIGTERM to all in reverse order, SIGKILL to whatever is left after the grace."""
        running = [child.process for child in reversed(self.children) if child.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + GRACE
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def log(self, name: str) -> Path | None:
        """The file with what this process wrote, if there is a folder for it."""
        return None if self._logs is None else self._logs / f"{name.replace(' ', '-')}.log"

    def pids(self) -> dict[str, int]:
        """The process ids of what runs now, by name."""
        return {child.name: child.process.pid for child in self.children if child.process is not None}

    def _spawn(self, child: Child) -> None:
        child.started = time.monotonic()
        log_file = self.log(child.name)
        output = subprocess.DEVNULL if self._quiet else None
        if log_file is not None:
            output = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            child.process = subprocess.Popen(  # noqa: S603  the command is ours, from exchange_command
                child.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=_die_with_parent,
            )
        finally:
            if log_file is not None and output is not None:
                os.close(output)


def exchange_command(*arguments: str) -> list[str]:
    """How this installation's `exchange` is started as a process."""
    return [sys.executable, "-m", "exchange.cli", *arguments]


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
