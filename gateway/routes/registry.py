"""The schema registry's calls that a connector needs, in the form of Confluent's REST interface.

Subjects are `<department>.<dataset>.v<major>-value`. Whoever has the scope `registry` may look up; a department
registers its own contracts only, and only a schema that breaks no reader of the versions before it.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from starlette.types import Scope

from exchange.agreements import Client
from exchange.contracts import Contract
from exchange.errors import ContractRefused, Forbidden, Incompatible, NotFound, Unprocessable
from exchange.registry import Registered, StoreRegistry
from gateway.bodies import json_body
from gateway.identity import Caller, Identity
from gateway.limits import note
from gateway.problems import headers, kind, title
from gateway.routes.describing import answer, body
from gateway.strictjson import Malformed

PREFIX = "/registry"
MEDIA = "application/vnd.schemaregistry.v1+json"
ACCEPTED = (MEDIA, "application/vnd.schemaregistry+json", "application/json")

_ID = re.compile(r"[0-9]{1,9}", re.ASCII)

Noting = Callable[[Client, Scope, str, Mapping[str, str]], Awaitable[None]]

_SCHEMA = '{"type": "record", "name": "Registration", "namespace": "gov.market", "fields": []}'

_REGISTERED = {"subject": "market.registration.v1-value", "id": 7, "version": 1, "schema": _SCHEMA}


class SubjectNotFound(NotFound):
    """Subject not found"""


class SchemaNotFound(NotFound):
    """Schema not found"""


class InvalidSchema(Unprocessable):
    """Input schema is an invalid Avro schema, or not of this subject"""


# What Confluent's clients look at; every other error has its status as its code.
CODES: dict[type[Exception], int] = {
    SubjectNotFound: 40401,
    SchemaNotFound: 40403,
    Incompatible: 409,
    InvalidSchema: 42201,
    ContractRefused: 42201,
    Malformed: 42201,
}


def confluent(error: Exception, _request_id: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an error in Confluent's form: `error_code` and `message`."""
    cls, problem = kind(error)
    found = next((known for known in type(error).__mro__ if known in CODES), None)
    code = CODES[found] if found else problem.status
    status = code // 100 if code >= 10_000 else code
    message = title(found or cls)
    detail = getattr(error, "detail", "") if status < 500 else ""
    document = {"error_code": code, "message": f"{message}: {detail}" if detail else message}
    return status, {"content-type": MEDIA, **headers(error)}, json.dumps(document, ensure_ascii=False).encode()


def router(identity: Identity, registry: StoreRegistry, noted: Noting) -> APIRouter:
    """The calls. `noted` writes an act to the audit log; if it raises, the act must not happen."""
    routes = APIRouter(prefix=PREFIX, tags=["registry"], default_response_class=Response)
    asked = {"requestBody": body({"type": "object", "required": ["schema"]}, {"schema": {"schema": _SCHEMA}}, MEDIA)}

    @routes.post(
        "/subjects/{subject}/versions",
        summary="Register a schema",
        responses={200: answer("Its id; the same for the same text.", {"id": 7}, MEDIA), **_errors(404, 409, 422)},
        openapi_extra=asked,
    )
    async def register(request: Request, subject: str) -> Response:
        """Register a schema under its subject, unless it breaks readers of an older version (409)."""
        caller = await _caller(identity, request)
        text = await _schema(request)
        contract = await asyncio.to_thread(Contract.from_text, text)
        if contract.department != caller.client.department:
            raise Forbidden("a department registers its own contracts only")
        if contract.registry_subject != subject:
            raise InvalidSchema(f"the subject of this contract is {contract.registry_subject}")
        known = await asyncio.to_thread(registry.lookup, subject, contract.schema_text)
        if known is not None:
            return _answer({"id": known})
        await asyncio.to_thread(registry.check, {subject: contract.schema_text})
        await noted(caller.client, request.scope, "register", {"subject": subject})
        schema_id = await asyncio.to_thread(registry.register, subject, contract.schema_text)
        note(request.scope, contract=contract.name, schema_id=schema_id)
        return _answer({"id": schema_id})

    @routes.post(
        "/subjects/{subject}",
        summary="Look a schema up",
        responses={
            200: answer("The schema as it stands.", _REGISTERED, MEDIA),
            **_errors(404, 422),
        },
        openapi_extra=asked,
    )
    async def lookup(request: Request, subject: str) -> Response:
        """Whether a schema is registered under a subject, and under which id and version."""
        await _caller(identity, request)
        text = await _schema(request)
        found = await asyncio.to_thread(registry.find, subject, text)
        if found is not None:
            return _answer(_registered(subject, found))
        if await asyncio.to_thread(registry.latest, subject) is None:
            raise SubjectNotFound
        raise SchemaNotFound

    @routes.get(
        "/subjects/{subject}/versions/latest",
        summary="The newest version of a subject",
        responses={200: answer("The schema as it stands.", _REGISTERED, MEDIA), **_errors(404)},
    )
    async def latest(request: Request, subject: str) -> Response:
        """The schema that was registered last under a subject."""
        await _caller(identity, request)
        found = await asyncio.to_thread(registry.latest, subject)
        if found is None:
            raise SubjectNotFound
        return _answer(_registered(subject, found))

    @routes.get(
        "/schemas/ids/{schema_id}",
        summary="Read a schema",
        responses={200: answer("Its text.", {"schema": _SCHEMA}, MEDIA), **_errors(404)},
    )
    async def schema(request: Request, schema_id: str) -> Response:
        """The text of a schema by its id."""
        await _caller(identity, request)
        if not _ID.fullmatch(schema_id):
            raise SchemaNotFound
        try:
            return _answer({"schema": await asyncio.to_thread(registry.schema, int(schema_id))})
        except NotFound:
            raise SchemaNotFound from None

    return routes


async def _caller(identity: Identity, request: Request) -> Caller:
    caller = await identity.caller(request.scope)
    caller.require("registry")
    return caller


async def _schema(request: Request) -> str:
    """The schema's text. Raises InvalidSchema for what is not Avro or has references."""
    value = await json_body(request, ACCEPTED)
    if not isinstance(value, dict) or not isinstance(value.get("schema"), str):
        raise InvalidSchema('{"schema": "<text>"} is expected')
    if value.get("schemaType") not in (None, "AVRO") or value.get("references"):
        raise InvalidSchema("only Avro schemas without references")
    return str(value["schema"])


def _registered(subject: str, found: Registered) -> dict[str, Any]:
    return {"subject": subject, "id": found.id, "version": found.version, "schema": found.text}


def _answer(document: Any) -> Response:
    return Response(json.dumps(document, ensure_ascii=False), media_type=MEDIA)


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for errors in Confluent's form."""
    schema = {"$ref": "#/components/schemas/RegistryError"}
    known = {404: 40403, 422: 42201, 409: 409}
    return {
        status: {
            "description": "An error in Confluent's form.",
            "content": {MEDIA: {"schema": schema, "example": {"error_code": known.get(status, status)}}},
        }
        for status in sorted({*statuses, 401, 403, 408, 413, 415, 431, 500, 503})
    }


ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error_code", "message"],
    "properties": {"error_code": {"type": "integer"}, "message": {"type": "string"}},
}
