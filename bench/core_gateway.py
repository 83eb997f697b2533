"""The same core without a gateway around it: identity, decisions, reading, merging, audit and receipt.

A minimal ASGI application calls it. What it has not is what the edge does: bounds on what is sent, the forms of bodies
and headers, the bounds of a client, problems, security headers, the log line.

    BENCH_CONFIG=exchange.toml uvicorn --factory bench.core_gateway:create_app
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson

from exchange.clock import system_clock
from exchange.disclosure import ViewRequest
from exchange.settings import Settings
from exchange.subjects import parse
from exchange.wiring import spare_the_collector
from gateway.app import Parts
from gateway.limits import NOTES
from gateway.parts import make_parts


def create_app() -> Any:
    parts = make_parts(Settings.load(Path(os.environ["BENCH_CONFIG"])), system_clock)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await _live(parts, receive, send)
            return
        if scope["method"] != "POST":
            await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
            await send({"type": "http.response.body", "body": b""})
            return
        scope[NOTES] = {}
        caller = await parts.identity.caller(scope)
        purpose = next(value for name, value in scope["headers"] if name == b"exchange-purpose").decode()
        asked = orjson.loads((await receive())["body"])
        view, receipt = await parts.disclosure.disclose(
            ViewRequest(client=caller.client, subject=parse("cn.ric", asked["id"]), purpose=purpose)
        )
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(view.body)),
            (b"content-digest", view.content_digest.encode()),
            (b"exchange-receipt", receipt.encode().encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": view.body})

    return app


async def _live(parts: Parts, receive: Any, send: Any) -> None:
    """Start and stop the parts as the gateway does."""
    await receive()
    async with parts.running():
        spare_the_collector()
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
