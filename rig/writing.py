"""The audit log's writer and sealer alone in a process, wired as a gateway wires them.

It writes a few entries in groups and then one more, as often as it takes until one is acknowledged or a while is over.
Entry n has the number n as its `request` and as its body. Into a pipe it says what became of each:

    shown N RECEIPT     the log has acknowledged it
    refused N           the log said that it cannot: a gateway shows nothing then

The only module of the rig that imports the product, for it is what is judged: `rig.acknowledged` has it forked from a
server that has imported it already, and imports nothing of it.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

import sqlalchemy as sa

from exchange import logs
from exchange.audit import AuditLog, AuditStore, Entry, Holder, Sealer
from exchange.clock import system_clock
from exchange.errors import AuditUnavailable, ExchangeError
from exchange.settings import Settings
from exchange.wiring import audit_url, open_broker, process_name, public_keys, signer, standing_name

GROUPS = (1, 3)  # entries that are appended at once
PAUSE = 0.12  # seconds after each group: the sealer looks in between
AGAIN = 15.0  # seconds within which the last one must be acknowledged
INTERVAL = 0.05  # seconds between two looks of the sealer
_ANYBODY = 0x59616D61  # PR_SET_PTRACER: where a process may only be traced by its parent (Yama)


def main(config: str, first: int, stop_at: str, say: Connection, go: Connection, log: str) -> None:
    """Write, and say what became of it; ends with 1 if the last one was not acknowledged, 75 if it could not begin.

    When the thread `stop_at` is about to begin, it says `at` and that one's id, and waits for a word.
    """
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), sys.stderr.fileno())
    ctypes.CDLL(None).prctl(_ANYBODY, ctypes.c_ulong(-1), 0, 0, 0)
    logs.configure("json")
    logs.guard()

    def begins(thread: str) -> None:
        if thread == stop_at:
            ids = {each.name: each.native_id for each in threading.enumerate()}
            say.send_bytes(f"at {ids[thread]}".encode())
            go.recv_bytes()

    try:
        sys.exit(asyncio.run(_write(Settings.load(Path(config)), first, begins, say)))
    except ExchangeError as error:
        print(error, file=sys.stderr)
        sys.exit(75)


class _Held(AuditStore):
    """The sealer's: it waits until the sealer may begin."""

    def __init__(self, engine: sa.Engine, may: threading.Event) -> None:
        super().__init__(engine)
        self._may = may

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """See AuditStore."""
        self._may.wait()
        with super().reading() as connection:
            yield connection


async def _write(settings: Settings, first: int, begins: Callable[[str], None], say: Connection) -> int:
    # All that the event loop hands to a thread is done by one, so that its calls can be counted.
    worker = ThreadPoolExecutor(1, "worker")
    asyncio.get_running_loop().set_default_executor(worker)
    await asyncio.to_thread(lambda: None)
    begins("MainThread")
    broker = open_broker(settings)
    checkpoints = broker.publisher()
    store, may_seal = AuditStore.open(audit_url(settings), settings.audit_options), threading.Event()
    standing = standing_name(settings, f"gateway-{settings.audit.writer}")
    us, signing = Holder(process_name("gateway"), standing.name), signer(settings)
    log = AuditLog(store, signing, settings.audit.writer, us)
    held, keys, origin = _Held(store.engine, may_seal), public_keys(settings), settings.audit.origin
    sealer = Sealer(held, signing, keys, checkpoints, origin, system_clock, us, interval_s=INTERVAL)
    begins("worker_0")
    await log.open()
    begins("audit")
    sealer.start()
    begins("sealer")
    may_seal.set()

    numbers = count(first)
    for size in GROUPS:
        await asyncio.gather(*(_append(log, next(numbers), say) for _ in range(size)))
        await asyncio.sleep(PAUSE)
    deadline = time.monotonic() + AGAIN
    shown = False
    while not shown and time.monotonic() < deadline:
        shown = await _append(log, next(numbers), say)
        await asyncio.sleep(PAUSE)

    await log.close()
    for close in (sealer.close, checkpoints.close, broker.close, store.close, standing.close):
        await asyncio.to_thread(close)
    return 0 if shown else 1


async def _append(log: AuditLog, number: int, say: Connection) -> bool:
    entry = Entry(
        time=system_clock(),
        act="view",
        outcome="served",
        issuer="rig",
        client="writing",
        department="rig",
        request=str(number),
    )
    try:
        receipt = await log.append(entry, b"%d" % number)
    except AuditUnavailable:
        say.send_bytes(f"refused {number}".encode())
        return False
    say.send_bytes(f"shown {number} {receipt.encode()}".encode())
    return True
