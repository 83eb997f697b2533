"""Base64url without padding (RFC 4648, section 5), one spelling for each value."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode


def encoded(data: bytes) -> str:
    """The text for `data`."""
    return urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decoded(text: str, size: int | None = None) -> bytes:
    """The bytes of `text`. Raises ValueError for any other spelling of them, and for another size than `size`."""
    data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encoded(data) != text or (size is not None and len(data) != size):
        raise ValueError("not base64url without padding, or not of this length")
    return data
