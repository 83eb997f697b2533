"""A blow: strace kills a process at the N-th call of one kind that one of its threads makes, or fails that call."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CALLS = ("pwrite64", "fsync", "fdatasync", "rename")
KILL = "signal=SIGKILL"
BLOWS = (KILL, "error=EIO", "error=ENOSPC")


@dataclass(frozen=True, slots=True)
class Blow:
    """What strace does at which call."""

    call: str
    how: str
    nth: int

    def __str__(self) -> str:
        return f"{self.how} at {self.call} {self.nth}"

    def before(self, trace: Path, *files: Path) -> list[str]:
        """What to write before a command so that this befalls it; with `files` only calls on these count."""
        trace.unlink(missing_ok=True)
        inject = f"inject={self.call}:{self.how}:when={self.nth}"
        paths = [argument for file in files for argument in ("-P", str(file))]
        fast = [] if self.how == KILL else ["--seccomp-bpf"]  # with it strace 6.1 sends no signal
        command = ["strace", "-f", "-qq", *fast, "-o", str(trace), *paths]
        return [*command, "-e", f"trace={self.call}", "-e", inject]

    def on(self, trace: Path) -> list[str]:
        """The command, but for the thread's id behind it, by which this befalls a thread that runs already."""
        trace.unlink(missing_ok=True)
        inject = f"inject={self.call}:{self.how}:when={self.nth}"
        return ["strace", "-qq", "-o", str(trace), "-e", f"trace={self.call}", "-e", inject, "-p"]


def fell(trace: Path) -> bool:
    """Whether the blow of this trace fell: a run that makes fewer calls is over before."""
    told = trace.read_text("utf-8", "replace") if trace.exists() else ""
    return "INJECTED" in told or "killed by SIGKILL" in told


def ask_to_end(process: subprocess.Popen[bytes], *, traced: bool) -> None:
    """SIGTERM to the process itself: strace would keep it waiting."""
    pids: Sequence[int] = [process.pid]
    if traced:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        pids = [int(pid) for pid in children]
    for pid in pids:
        subprocess.run(["kill", f"-{signal.SIGTERM}", str(pid)], check=False)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
