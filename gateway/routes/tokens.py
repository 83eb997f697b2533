"""The built-in issuer's endpoints, where it runs: tokens, discovery, keys."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from exchange.errors import BadRequest
from gateway.bodies import media_type
from gateway.issuer import DevIssuer, OAuthError
from gateway.routes.describing import answer, problems

FORM = "application/x-www-form-urlencoded"


def router(issuer: DevIssuer) -> APIRouter:
    """The token endpoint (RFC 6749) and what is said of it (OpenID Connect Discovery)."""
    routes = APIRouter(tags=["built-in issuer"], default_response_class=Response)
    errors: dict[int | str, dict[str, Any]] = {
        status: answer(text, {"error": error, "error_description": "..."})
        for status, text, error in (
            (400, "The request cannot be granted (RFC 6749 section 5.2).", "invalid_request"),
            (401, "The client did not show who it is.", "invalid_client"),
        )
    }

    @routes.post(
        "/oauth/token",
        summary="Get an access token",
        responses={
            200: answer(
                "A token for ten minutes.",
                {"access_token": "eyJ0eXAiOiJhdCtqd3Qi...", "token_type": "Bearer", "expires_in": 600, "scope": "view"},
            ),
            **problems("media-type", "bad-request"),
            **errors,
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    FORM: {"schema": {"type": "object"}, "example": "grant_type=client_credentials&scope=view"}
                },
            }
        },
    )
    async def token(request: Request) -> Response:
        """Client credentials (RFC 6749 section 4.4), by `client_secret_basic` or `private_key_jwt` (RFC 7523).

        With a `DPoP` header (RFC 9449) the token is bound to the key of its proof.
        """
        media_type(request.scope["headers"], (FORM,))
        found = request.headers.getlist("authorization")
        if len(found) > 1:
            raise BadRequest("one Authorization header")
        proofs = request.headers.getlist("dpop")
        if len(proofs) > 1:
            raise BadRequest("one DPoP header")
        body = await request.body()
        try:
            authorization, proof = (each[0] if each else None for each in (found, proofs))
            granted = await asyncio.to_thread(issuer.token, authorization, body, proof)
        except OAuthError as error:
            return _refused(error)
        return _json(granted)

    @routes.get(
        "/.well-known/openid-configuration",
        summary="Discovery",
        responses={200: answer("The issuer's metadata.", {"issuer": "...", "jwks_uri": "..."}), **problems()},
    )
    async def configuration() -> Response:
        """What the built-in issuer is and where its parts are."""
        return _json(issuer.metadata())

    @routes.get(
        "/oauth/jwks.json",
        summary="The issuer's keys",
        responses={200: answer("A JWK Set (RFC 7517).", {"keys": []}), **problems()},
    )
    async def jwks() -> Response:
        """The public key that signs the built-in issuer's tokens."""
        return _json(issuer.jwks())

    return routes


def _json(document: Any) -> Response:
    return Response(orjson.dumps(document), media_type="application/json")


def _refused(error: OAuthError) -> Response:
    document = {"error": error.error} | ({"error_description": error.description} if error.description else {})
    headers = {"www-authenticate": 'Basic realm="exchange"'} if error.challenge else {}
    return Response(orjson.dumps(document), error.status, headers, "application/json")
