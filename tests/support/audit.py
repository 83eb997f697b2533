"""What the audit log's tests share: a log on both databases, entries, a topic in memory, and waiting."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from exchange.audit.entries import Entry
from exchange.audit.keys import PublicKeys, Signer
from exchange.audit.log import AuditLog
from exchange.audit.sealer import Sealer
from exchange.audit.slots import Holder
from exchange.audit.store import AuditStore
from exchange.audit.verify import Report, verify_log
from exchange.errors import BrokerUnavailable
from exchange.records import Message
from exchange.topics import Publisher

ORIGIN = "exchange.test/audit"
NOON = datetime(2026, 11, 25, 4, 0, 0, 123456, tzinfo=UTC)
SIGNER = Signer.generate()
KEYS = PublicKeys([SIGNER.public])


def entry(**changes: Any) -> Entry:
    """An entry such as a view makes."""
    usual: dict[str, Any] = {
        "time": NOON,
        "act": "view",
        "outcome": "served",
        "issuer": "exchange.test",
        "client": "tax-desk",
        "department": "tax",
        "purpose": "tax-assessment",
        "subject": "a1.AAAAAAAAAAAAAAAAAAAAAA",
        "contracts": {"civil.person.v1": ["address", "name"]},
        "policies": ["agreement"],
        "bundle": "0" * 64,
        "request": "r-1",
    }
    return Entry(**{**usual, **changes})


@dataclass
class Topic(Publisher):
    """A topic that keeps its promises, and can be away: `fails_before` and `fails_after` it has stored."""

    notes: list[bytes] = field(default_factory=list)
    fails_before: bool = False
    fails_after: bool = False

    def publish(self, topic: str, messages: Sequence[Message]) -> list[tuple[int, int]]:
        if self.fails_before:
            raise BrokerUnavailable("not stored")
        for message in messages:
            assert message.value is not None
            self.notes.append(message.value)
        if self.fails_after:
            raise BrokerUnavailable("stored, and the acknowledgement lost")
        return [(0, len(self.notes) - 1)]

    def close(self) -> None:
        pass


def fresh_store(url: str) -> AuditStore:
    store = AuditStore.open(url)
    store.migrate()
    return store


def sqlite_url(folder: Path, name: str = "audit.db") -> str:
    return f"sqlite:///{folder / name}"


def new_log(store: AuditStore, writer: str = "gateway-1", **options: Any) -> AuditLog:
    return AuditLog(store, SIGNER, writer, Holder("test"), **{"patience_s": 0.4, **options})


def new_sealer(store: AuditStore, topic: Topic, **options: Any) -> Sealer:
    return Sealer(store, SIGNER, KEYS, topic, ORIGIN, lambda: NOON, Holder("test"), **{"patience_s": 0.2, **options})


def verified(store: AuditStore, notes: Sequence[bytes] | None = None, keys: PublicKeys = KEYS) -> Report:
    """Against the checkpoints that left; without them the log in itself."""
    return verify_log(store, notes, keys, ORIGIN)


async def eventually(true: Callable[[], bool], within_s: float = 5.0) -> None:
    """Wait until `true` says so."""
    give_up = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < give_up, f"not within {within_s} s"
        await asyncio.sleep(0.01)
