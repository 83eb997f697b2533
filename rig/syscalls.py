"""`python -m rig.syscalls`: a materialiser on SQLite that crashes at every system call which writes, one by one.

    python -m rig.syscalls                     every call of a small run; some minutes
    python -m rig.syscalls --step 10           every tenth

The same small topics are materialised again and again, each time under strace, which kills the process (or fails the
call with EIO or ENOSPC) at the N-th pwrite64, fsync, fdatasync or rename of a thread. Then another process goes on to
the end, and files and rows are held to account. Exits with 1 if anything did not hold or strace is missing.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from rig.checkers import REJECTS, Evidence, lost, order, phantom, poison, twice
from rig.identities import Keys
from rig.meddling import SHARES, Meddler
from rig.offices import CONTRACTS, Penalties, Register, topic
from rig.oracle import Oracle
from rig.places import Places
from rig.report import machine
from rig.site import Failed, Site
from rig.tables import SqliteFile
from rig.topics import WATERMARKS

CALLS = ("pwrite64", "fsync", "fdatasync", "rename")
BLOWS = ("signal=SIGKILL", "error=EIO", "error=ENOSPC")
PATIENCE = 60.0  # seconds until a process must have read everything, or be dead
CHECKS = (lost, twice, order, phantom, poison)


@dataclass(frozen=True, slots=True)
class Blow:
    """What strace does at which call."""

    call: str
    how: str
    nth: int

    def __str__(self) -> str:
        return f"{self.how} at {self.call} {self.nth}"


class Small:
    """Small topics in an exchange of one materialiser, and what must come of them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._site = Site(folder)
        self._folder = folder
        self._oracle = Oracle()
        self._data, self._clean, self._trace = folder / "data", folder / "clean", folder / "trace"
        places = Places()
        self._tables, self._topics = places.tables(folder), places.topics(folder)
        self._tables.watch()
        self._tell(seed)
        shutil.copytree(self._data, self._clean)

    def strike(self, blow: Blow) -> bool | list[str]:
        """Crash there, go on to the end; what is wrong then, or False if the run has no such call."""
        shutil.rmtree(self._data)
        shutil.copytree(self._clean, self._data)
        self._trace.unlink(missing_ok=True)
        inject = f"inject={blow.call}:{blow.how}:when={blow.nth}"
        trace = [
            "strace",
            "-f",
            "-qq",
            "-o",
            str(self._trace),
            "-e",
            f"trace={blow.call}",
            "-e",
            inject,
        ]
        self._materialise(trace)
        told = self._trace.read_text("utf-8", "replace") if self._trace.exists() else ""
        if "INJECTED" not in told and "killed by SIGKILL" not in told:
            return False
        wrong = [] if self._materialise([]) else ["the process behind it did not read everything"]
        for name in ("store.db", "topics.db"):
            found = SqliteFile(self._data / name).rows("PRAGMA integrity_check")
            wrong += [] if found == [("ok",)] else [f"{name}: {found[0]}"]
        evidence = Evidence(self._oracle, self._keys, self._topics, self._tables, [], [], [])
        return wrong + [case for check in CHECKS for case in check(evidence).wrong]

    def _tell(self, seed: int) -> None:
        """Have the offices' files published, with copies and poison among them."""
        register = Register(self._folder, self._oracle, Random(f"{seed}/register"))
        penalties = Penalties(self._folder, self._oracle, Random(f"{seed}/penalties"))
        self._site.instance("register", Register.INSTANCE)
        self._site.instance("penalties", Penalties.INSTANCE)
        over = threading.Event()
        self._site.start("gateway-1")
        self._site.ready("gateway-1", PATIENCE)
        for _ in range(3):
            register.change()
            penalties.change()
            for name in ("register", "penalties"):
                self._site.command("connector", "run", str(self._folder / f"{name}.toml"), "--once")
        meddler = Meddler(self._topics, [topic(each) for each in CONTRACTS], SHARES, Random(f"{seed}/meddling"))
        threading.Timer(1.0, over.set).start()
        meddler.work(over, 0.1)
        self._site.stop()
        self._keys = Keys((self._folder / "keys" / "bus.key").read_bytes())

    def _materialise(self, before: Sequence[str]) -> bool:
        """Run the materialiser until it has read everything or is dead; whether it ended well, having read it."""
        with (self._folder / "materialise.log").open("ab") as log:
            process = subprocess.Popen([*before, *self._site.parts["materialise-1"].command], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        done = False
        while process.poll() is None and not done and time.monotonic() < deadline:
            time.sleep(0.1)
            done = self._caught_up()
        if process.poll() is None:
            _ask_to_end(process, traced=bool(before))
        return process.wait() in (0, -signal.SIGTERM) and done  # the latter: it had only begun, and all was read

    def _caught_up(self) -> bool:
        positions = self._tables.positions()
        names = [*map(topic, CONTRACTS), *REJECTS, WATERMARKS]
        return all(self._topics.ends(name)[0] <= positions.get((name, 0), 0) for name in names)


def _ask_to_end(process: subprocess.Popen[bytes], *, traced: bool) -> None:
    """SIGTERM to the materialiser itself: strace would keep it waiting."""
    pids = [process.pid]
    if traced:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        pids = [int(pid) for pid in children]
    for pid in pids:
        subprocess.run(["kill", f"-{signal.SIGTERM}", str(pid)], check=False)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the folder goes
    if shutil.which("strace") is None:
        print("strace is not installed: nothing was tried", file=sys.stderr)
        return 1
    wrong: list[str] = []
    tried: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="exchange-rig-") as made:
        try:
            small = Small(Path(made), options.seed)
        except Failed as failed:
            print(failed, file=sys.stderr)
            return 1
        for call, how in itertools.product(options.calls, BLOWS):
            for nth in itertools.count(1, options.step):
                found = small.strike(blow := Blow(call, how, nth))
                if found is False:
                    break
                tried[f"{how} at {call}"] += 1
                print(f"{blow}: {found or 'held'}", file=sys.stderr, flush=True)
                wrong += [f"{blow}: {case}" for case in found] if isinstance(found, list) else []
    print(f"{tried.total()} crashes, seed {options.seed}; {machine()}")
    print("\n".join(f"  {count:5}  {what}" for what, count in tried.items()))
    print("\n".join(wrong) if wrong else "everything held")
    return 1 if wrong or not tried else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rig.syscalls", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", type=int, default=1, help="only every so many-th call")
    parser.add_argument("--calls", type=lambda text: text.split(","), default=CALLS, metavar="A,B")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
