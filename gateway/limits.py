"""The outermost layer, pure ASGI: what holds for every request before any route sees it.

A request that arrives gets an id; its header, its body and the time that it takes to arrive are bounded (promise P10);
its answer gets the security headers; whatever goes wrong inside becomes a problem; and it is counted and logged by
route template, never by what was sent. The bounds on a header that never ends are beneath ASGI, in
`gateway.connection`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exchange.errors import ExchangeError
from exchange.logs import unexpected
from exchange.metrics import REQUESTS
from exchange.randomness import piece
from gateway.problems import BodyTooLarge, HeadersTooLarge, TooSlow, render

log = structlog.get_logger("gateway")

HEADER_BYTES = 16 * 1024
BODY_BYTES = 1024 * 1024
SECONDS = 10.0
PUSH_BYTES = 64 * 1024 * 1024
PUSH_RATE = 64_000.0  # bytes a second, after the first ten seconds

# What is drained, and for how long, after an answer that did not wait for the body: a socket closed with bytes unread
# is reset, and the client would lose the answer with it.
LINGER_BYTES = 1024 * 1024
LINGER_SECONDS = 1.0

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"})
UNMATCHED = "unmatched"

SECURITY_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

REQUEST_ID = "exchange.request_id"
BEGAN = "exchange.began"
ARRIVED = "exchange.arrived"  # in the scope's state: all of the request is here
NOTES = "exchange.notes"
NEW_NONCE = "exchange.new_nonce"  # what the client's next DPoP proof is to hold


@dataclass(frozen=True, slots=True)
class Allowance:
    """How much body a request may bring and how long it may take; `rate` bytes more earn a second more."""

    bytes: int = BODY_BYTES
    seconds: float = SECONDS
    rate: float | None = None

    def deadline(self, began: float, received: int) -> float:
        """Until when the next bytes must be here, on the loop's clock."""
        return began + self.seconds + (received / self.rate if self.rate else 0.0)


PUSH = Allowance(PUSH_BYTES, SECONDS, PUSH_RATE)
COMMON = Allowance()


def allowance(method: str, path: str) -> Allowance:
    """Pushes may be larger and take longer; everything else has the common bounds."""
    return PUSH if method == "POST" and path.startswith("/v1/datasets/") else COMMON


Refusal = Callable[[Scope, Exception], Awaitable[tuple[int, dict[str, str], bytes]]]
"""What makes an answer of an error: status, headers, body."""


@dataclass(slots=True)
class Intake:
    """One request's body as it arrives, against its allowance."""

    receive: Receive
    began: float
    allowed: Allowance
    complete: bool
    state: Mapping[str, Any]
    received: int = 0

    async def __call__(self) -> Message:
        if self.complete:
            return await self.receive()
        if ARRIVED in self.state:  # nothing to wait for: no clock
            message = await self.receive()
        else:
            try:
                async with asyncio.timeout_at(self.allowed.deadline(self.began, self.received)):
                    message = await self.receive()
            except TimeoutError:
                raise TooSlow(_slow(self.allowed)) from None
        if message["type"] == "http.request":
            self.received += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)
            if self.received > self.allowed.bytes:
                raise BodyTooLarge(_large(self.allowed))
        return message

    async def drain(self) -> None:
        """Read on a little after the answer has been given, so that it reaches a client that is still sending."""
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                rest = LINGER_BYTES
                while rest > 0:
                    message = await self.receive()
                    rest -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        return
        except TimeoutError:
            return


