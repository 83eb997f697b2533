"""Entry: one access, one refusal or one administrative act. Serialised once; from then on only its bytes count.

An entry holds no personal value: it knows subject keys and officer pseudonyms (of the audit secret), names of contracts
and fields, purposes, policies and outcomes. Of what was shown it has a salted digest only; the receipt has the salt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import rfc8785

from exchange import merkle
from exchange.audit.encoding import canonical, digest
from exchange.randomness import PIECE
from exchange.records import rfc3339

SALT_BYTES = PIECE
MAX_BYTES = 1_048_576

Outcome = Literal["served", "refused", "error", "done"]
"""served: a view was shown; refused: the rules say no; error: doubt or a missing part; done: an administrative act."""

_EXACT = 2**53 - 1  # the largest whole number that every JSON reader keeps (RFC 8785, 3.2.2.3; RFC 7493, 2.2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What the log says of one act. Members that are None or empty are absent from the bytes.

    `time` is aware; `issuer` and `client` name the client of `department`; `officer` and `subject` are pseudonyms of
    AuditKeys, `officer_by` says who named the officer: the `token` or the `client` itself. `contracts` maps topics
    (`civil.person.v1`) to the fields that were decided on; `policies` are the ids that permitted or forbade, `bundle`
    the policy version. `details` is what an administrative act adds: any JSON, without personal values.
    """

    time: datetime
    act: str
    outcome: Outcome
    issuer: str
    client: str
    department: str
    officer: str | None = None
    officer_by: Literal["token", "client"] | None = None
    purpose: str | None = None
    case: str | None = None
    subject: str | None = None
    contracts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    policies: Sequence[str] = ()
    bundle: str | None = None
    reason: str | None = None
    request: str | None = None
    traceparent: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Canonical JSON (RFC 8785); whole numbers over 2**53 - 1 as text, so that two languages read them alike.

        Raises ValueError for what JSON cannot hold (NaN, infinities, lone surrogates), and for more than 1 MiB.
        """
        members: dict[str, Any] = {
            "time": rfc3339(self.time),
            "act": self.act,
            "outcome": self.outcome,
            "issuer": self.issuer,
            "client": self.client,
            "department": self.department,
            "officer": self.officer,
            "officer_by": self.officer_by,
            "purpose": self.purpose,
            "case": self.case,
            "subject": self.subject,
            "contracts": {topic: list(fields) for topic, fields in self.contracts.items()} or None,
            "policies": list(self.policies) or None,
            "bundle": self.bundle,
            "reason": self.reason,
            "request": self.request,
            "traceparent": self.traceparent,
        }
        present = {name: value for name, value in members.items() if value is not None}
        found = rfc8785.dumps({**present, "details": _exact(self.details)}) if self.details else canonical(present)
        if len(found) > MAX_BYTES:
            raise ValueError(f"the entry has {len(found)} bytes; at most {MAX_BYTES} are kept")
        return found


class Line(NamedTuple):
    """An entry on its way into the log: its bytes, and the salted digest of the body that was shown with it.

    `hash` is that of the bytes, `leaf` what goes into the group's tree.
    """

    entry: bytes
    answer: bytes
    salt: bytes
    hash: bytes
    leaf: bytes

    @classmethod
    def of(cls, entry: Entry, body: bytes, salt: bytes) -> Line:
        """Raises ValueError if the entry cannot be written."""
        stored, answer = entry.to_bytes(), answer_digest(salt, body)
        hash_ = entry_hash(stored)
        return cls(stored, answer, salt, hash_, leaf(hash_, answer))


def answer_digest(salt: bytes, body: bytes) -> bytes:
    """SHA-256(salt || body), the salt of 16 bytes: the body cannot be guessed from the log, only proved with it."""
    return digest(salt, body)


def entry_hash(entry: bytes) -> bytes:
    """SHA-256 of the stored bytes."""
    return sha256(entry).digest()


def leaf(hash_of_entry: bytes, answer: bytes) -> bytes:
    """The leaf hash of an entry in its group's tree: SHA-256(0x00 || entry hash || answer digest).

    Two hashes, so that a receipt proves both the entry and the body without showing the entry, whose subject key and
    pseudonyms are not for the receiver.
    """
    return merkle.leaf_hash(hash_of_entry + answer)


def _exact(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -_EXACT <= value <= _EXACT else str(value)
    if isinstance(value, Mapping):
        return {name: _exact(inner) for name, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_exact(inner) for inner in value]
    return value
