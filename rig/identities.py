"""Codes of enterprises and the keys of their records, written from docs/semantics.md, section 1, and no code."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from typing import NamedTuple

ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"  # GB 32100-2015: without I, O, S, V and Z
BODY = "91290101"  # what every code of the rig begins with


class Identity(NamedTuple):
    """What a record is about. `record` is the number of the decision where a contract has a record key, else empty."""

    contract: str
    code: str
    record: str = ""


def code(number: int, *, wrong: bool = False) -> str:
    """The credit code of an enterprise: 17 characters and one that checks them (GB 32100-2015, 5.2.5)."""
    body = f"{BODY}{number:09d}"
    total = sum(ALPHABET.index(character) * pow(3, place, 31) for place, character in enumerate(body))
    return body + ALPHABET[(-total + wrong) % 31]


class Keys:
    """Makes message keys from the bus secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret.strip()

    def of(self, identity: Identity) -> str:
        """`k1.<subject>`, or `k1.<subject>.<record>` where there is a record key."""
        subject = f"k1.{self._hash('subject', f'cn.uscc:{identity.code}')}"
        if not identity.record:
            return subject
        values = json.dumps([identity.contract, identity.record], ensure_ascii=False, separators=(",", ":"))
        return f"{subject}.{self._hash('record', values)}"

    def _hash(self, person: str, text: str) -> str:
        digest = hashlib.blake2b(text.encode(), digest_size=16, key=self._secret, person=person.encode()).digest()
        return urlsafe_b64encode(digest).decode().rstrip("=")
