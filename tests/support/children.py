"""Processes of tests.support.topic_process, to be stopped and killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.support.backings import until


class Child:
    """A process of tests.support.topic_process."""

    def __init__(self, role: str, url: str, topic: str) -> None:
        command = [sys.executable, "-m", "tests.support.topic_process", role, url, topic]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(iter(lambda: "" if self.process.stdout is None else self.process.stdout.readline(), ""))

    def wait_for(self, text: str, seconds: float = 30.0) -> None:
        until(lambda: any(text in line for line in self.lines), seconds)

    def kill(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self._reader.join()


@pytest.fixture
def child() -> Iterator[list[Child]]:
    children: list[Child] = []
    yield children
    for one in children:
        one.kill()
