"""`python -m rig.powercut`: the power goes at every call of the audit log's writer, and what was not synced is lost.

    python -m rig.powercut                 at every call, each twice; some minutes
    python -m rig.powercut --step 10       at every tenth

One small run of the writer and the sealer (`rig.writing`) is watched by strace, with every byte that is written to the
files of the audit log and of the topics. From that the files are made as a disk may have them when the power goes after
the N-th call: whatever an fsync has made durable is there, and of the rest nothing, or some of it, drawn sector by
sector. Then another writer goes on with them, and what was acknowledged before the cut is held to account. Exits with 1
if anything did not hold or strace is missing.
"""

from __future__ import annotations

import argparse
import re
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from random import Random

from rig.acknowledged import FIRST, Acknowledged, Words
from rig.report import machine
from rig.site import Failed, Site
from rig.syscalls import WORKERS

FILES = ("audit.db", "audit.db-wal", "topics.db", "topics.db-wal")
SECTOR = 512  # bytes that a disk writes as one, which is what SQLite relies on
KEPT = (0.0, 0.5)  # of what was not synced

_WATCHED = ["-xx", "-s", "200000", "-e", "trace=pwrite64,fsync,fdatasync,ftruncate,unlink,write"]
_TEXT = r'"((?:\\x[0-9a-f]{2})*)"'
_FILE = r"\((?:\d+<((?:\\x[0-9a-f]{2})*)>|" + _TEXT + ")"  # a descriptor with its path, or a path
_CALL = re.compile(r"(\d+) +(?:<\.\.\. )?(\w+)(?: resumed>|" + _FILE + ")(.*)")
_WRITE = re.compile(", " + _TEXT + r", \d+, (\d+)")
_SHOWN = re.compile(rb"shown (\d+) (\S+)")


@dataclass(frozen=True, slots=True)
class Event:
    """What a call did: `write`, `cut` (to `offset` bytes), `remove` or `sync` a file, or acknowledge (`shown`).

    A sync covers what was done to its file before the event `since`, when it was called.
    """

    what: str
    file: str = ""
    offset: int = 0
    data: bytes = b""
    since: int = 0


def events(trace: Sequence[str]) -> list[Event]:
    """What the calls of a trace did, in their order. Raises Failed for one that cannot be read."""
    found: list[Event] = []
    syncing: dict[str, tuple[str, int]] = {}  # by thread
    for line in trace:
        call = _CALL.match(line)
        if call is None:
            raise Failed(f"strace says what cannot be read: {line[:100]}")
        thread, name, rest = call[1], call[2], call[5]
        file = Path(_bytes(call[3] or call[4] or "").decode()).name
        done = rest.rstrip().endswith("= 0")
        if name in ("fsync", "fdatasync"):
            if call[3] is not None:
                syncing[thread] = (file, len(found))
            if "unfinished" not in rest and done:
                file, since = syncing.pop(thread)
                if file in FILES:
                    found.append(Event("sync", file, since=since))
        elif name == "write" and (said := _SHOWN.search(_bytes(_first(rest)))):
            found.append(Event("shown", said[1].decode(), data=said[2]))
        elif file in FILES and name == "pwrite64" and (written := _WRITE.match(rest)):
            found.append(Event("write", file, int(written[2]), _bytes(written[1])))
        elif file in FILES and name == "ftruncate":
            found.append(Event("cut", file, int(rest.strip(" ,").partition(")")[0])))
        elif file in FILES and name == "unlink" and done:
            found.append(Event("remove", file))
    return found


