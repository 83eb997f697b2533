"""One spelling for each value: base64url without padding (RFC 4648, section 5), canonical JSON (RFC 8785)."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256
from typing import Any

import orjson

_PIECE = 2047  # one byte less than what hashlib gives the interpreter lock away for
_MANY_PIECES = 65_536
_CANONICAL = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER


def canonical(members: dict[str, Any]) -> bytes:
    """Canonical JSON of text, whole numbers, None and lists of them, under ASCII names.

    For these orjson writes the very bytes of rfc8785, its reference in the tests, in a sixtieth of the time. Raises
    ValueError for what JSON cannot hold, and for numbers that not every reader keeps (over 2**53 - 1).
    """
    try:
        return orjson.dumps(members, option=_CANONICAL)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"not JSON: {error}") from None


def digest(*parts: bytes) -> bytes:
    """SHA-256 of the parts, one behind the other.

    hashlib lets other threads run while it hashes 2 KiB or more, and on a busy process then waits for them up to 5 ms:
    longer than the hash itself takes. So up to 64 KiB it gets pieces that are smaller.
    """
    state = sha256()
    for part in parts:
        if len(part) <= _PIECE or len(part) > _MANY_PIECES:
            state.update(part)
        else:
            for at in range(0, len(part), _PIECE):
                state.update(part[at : at + _PIECE])
    return state.digest()


def encoded(data: bytes) -> str:
    """The text for `data`."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decoded(text: str, size: int | None = None) -> bytes:
    """The bytes of `text`. Raises ValueError for any other spelling of them, and for another size than `size`."""
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encoded(data) != text or (size is not None and len(data) != size):
        raise ValueError("not base64url without padding, or not of this length")
    return data
