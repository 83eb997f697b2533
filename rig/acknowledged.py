"""The writer of the audit log crashes; what it acknowledged is held against what is there when another has gone on.

A copy of a city's folder for whoever asks, put back before each crash. Each of the writer's four threads is struck by
itself, as strace counts the calls of a thread: the main one opens the topics, the worker opens the log and closes
everything, `audit` writes the groups, `sealer` makes leaves and checkpoints of them and publishes these.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from rig.blows import KILL, Blow, fell
from rig.issuer import base64url
from rig.receipts import Receipts, decoded
from rig.site import Failed, Site, environment, tail
from rig.tables import SqliteFile

THREADS = ("MainThread", "worker_0", "audit", "sealer")
PATIENCE = 60.0  # seconds until a writer must have ended
AWAY = 75  # what a writer ends with that cannot begin: it says why
FIRST, SECOND = 1_000, 2_000  # the numbers of the one that crashes and of the one behind it
LARGEST = 3  # entries of a group
SYNCED = re.compile(r"f(data)?sync\(.*audit\.db-wal>\) += 0|<\.\.\. f(data)?sync resumed>\) += 0")
SHOWN = re.compile(r"shown (\d+) ")

_forked = multiprocessing.get_context("forkserver")
_forked.set_forkserver_preload(["rig.writing", "rig.acknowledged", "rig.desks", "rig.small"])


@dataclass
class Words:
    """What a writer said, and how it ended."""

    first: int
    shown: dict[int, str] = field(default_factory=dict)
    refused: list[int] = field(default_factory=list)
    status: int | None = None
    traced: str = ""  # which thread

    def tried(self) -> set[int]:
        """The numbers that may be in the log: what it said, and if it was killed the group that comes behind."""
        said = {*self.shown, *self.refused}
        after = max(said, default=self.first - 1) + 1
        return said | set(range(after, after + LARGEST if self.status == -9 else after))


class Acknowledged:
    """A log in a folder of its own. Used by one thread."""

    def __init__(self, folder: Path, site: Site) -> None:
        """Its files are a copy of the site's."""
        shutil.copytree(site.folder, folder)
        self.data, self.clean = folder / "data", folder / "clean"
        self._config, self._trace, self._said = folder / "exchange-1.toml", folder / "trace", folder / "writing.log"
        self.data.rename(self.clean)
        self._audit = SqliteFile(self.data / "audit.db")
        self._receipts = Receipts(_published(folder / "keys" / "signing.pem"))

    def strike(self, thread: str, blow: Blow) -> bool | list[str]:
        """What was wrong once this thread had crashed there and another had gone on; False if it makes no such call."""
        self.put_back()
        first = self.write(FIRST, thread, blow.on(self._trace))
        if not fell(self._trace):
            return False
        wrong = self._ended(first, killed=blow.how == KILL)
        return wrong + self.goes_on(first)

    def goes_on(self, first: Words) -> list[str]:
        """What is wrong when another has gone on behind this one."""
        second = self.write(SECOND)
        wrong = [f"the one behind it: {each}" for each in self._ended(second, killed=False)]
        return wrong + self.wrong([first, second])

    def early(self) -> list[str]:
        """The entries that a writer acknowledged before the call had returned that makes them durable, or failed.

        What a killed process wrote the kernel still has: only the order of the calls shows it (and `rig.powercut`).
        """
        wrong = []
        for nth in range(4):  # with no fsync that fails, then with the N-th of each thread
            fails = ["-e", f"inject=fsync:error=EIO:when={nth}"] if nth else []
            words, trace = self.watch("audit", "-e", "trace=pwrite64,fsync,fdatasync,write", *fails)
            wrong += unsynced(trace, words.traced, len(words.shown))
        return wrong

    def watch(self, thread: str, *options: str) -> tuple[Words, list[str]]:
        """What a writer says and what strace with these options says of it, from where this thread begins.

        Raises Failed if the writer comes to no good end.
        """
        self.put_back()
        words = self.write(FIRST, thread, ["strace", "-f", "-y", "-qq", "-o", str(self._trace), *options, "-p"])
        if words.status or not words.shown:
            raise Failed(f"a writer that was only watched ended with {words.status}: {tail(self._said)}")
        return words, self._trace.read_text("utf-8", "replace").splitlines()

    def put_back(self) -> None:
        """As if nobody had written."""
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.copytree(self.clean, self.data)

    def write(self, first: int, thread: str = "", before: Sequence[str] = ()) -> Words:
        """Have a writer write, its `thread` traced by the command that is given; to its end."""
        self._said.unlink(missing_ok=True)
        hears, says = _forked.Pipe(duplex=False)
        waits, goes = _forked.Pipe(duplex=False)
        arguments = (str(self._config), first, thread, says, waits, str(self._said))
        process, words, tracer = _forked.Process(target=_run, args=arguments, daemon=True), Words(first), None
        process.start()
        says.close()
        waits.close()
        deadline = time.monotonic() + PATIENCE
        try:
            while hears.poll(max(0.0, deadline - time.monotonic())):
                what, _, rest = hears.recv_bytes().decode().partition(" ")
                if what == "at":
                    words.traced = rest
                    tracer = subprocess.Popen([*before, rest], env=environment(), stderr=subprocess.DEVNULL)
                    _attached(f"/proc/{process.pid}/task/{rest}/status", tracer)
                    goes.send_bytes(b"go")
                elif what == "shown":
                    number, _, receipt = rest.partition(" ")
                    words.shown[int(number)] = receipt
                else:
                    words.refused.append(int(rest))
        except EOFError:
            process.join(PATIENCE)
            words.status = process.exitcode
        finally:
            process.kill()
            process.join()
            process.close()
            if tracer is not None:
                tracer.wait()
            hears.close()
            goes.close()
        return words

    def _ended(self, words: Words, *, killed: bool) -> list[str]:
        """What is wrong in how it ended: it goes on, or ends and says why."""
        told = self._said.read_text("utf-8", "replace") if self._said.exists() else ""
        if killed:
            return [] if words.status == -9 else [f"it was killed and ended with {words.status}"]
        wrong = ["it raised what nobody expected"] if "unexpected error" in told or "Traceback" in told else []
        if words.status not in (0, AWAY) or (words.status == AWAY and not told):
            wrong.append("it did not end" if words.status is None else f"it ended with {words.status}")
        return [f"{each}: {told.strip()[-300:]}" for each in wrong]

    def wrong(self, writers: Sequence[Words]) -> list[str]:
        """What is wrong in the files, once all have ended."""
        wrong = []
        for name in ("audit.db", "topics.db"):
            found = SqliteFile(self.data / name).rows("PRAGMA integrity_check")
            wrong += [f"{name}: {found[0]}"] if found != [("ok",)] else []
        command = [sys.executable, "-m", "exchange.cli", "audit", "verify", "--config", str(self._config)]
        verified = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
        if verified.returncode or "the log verifies" not in verified.stdout or "younger" in verified.stdout:
            wrong.append(f"audit verify ended with {verified.returncode}: {verified.stdout.strip()[-300:]}")
        return wrong + self._entries(writers) + self._chain()

    def _entries(self, writers: Sequence[Words]) -> list[str]:
        rows = self._audit.rows("SELECT number, entry FROM audit_entries WHERE writer = 'gateway-1'")
        stored = {int(json.loads(bytes(entry))["request"]): (number, bytes(entry)) for number, entry in rows}
        times = Counter(int(json.loads(bytes(entry))["request"]) for _, entry in rows)
        shown = {number: receipt for words in writers for number, receipt in words.shown.items()}
        wrong = [f"{each} was acknowledged and is there {times[each]} times" for each in shown if times[each] != 1]
        wrong += [f"{each} is there {many} times" for each, many in times.items() if many > 1]
        tried = {number for words in writers for number in words.tried()}
        wrong += [f"{each} is there and nobody wrote it" for each in times.keys() - tried]
        for number, receipt in shown.items():
            place, entry = stored.get(number, (0, b""))
            proof = json.loads(decoded(receipt))
            if not self._receipts.prove(receipt, b"%d" % number):
                wrong.append(f"the receipt of {number} proves nothing")
            elif (proof["number"], decoded(proof["entry"])) != (place, hashlib.sha256(entry).digest()):
                wrong.append(f"the receipt of {number} is of another entry")
        return wrong

    def _chain(self) -> list[str]:
        """Each group of the writer names the one before, and begins with the number after its last."""
        last, previous = 0, None
        for first, end, token in self._audit.rows(
            "SELECT first, last, token FROM audit_groups WHERE writer = 'gateway-1' ORDER BY last"
        ):
            group = json.loads(decoded(bytes(token).split(b".")[1].decode("ascii")))
            if (first, group["first"], group["last"], group["previous"]) != (last + 1, first, end, previous):
                return [f"the chain breaks at {first}"]
            last, previous = end, base64url(hashlib.sha256(bytes(token)).digest())
        (entries,) = self._audit.rows("SELECT count(*) FROM audit_entries WHERE writer = 'gateway-1'")[0]
        return [] if entries == last else [f"{entries} entries stand in groups of {last}"]


