"""The application: every route with what it calls, and around all of them the edge.

`build` takes the parts, whoever made them; `gateway.parts` makes them from the settings.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from exchange.agreements import Bundle
from exchange.disclosure import Disclosure
from exchange.errors import AuditUnavailable, BadRequest, ExchangeError, Forbidden, NotFound, NothingPermitted
from exchange.registry import StoreRegistry
from exchange.wiring import spare_the_collector
from gateway import openapi
from gateway.background import Background, Job
from gateway.harvest import Harvest
from gateway.identity import CALLER, Identity
from gateway.issuer import DevIssuer
from gateway.limits import REQUEST_ID, Edge, Refusal
from gateway.problems import MethodNotAllowed, SubjectsExhausted, render
from gateway.push import Pushing
from gateway.routes import contracts, datasets, health, pages, registry, tokens, views
from gateway.trail import Trail

log = structlog.get_logger("gateway")

# Refusals of a known client that are entries of the audit log; disclose writes its own.
_NOTED = (Forbidden, SubjectsExhausted)

# Nothing of FastAPI's own telemetry: its spans hold URLs as they were sent, its logs the texts of errors.
_NO_TELEMETRY: TelemetryConfig = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes call. `opening` runs at the start, `background` until the stop, `closing` then; each in order."""

    identity: Identity
    bundle: Callable[[], Bundle]
    disclosure: Disclosure
    trail: Trail
    harvest: Harvest
    registry: StoreRegistry
    pushing: Pushing
    issuer: DevIssuer | None
    checks: Mapping[str, Callable[[], bool]]
    signing_keys: Mapping[str, Any]
    opening: Sequence[Callable[[], Awaitable[None]]] = ()
    background: Sequence[Job] = ()
    closing: Sequence[Callable[[], Awaitable[None]]] = field(default=())

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the parts, keep their background tasks, close them in the end whatever happens."""
        async with contextlib.AsyncExitStack() as stack:
            for close in reversed(self.closing):
                stack.push_async_callback(close)
            for open_ in self.opening:
                await open_()
            background = Background(self.background)
            background.start()
            stack.push_async_callback(background.end)
            yield


def build(parts: Parts, title: str = "Exchange") -> Edge:
    """The ASGI application of these parts."""
    app = FastAPI(
        title=title,
        version=version("exchange-bus"),
        telemetry=_NO_TELEMETRY,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # it would repeat the path
        lifespan=lambda app: _running(app, parts),
    )
    refusal = _refusal(parts.trail)
    for kind in (ExchangeError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _answer(refusal))
    app.add_exception_handler(ClientDisconnect, _gone)
    direct = views.routes(parts.identity, parts.bundle, parts.disclosure, parts.harvest)
    app.router.routes.extend(direct)  # for their other methods, which are none
    app.include_router(contracts.router(parts.identity, parts.bundle))
    app.include_router(datasets.router(parts.identity, parts.bundle, parts.pushing, parts.harvest))
    app.include_router(registry.router(parts.identity, parts.registry, parts.trail.act))
    app.include_router(health.router(parts.checks, parts.signing_keys))
    if parts.issuer is not None:
        app.include_router(tokens.router(parts.issuer))
    app.include_router(pages.router(lambda: openapi.document(app)))
    return Edge(app, direct=direct, refusal=refusal)


@contextlib.asynccontextmanager
async def _running(app: FastAPI, parts: Parts) -> AsyncIterator[None]:
    async with parts.running():
        openapi.document(app)  # now, not under the first request: it takes a tenth of a second
        spare_the_collector()  # p99 of a view went from 48 to 7 ms
        yield


def _refusal(trail: Trail) -> Refusal:
    """What turns errors into answers; a refusal of a known client is written to the audit log first."""

    async def refusal(scope: Scope, error: Exception) -> tuple[int, dict[str, str], bytes]:
        ours = _ours(error)
        caller = scope.get(CALLER)
        if caller is not None and isinstance(ours, _NOTED) and not isinstance(ours, NothingPermitted):
            try:
                await trail.refused(caller.client, scope, ours)
            except AuditUnavailable as unavailable:
                ours = unavailable
        form = registry.confluent if scope["path"].startswith(f"{registry.PREFIX}/") else render
        return form(ours, scope[REQUEST_ID])

    return refusal


def _answer(refusal: Refusal) -> Callable[[Request, Exception], Awaitable[Response]]:
    """The same as a handler of FastAPI."""

    async def handler(request: Request, error: Exception) -> Response:
        status, headers, body = await refusal(request.scope, error)
        return Response(body, status, headers)

    return handler


def _ours(error: Exception) -> Exception:
    """An error of the framework as one of ours; every other as it is."""
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            return MethodNotAllowed((error.headers or {}).get("Allow", ""))
        return NotFound("there is nothing at this path") if error.status_code == 404 else BadRequest()
    return BadRequest("the path or the query is malformed") if isinstance(error, RequestValidationError) else error


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody is there to read it; it is what the log and the metrics show
