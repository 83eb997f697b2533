"""Who reads which topic of a group: one row a topic, with the owner, an epoch and a beat.

An owner makes its beat grow. Whoever wants the topic watches: if epoch and beat stood still for LEASE seconds of its
own monotonic clock, it takes the topic over with the next epoch. So no two clocks are ever compared, and a process that
was stopped and wakes finds another owner in the row. A close gives the row back at once.

The row decides: the feed reads it in the same transaction as the messages, so it never delivers what is its own no
longer. What was delivered just before a take-over is refused by the store's own epoch.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from exchange.errors import ExchangeError
from exchange.sqlite import Connection, connect, dbapi2

BEAT = 0.4  # seconds between two beats
LEASE = 2.0  # seconds without a beat until another may take over
MAX_POLL = 60.0  # seconds without a poll until the topics are given back: a process that hangs is not alive
TRY = 0.002  # seconds between two tries for the write lock


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a row said, and since when (monotonic seconds)."""

    owner: str | None
    epoch: int
    beat: int
    since: float


class Leases:
    """Keeps and takes leases in a thread of its own, with a connection of its own, until `close`."""

    def __init__(self, path: Path, group: str, topics: Sequence[int], owner: str) -> None:
        self._path = path
        self._group = group
        self._topics = tuple(topics)
        self._owner = owner
        self._seen: dict[int, _Seen] = {}
        self._polled = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"leases {group}", daemon=True)
        self._thread.start()

    def polled(self) -> None:
        """The owner is at work."""
        self._polled = time.monotonic()

    def close(self) -> None:
        """Stop, and give back what is ours."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection: Connection | None = None
        while not self._stop.is_set():
            started = time.monotonic()
            try:
                if connection is None:
                    connection = connect(self._path, busy_seconds=0)
                    connection.execute("PRAGMA synchronous = NORMAL")  # nobody owns anything after a loss of power
                if started - self._polled < MAX_POLL:
                    self._round(connection, started)
                else:
                    self._give_back(connection)
            except (dbapi2.Error, ExchangeError, OSError):
                # Locked for long, or the disk: the next round tries again; the feed meets the same and says so.
                if connection is not None:
                    connection.close()
                connection = None
            self._stop.wait(max(0.0, started + BEAT - time.monotonic()))
        if connection is not None:
            with suppress(dbapi2.Error):  # else the lease ends by itself
                self._give_back(connection)
            connection.close()

    def _round(self, connection: Connection, now: float) -> None:
        """Beat what is ours, take what is free or dead."""
        rows = {
            number: (owner, epoch, beat)
            for number, owner, epoch, beat in connection.execute(
                "SELECT topic, owner, epoch, beat FROM owners WHERE consumer_group = ?", (self._group,)
            )
        }
        wanted = []
        for number in self._topics:
            owner, epoch, beat = rows.get(number, (None, 0, 0))
            if owner == self._owner:
                continue
            seen = self._seen.get(number)
            if seen is None or (seen.owner, seen.epoch, seen.beat) != (owner, epoch, beat):
                seen = self._seen[number] = _Seen(owner, epoch, beat, now)
            if owner is None or now - seen.since >= LEASE:
                wanted.append((self._group, number, self._owner, epoch + 1, epoch, beat))
        ours = any(owner == self._owner for owner, _, _ in rows.values())
        if not wanted and not ours:
            return
        _lock(connection)
        connection.execute(
            "UPDATE owners SET beat = beat + 1 WHERE consumer_group = ? AND owner = ?", (self._group, self._owner)
        )
        connection.executemany(
            "INSERT INTO owners (consumer_group, topic, owner, epoch, beat) SELECT ?1, number, ?3, ?4, 0 FROM topics"
            " WHERE number = ?2 ON CONFLICT DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch, beat = 0"
            " WHERE epoch = ?5 AND beat = ?6",
            wanted,
        )
        connection.execute("COMMIT")

    def _give_back(self, connection: Connection) -> None:
        if not connection.execute(
            "SELECT 1 FROM owners WHERE consumer_group = ? AND owner = ?", (self._group, self._owner)
        ).fetchone():
            return
        _lock(connection)
        connection.execute(
            "UPDATE owners SET owner = NULL WHERE consumer_group = ? AND owner = ?", (self._group, self._owner)
        )
        connection.execute("COMMIT")


def _lock(connection: Connection) -> None:
    """Begin a transaction with the write lock, asking every TRY seconds: SQLite's own waiting soon asks only ten times
    a second, and between two big batches of a publisher the lock is free for less than that."""
    end = time.monotonic() + LEASE
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except dbapi2.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(TRY)
        else:
            return
