"""A receipt verified by hand, as docs/audit.md describes it for an auditor with programs of their own."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


class Receipts:
    """Verifies receipts with the keys of a JWK Set."""

    def __init__(self, jwks: Mapping[str, Any]) -> None:
        self._keys = {key["kid"]: Ed25519PublicKey.from_public_bytes(decoded(key["x"])) for key in jwks["keys"]}

    def prove(self, receipt: str, body: bytes) -> bool:
        """Whether this receipt proves that this body was entered in the log."""
        try:
            said = json.loads(decoded(receipt))
            group = self._group(said["group"])
            answer = sha256(decoded(said["salt"]) + body).digest()
            found = sha256(b"\x00" + decoded(said["entry"]) + answer).digest()
            turns, first, end = [], group["first"], group["last"] + 1
            if not first <= said["number"] < end or group["writer"] != said["writer"]:
                return False
            while end - first > 1:  # from the root down to the leaf: RFC 6962, section 2.1.1
                half = 1 << (end - first - 1).bit_length() - 1
                turns.append(said["number"] < first + half)
                first, end = (first, first + half) if turns[-1] else (first + half, end)
            for left, step in zip(reversed(turns), said["path"], strict=True):
                found = sha256(b"\x01" + (found + decoded(step) if left else decoded(step) + found)).digest()
            return found == decoded(group["root"])
        except (KeyError, ValueError, InvalidSignature):
            return False

    def _group(self, token: str) -> dict[str, Any]:
        header, payload, signature = token.split(".")
        said = json.loads(decoded(header))
        if (said["alg"], said["typ"]) != ("Ed25519", "exchange-audit-group"):
            raise ValueError("another kind of token")
        self._keys[said["kid"]].verify(decoded(signature), f"{header}.{payload}".encode())
        group: dict[str, Any] = json.loads(decoded(payload))
        return group


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "==")
