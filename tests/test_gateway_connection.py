"""A real uvicorn with our protocol: headers that never end, answers that nobody reads, bytes that are no HTTP."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router

from gateway import connection, limits
from gateway.connection import BoundedProtocol
from gateway.limits import Edge
from tests.support.server import connect, read_all, serving

GET = b"GET /fast HTTP/1.1\r\nHost: g\r\n\r\n"


async def fast(_: Request) -> Response:
    return PlainTextResponse("ok")


async def echo(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


async def large(_: Request) -> Response:
    return Response(b"x" * 30_000_000)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BoundedProtocol, "header_seconds", 0.5)
        patch.setattr(BoundedProtocol, "unread_seconds", 0.5)
        patch.setattr(limits, "LINGER_SECONDS", 0.2)
        patch.setattr(limits, "allowance", lambda *_: limits.Allowance(seconds=0.8))
        routes = [Route("/fast", fast), Route("/echo", echo, methods=["POST"]), Route("/large", large)]
        with serving(Edge(Router(routes))) as number:
            yield number


def answer(received: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split(" ")[1]), headers, body


def refused(received: bytes, status: int, slug: str) -> None:
    found, headers, body = answer(received)
    assert found == status
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/problem+json"
    assert int(headers["content-length"]) == len(body)
    assert headers["x-content-type-options"] == "nosniff"
    assert json.loads(body)["type"] == f"/errors/{slug}"


def served(open_socket: socket.socket) -> None:
    """Send a good request and read the whole of its answer."""
    open_socket.sendall(GET)
    received = b""
    while not received.endswith(b"ok"):
        received += open_socket.recv(65_536)
    assert b"200 OK" in received


def within(began: float, low: float, high: float) -> None:
    assert low <= time.monotonic() - began <= high


def test_a_connection_that_says_nothing_is_closed(port: int) -> None:
    began = time.monotonic()
    with connect(port) as open_socket:
        refused(read_all(open_socket), 408, "too-slow")
    within(began, 0.4, 2)


def test_a_header_that_dribbles_is_closed(port: int) -> None:
    began = time.monotonic()
    with connect(port) as open_socket:
        open_socket.sendall(b"GET /fast HTTP/1.1\r\n")
        try:
            for number in range(40):
                open_socket.sendall(b"x%d: y\r\n" % number)
                time.sleep(0.05)
        except OSError:
            pass
        else:
            pytest.fail("the socket stayed open")
    within(began, 0.3, 2)


def test_line_breaks_do_not_keep_a_connection_open(port: int) -> None:
    with connect(port) as open_socket:
        served(open_socket)
        began = time.monotonic()
        try:
            for _ in range(40):
                open_socket.sendall(b"\r\n")
                time.sleep(0.05)
        except OSError:
            pass
        else:
            pytest.fail("the socket stayed open")
        within(began, 0.3, 2)


def test_the_second_request_of_a_connection_has_a_deadline_too(port: int) -> None:
    with connect(port) as open_socket:
        served(open_socket)
        time.sleep(0.7)  # longer than a header may take: an idle connection is uvicorn's keep-alive matter
        served(open_socket)
        began = time.monotonic()
        open_socket.sendall(b"GET /fast")
        refused(read_all(open_socket), 408, "too-slow")
        within(began, 0.4, 2)


@pytest.mark.parametrize("piece", [b"x: " + b"y" * 4000 + b"\r\n", b"z" * 5000])
def test_a_header_without_end_is_refused_at_16_kib(port: int, piece: bytes) -> None:
    with connect(port) as open_socket:
        open_socket.sendall(b"GET /fast HTTP/1.1\r\nHost: g\r\na: ")
        sent = 0
        received = b""
        try:
            while sent < 1_000_000:
                open_socket.sendall(piece)
                sent += len(piece)
                time.sleep(0.001)
        except OSError:
            pass
        assert sent < 1_000_000
        received = read_all(open_socket)
        if received:  # a reset may have taken it
            refused(received, 431, "headers-too-large")


def test_a_whole_header_over_16_kib_is_refused_in_words(port: int) -> None:
    with connect(port) as open_socket:
        open_socket.sendall(b"GET /fast HTTP/1.1\r\nHost: g\r\na: " + b"x" * 16_400 + b"\r\n\r\n")
        found, _, body = answer(read_all(open_socket))
        assert found == 431
        assert json.loads(body)["type"] == "/errors/headers-too-large"


NO_HTTP = {
    "noise": b"\x16\x03\x01\x02\x00\x01\x00\x01",
    "bad version": b"GET / HTTP/9.9\r\n\r\n",
    "two lengths": b"POST /echo HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "length and chunked": b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "blank before colon": b"GET /fast HTTP/1.1\r\nHost : g\r\n\r\n",
    "folded": b"GET /fast HTTP/1.1\r\nHost: g\r\nA: b\r\n c\r\n\r\n",
    "bare line feed in a chunk": b"POST /echo HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n",
    "bad chunk": b"POST /echo HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "null in a header": b"GET /fast HTTP/1.1\r\nHost: g\r\nA: \x00\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_what_two_parsers_could_split_in_two_ways_is_refused(port: int, sent: bytes) -> None:
    with connect(port) as open_socket:
        open_socket.sendall(sent)
        received = read_all(open_socket)
        assert b"200 OK" not in received
        assert b" 400 " in received or b" 408 " in received or received == b""


def test_a_body_that_dribbles_is_closed(port: int) -> None:
    began = time.monotonic()
    with connect(port) as open_socket:
        open_socket.sendall(b"POST /echo HTTP/1.1\r\nHost: g\r\nContent-Length: 1000\r\n\r\n")
        try:
            for _ in range(60):
                open_socket.sendall(b"x")
                time.sleep(0.05)
        except OSError:
            pass
        else:
            pytest.fail("the socket stayed open")
    within(began, 0.5, 3)


def test_a_refusal_reaches_a_client_that_is_still_sending(port: int) -> None:
    with connect(port) as open_socket:
        size = limits.BODY_BYTES + 500_000
        open_socket.sendall(b"POST /echo HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % size)
        open_socket.sendall(b"x" * 300_000)
        refused_status, _, body = answer(read_all(open_socket))
        assert refused_status == 413
        assert json.loads(body)["type"] == "/errors/body-too-large"


def test_an_answer_that_nobody_reads_is_given_up(port: int) -> None:
    with socket.socket() as open_socket:
        open_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        open_socket.settimeout(5)
        open_socket.connect(("127.0.0.1", port))
        open_socket.sendall(b"GET /large HTTP/1.1\r\nHost: g\r\n\r\n")
        time.sleep(1.2)
        received = len(read_all(open_socket))
        assert received < 30_000_000


def test_good_requests_pass_while_slow_sockets_hang(port: int) -> None:
    slow = [connect(port) for _ in range(200)]
    try:
        for each in slow:
            each.sendall(b"GET /fast HTTP/1.1\r\nHo")
        began = time.monotonic()
        with connect(port) as good:
            served(good)
        within(began, 0, 0.4)
    finally:
        for each in slow:
            each.close()


def test_the_defaults_are_those_of_the_promise() -> None:
    assert connection.SECONDS == 10.0
    assert connection.HEADER_BYTES == 16 * 1024
