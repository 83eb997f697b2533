"""Starting and stopping processes that outlive the script that started them."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Account = pwd.struct_passwd
PATIENCE = 90.0  # seconds for a part to answer after its start, on a busy machine


class Refused(Exception):
    """What is missing and what to do about it."""


@dataclass(frozen=True)
class Process:
    """A process started here, known by pid and by when the kernel started it: a reused pid is never signalled."""

    file: Path

    def running(self) -> int | None:
        """The pid, or None if that process is gone."""
        try:
            pid, started = self.file.read_text().split()
        except (FileNotFoundError, ValueError):
            return None
        return int(pid) if _started(int(pid)) == started else None

    def start(
        self, command: list[str], log: Path, account: Account | None = None, env: dict[str, str] | None = None
    ) -> None:
        """Start it in a session of its own, so that it outlives this script and its terminal."""
        with log.open("ab") as out:
            child = subprocess.Popen(  # noqa: S603 the commands are ours
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                env=env,
                start_new_session=True,
                user=account.pw_uid if account else None,
                group=account.pw_gid if account else None,
                extra_groups=[] if account else None,
            )
        self.file.write_text(f"{child.pid} {_started(child.pid)}")

    def stop(self, how: signal.Signals, patience: float = 30.0) -> None:
        """Ask it to end and wait; after `patience` seconds end it by force."""
        pid = self.running()
        if pid is not None:
            os.kill(pid, signal.SIGCONT)  # a test may have left it stopped
            os.kill(pid, how)
            if not wait(lambda: self.running() is None, patience):
                os.kill(pid, signal.SIGKILL)
                wait(lambda: self.running() is None, 10)
        self.file.unlink(missing_ok=True)


def run(
    command: list[str], account: Account | None = None, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and keep what it said."""
    return subprocess.run(  # noqa: S603 the commands are ours
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=env,
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
        extra_groups=[] if account else None,
    )


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until the condition holds; False if it still does not after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def answers(port: int) -> bool:
    """Whether something listens on this port of the loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port(file: Path) -> int:
    """The port kept in `file` if it is still free, else a free one, kept there from now on."""
    with contextlib.suppress(FileNotFoundError, ValueError, OSError), socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept = int(file.read_text())
        probe.bind(("127.0.0.1", kept))
        return kept
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = int(probe.getsockname()[1])
    file.write_text(str(free))
    return free


def say(text: str) -> None:
    """For the person; standard output is for the KEY=VALUE lines."""
    print(text, file=sys.stderr, flush=True)


def admin_password(folder: Path) -> str:
    """The password of a server's `admin`, made once and kept in its folder."""
    file = folder / "admin.password"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16))
    return file.read_text()


def tail(log: Path) -> str:
    """The last lines of a log, for an error message."""
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-15:]) if log.exists() else ""


def _started(pid: int) -> str | None:
    """When the kernel started this pid (clock ticks since boot); None if it is gone or a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # our own child of this run, if it ended
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
