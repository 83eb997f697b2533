"""`python -m rig.syscalls`: what writes to SQLite crashes at every system call that writes, one by one.

    python -m rig.syscalls                     every call of each small run; some hours
    python -m rig.syscalls --step 10           every tenth
    python -m rig.syscalls --of audit          only of the audit log's writer and sealer, alone; some minutes
    python -m rig.syscalls --of gateway        only of a gateway, at the file of the audit log

The same small run is made again and again, each time under strace, which kills the process (or fails the call with EIO
or ENOSPC) at the N-th pwrite64, fsync, fdatasync or rename of a thread. Then another process goes on, and files, rows
and answers are held to account. Exits with 1 if anything did not hold or strace is missing.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import httpx2

from rig.acknowledged import THREADS, Acknowledged
from rig.blows import BLOWS, CALLS, KILL, Blow, ask_to_end, fell
from rig.checkers import Evidence, lost, order, phantom, poison, twice, unaudited
from rig.clients import Client
from rig.desks import ENTERPRISES, OPEN, Desk
from rig.receipts import Receipts
from rig.report import machine
from rig.site import Failed, Site, tail
from rig.small import PATIENCE, Small

VIEWS = 6  # asked of the gateway that is struck; of the one behind it, one
AGAIN = 15.0  # seconds within which a gateway whose call failed must show something again

WORKERS = 2 * (os.cpu_count() or 1)  # of the audit log's writers, which mostly wait

Strike = Callable[[Blow], bool | list[str]]  # what was wrong, or False if the run has no such call


def materialise(small: Small, blow: Blow) -> bool | list[str]:
    """Crash a materialiser there, and have another read on to the end."""
    small.put_back()
    trace = small.folder / "trace"
    small.materialise(blow.before(trace))
    if not fell(trace):
        return False
    wrong = [] if small.materialise() else ["the process behind it did not read everything"]
    wrong += small.broken("store.db", "topics.db")
    evidence = Evidence(small.oracle, small.keys, small.topics, small.tables, [], [], [])
    return wrong + [case for check in (lost, twice, order, phantom, poison) for case in check(evidence).wrong]


def gateway(small: Small, blow: Blow) -> bool | list[str]:
    """Crash the writer of the audit log there, while it shows views: each that was shown has its entry."""
    small.put_back()
    trace = small.folder / "trace"
    files = [small.data / f"audit.db{suffix}" for suffix in ("", "-wal", "-shm")]
    process = small.run("gateway-1", blow.before(trace, *files))
    desk = _desk(small)
    _served(small, lambda: process.poll() is not None)
    with suppress(httpx2.TransportError):
        _learn_keys(small, desk)
    for number in ENTERPRISES[:VIEWS]:
        desk.ask(number)
    wrong = []
    if process.poll() is None:
        if blow.how != KILL and not _shows(desk):
            wrong.append("it showed nothing any more")
        ask_to_end(process, traced=True)
    elif blow.how != KILL:
        wrong.append(f"it ended with {process.returncode}")
    if not fell(trace):
        return False
    successor = small.run("gateway-1")
    _served(small, lambda: successor.poll() is not None)
    with suppress(httpx2.TransportError):
        _learn_keys(small, desk)
    if not _shows(desk):
        wrong.append(f"the one behind it shows nothing: {tail(small.site.parts['gateway-1'].log)}")
    ask_to_end(successor, traced=False)
    wrong += small.broken("audit.db")
    verified = small.site.command("audit", "verify", check=False)
    wrong += [f"audit verify: {verified.stdout.strip()[-300:]}"] if verified.returncode else []
    evidence = Evidence(small.oracle, small.keys, small.topics, small.tables, [desk], [], [])
    return [*wrong, *unaudited(evidence).wrong, *desk.phantoms, *desk.backwards, *desk.leaks]


OF = ("materialise", "gateway", "audit")


def strikes(names: Sequence[str], folder: Path, seed: int) -> Iterator[tuple[str, Sequence[Strike]]]:
    """What crashes, each with one strike for each of those that work on it at once. Raises Failed."""
    if {"materialise", "gateway"} & set(names):
        (folder / "small").mkdir()
        small = Small(folder / "small", seed)
        if "materialise" in names:
            yield "materialise", [partial(materialise, small)]
        if "gateway" in names:  # it shows what was materialised
            small.put_back()
            small.materialise()
            small.keep()
            yield "gateway", [partial(gateway, small)]
    if "audit" in names:
        (folder / "site").mkdir()
        site = Site(folder / "site")
        logs = [Acknowledged(folder / f"log-{number}", site) for number in range(WORKERS)]
        if early := logs[0].early():
            raise Failed("\n".join(early))
        for thread in THREADS:
            yield f"audit, thread {thread}", [partial(log.strike, thread) for log in logs]


def _desk(small: Small) -> Desk:
    client = Client("hotline-desk", small.issuer, small.site.gateways[:1])
    return Desk(client, "hotline-service", OPEN, small.oracle, Random(0))


def _learn_keys(small: Small, desk: Desk) -> None:
    answer = httpx2.get(f"{small.site.gateways[0]}/.well-known/exchange-keys.json", timeout=10)
    desk.receipts = Receipts(answer.json())


def _served(small: Small, dead: Callable[[], bool]) -> None:
    """Wait until the gateway answers at all, or is dead."""
    deadline = time.monotonic() + PATIENCE
    while not dead() and time.monotonic() < deadline:
        with suppress(httpx2.TransportError):
            if httpx2.get(f"{small.site.gateways[0]}/readyz", timeout=2).status_code == 200:
                return
        time.sleep(0.05)


def _shows(desk: Desk) -> bool:
    """Whether a view is shown within a while."""
    deadline = time.monotonic() + AGAIN
    while time.monotonic() < deadline:
        if desk.ask(ENTERPRISES[0]) is not None:
            return True
        time.sleep(0.1)
    return False


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
            for name, workers in strikes(options.of, Path(made), options.seed):
                for call, how in itertools.product(options.calls, BLOWS):
                    for found in _every(name, workers, Blow(call, how, 1), options.step):
                        tried[f"{name}: {how} at {call}"] += 1
                        wrong += found
        except Failed as failed:
            print(failed, file=sys.stderr)
            return 1
    print(f"{tried.total()} crashes, seed {options.seed}; {machine()}")
    print("\n".join(f"  {count:5}  {what}" for what, count in tried.items()))
    print("\n".join(wrong) if wrong else "everything held")
    return 1 if wrong or not tried else 0


def _every(name: str, workers: Sequence[Strike], first: Blow, step: int) -> list[list[str]]:
    """What was wrong at each step-th call from the first to the last; the workers take turns."""
    over = threading.Event()

    def work(worker: Strike, begin: int, by: int) -> Iterator[list[str]]:
        for nth in itertools.count(begin, by):
            blow = replace(first, nth=nth)
            found = worker(blow)
            if isinstance(found, bool) or over.is_set():
                break
            print(f"{name}: {blow}: {found or 'held'}", file=sys.stderr, flush=True)
            yield [f"{name}: {blow}: {case}" for case in found]

    done = list(itertools.islice(work(workers[0], first.nth, step), 1))
    if not done:  # it makes no such call at all
        return []
    many = len(workers)
    with ThreadPoolExecutor(many) as pool:
        others = pool.map(
            lambda each: list(work(workers[each], first.nth + (each + 1) * step, many * step)), range(many)
        )
        try:
            return list(itertools.chain(done, *others))
        finally:  # also when we are asked to stop
            over.set()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rig.syscalls", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", type=int, default=1, help="only every so many-th call")
    parser.add_argument("--calls", type=lambda text: text.split(","), default=CALLS, metavar="A,B")
    parser.add_argument("--of", type=lambda text: text.split(","), default=list(OF), metavar="A,B", help=", ".join(OF))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
