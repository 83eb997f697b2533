"""The supervisor restarts what ends, slows down what keeps ending, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from exchange.cli.supervisor import Supervisor

SLEEPER = [sys.executable, "-c", "import time; time.sleep(60)"]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_process_is_started_again() -> None:
    supervisor = Supervisor({"one": SLEEPER, "two": SLEEPER})
    supervisor.start()
    watching = threading.Thread(target=supervisor.watch)
    watching.start()
    try:
        before = supervisor.pids()
        os.kill(before["one"], signal.SIGKILL)
        until(lambda: supervisor.pids().get("one") not in (None, before["one"]))
        assert supervisor.pids()["two"] == before["two"]
    finally:
        last = supervisor.pids()
        supervisor.stop()
        watching.join(15)
    assert not any(alive(pid) for pid in last.values())


def test_a_process_that_keeps_ending_is_started_less_and_less_often() -> None:
    supervisor = Supervisor({"broken": [sys.executable, "-c", "raise SystemExit(1)"]}, quiet=True)
    supervisor.start()
    child = supervisor.children[0]
    until(lambda: (supervisor.look(), child.restarts >= 3)[1])
    assert child.delay >= 1.6
    supervisor.end()


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
def test_children_do_not_outlive_a_killed_supervisor() -> None:
    code = (
        "from exchange.cli.supervisor import Supervisor\n"
        f"s = Supervisor({{'one': {SLEEPER!r}}})\n"
        "s.start(); print(s.pids()['one'], flush=True); s.watch()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert alive(child)
    parent.kill()
    parent.wait()
    until(lambda: not alive(child))
