"""Pages for people: the interface as one page, the OpenAPI document, and what each kind of problem means.

The page is made on the server and needs nothing from anywhere: no script runs in it, and its one style sheet is named
by its hash in the content security policy.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from html import escape
from typing import Any

import orjson
from fastapi import APIRouter, Response

from exchange.errors import NotFound
from gateway.explanations import EXPLANATIONS
from gateway.limits import security_headers
from gateway.problems import TABLE, title
from gateway.routes.describing import answer, problems

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
h2 { border-top: 1px solid #ccc; padding-top: 1.5rem; margin-top: 2.5rem }
code, pre { font: 14px/1.4 ui-monospace, monospace; background: #f4f4f2 }
pre { padding: .75rem; overflow-x: auto }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #e4e4e0 }
.method { display: inline-block; min-width: 3.5rem; color: #0b5d3b }
nav a { display: block; text-decoration: none; color: inherit; padding: .1rem 0 }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_PAGE_HEADERS = security_headers(
    {
        "content-security-policy": f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
    }
)
_BY_SLUG = {problem.slug: (cls, problem) for cls, problem in TABLE.items()}


def router(document: Callable[[], Mapping[str, Any]]) -> APIRouter:
    """The pages; `document` gives the OpenAPI document, which does not change while the process runs."""
    routes = APIRouter(tags=["documentation"], default_response_class=Response)
    whole = functools.cache(lambda: page(document()))

    @routes.get(
        "/docs", summary="This page", responses={200: answer("HTML.", "<!doctype html>", "text/html"), **problems()}
    )
    async def docs() -> Response:
        """The whole interface on one page, with examples."""
        return Response(whole(), media_type="text/html", headers=_PAGE_HEADERS)

    @routes.get(
        "/openapi.json", summary="The OpenAPI document", responses={200: answer("OpenAPI 3.1.", {}), **problems()}
    )
    async def openapi() -> Response:
        """The same for programs."""
        return Response(orjson.dumps(document()), media_type="application/json")

    @routes.get(
        "/errors/{slug}",
        summary="A kind of problem",
        responses={
            200: answer("What it means, and what to do.", "The request's body is too large (413)", "text/plain"),
            **problems("not-found"),
        },
    )
    async def error(slug: str) -> Response:
        """What a problem's `type` stands for, and what to do about it."""
        if slug not in _BY_SLUG:
            raise NotFound("there is no such kind of problem")
        cls, problem = _BY_SLUG[slug]
        told = EXPLANATIONS[slug]
        steps = "".join(f"- {step}\n" for step in told.steps)
        text = f"{title(cls)} ({problem.status})\n\n{told.when}\n\n{problem.advice}\n\n{steps}"
        return Response(text, media_type="text/plain")

    return routes


def page(document: Mapping[str, Any]) -> str:
    """The OpenAPI document as HTML."""
    rows = [
        (path, method, operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]
    links = "".join(
        f'<a href="#{_anchor(path, method)}"><span class="method">{method.upper()}</span> <code>{escape(path)}</code> '
        f"{escape(operation['summary'])}</a>"
        for path, method, operation in rows
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(document["info"]["title"])}</title>'
        f"<style>{STYLE}</style><h1>{escape(document['info']['title'])}</h1>"
        f"{_prose(document['info']['description'])}<nav>{links}</nav>" + "".join(_operation(*row) for row in rows)
    )


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    return (
        f'<h2 id="{_anchor(path, method)}"><span class="method">{method.upper()}</span> {escape(path)}</h2>'
        f"<p><strong>{escape(operation['summary'])}</strong>{_scope(operation)}</p>"
        + _prose(operation.get("description", ""))
        + _parameters(operation.get("parameters", ()))
        + _request(operation.get("requestBody"))
        + _responses(operation["responses"])
    )


def _scope(operation: Mapping[str, Any]) -> str:
    needed = {scope for each in operation.get("security", ()) for scopes in each.values() for scope in scopes}
    return "".join(f" scope <code>{escape(scope)}</code>" for scope in sorted(needed))


def _parameters(parameters: Iterable[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(each['name'])}</code><td>{escape(each['in'])}"
        f"<td>{'required' if each.get('required') else ''}<td>{_inline(each.get('description', ''))}"
        f"<td>{_code(each.get('example', ''))}"
        for each in parameters
    )
    return f"<table><tr><th>Name<th>In<th><th>Meaning<th>Example{rows}</table>" if rows else ""


def _request(body: Mapping[str, Any] | None) -> str:
    if body is None:
        return ""
    media, content = next(iter(body["content"].items()))
    examples = [each["value"] for each in content.get("examples", {}).values()] or [content.get("example")]
    shown = "".join(f"<pre>{escape(_text(example))}</pre>" for example in examples if example is not None)
    return f"<h3>Request</h3><p><code>{escape(media)}</code></p>{shown}"


def _responses(responses: Mapping[str, Any]) -> str:
    good = "".join(
        f"<p><code>{status}</code> {_inline(response['description'])}</p>"
        + "".join(
            f"<pre>{escape(_text(content['example']))}</pre>"
            for content in response["content"].values()
            if "example" in content
        )
        for status, response in responses.items()
        if status.startswith("2")
    )
    bad = "".join(
        f"<tr><td><code>{status}</code><td>{_inline(response['description'])}<td>{_kinds(response)}"
        for status, response in responses.items()
        if not status.startswith("2")
    )
    return f"<h3>Answer</h3>{good}<table><tr><th>Status<th>Meaning<th>Type{bad}</table>"


def _kinds(response: Mapping[str, Any]) -> str:
    examples = next(iter(response.get("content", {"": {}}).values())).get("examples", {})
    return " ".join(f'<a href="/errors/{slug}"><code>{slug}</code></a>' for slug in examples)


def _text(example: Any) -> str:
    return example if isinstance(example, str) else json.dumps(example, ensure_ascii=False, indent=2)


def _code(example: Any) -> str:
    return f"<code>{escape(_text(example))}</code>" if example != "" else ""


def _prose(text: str) -> str:
    return "".join(f"<p>{_inline(paragraph)}</p>" for paragraph in text.split("\n\n") if paragraph.strip())


def _inline(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _anchor(path: str, method: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{method}{path}".lower()).strip("-")
