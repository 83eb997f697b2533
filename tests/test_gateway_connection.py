"""A real uvicorn with our protocol: headers that never end, answers that nobody reads, bytes that are no HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import subprocess
import sys
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


# The second request of each: a proxy that reads the first in another way would have taken it for a part of that.
SECOND = b"GET /fast?second HTTP/1.1\r\nHost: g\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: g\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAA\r\n"

NO_HTTP = {
    "noise": b"\x16\x03\x01\x02\x00\x01\x00\x01",
    "bad version": b"GET / HTTP/9.9\r\n\r\n",
    "version 0.9": b"GET /fast\r\n\r\n",
    "version 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "upgrade from version 1.0": b"GET /fast HTTP/1.0\r\nHost: g\r\n" + OFFER + b"\r\n",
    "upgrade to two hosts": b"GET /fast HTTP/1.1\r\nHost: g\r\nHost: h\r\n" + OFFER + b"\r\n",
    "upgrade with two lengths": POST + OFFER + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "CONNECT": b"CONNECT evil:443 HTTP/1.1\r\nHost: g\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "one length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "length with a sign": POST + b"Content-Length: +3\r\n\r\nabc",
    "length in hex": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "length of nothing": POST + b"Content-Length:\r\n\r\nabc",
    "length beyond 64 bits": POST + b"Content-Length: 18446744073709551619\r\n\r\nabc",
    "length and chunked": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
    "coding nobody knows": POST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "coding identity": POST + b"Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
    "coding after chunked": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "coding before chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "coding twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "coding behind a vertical tab": POST + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "coding with a null": POST + b"Transfer-Encoding: chunked\x00\r\n\r\n0\r\n\r\n",
    "coding of version 1.0": b"POST /echo HTTP/1.0\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no host": b"GET /fast HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /fast HTTP/1.1\r\nHost: g\r\nHost: h\r\n\r\n",
    "two hosts of version 1.0": b"GET /fast HTTP/1.0\r\nHost: g\r\nHost: h\r\n\r\n",
    "blank before colon": b"GET /fast HTTP/1.1\r\nHost : g\r\n\r\n",
    "folded": b"GET /fast HTTP/1.1\r\nHost: g\r\nA: b\r\n c\r\n\r\n",
    "lines that end in line feeds": b"GET /fast HTTP/1.1\nHost: g\n\n",
    "lines that end in returns": b"GET /fast HTTP/1.1\rHost: g\r\r",
    "a return inside a header": b"GET /fast HTTP/1.1\r\nHost: g\r\nA: b\rTransfer-Encoding: chunked\r\n\r\n",
    "null in a header": b"GET /fast HTTP/1.1\r\nHost: g\r\nA: \x00\r\n\r\n",
    "two blanks in the path": b"GET /fast /fast HTTP/1.1\r\nHost: g\r\n\r\n",
    "bare line feed in a chunk": CHUNKED + b"3\nabc\n0\n\n",
    "bad chunk": CHUNKED + b"zz\r\n",
    "chunk of another size": CHUNKED + b"3\r\nabcX\r\n0\r\n\r\n",
    "chunk size with a blank": CHUNKED + b"3 \r\nabc\r\n0\r\n\r\n",
    "chunk size in 0x": CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
    "chunk size below nothing": CHUNKED + b"-1\r\nabc\r\n0\r\n\r\n",
    "chunk size beyond 64 bits": CHUNKED + b"10000000000000003\r\nabc\r\n0\r\n\r\n",
    "chunk extension with a line feed": CHUNKED + b"3;a\nabc\r\n0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("sent", NO_HTTP.values(), ids=NO_HTTP)
def test_what_two_parsers_could_split_in_two_ways_is_refused(port: int, sent: bytes) -> None:
    with connect(port) as open_socket:
        open_socket.sendall(sent + SECOND)
        received = read_all(open_socket)
        assert b"200 OK" not in received
        assert b" 400 " in received or b" 408 " in received or received == b""


ONE_READING = {
    "a request in a body": b"GET /fast HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(SECOND) + SECOND,
    "a request in a chunk": CHUNKED + b"%x\r\n" % len(SECOND) + SECOND + b"\r\n0\r\n\r\n",
    "a body that was waited for": POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(SECOND) + SECOND,
    "an upgrade with a request in its body": POST + OFFER + b"Content-Length: %d\r\n\r\n" % len(SECOND) + SECOND,
    "an upgrade with a request in a chunk": POST
    + OFFER
    + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(SECOND)
    + SECOND
    + b"\r\n0\r\n\r\n",
    "another host in the path": b"GET http://other/fast HTTP/1.1\r\nHost: g\r\n\r\n",
}


@pytest.mark.parametrize("sent", ONE_READING.values(), ids=ONE_READING)
def test_what_has_one_reading_is_one_request(port: int, sent: bytes) -> None:
    with connect(port) as open_socket:
        open_socket.sendall(sent)
        open_socket.shutdown(socket.SHUT_WR)
        assert read_all(open_socket).count(b"200 OK") == 1


@pytest.mark.parametrize("size", [1, 7, 60, 100_000])
@pytest.mark.parametrize("protocol", [b"h2c", b"websocket"])
def test_an_upgrade_that_is_offered_is_not_taken_and_costs_nothing(port: int, size: int, protocol: bytes) -> None:
    """As Java's own client sends it; with body, pipelined, in pieces of any size, on a connection that goes on."""
    offer = OFFER.replace(b"h2c", protocol)
    sent = (
        POST + offer + b"Content-Length: 5\r\n\r\nhello" + b"GET /fast HTTP/1.1\r\nHost: g\r\n" + offer + b"\r\n"
    ) * 2
    with connect(port) as open_socket:
        for at in range(0, len(sent), size):
            open_socket.sendall(sent[at : at + size])
        received = b""
        while len(re.findall(rb"\r\n\r\n(?:5|ok)", received)) < 4:
            received += open_socket.recv(65_536) or pytest.fail(received.decode())
        assert re.findall(rb"\r\n\r\n(5|ok)", received) == [b"5", b"ok"] * 2
        assert received.count(b"HTTP/1.1 200 OK") == 4
        served(open_socket)


