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
SMALL = "768m"  # of a disk that is made to be filled: room for the data and for max_wal_size


class Servers:
    """Those that were started here; each keeps its port and its data when it is started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.running: list[str] = []
        self.small: Path | None = None  # the file system that holds PostgreSQL and nothing else

    def confine(self) -> None:
        """Give PostgreSQL, before its first start, a small disk in memory. Raises Failed: only root can mount."""
        home = self._folder / POSTGRES
        home.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={SMALL},mode=0755", "rig", str(home)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"no disk for PostgreSQL that can be filled: {done.stderr.strip()}")
        self.small = home
        log = self._folder / "postgres.log"  # beside that disk, so that it tells what happened there
        log.touch()
        (home / "server.log").symlink_to(log)

    def release(self) -> None:
        """Give that disk back, when all have stopped."""
        if self.small is not None:
            subprocess.run(["umount", str(self.small)], check=False)

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
