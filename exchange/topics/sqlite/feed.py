"""The reader: one member of a consumer group."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exchange.clock import Clock
from exchange.errors import TopicChanged
from exchange.records import Delivery
from exchange.topics import Assignments
from exchange.topics.sqlite.leases import Leases
from exchange.topics.sqlite.log import Log, Topic

# How long a reader sleeps between two looks for a commit, by how long nothing has come: some 3 % of a core at first.
NAPS = ((1.0, 0.001), (10.0, 0.002), (float("inf"), 0.005))
CHECK_FILE = 1.0  # seconds between two looks whether the file is still the one that was opened


@dataclass(slots=True)
class _Owned:
    """A topic that is ours: the lease's epoch, the next offset, and until when it is paused (monotonic seconds)."""

    epoch: int
    position: int
    paused_until: float = 0.0


class SqliteFeed:
    """A Feed over the file. A topic's only partition is 0."""

    def __init__(self, path: Path, clock: Clock, group: str, topics: Sequence[str], assignments: Assignments) -> None:
        self._log = Log(path, clock)
        self._group = group
        self._names = tuple(dict.fromkeys(topics))
        self._assignments = assignments
        self._owned: dict[str, _Owned] = {}
        self._active = self._checked = time.monotonic()
        self._topics = self._log.topics(self._names)
        missing = [name for name in self._names if name not in self._topics]
        if missing:
            self._log.close()
            raise TopicChanged(f"there is no topic {missing[0]}")
        self._member = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._leases = Leases(path, group, [topic.number for topic in self._topics.values()], self._member)

    def poll(self, limit: int, timeout: float) -> list[Delivery]:
        """See Feed."""
        deadline = time.monotonic() + timeout
        while True:
            self._leases.polled()
            seen = self._log.changed()
            found = self._take(limit)
            now = time.monotonic()
            if found:
                self._active = now
                return found
            if now >= deadline:
                return []
            self._sleep(seen, deadline)

    def pause(self, topic: str, partition: int, offset: int, seconds: float) -> None:
        """See Feed."""
        owned = self._owned.get(topic)
        if owned is not None and partition == 0:
            owned.position = offset
            owned.paused_until = time.monotonic() + seconds

    def committed(self, positions: Mapping[tuple[str, int], int]) -> None:
        """Nothing to tell: on one machine whoever shows the lag reads the positions in the store."""

    def lag(self) -> dict[tuple[str, int], int]:
        """See Feed."""
        now = self._log.topics(list(self._owned))
        return {
            (name, 0): max(0, now[name].next - owned.position) for name, owned in self._owned.items() if name in now
        }

    def close(self) -> None:
        """See Feed."""
        try:
            for name in list(self._owned):
                self._revoke(name)
        finally:
            self._leases.close()
            self._log.close()

    def _take(self, limit: int) -> list[Delivery]:
        """What is there for us now; before that, learn what became ours and what is ours no longer."""
        now = time.monotonic()
        if now - self._checked >= CHECK_FILE:
            self._log.check_file()
            self._checked = now
        while True:
            with self._log.reading():
                topics, epochs = self._state()
                gained = self._compare(epochs)
                if not gained:
                    return self._read(topics, limit, now)
            # Outside the transaction, because the answer comes from another database and may take long.
            for name in gained:
                position = self._assignments.assigned(name, 0, topics[name].id)
                self._owned[name] = _Owned(epochs[name], position or topics[name].earliest)

    def _state(self) -> tuple[dict[str, Topic], dict[str, int]]:
        """The topics as they stand, and the lease's epoch of each that is ours. Raises TopicChanged."""
        topics = self._log.topics(self._names)
        for name, known in self._topics.items():
            if name not in topics:
                raise TopicChanged(f"topic {name} no longer exists")
            if topics[name].id != known.id:
                raise TopicChanged(f"topic {name} was re-created while it was read")
        rows = self._log.connection.execute(
            "SELECT name, epoch FROM owners JOIN topics ON number = topic WHERE consumer_group = ? AND owner = ?",
            (self._group, self._member),
        )
        return topics, dict(rows.fetchall())

    def _compare(self, epochs: Mapping[str, int]) -> list[str]:
        """Revoke what is ours no more; return what became ours."""
        for name, owned in list(self._owned.items()):
            if epochs.get(name) != owned.epoch:
                self._revoke(name)
        return [name for name in epochs if name not in self._owned]

    def _read(self, topics: Mapping[str, Topic], limit: int, now: float) -> list[Delivery]:
        """From the topics in turn. Raises TopicChanged for a position that is not in its topic."""
        for name, owned in self._owned.items():
            topic = topics[name]
            if not topic.earliest <= owned.position <= topic.next:
                there = f"it has offsets {topic.earliest} to {topic.next}"
                raise TopicChanged(f"topic {name} cannot be read on from {owned.position}: {there}")
        out: list[Delivery] = []
        for name, owned in list(self._owned.items()):
            if owned.paused_until > now or owned.position == topics[name].next:
                continue
            found, owned.position = self._log.read(topics[name], owned.position, limit - len(out))
            out.extend(found)
            self._owned[name] = self._owned.pop(name)  # to the end: next time the others come first
            if len(out) >= limit:
                break
        return out

    def _revoke(self, name: str) -> None:
        del self._owned[name]
        self._assignments.revoked(name, 0)

    def _sleep(self, seen: int, deadline: float) -> None:
        """Until another connection commits, a pause ends, or the deadline has come."""
        now = time.monotonic()
        ends = [owned.paused_until for owned in self._owned.values() if owned.paused_until > now]
        until = min([deadline, *ends])
        nap = next(nap for idle, nap in NAPS if now - self._active < idle)
        while self._log.changed() == seen:
            self._leases.polled()
            now = time.monotonic()
            if now >= until:
                return
            time.sleep(min(nap, until - now))
