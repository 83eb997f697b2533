"""What OpenAPI says of every route: which problems it answers with, which headers it takes, how it looks in use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.problems import MEDIA_TYPE, TABLE, title

REQUEST_ID = "5f0c6a1e8d4b4f6f9a3e2b7c1d0e9f8a"

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "The kind of problem: /errors/<slug>."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What to do about it. Never repeats what was sent."},
        "errors": {
            "type": "array",
            "description": "For a body of the wrong form: where (RFC 6901) and why.",
            "items": {
                "type": "object",
                "required": ["pointer", "reason"],
                "properties": {"pointer": {"type": "string"}, "reason": {"type": "string"}},
            },
        },
        "request_id": {"type": "string", "description": "The same as in the header X-Request-Id."},
    },
}

# What the outermost layer and the check of the token can answer on any route.
ANYWHERE = ("too-slow", "body-too-large", "headers-too-large", "internal")
CALLER = ("unauthenticated", "forbidden", "policy-unavailable", "issuer-unavailable")


def problems(*slugs: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for these problems, those of every route included."""
    found: dict[int | str, dict[str, Any]] = {}
    by_slug = {problem.slug: (cls, problem) for cls, problem in TABLE.items()}
    for slug in (*slugs, *ANYWHERE):
        cls, problem = by_slug[slug]
        content = found.setdefault(
            problem.status,
            {"description": "", "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}},
        )
        content["description"] = "; ".join(filter(None, (content["description"], title(cls))))
        examples = content["content"][MEDIA_TYPE].setdefault("examples", {})
        examples[slug] = {
            "value": {
                "type": problem.type,
                "title": title(cls),
                "status": problem.status,
                "request_id": REQUEST_ID,
            }
        }
    return dict(sorted(found.items(), key=lambda item: str(item[0])))


def answer(description: str, example: Any, media: str = "application/json", **headers: str) -> dict[str, Any]:
    """OpenAPI's form of a good answer with an example, and the headers that it carries."""
    found: dict[str, Any] = {"description": description, "content": {media: {"example": example}}}
    if headers:
        found["headers"] = {
            name.replace("_", "-"): {"description": text, "schema": {"type": "string"}}
            for name, text in headers.items()
        }
    return found


def header(name: str, description: str, example: str, *, required: bool = False) -> dict[str, Any]:
    """OpenAPI's form of a request header."""
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string"},
        "example": example,
    }


def body(schema: Mapping[str, Any], examples: Mapping[str, Any], *media: str) -> dict[str, Any]:
    """OpenAPI's form of a request body, the same for each media type."""
    shown = {name: {"value": value} for name, value in examples.items()}
    content = {each: {"schema": dict(schema), "examples": shown} for each in media or ("application/json",)}
    return {"required": True, "content": content}
