"""What a connection may do before there is a request: the bounds that ASGI cannot set.

uvicorn hands a request over when its header is complete, and waits for that without end. Here a header has ten
seconds and 16 KiB, and an answer that nobody reads is given up. Past the header, `gateway.limits` counts on from the
time of the request's first byte.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from exchange.errors import BadRequest, CallerError
from exchange.metrics import REQUESTS
from gateway.limits import BEGAN, HEADER_BYTES, SECONDS, SECURITY_HEADERS, UNMATCHED
from gateway.problems import HeadersTooLarge, TooSlow, render

UNREAD_SECONDS = 30.0


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol on httptools, with a deadline and a size for the header and a deadline for reading answers.

    A timer runs from the opening of the connection, and again from the first byte of each further request, until the
    header is complete. Between requests uvicorn's own keep-alive timer runs.
    """

    header_seconds = SECONDS
    unread_seconds = UNREAD_SECONDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._in_header = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_header()

    def connection_lost(self, exc: Exception | None) -> None:
        self._header_complete()
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing() or (self._answering() and not self._in_header):
            return
        # A header that is not complete; line breaks between requests count as one that begins.
        if self._header_timer is None:
            self._expect_header()
        self._header_bytes += len(data)
        if self._header_bytes > HEADER_BYTES:
            self._refuse(HeadersTooLarge(f"at most {HEADER_BYTES} bytes"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["state"][BEGAN] = self.loop.time()
        self._in_header = True

    def on_headers_complete(self) -> None:
        self._in_header = False
        self._header_complete()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn answers to bytes that are no HTTP; ours is a problem like every other."""
        self._refuse(BadRequest("not a valid HTTP/1.1 request"))

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(self.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_header(self) -> None:
        self._header_bytes = 0
        self._header_timer = self.loop.call_later(self.header_seconds, self._too_slow)

    def _header_complete(self) -> None:
        self._header_bytes = 0
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _too_slow(self) -> None:
        self._header_timer = None
        if not self.transport.is_closing():
            self._refuse(TooSlow(f"the whole request within {self.header_seconds:g} seconds"))

    def _refuse(self, error: CallerError) -> None:
        """Answer with a problem, unless an answer is under way, and close."""
        self._header_complete()
        if not self._answering():
            status, headers, body = render(error)
            lines = {**SECURITY_HEADERS, **headers, "content-length": str(len(body)), "connection": "close"}
            head = "".join(f"{name}: {text}\r\n" for name, text in lines.items())
            self.transport.write(
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{head}\r\n".encode("latin-1") + body
            )
            REQUESTS.labels(UNMATCHED, "other", str(status)).inc()
        self.transport.close()
