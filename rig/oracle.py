"""The oracle: whatever was said, by whom, and what must stand because of it.

Each thing that an office says has a serial number, and the number stands in the record itself (`seat 17`), so that any
value read back anywhere names the statement it comes from. The rules are those of docs/semantics.md, section 5: of two
versions the greater one stands, else what its source said last. Where two sources speak of one identity without a
version, the order of the topic decides; then each source's last word is admitted here, and `rig.replay` says which.
"""

from __future__ import annotations

import re
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rig.identities import Identity

SERIAL = re.compile(r"(?:seat|case|place) (\d+)")

Payload = Mapping[str, Any]  # in the contract's JSON form


@dataclass(slots=True)
class Statement:
    """One source's word on one identity. `payload` None is a deletion; `refused` was never to be taken."""

    serial: int
    identity: Identity
    source: str
    payload: Payload | None
    version: int | None = None
    refused: bool = False


class Oracle:
    """Remembers every statement. Used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._serial = 0
        self._statements: dict[int, Statement] = {}
        self._of: dict[Identity, list[Statement]] = defaultdict(list)

    def serial(self) -> int:
        """The next statement's number."""
        with self._lock:
            self._serial += 1
            return self._serial

    def say(self, *statements: Statement) -> None:
        """Remember what is about to be said: it may be visible from now on."""
        with self._lock:
            for statement in statements:
                self._statements[statement.serial] = statement
                self._of[statement.identity].append(statement)

    def identities(self, contract: str | None = None) -> list[Identity]:
        """Every identity that was spoken of, or those of one contract."""
        with self._lock:
            return sorted(identity for identity in self._of if contract in (None, identity.contract))

    def said(self, identity: Identity) -> list[Statement]:
        """Every word on an identity that counts, in the order in which it was said."""
        with self._lock:
            return [each for each in self._of.get(identity, ()) if not each.refused]

    def statement(self, serial: int) -> Statement | None:
        """What has this number."""
        with self._lock:
            return self._statements.get(serial)

    def count(self, *, refused: bool = False) -> int:
        """How many statements counted, or were to be refused."""
        with self._lock:
            return sum(each.refused is refused for each in self._statements.values())

    def admitted(self, identity: Identity) -> list[Statement]:
        """What may stand in the end; empty if nothing was ever said of it that counts."""
        return admitted(self.said(identity))


def admitted(said: Iterable[Statement]) -> list[Statement]:
    """Of one identity's statements those that may stand once all of them are known."""
    words = list(said)
    versioned = [each for each in words if each.version is not None]
    if versioned:
        newest = max(each.version or 0 for each in versioned)
        words = [each for each in versioned if each.version == newest]
    last = {each.source: each for each in words}
    return list(last.values())


def serial_in(payload: Payload) -> int | None:
    """The number of the statement that a record is."""
    for value in payload.values():
        found = SERIAL.fullmatch(value) if isinstance(value, str) else None
        if found:
            return int(found[1])
    return None
