"""Is the process alive, can it serve, and with which keys does it sign."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Response

from gateway.routes.describing import answer, problems

_JWK = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "2026-a"}


def router(checks: Mapping[str, Callable[[], bool]], signing_keys: Mapping[str, Any]) -> APIRouter:
    """`checks` say, by name, whether a part can do its work now."""
    routes = APIRouter(tags=["operation"], default_response_class=Response)

    @routes.get(
        "/healthz", summary="Alive", responses={200: answer("The process runs.", {"status": "ok"}), **problems()}
    )
    async def healthz() -> Response:
        """Whether the process runs, whatever else is away: that is no reason to restart this one."""
        return Response(b'{"status":"ok"}', media_type="application/json")

    @routes.get(
        "/readyz",
        summary="Ready",
        responses={
            200: answer("It can serve.", {"ready": True, "checks": {"audit": True, "policy": True, "issuer": True}}),
            **problems(),
            503: answer(
                "It cannot serve now.", {"ready": False, "checks": {"audit": False, "policy": True, "issuer": True}}
            ),
        },
    )
    async def readyz() -> Response:
        """Whether a view would be served now: log writable, policy fresh, the keys of an issuer known."""
        found = {name: check() for name, check in checks.items()}
        ready = all(found.values())
        return Response(
            orjson.dumps({"ready": ready, "checks": found}), 200 if ready else 503, media_type="application/json"
        )

    @routes.get(
        "/.well-known/exchange-keys.json",
        summary="Signing keys",
        responses={200: answer("A JWK Set (RFC 7517).", {"keys": [_JWK]}, "application/jwk-set+json"), **problems()},
    )
    async def exchange_keys() -> Response:
        """The public halves of the keys that sign receipts and checkpoints, former ones too."""
        headers = {"cache-control": "public, max-age=300"}
        return Response(orjson.dumps(signing_keys), media_type="application/jwk-set+json", headers=headers)

    return routes