def test_a_connection_that_ends_with_its_upgrade_is_closed(port: int) -> None:
    with connect(port) as open_socket:
        open_socket.sendall(
            b"GET /fast HTTP/1.1\r\nHost: g\r\n" + OFFER.replace(b"Upgrade,", b"Upgrade, close,") + b"\r\n"
        )
        assert b"200 OK" in read_all(open_socket)


def test_every_second_request_has_one_reading_too(port: int) -> None:
    with connect(port) as open_socket:
        served(open_socket)
        open_socket.sendall(NO_HTTP["two hosts"])
        refused(read_all(open_socket), 400, "bad-request")


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


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A listener with room for twenty connections, each of which may be silent for a long time."""
    monkeypatch.setattr(BoundedProtocol, "header_seconds", 30.0)
    routes = [Route("/fast", fast), Route("/slow", slow)]
    with serving(Edge(Router(routes)), connections=20) as number:
        yield number


async def slow(_: Request) -> Response:
    await asyncio.sleep(1)
    return PlainTextResponse("late but ok")


def test_silent_sockets_give_way_to_good_requests(narrow: int) -> None:
    """As many as there is room for and twice as many more: every good request is served, and who said nothing goes."""
    with contextlib.ExitStack() as stack:
        under_way = stack.enter_context(connect(narrow))
        under_way.sendall(b"GET /slow HTTP/1.1\r\nHost: g\r\n\r\n")
        kept = stack.enter_context(connect(narrow))
        silent = []
        for number in range(60):
            silent.append(stack.enter_context(connect(narrow)))
            if number % 3 == 0:
                silent[-1].sendall(b"GET /fast HTTP/1.1\r\nHo")
            if number % 10 == 0:
                served(kept := stack.enter_context(connect(narrow)))
        served(kept)  # idle between two requests, and not the one that waited longest
        assert read_all(silent[0]) == b""
        received = b""
        while not received.endswith(b"late but ok"):  # a request under way is never given up for another
            chunk = under_way.recv(4096)
            assert chunk
            received += chunk


def test_idle_connections_give_way_too(narrow: int) -> None:
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(narrow)) for _ in range(20)]
        for each in idle:
            served(each)
        served(stack.enter_context(connect(narrow)))
        assert read_all(idle[0]) == b""
        served(idle[1])


def test_a_process_allows_itself_the_files_that_it_may_have() -> None:
    code = (
        "import resource; from gateway.connection import allow_connections;"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024));"
        "print(allow_connections(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["768", "1024"]


def test_the_defaults_are_those_of_the_promise() -> None:
    assert connection.SECONDS == 10.0
    assert connection.HEADER_BYTES == 16 * 1024
