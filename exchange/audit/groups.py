"""The commit group: what a writer made durable in one transaction, under one Merkle root and one signature.

The groups of a writer are a chain: each names the hash of the one before, and begins with the number after its last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson

from exchange import merkle
from exchange.audit.encoding import canonical, decoded, encoded
from exchange.audit.keys import PublicKeys, Signer
from exchange.errors import AuditBroken

KIND = "exchange-audit-group"
MAX_ENTRIES = 256  # a receipt's path then has at most 8 hashes, and a header line stays short


@dataclass(frozen=True, slots=True)
class Group:
    """What a group's signature covers: entries `first` to `last` of a writer, and the group before them."""

    writer: str
    first: int
    last: int
    root: bytes
    previous: bytes | None

    @property
    def size(self) -> int:
        return self.last - self.first + 1

    def payload(self) -> bytes:
        """The signed bytes: canonical JSON (RFC 8785), hashes as base64url."""
        return canonical(
            {
                "writer": self.writer,
                "first": self.first,
                "last": self.last,
                "root": encoded(self.root),
                "previous": None if self.previous is None else encoded(self.previous),
            }
        )

    @classmethod
    def parse(cls, payload: bytes) -> Group:
        """Read a signed payload. Raises AuditBroken."""
        try:
            found: dict[str, Any] = orjson.loads(payload)
            previous = found["previous"]
            group = cls(
                writer=str(found["writer"]),
                first=int(found["first"]),
                last=int(found["last"]),
                root=decoded(found["root"], merkle.HASH_BYTES),
                previous=None if previous is None else decoded(previous, merkle.HASH_BYTES),
            )
            spelled = group.payload()
        except (KeyError, TypeError, ValueError):
            raise AuditBroken("the signed payload is not a group") from None
        if not 1 <= group.first <= group.last or group.size > MAX_ENTRIES or spelled != payload:
            raise AuditBroken("the signed payload is not a group")
        return group


@dataclass(frozen=True, slots=True)
class SignedGroup:
    """A group and the compact JWS over its payload, as it is stored."""

    group: Group
    token: bytes

    @property
    def hash(self) -> bytes:
        return group_hash(self.token)


def seal(writer: str, first: int, previous: bytes | None, leaves: Sequence[bytes], signer: Signer) -> SignedGroup:
    """Sign the group of these leaf hashes (1 to 256 of them)."""
    group = Group(writer, first, first + len(leaves) - 1, merkle.Small(leaves).root, previous)
    return SignedGroup(group, signer.token(group.payload(), KIND))


def open_group(token: bytes, keys: PublicKeys) -> Group:
    """The group that a token signs. Raises AuditBroken unless one of the keys has signed it."""
    return Group.parse(keys.verify(token, KIND))


def group_hash(token: bytes) -> bytes:
    """SHA-256 of the token's ASCII bytes: what the next group names, and the leaf's data in the tree of all groups."""
    return sha256(token).digest()