def unsynced(trace: Sequence[str], writer: str, acknowledged: int) -> list[str]:
    """Which acknowledgements in a trace of `strace -f -y` came before the writer's thread had synced what it wrote."""
    wrong, seen, synced = [], 0, True
    for line in trace:
        thread, _, call = line.partition(" ")
        call = call.strip()
        if thread == writer and call.startswith("pwrite64(") and "audit.db-wal>" in call:
            synced = False
        elif thread == writer and SYNCED.match(call):
            synced = True
        elif "write(" in call and (number := SHOWN.search(call)):
            seen += 1
            wrong += [] if synced else [f"{number[1]} was acknowledged before it had been synced"]
    return wrong if seen == acknowledged else [f"{seen} acknowledgements stand in the trace, {acknowledged} were said"]


def _run(*arguments: Any) -> None:
    """In the writer's process, which has this module at hand."""
    import_module("rig.writing").main(*arguments)


def _attached(status: str, tracer: subprocess.Popen[bytes]) -> None:
    """Wait until a thread is traced. Raises Failed."""
    deadline = time.monotonic() + PATIENCE
    while tracer.poll() is None and time.monotonic() < deadline:
        if "TracerPid:\t0\n" not in Path(status).read_text():
            return
        time.sleep(0.002)
    raise Failed("strace cannot trace a process that is no child of its own (kernel.yama.ptrace_scope)")


def _published(pem: Path) -> dict[str, Any]:
    """The JWK Set of a signing key (RFC 8037; its kid is the thumbprint of RFC 7638)."""
    key = load_pem_private_key(pem.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    x = base64url(key.public_key().public_bytes_raw())
    kid = base64url(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())
    return {"keys": [{"kid": kid, "x": x}]}
