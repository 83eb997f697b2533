"""A registry of Confluent's form without a network: a transport that answers from a StoreRegistry."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import unquote

import httpx2

from exchange.errors import ContractRefused, Incompatible, RegistryUnavailable, UnknownSchema
from exchange.registry import StoreRegistry

BASE = "http://gateway.test/registry"


def confluent(registry: StoreRegistry, token: str = "") -> httpx2.MockTransport:
    """Answers the calls of a connector, and `versions/latest`, for whoever bears this token."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.headers.get("authorization") != (f"Bearer {token}" if token else None):
            return httpx2.Response(401, json={"error_code": 40101, "message": "Unauthorized"})
        try:
            return httpx2.Response(200, json=_answer(registry, request))
        except Incompatible as error:
            return httpx2.Response(409, json={"error_code": 409, "message": str(error)})
        except ContractRefused as error:
            return httpx2.Response(422, json={"error_code": 42201, "message": str(error)})
        except UnknownSchema:
            return httpx2.Response(404, json={"error_code": 40403, "message": "Schema not found"})
        except RegistryUnavailable:
            return httpx2.Response(503, json={"error_code": 50301, "message": "Unavailable"})

    return httpx2.MockTransport(answer)


def _answer(registry: StoreRegistry, request: httpx2.Request) -> dict[str, object]:
    parts = [unquote(part) for part in request.url.raw_path.decode().removeprefix("/registry/").split("/")]
    match (request.method, parts):
        case ("POST", ["subjects", subject, "versions"]):
            return {"id": registry.register(subject, _schema(request))}
        case ("POST", ["subjects", subject]):
            found = registry.lookup(subject, _schema(request))
            if found is None:
                raise UnknownSchema
            return {"subject": subject, "id": found, "version": 1, "schema": registry.schema(found)}
        case ("GET", ["subjects", subject, "versions", "latest"]):
            latest = registry.latest(subject)
            if latest is None:
                raise UnknownSchema
            return {"subject": subject, "id": latest.id, "version": latest.version, "schema": latest.text}
        case ("GET", ["schemas", "ids", number]):
            return {"schema": registry.schema(int(number))}
    raise AssertionError(f"no such call: {request.method} {request.url}")


def _schema(request: httpx2.Request) -> str:
    form = json.loads(request.content)
    assert form["schemaType"] == "AVRO"
    return str(form["schema"])


def answering(status: int, body: bytes | Callable[[httpx2.Request], httpx2.Response]) -> httpx2.MockTransport:
    """Always the same answer, or whatever the function does."""
    if callable(body):
        return httpx2.MockTransport(body)
    return httpx2.MockTransport(lambda _: httpx2.Response(status, content=body))
