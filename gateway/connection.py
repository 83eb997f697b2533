"""What a connection may do before there is a request: the bounds that ASGI cannot set, and one way to read a header.

uvicorn hands a request over when its header is complete, and waits for that without end. Here a header has ten
seconds and 16 KiB, and an answer that nobody reads is given up. Past the header, `gateway.limits` counts on from the
time of the request's first byte.

Connections are bounded too. Where there are as many as may be, a new one takes the place of the one that has waited
longest without a request under way, so that no number of silent sockets keeps a good request out.

A proxy and this server must see the same requests in the same bytes. The parser (llhttp, strict) refuses most of what
two readers could split in two ways; what it lets pass is refused here (`_one_reading`). An offer to go on in another
protocol is not taken, and then it is as if it had not been made (RFC 9110, 7.8): Java's own client makes one with its
first request.
"""

from __future__ import annotations

import asyncio
import resource
from http import HTTPStatus
from typing import Any, ClassVar

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from exchange.errors import BadRequest, CallerError
from exchange.metrics import REQUESTS
from gateway.limits import ARRIVED, BEGAN, HEADER_BYTES, SECONDS, SECURITY_HEADERS, UNMATCHED
from gateway.problems import HeadersTooLarge, TooSlow, render
from gateway.sending import Sending

UNREAD_SECONDS = 30.0
CONNECTIONS = 4096
UPGRADE = (b"upgrade", b"http2-settings")  # RFC 9110, 7.8; RFC 7540, 3.2.1
SPARE_FILES = 256  # of the file descriptors a process may have: for the store, the log, the broker, pushes


def bounded(connections: int = CONNECTIONS) -> type[BoundedProtocol]:
    """The protocol of one listener with at most so many connections."""
    return type("_Listener", (BoundedProtocol,), {"connection_limit": connections, "waiting": {}})


def allow_connections() -> int:
    """Let this process open as many files as it may be allowed, and say how many connections that leaves it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return CONNECTIONS if hard == resource.RLIM_INFINITY else max(64, min(CONNECTIONS, hard - SPARE_FILES))


class _Parser(httptools.HttpRequestParser):
    """The parser of httptools without upgrades.

    Behind a header that offers one it takes the rest for another protocol, so that the body would be lost, or be read
    as the next request. A new parser gets the header again, without the offer, and goes on.
    """

    def __init__(self, protocol: BoundedProtocol) -> None:
        super().__init__(protocol)
        self.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it
        self._protocol = protocol

    def feed_data(self, data: Any) -> None:
        parser = self
        while True:
            try:
                super(_Parser, parser).feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                (read,) = upgrade.args
                data = self._protocol.header_without_upgrade() + data[read:]
                parser = self._protocol.parser = _Parser(self._protocol)
            else:
                return


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol on httptools, with a deadline and a size for the header and a deadline for reading answers.

    A timer runs from the opening of the connection, and again from the first byte of each further request, until the
    header is complete. Between requests uvicorn's own keep-alive timer runs.
    """

    header_seconds = SECONDS
    unread_seconds = UNREAD_SECONDS
    connection_limit = CONNECTIONS
    waiting: ClassVar[dict[BoundedProtocol, None]] = {}  # without a request under way, the longest waiting first

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.parser = _Parser(self)
        self._offered: float | None = None  # when the request began of which the header is read again
        self._header_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._in_header = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_header()
        if len(self.connections) > self.connection_limit:
            longest = next(iter(self.waiting))  # there is one at least: this
            del self.waiting[longest]
            longest.transport.abort()

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
        self.scope["state"][BEGAN] = self.loop.time() if self._offered is None else self._offered
        self._offered = None
        self._in_header = True

    def header_without_upgrade(self) -> bytes:
        """The header that was read, as one that offers no upgrade."""
        self._offered = self.scope["state"][BEGAN]
        lines = [b"%s %s HTTP/1.1" % (self.parser.get_method(), self.url)]
        for name, value in self.headers:
            if name == b"connection":
                tokens = [token.strip() for token in value.split(b",")]
                value = b", ".join(token for token in tokens if token.lower() not in UPGRADE)
            if name not in UPGRADE and (value or name != b"connection"):
                lines.append(b"%s: %s" % (name, value))
        return b"\r\n".join([*lines, b"\r\n"])

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT" or self.parser.get_http_version() != "1.1":
                raise ValueError("a tunnel, or an upgrade from a version that has none")  # as below
            return  # it is read again
        self._in_header = False
        self._header_complete()
        if not self._one_reading():
            raise ValueError("two readers could take this header in two ways")  # the parser's error: send_400_response
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn answers to bytes that are no HTTP; ours is a problem like every other."""
        self._refuse(BadRequest("not a valid HTTP/1.1 request"))

    def on_message_complete(self) -> None:
        if self._in_header:
            return  # an upgrade was offered
        super().on_message_complete()
        self.scope["state"][ARRIVED] = True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.__class__ = Sending  # uvicorn makes it, and has no other place to say which
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and not self._answering() and not self._in_header:
            self.waiting[self] = None

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._unread_timer is None:
            self._unread_timer = self.loop.call_later(self.unread_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _one_reading(self) -> bool:
        """RFC 9112: HTTP/1.1 with one Host (3.2); chunked and no other coding, never of an HTTP/1.0 client (6.1)."""
        version = self.parser.get_http_version()
        hosts, codings = 0, []
        for name, value in self.headers:  # names in small letters: ASGI's form
            if name == b"host":
                hosts += 1
            elif name == b"transfer-encoding":
                codings.append(value.strip().lower())
        if version == "1.1":
            return hosts == 1 and codings in ([], [b"chunked"])
        return version == "1.0" and hosts <= 1 and not codings

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _expect_header(self) -> None:
        self._header_bytes = 0
        self.waiting.setdefault(self)
        self._header_timer = self.loop.call_later(self.header_seconds, self._too_slow)

    def _header_complete(self) -> None:
        self._header_bytes = 0
        self.waiting.pop(self, None)
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
