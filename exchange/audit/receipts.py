"""Receipt: the signed proof that an access was written to the audit log before anything was shown.

Who holds a receipt, the body and the public keys can verify it years later without the log (`verify_receipt`). Whoever
holds the log can then show that the very entry is in it, or not (`verify.find`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from exchange import merkle
from exchange.audit import entries, groups
from exchange.audit.encoding import canonical, decoded, encoded
from exchange.audit.groups import Group
from exchange.audit.keys import PublicKeys
from exchange.errors import AuditBroken, ReceiptInvalid

MAX_CHARACTERS = 8_192


class Receipt(NamedTuple):
    """What the header `Exchange-Receipt` says.

    `entry` is the SHA-256 of the entry's stored bytes, `salt` what was put before the body when it was hashed, `path`
    the leaf's audit path in its group (RFC 6962, 2.1.1), `group` the group's compact JWS.
    """

    writer: str
    number: int
    entry: bytes
    salt: bytes
    path: tuple[bytes, ...]
    group: bytes

    def encode(self) -> str:
        """The header value: base64url of canonical JSON (RFC 8785)."""
        return encoded(
            canonical(
                {
                    "writer": self.writer,
                    "number": self.number,
                    "entry": encoded(self.entry),
                    "salt": encoded(self.salt),
                    "path": [encoded(step) for step in self.path],
                    "group": self.group.decode("ascii"),
                }
            )
        )

    @classmethod
    def decode(cls, text: str) -> Receipt:
        """Read a header value. Raises ReceiptInvalid."""
        if len(text) > MAX_CHARACTERS:
            raise ReceiptInvalid(f"it is longer than {MAX_CHARACTERS} characters")
        try:
            found: dict[str, Any] = orjson.loads(decoded(text.strip()))
            receipt = cls(
                writer=str(found["writer"]),
                number=int(found["number"]),
                entry=decoded(found["entry"], merkle.HASH_BYTES),
                salt=decoded(found["salt"], entries.SALT_BYTES),
                path=tuple(decoded(step, merkle.HASH_BYTES) for step in found["path"]),
                group=found["group"].encode("ascii"),
            )
            spelled = receipt.encode()
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ReceiptInvalid("it is not a whole receipt") from None
        if spelled != text.strip():
            raise ReceiptInvalid("it is not spelled as receipts are")
        return receipt

    def leaf(self, body: bytes) -> bytes:
        """The leaf hash that the log must hold if this body was shown."""
        return entries.leaf(self.entry, entries.answer_digest(self.salt, body))


def verify_receipt(receipt: Receipt, body: bytes, keys: PublicKeys) -> Group:
    """The signed group that proves: this body was entered under this number before it was shown.

    Needs neither the log nor a network. Raises ReceiptInvalid with the reason.
    """
    try:
        group = groups.open_group(receipt.group, keys)
    except AuditBroken as broken:
        raise ReceiptInvalid(broken.detail) from None
    if group.writer != receipt.writer or not group.first <= receipt.number <= group.last:
        raise ReceiptInvalid("its number is not among those that the group signs")
    index = receipt.number - group.first
    if not merkle.verify_inclusion(receipt.leaf(body), index, group.size, receipt.path, group.root):
        raise ReceiptInvalid("the body or the entry is not the one that was signed")
    return group
