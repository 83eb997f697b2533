"""A whole answer leaves in one write, its header looked through once: uvicorn writes twice, and looks at every line.

Whatever is not a whole answer of a common size on a connection that stays is uvicorn's to send. It is the reference
too: the bytes are the same, but for the moment at which a head leaves, which is that of the first piece of the body.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from uvicorn.protocols.http.httptools_impl import HEADER_RE, STATUS_LINE, RequestResponseCycle

MOST = 65_536
"""Bytes of a body that are copied behind their head."""

_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_NO_BODY = frozenset({204, 304})
_VISIBLE = bytes({*range(256)} - {*range(32), 127} | {9})  # what may stand in a header's value


class Sending(RequestResponseCycle):
    """One request and its answer, as uvicorn knows them."""

    _held: Any = None  # the head, until the body tells how both are to be sent

    async def send(self, message: Any) -> None:
        """See ASGI. Raises RuntimeError for what is no answer, as uvicorn does."""
        held = self._held
        if held is None and message["type"] == "http.response.start" and not self.response_started:
            self._held = message
            self.response_started, self.waiting_for_100_continue = True, False
            return
        if held is not None:
            self._held = None
            if self.flow.write_paused and not self.disconnected:
                await self.flow.drain()
            whole = None if self.disconnected else self._whole(held, message)
            if whole is not None:
                self.response_complete = True
                self.transport.write(whole)
                self.message_event.set()
                self.on_response()
                return
            self.response_started = False
            await super().send(held)
        await super().send(message)

    def _whole(self, start: Mapping[str, Any], message: Mapping[str, Any]) -> bytes | None:
        """The bytes of an answer that needs nothing of uvicorn's."""
        body: bytes = message.get("body", b"")
        status: int = start["status"]
        if message["type"] != "http.response.body" or message.get("more_body", False) or len(body) > MOST:
            return None
        if not self.keep_alive or self.access_log or status in _NO_BODY or self.scope["method"] == "HEAD":
            return None
        headers = [*self.default_headers, *start.get("headers", ())]
        parts, length = [STATUS_LINE[status]], None
        for name, value in headers:
            lowered = _lowered(name)
            if lowered in _FRAMING:
                if lowered != b"content-length" or length is not None:
                    return None
                length = value
            parts += (lowered, b": ", value, b"\r\n")
        parts.append(b"\r\n")
        head = b"".join(parts)
        # Of what may not stand in a header there are only the ends of our own lines.
        if length != b"%d" % len(body) or head.translate(None, _VISIBLE) != b"\r\n" * (len(headers) + 2):
            return None
        return head + body


@lru_cache(256)
def _lowered(name: bytes) -> bytes:
    """The name of a header as it is sent; of one that may not be, one that may not be either."""
    return b"\0" if HEADER_RE.search(name) else name.lower()
