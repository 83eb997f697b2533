"""The OpenAPI document: what FastAPI knows of its routes, and the views, which stand outside of it for their speed."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from gateway.routes import describing_views, registry
from gateway.routes.describing import PROBLEM_SCHEMA

DESCRIPTION = """\
Departments publish what they know, once; others read it, merged around one citizen or one enterprise, under the \
sharing rules of whoever owns each field, with a receipt for every read.

Every request but those under *operation* carries `Authorization: Bearer <access token>`, or `DPoP` with a proof where \
the token is bound to a key. Identifiers of people and enterprises stand in bodies only, never in a URL. Errors are \
problems (RFC 9457) and never repeat what was sent.
"""

# The scope that a route needs (OpenAPI 3.1 lets any scheme name some). The catalogue is for every listed client.
SCOPES = {"disclose": "view", "publish": "publish", "registry": "registry"}


def document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of this application, built once."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
        components = found.setdefault("components", {})
        for name in ("HTTPValidationError", "ValidationError"):  # never answered: ours are problems
            components.get("schemas", {}).pop(name, None)
        components.setdefault("schemas", {}).update(
            {"Problem": PROBLEM_SCHEMA, "RegistryError": registry.ERROR_SCHEMA, **describing_views.SCHEMAS}
        )
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT (RFC 9068)"},
            "bound": {
                "type": "http",
                "scheme": "dpop",
                "description": "With a proof (RFC 9449)",
            },
            "basic": {
                "type": "http",
                "scheme": "basic",
                "description": "Client id and secret, for the token that they are exchanged for; at the registry only",
            },
        }
        found["security"] = [{"token": []}, {"bound": []}]
        found["paths"] = dict(sorted({**found["paths"], **describing_views.operations()}.items()))
        for operations in found["paths"].values():
            for operation in operations.values():
                _tidy(operation)
        app.openapi_schema = found
    return app.openapi_schema


def _tidy(operation: dict[str, Any]) -> None:
    """FastAPI adds a 422 of its own wherever there is a path parameter; routes without a token say so."""
    unused = operation["responses"].get("422", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if unused.get("$ref", "").endswith("/HTTPValidationError"):
        del operation["responses"]["422"]
    tags = operation.get("tags", ())
    if not {"operation", "built-in issuer", "documentation"}.isdisjoint(tags):
        operation["security"] = []
    for tag in SCOPES.keys() & tags:
        schemes = ("token", "bound", "basic") if tag == "registry" else ("token", "bound")
        operation["security"] = [{scheme: [SCOPES[tag]]} for scheme in schemes]
