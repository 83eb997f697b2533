"""Bodies as routes read them: the media type first, then strict JSON."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive, Scope

from gateway import strictjson
from gateway.problems import MediaTypeRefused

JSON = ("application/json",)
_MEDIA_TYPE = re.compile(rb'([a-z]+/[a-z0-9.+-]+)(?:\s*;\s*charset="?utf-8"?)?\s*', re.IGNORECASE)


def media_type(headers: Iterable[tuple[bytes, bytes]], accepted: Collection[str]) -> str:
    """Which of the accepted media types the body is of. Raises MediaTypeRefused; UTF-8 is the only charset."""
    found = [value for name, value in headers if name == b"content-type"]
    match = _MEDIA_TYPE.fullmatch(found[0]) if len(found) == 1 else None
    media = match[1].decode("ascii").lower() if match else ""
    if media not in accepted:
        raise MediaTypeRefused(f"accepted: {', '.join(accepted)}, in UTF-8")
    if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in headers):
        raise MediaTypeRefused("a body is sent as it is, without Content-Encoding")
    return media


async def json_body(request: Request, accepted: Collection[str] = JSON) -> Any:
    """The value of a JSON body. Raises MediaTypeRefused, Malformed, BodyTooLarge, TooSlow."""
    return await received_json(request.scope, request.receive, accepted)


async def received_json(scope: Scope, receive: Receive, accepted: Collection[str] = JSON) -> Any:
    """The same of a request that is none of Starlette's. Raises ClientDisconnect too."""
    media_type(scope["headers"], accepted)
    message = await receive()
    parts = []
    while message["type"] == "http.request" and message.get("more_body", False):
        parts.append(message.get("body", b""))
        message = await receive()
    if message["type"] != "http.request":
        raise ClientDisconnect
    parts.append(message.get("body", b""))
    return strictjson.read(b"".join(parts))
