"""The rig's own Apache Kafka and PostgreSQL, which it may kill: processes of deploy/local/services.py in a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rig.site import PROJECT, Failed

SCRIPT = PROJECT / "deploy" / "local" / "services.py"
KAFKA, POSTGRES = "kafka", "postgres"


class Servers:
    """Those that were started here; each keeps its port and its data when it is started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running: list[str] = []

    def start(self, name: str) -> str:
        """Start it, wait until it answers, and return what names it (host:port, or a URL). Raises Failed."""
        done = self._run("start", name)
        if done.returncode:
            raise Failed(done.stderr.strip())
        if name not in self.running:
            self.running.append(name)
        return done.stdout.strip().partition("=")[2]

    def kill(self, name: str) -> float:
        """kill -9; when it was gone (Unix time)."""
        pid = int((self._folder / name / "pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.02)
        return time.time()

    def stop(self, *names: str) -> None:
        """In order; all of them unless some are named."""
        self._run("stop", *(names or self.running))

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), *arguments, "--dir", str(self._folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)
