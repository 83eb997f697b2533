"""docs/reference/http.md, from the OpenAPI document that the gateway serves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import Any
from unittest.mock import MagicMock

import httpx2
from structlog.testing import capture_logs

from gateway.app import Parts, build
from gateway.routes.describing import ANYWHERE, CALLER
from handbook.writing import linked, one_line, prose, table

PAGE = "reference/http.md"
_INTRODUCTION = """
Every route of the gateway, as its own page `/docs` has it; `/openapi.json` is the same for programs (OpenAPI 3.1).
docs/http.md says what holds for all of them: tokens, bounds, headers, JSON. A scope must stand in the token and in
`clients.toml`.
"""
_TAGS = {
    "disclose": "Views",
    "publish": "Pushes",
    "catalogue": "The catalogue",
    "registry": "The schema registry",
    "operation": "Operation",
    "built-in issuer": "The built-in issuer",
    "documentation": "Documentation",
}


async def document() -> dict[str, Any]:
    """The document, asked for as any client would. Its routes are described without a store, a broker or a key."""
    stand_ins = {
        each.name: MagicMock() for each in fields(Parts) if each.name not in ("opening", "background", "closing")
    }
    with capture_logs():
        async with httpx2.AsyncClient(
            transport=httpx2.ASGITransport(build(Parts(**stand_ins))), base_url="http://gateway"
        ) as http:
            found: dict[str, Any] = (await http.get("/openapi.json")).json()
            return found


def page() -> str:
    """The whole page, grouped by what a route is for."""
    by_tag: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {tag: [] for tag in _TAGS}
    for path, operations in asyncio.run(document())["paths"].items():
        for method, operation in operations.items():
            by_tag[operation["tags"][0]].append((method.upper(), path, operation))
    sections = "".join(
        f"\n## {_TAGS[tag]}\n" + "".join(_operation(*each) for each in routes) for tag, routes in by_tag.items()
    )
    everywhere = (
        f"Any route can answer {_problems(ANYWHERE)}; one that needs a token also {_problems(CALLER)}. They are not "
        "repeated below.\n"
    )
    return f"# Routes\n\n{linked(prose(_INTRODUCTION), PAGE)}\n{everywhere}{sections}"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    return (
        f"\n### `{method} {path}`\n\n**{operation['summary']}**{_needs(operation)}\n\n"
        f"{linked(prose(operation.get('description', '')), PAGE)}"
        + _parameters(operation.get("parameters", ()))
        + _request(operation.get("requestBody"))
        + _answers(operation["responses"])
    )


def _needs(operation: Mapping[str, Any]) -> str:
    if operation.get("security") == []:
        return " (no token)"
    scopes = sorted({scope for each in operation.get("security", ()) for names in each.values() for scope in names})
    return "".join(f" (scope `{scope}`)" for scope in scopes) or " (any listed client)"


def _parameters(parameters: Iterable[Mapping[str, Any]]) -> str:
    rows = [
        (
            f"`{each['name']}`",
            each["in"] + (", required" if each.get("required") else ""),
            linked(one_line(each.get("description", "")), PAGE),
        )
        for each in parameters
    ]
    return f"\n{table(('parameter', 'in', 'what it says'), rows)}" if rows else ""


def _request(body: Mapping[str, Any] | None) -> str:
    if body is None:
        return ""
    media, content = next(iter(body["content"].items()))
    examples = [each["value"] for each in content.get("examples", {}).values()] or [content.get("example")]
    types = " or ".join(f"`{each}`" for each in body["content"])
    return f"\nRequest: {types}\n" + "".join(_block(each, media) for each in examples if each is not None)


def _answers(responses: Mapping[str, Mapping[str, Any]]) -> str:
    return "".join(_good(status, each) for status, each in sorted(responses.items()) if status[0] == "2") + _bad(
        responses
    )


def _good(status: str, response: Mapping[str, Any]) -> str:
    headers = [(f"`{name}`", linked(each["description"], PAGE)) for name, each in response.get("headers", {}).items()]
    told = f"\n{table(('header of the answer', 'what it says'), headers)}" if headers else ""
    examples = (
        _block(content["example"], media)
        for media, content in response.get("content", {}).items()
        if "example" in content
    )
    return f"\nAnswer {status}: {linked(one_line(response['description']), PAGE)}\n{''.join(examples)}{told}"


def _bad(responses: Mapping[str, Mapping[str, Any]]) -> str:
    own = list(_own(responses))
    return f"\nProblems: {', '.join(own)}\n" if own else ""


def _own(responses: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The problems of a route that not every route has; of the registry, whose errors are Confluent's, the statuses."""
    for status, response in sorted(responses.items()):
        for content in response.get("content", {}).values() if status[0] != "2" else ():
            slugs = content.get("examples")
            if slugs is None:
                yield f"{status} {response['description']}"
            for slug in slugs or ():
                if slug not in (*ANYWHERE, *CALLER):
                    yield f"{status} [{slug}](../errors/{slug}.md)"


def _problems(slugs: Iterable[str]) -> str:
    return ", ".join(f"[{slug}](../errors/{slug}.md)" for slug in slugs)


def _block(example: Any, media: str) -> str:
    if isinstance(example, str):
        return f"\n```text\n{example.rstrip()}\n```\n"
    return f"\n```json\n{json.dumps(example, ensure_ascii=False, indent=2)}\n```\n" if example not in ({}, []) else ""