def files_after(before: dict[str, bytes], done: Sequence[Event], kept: float, random_: Random) -> dict[str, bytes]:
    """What a disk may hold when the power goes behind these events; of what was not synced, `kept` is there."""
    durable = {
        index
        for sync in done
        if sync.what == "sync"
        for index, each in enumerate(done[: sync.since])
        if each.file == sync.file
    }
    files = {name: bytearray(data) for name, data in before.items()}
    for index, each in enumerate(done):
        if each.what == "write":
            file = files.setdefault(each.file, bytearray())
            for at in range(0, len(each.data), SECTOR):
                if index in durable or random_.random() < kept:
                    begin, part = each.offset + at, each.data[at : at + SECTOR]
                    file.extend(bytes(max(0, begin + len(part) - len(file))))
                    file[begin : begin + len(part)] = part
        elif each.what in ("cut", "remove") and (index in durable or random_.random() < kept):
            if each.what == "remove":
                files.pop(each.file, None)
            else:
                del files.setdefault(each.file, bytearray())[each.offset :]
    return {name: bytes(data) for name, data in files.items()}


class Cuts:
    """One run that was watched, and the power cut at each of its calls."""

    def __init__(self, logs: Sequence[Acknowledged]) -> None:
        """Watch one. Raises Failed."""
        words, trace = logs[0].watch("MainThread", *_WATCHED)
        self.events = events(trace)
        if {int(each.file) for each in self.events if each.what == "shown"} != words.shown.keys():
            raise Failed("the trace does not show what was acknowledged")
        self._before = {name: file.read_bytes() for name in FILES if (file := logs[0].clean / name).exists()}
        after = files_after(self._before, self.events, 1.0, Random(0))
        for name in ("audit.db", "topics.db"):  # whatever writes otherwise than the trace shows is seen here
            if (logs[0].data / name).read_bytes() != after[name]:
                raise Failed(f"{name} is not what the calls of the trace made of it")
        self._place = (logs[0].data / "place").read_bytes()

    def strike(self, log: Acknowledged, behind: int, kept: float, seed: int) -> list[str]:
        """What was wrong when the power went behind so many events."""
        log.put_back()
        done = self.events[:behind]
        made = files_after(self._before, done, kept, Random(f"{seed}/{behind}/{kept}"))
        for name in FILES:
            (log.data / name).unlink(missing_ok=True)
        for name, data in made.items():
            (log.data / name).write_bytes(data)
            (log.data / name).chmod(0o600)
        (log.data / "place").write_bytes(self._place)  # it was there long before
        words = Words(FIRST, status=-signal.SIGKILL)
        words.shown = {int(each.file): each.data.decode() for each in done if each.what == "shown"}
        return log.goes_on(words)


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the folder goes
    if shutil.which("strace") is None:
        print("strace is not installed: nothing was tried", file=sys.stderr)
        return 1
    over = threading.Event()
    with tempfile.TemporaryDirectory(prefix="exchange-rig-") as made:
        try:
            (Path(made) / "site").mkdir()
            site = Site(Path(made) / "site")
            logs = [Acknowledged(Path(made) / f"log-{number}", site) for number in range(WORKERS)]
            cuts = Cuts(logs)
            wanted = [(behind, kept) for behind in range(0, len(cuts.events) + 1, options.step) for kept in KEPT]

            def work(index: int) -> Iterator[list[str]]:
                for behind, kept in wanted[index::WORKERS]:
                    if over.is_set():
                        return
                    where = f"behind call {behind} of {len(cuts.events)}, {kept:.0%} of what was not synced"
                    found = cuts.strike(logs[index], behind, kept, options.seed)
                    print(f"{where}: {found or 'held'}", file=sys.stderr, flush=True)
                    yield [f"{where}: {case}" for case in found]

            with ThreadPoolExecutor(WORKERS) as pool:
                try:
                    found = list(chain.from_iterable(pool.map(lambda index: list(work(index)), range(WORKERS))))
                finally:
                    over.set()
        except Failed as failed:
            print(failed, file=sys.stderr)
            return 1
    wrong = [case for each in found for case in each]
    print(f"{len(found)} power cuts behind {len(cuts.events)} calls, seed {options.seed}; {machine()}")
    print("\n".join(wrong) if wrong else "everything held")
    return 1 if wrong or not found else 0


def _first(arguments: str) -> str:
    found = re.search(_TEXT, arguments)
    return found[1] if found else ""


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m rig.powercut", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", type=int, default=1, help="only behind every so many-th call")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
