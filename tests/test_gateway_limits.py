"""The outermost layer: sizes, times, headers, what is counted and what is said when something breaks."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
import structlog
from prometheus_client import REGISTRY, generate_latest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway import limits
from gateway.limits import Edge

pytestmark = pytest.mark.anyio

CANARY = "110101190001010014"


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def ignore(_: Request) -> PlainTextResponse:
    return PlainTextResponse("early")


async def breaks(_: Request) -> PlainTextResponse:
    raise ValueError(CANARY)


async def breaks_late(_: Request) -> StreamingResponse:
    async def body() -> Any:
        yield b"half"
        raise KeyError(CANARY)

    return StreamingResponse(body())


def edge() -> ASGIApp:
    routes = [
        Route("/echo/{name}", echo, methods=["POST"]),
        Route("/ignore", ignore, methods=["POST"]),
        Route("/breaks", breaks),
        Route("/breaks-late", breaks_late),
        Route("/v1/datasets/{dataset}/records", echo, methods=["POST"]),
    ]
    return Edge(Router(routes))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "LINGER_SECONDS", 0.05)


@pytest.fixture
def client() -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(edge()), base_url="http://gateway")


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


def bare(method: str = "POST", path: str = "/echo/x", *headers: tuple[bytes, bytes]) -> Scope:
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": [*headers]}


async def talk(scope: Scope, *messages: Message | float) -> list[Message]:
    """Call the edge with these messages; a number is a pause of that many seconds before the next."""
    waiting, sent = list(messages), []

    async def receive() -> Message:
        while waiting:
            message = waiting.pop(0)
            if not isinstance(message, float):
                return message
            await asyncio.sleep(message)
        await asyncio.sleep(3600)
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)

    await edge()(scope, receive, send)
    return sent


def problem(messages: list[Message]) -> dict[str, Any]:
    body = b"".join(message.get("body", b"") for message in messages)
    found: dict[str, Any] = json.loads(body)
    assert found["status"] == messages[0]["status"]
    return found


async def test_every_answer_has_an_id_of_ours_and_the_security_headers(client: httpx2.AsyncClient) -> None:
    answers = [
        await client.post("/echo/x", content=b"abc", headers={"x-request-id": CANARY}),
        await client.get("/nothing"),
        await client.get("/breaks"),
    ]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 3
    for answer in answers:
        assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["x-request-id"])
        for name, text in limits.SECURITY_HEADERS.items():
            assert answer.headers[name] == text
        assert "server" not in answer.headers


async def test_a_body_is_counted_not_believed() -> None:
    exact = b"x" * limits.BODY_BYTES
    sent = await talk(bare(), {"type": "http.request", "body": exact, "more_body": False})
    assert sent[0]["status"] == 200
    chunk: Message = {"type": "http.request", "body": b"x" * 300_000, "more_body": True}
    header = (b"transfer-encoding", b"chunked")
    sent = await talk(bare("POST", "/echo/x", header), chunk, chunk, chunk, chunk, chunk)
    assert problem(sent)["type"] == "/errors/body-too-large"
    assert (b"connection", b"close") in sent[0]["headers"]


@pytest.mark.parametrize("length", [b"1048577", b"9" * 30, b"-1", b"x", b"1e3"])
async def test_an_announced_body_is_refused_before_it_comes(length: bytes) -> None:
    sent = await talk(bare("POST", "/echo/x", (b"content-length", length)))
    assert problem(sent)["type"] == "/errors/body-too-large"


async def test_headers_over_16_kib_are_refused() -> None:
    for headers in ([(b"x", b"y" * 16_384)], [(b"x%d" % n, b"y") for n in range(3_000)]):
        sent = await talk(bare("POST", "/echo/x", *headers))
        assert problem(sent)["type"] == "/errors/headers-too-large"
    scope = bare() | {"query_string": b"q" * 17_000}
    assert problem(await talk(scope))["status"] == 431


async def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "allowance", lambda *_: limits.Allowance(seconds=0.2))
    dribble: list[Message | float] = []
    for _ in range(20):
        dribble += [{"type": "http.request", "body": b"x", "more_body": True}, 0.05]
    began = asyncio.get_running_loop().time()
    sent = await talk(bare("POST", "/echo/x", (b"content-length", b"1000")), *dribble)
    assert problem(sent)["type"] == "/errors/too-slow"
    assert asyncio.get_running_loop().time() - began < 0.6
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_push_earns_time_by_what_it_sends() -> None:
    push = limits.allowance("POST", "/v1/datasets/civil.person/records")
    assert push.bytes == 64 * 1024 * 1024
    assert push.deadline(100.0, 0) == 110.0
    assert push.deadline(100.0, 640_000) == 120.0
    assert limits.allowance("POST", "/v1/citizens/view").deadline(100.0, 10**6) == 110.0
    assert limits.allowance("GET", "/v1/datasets/civil.person/records").bytes == limits.BODY_BYTES


async def test_time_counts_from_the_first_byte_of_the_request() -> None:
    began = asyncio.get_running_loop().time() - 9.9
    scope = bare("POST", "/echo/x", (b"content-length", b"9")) | {"state": {limits.BEGAN: began}}
    sent = await talk(scope, {"type": "http.request", "body": b"x", "more_body": True})
    assert problem(sent)["status"] == 408


async def test_an_answer_that_did_not_wait_for_the_body_still_drains_it() -> None:
    parts: list[Message | float] = [
        {"type": "http.request", "body": b"x" * 1000, "more_body": True},
        {"type": "http.request", "body": b"x" * 1000, "more_body": False},
    ]
    sent = await talk(bare("POST", "/ignore", (b"content-length", b"2000")), *parts)
    assert sent[0]["status"] == 200
    assert (b"connection", b"close") in sent[0]["headers"]
    assert [message.get("more_body") for message in sent[1:]] == [True, False]
    assert b"".join(message["body"] for message in sent[1:]) == b"early"


async def test_a_client_that_leaves_is_not_an_error(logged: list[Any]) -> None:
    sent = await talk(bare("POST", "/echo/x", (b"content-length", b"9")), {"type": "http.disconnect"})
    assert sent == []
    assert [(entry["event"], entry["status"]) for entry in logged] == [("request", 499)]


async def test_what_breaks_says_nothing_of_what_was_sent(client: httpx2.AsyncClient, logged: list[Any]) -> None:
    answer = await client.get("/breaks")
    assert answer.status_code == 500
    assert answer.json()["type"] == "/errors/internal"
    assert "detail" not in answer.json()
    (error,) = [entry for entry in logged if entry["event"] == "unexpected error"]
    assert error["error"] == "builtins.ValueError"
    assert any("test_gateway_limits.py" in place and "breaks" in place for place in error["at"])
    assert error["request_id"] == answer.json()["request_id"] == answer.headers["x-request-id"]
    assert CANARY not in answer.text + str(logged)


async def test_an_answer_that_breaks_half_way_is_broken_off(logged: list[Any]) -> None:
    with pytest.raises(ConnectionAbortedError) as caught:
        await talk(bare("GET", "/breaks-late"))
    assert caught.value.__suppress_context__
    assert CANARY not in str(caught.value) + str(logged)


async def test_metrics_do_not_grow_with_what_scanners_try(client: httpx2.AsyncClient) -> None:
    def series() -> int:
        family = next(each for each in REGISTRY.collect() if each.name == "exchange_http_requests")
        return len(family.samples)

    await client.get("/nothing")
    await client.request("FOO", "/nothing")
    await client.request("FOO", "/echo/x")
    before = series()
    for number in range(300):
        await client.get(f"/{CANARY}/{number}?{number}")
        await client.request(f"FOO{number}", f"/x{number}")
        await client.request(f"FOO{number}", f"/echo/{number}")
    assert series() == before
    assert CANARY.encode() not in generate_latest()


async def test_the_log_has_the_template_and_our_notes_only(client: httpx2.AsyncClient, logged: list[Any]) -> None:
    await client.post(f"/echo/{CANARY}?q={CANARY}", content=CANARY, headers={"x-officer": CANARY})
    (entry,) = logged
    assert (entry["route"], entry["method"], entry["status"]) == ("/echo/{name}", "POST", 200)
    assert set(entry) == {"event", "log_level", "request_id", "method", "route", "status", "ms"}


async def test_other_protocols_are_not_spoken() -> None:
    async def nothing() -> Message:
        raise AssertionError

    async def refuse(_: Message) -> None:
        raise AssertionError

    receive: Receive = nothing
    send: Send = refuse
    await edge()({"type": "websocket", "path": "/"}, receive, send)