@dataclass(slots=True)
class Answer:
    """One request and its answer: what the edge knows of it."""

    scope: Scope
    intake: Intake
    send: Send
    request_id: str
    status: int = 0
    finished: bool = False

    async def message(self, message: Message) -> None:
        """Pass on a message of the answer; the first one gets our headers, the last one may linger."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message = {**message, "headers": self._headers(message.get("headers", ()))}
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self.finished = True
            if not self.intake.complete:
                await self.send({**message, "more_body": True})
                await self.intake.drain()
                message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self.send(message)

    async def fail(self, error: Exception) -> None:
        """Answer with a problem."""
        await self.whole(*render(error, self.request_id))

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Answer with a body that is ready."""
        pairs = [(name.encode(), text.encode("latin-1")) for name, text in headers.items()]
        pairs.append((b"content-length", b"%d" % len(body)))
        await self.message({"type": "http.response.start", "status": status, "headers": pairs})
        await self.message({"type": "http.response.body", "body": body, "more_body": False})

    def _headers(self, given: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        headers = list(given)
        names = {name.lower() for name, _ in headers}
        headers.append((b"x-request-id", self.request_id.encode()))
        headers += _SECURITY if names.isdisjoint(_SECURITY_NAMES) else [one for one in _SECURITY if one[0] not in names]
        if NEW_NONCE in self.scope:
            headers.append((b"dpop-nonce", self.scope[NEW_NONCE].encode()))
        if not self.intake.complete or self.status in _CLOSING:
            headers.append((b"connection", b"close"))
        return headers


class Edge:
    """The ASGI application that stands around all others.

    A POST to the path of a route in `direct` goes to that route past the application around it; what it raises before
    it answers, `refusal` makes an answer of.
    """

    def __init__(
        self,
        app: ASGIApp,
        clock: Callable[[], float] = time.perf_counter,
        *,
        direct: Sequence[Route] = (),
        refusal: Refusal | None = None,
    ) -> None:
        self._app = app
        self._clock = clock
        self._direct = {route.path: route for route in direct}
        self._refusal = refusal
        self.failure: ExchangeError | None = None  # why it could not start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # uvicorn is told to speak HTTP only
        started = self._clock()
        answer = self._open(scope, receive, send)
        try:
            self._check(scope, answer.intake)
            route = self._direct.get(scope["path"]) if scope["method"] == "POST" else None
            if route is None:
                await self._app(scope, answer.intake, answer.message)
            else:
                await self._past(route, scope, answer)
        except (HeadersTooLarge, BodyTooLarge, TooSlow) as error:
            await self._fail(answer, error)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except Exception as error:  # noqa: BLE001  nothing that goes wrong inside may leave with its text
            unexpected(error, request_id=answer.request_id)
            await self._fail(answer, error)
        finally:
            self._close(answer, self._clock() - started)

    async def _past(self, route: Route, scope: Scope, answer: Answer) -> None:
        scope["route"] = route
        try:
            await route.app(scope, answer.intake, answer.message)
        except (HeadersTooLarge, BodyTooLarge, TooSlow):
            raise
        except ExchangeError as error:
            if self._refusal is None or answer.status:
                raise
            await answer.whole(*await self._refusal(scope, error))

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start and stop. Why a start failed is kept for whoever runs the server; the server gets no traceback."""

        async def told(message: Message) -> None:
            await send({name: text for name, text in message.items() if name != "message"})

        try:
            await self._app(scope, receive, told)
        except ExchangeError as error:
            self.failure = error
            raise

    def _open(self, scope: Scope, receive: Receive, send: Send) -> Answer:
        request_id = scope[REQUEST_ID] = piece().hex()
        scope[NOTES] = {}
        state = scope.get("state", {})
        began = state.get(BEGAN) or asyncio.get_running_loop().time()
        has_body = False
        for name, text in scope["headers"]:
            if (name == b"content-length" and text != b"0") or name == b"transfer-encoding":
                has_body = True
        intake = Intake(receive, began, allowance(scope["method"], scope["path"]), not has_body, state)
        return Answer(scope, intake, send, request_id)

    def _check(self, scope: Scope, intake: Intake) -> None:
        """Refuse what the header tells already."""
        size = len(scope.get("raw_path") or b"") + len(scope.get("query_string", b""))
        headers = scope["headers"]
        size += 4 * len(headers) + sum(map(len, chain.from_iterable(headers)))
        if size > HEADER_BYTES:
            raise HeadersTooLarge(f"at most {HEADER_BYTES} bytes")
        for name, text in headers:
            if name == b"content-length" and (not text.isdigit() or int(text[:20]) > intake.allowed.bytes):
                raise BodyTooLarge(_large(intake.allowed))

    async def _fail(self, answer: Answer, error: Exception) -> None:
        if answer.status and not answer.finished:
            # Half an answer is out. Breaking off is the only honest end; the text of the cause stays here.
            raise ConnectionAbortedError("the answer broke off") from None
        if not answer.status:
            await answer.fail(error)

    def _close(self, answer: Answer, seconds: float) -> None:
        scope = answer.scope
        route = template(scope)
        method = scope["method"] if scope["method"] in METHODS else "other"
        _counter(route, method, answer.status or 499).inc()
        log.info(
            "request",
            request_id=answer.request_id,
            method=method,
            route=route,
            status=answer.status or 499,
            ms=round(seconds * 1000, 1),
            **scope[NOTES],
        )


def template(scope: Scope) -> str:
    """The route's template, such as `/v1/contracts/{contract}`; `unmatched` where no route was found."""
    path = getattr(scope.get("route"), "path", None)
    return path if isinstance(path, str) else UNMATCHED


def note(scope: Scope, **facts: Any) -> None:
    """Add facts to the request's log line. Never anything that was sent, but names out of our own lists."""
    notes: dict[str, Any] = scope[NOTES]
    notes.update(facts)


def security_headers(overrides: Mapping[str, str]) -> dict[str, str]:
    """The security headers with some of them replaced, for a page that needs its own."""
    return {**SECURITY_HEADERS, **overrides}


_CLOSING = (408, 413, 431)
_SECURITY = [(name.encode(), text.encode()) for name, text in SECURITY_HEADERS.items()]
_SECURITY_NAMES = frozenset(name for name, _ in _SECURITY)


@lru_cache(4096)
def _counter(route: str, method: str, status: int) -> Any:
    return REQUESTS.labels(route, method, str(status))


def _large(allowed: Allowance) -> str:
    return f"at most {allowed.bytes} bytes"


def _slow(allowed: Allowance) -> str:
    rate = f", and {int(allowed.rate)} bytes a second after that" if allowed.rate else ""
    return f"the whole request within {allowed.seconds:g} seconds{rate}"
