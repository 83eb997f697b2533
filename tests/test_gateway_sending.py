"""Answers as `Sending` writes them against uvicorn's own way: the same bytes, the same state, the same errors."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.sending import MOST, Sending

TYPE = (b"Content-Type", b"application/json")
DATE = (b"date", b"Mon, 30 Nov 2026 22:40:00 GMT")


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def sent(kind: type[RequestResponseCycle], messages: list[dict[str, Any]], **options: Any) -> tuple[list[bytes], Any]:
    """What is written, piece by piece; the state in the end, with the error's text if there is one."""

    async def run() -> tuple[list[bytes], Any]:
        wire, done = Wire(), []
        cycle = kind(
            scope={"method": options.get("method", "POST")},
            transport=wire,
            flow=FlowControl(wire),
            logger=logging.getLogger("test"),
            access_logger=logging.getLogger("test"),
            access_log=False,
            default_headers=[DATE],
            message_event=asyncio.Event(),
            expect_100_continue=options.get("expects", False),
            keep_alive=options.get("keep_alive", True),
            on_response=lambda: done.append(True),
        )
        cycle.disconnected = options.get("disconnected", False)
        error = None
        for message in messages:
            try:
                await cycle.send(message)
            except (RuntimeError, KeyError) as raised:
                error = f"{type(raised).__name__}: {raised}"
                break
        state = (cycle.response_complete, cycle.keep_alive, cycle.waiting_for_100_continue, done, wire.closed, error)
        return wire.writes, (*state, cycle.message_event.is_set())

    return asyncio.run(run())


def start(*headers: tuple[bytes, bytes], status: int = 200) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


def length(count: int) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % count


def alike(messages: list[dict[str, Any]], **options: Any) -> list[bytes]:
    ours, reference = (sent(kind, messages, **options) for kind in (Sending, RequestResponseCycle))
    assert ours[1] == reference[1]
    assert b"".join(ours[0]) == b"".join(reference[0])
    return ours[0]


@pytest.mark.parametrize("data", [b"", b"{}", bytes(range(256)), b"x" * MOST])
def test_a_whole_answer_is_one_write(data: bytes) -> None:
    assert len(alike([start(TYPE, (b"X-Tab", b"a\tb \xff"), length(len(data))), body(data)])) == 1


@pytest.mark.parametrize(
    "messages",
    [
        [start(TYPE, length(MOST + 1)), body(b"x" * (MOST + 1))],
        [start(TYPE), body(b"{}")],  # chunked
        [start(TYPE), body()],
        [start(TYPE), body(b"a", more=True), body(b"b"), ],
        [start(TYPE, length(2)), body(b"a", more=True), body(b"b")],
        [start(TYPE, length(3)), body(b"ab")],  # too short
        [start(TYPE, length(1)), body(b"ab")],  # too long
        [start(TYPE, length(2), length(2)), body(b"ab")],
        [start((b"content-length", b"02")), body(b"ab")],
        [start(length(2), (b"transfer-encoding", b"chunked")), body(b"ab")],
        [start(length(2), (b"connection", b"close")), body(b"ab")],
        [start(length(2), (b"Connection", b"keep-alive")), body(b"ab")],
        [start(status=204), body()],
        [start(status=304), body()],
        [start(length(0), status=499), body()],
        [start(length(0), status=999), body()],
        [start(length(2)), body(b"ab"), body(b"c")],
        [start(length(2)), start(length(2)), body(b"ab")],
        [body(b"ab")],
        [{"type": "http.response.start", "status": 200}, {"type": "http.response.body"}],
        [start(length(2), (b"x-a", b"b\r\nx-c: d")), body(b"ab")],
        [start(length(2), (b"x-a\r\nx-b", b"c")), body(b"ab")],
        [start(length(2), (b"x a", b"c")), body(b"ab")],
        [start(length(2), (b"x-a", b"\0")), body(b"ab")],
        [start(length(2), (b"x-a", b"\x7f")), body(b"ab")],
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize(
    "options", [{}, {"method": "HEAD"}, {"keep_alive": False}, {"disconnected": True}, {"expects": True}], ids=str
)
def test_whatever_else_is_sent_as_uvicorn_sends_it(messages: list[dict[str, Any]], options: dict[str, Any]) -> None:
    if len(messages) > 1 and messages[1]["type"] == "http.response.start":
        assert sent(Sending, messages, **options)[0] in ([], sent(RequestResponseCycle, messages, **options)[0])
    else:
        alike(messages, **options)


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=3), st.binary(max_size=3)), max_size=3), st.binary(max_size=4))
def test_any_header_is_sent_or_refused_alike(headers: list[tuple[bytes, bytes]], data: bytes) -> None:
    alike([start(*headers, length(len(data))), body(data)])
