"""GET /metrics, on a listener of its own, so that what watches the gateway never stands where its clients do."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import Receive, Scope, Send


async def metrics_app(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI application that answers this one path."""
    if scope["type"] != "http":
        return
    here = scope["path"] == "/metrics" and scope["method"] in ("GET", "HEAD")
    body = generate_latest() if here else b"only GET /metrics is here\n"
    headers = [
        (b"content-type", (CONTENT_TYPE_LATEST if here else "text/plain").encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"connection", b"close"),  # a body that was sent is not read, so nothing may follow it
    ]
    await send({"type": "http.response.start", "status": 200 if here else 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})
