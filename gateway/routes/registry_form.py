"""How the registry is spoken with: Confluent's media type, error codes, request and answer forms."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Query, Request, Response

from exchange.errors import ContractRefused, Incompatible, UnknownSchema
from exchange.registry.faults import InvalidSchema, InvalidVersion, SchemaNotFound
from exchange.registry.forms import Form, Reference, Version, is_name, plain
from exchange.registry.stored import Asked
from gateway.bodies import json_body
from gateway.problems import headers, kind, title
from gateway.routes.describing import body
from gateway.strictjson import Malformed

MEDIA = "application/vnd.schemaregistry.v1+json"
ACCEPTED = (MEDIA, "application/vnd.schemaregistry+json", "application/json")

MAX_REFERENCES = 50  # that one schema names
MAX_EXTRAS = 64 * 1024  # characters of metadata, and of a rule set
MAX_NAME = 512
_ID = re.compile(r"[0-9]{1,9}", re.ASCII)
_VERSION = re.compile(r"[0-9]{1,9}", re.ASCII)

# What a query may have.
Offset = Annotated[int, Query(ge=0, le=1 << 31)]
Limit = Annotated[int, Query(ge=-1, le=1 << 31)]
Format = Annotated[str, Query(alias="format", max_length=100)]

SCHEMA = '{"type": "record", "name": "Registration", "namespace": "gov.market", "fields": []}'
STANDING = {
    "subject": "market.registration.inbox-value", "id": 7, "guid": "0f2c1b7a-5d0e-4a61-9f0e-5b1a0a7f3c11", "version": 1,
    "schema": SCHEMA,
}  # fmt: skip

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error_code", "message"],
    "properties": {"error_code": {"type": "integer"}, "message": {"type": "string"}},
}
_REGISTERED: dict[str, Any] = {
    "type": "object",
    "required": ["schema"],
    "properties": {
        "schema": {"type": "string", "description": "The Avro schema as JSON text."},
        "schemaType": {"type": "string", "enum": ["AVRO"]},
        "references": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "subject", "version"],
                "properties": {
                    "name": {"type": "string"},
                    "subject": {"type": "string"},
                    "version": {"type": "integer"},
                },
            },
        },
        "metadata": {"type": "object", "description": "Kept as it is."},
        "ruleSet": {"type": "object", "description": "Kept as it is; clients carry rules out, not the registry."},
        "id": {"type": "integer", "description": "In import mode: the id that it had elsewhere."},
        "version": {"type": "integer", "description": "In import mode: the version that it had elsewhere."},
    },
}


# --- errors -----------------------------------------------------------------------------------------------------------

# What Confluent's clients look at; every other error has its status as its code.
CODES: dict[type[Exception], int] = {
    Incompatible: 409,
    ContractRefused: InvalidSchema.code,
    Malformed: InvalidSchema.code,
    UnknownSchema: SchemaNotFound.code,
}


def confluent(error: Exception, _request_id: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an error in Confluent's form: `error_code` and `message`."""
    cls, problem = kind(error)
    found = next((known for known in type(error).__mro__ if known in CODES or "code" in vars(known)), None)
    code = CODES.get(found) or vars(found)["code"] if found else problem.status
    status = code // 100 if code >= 10_000 else code
    message = title(found or cls)
    detail = getattr(error, "detail", "")[:2_000] if status < 500 else ""
    document = {"error_code": code, "message": f"{message}: {detail}" if detail else message}
    return status, {"content-type": MEDIA, **headers(error)}, json.dumps(document, ensure_ascii=False).encode()


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` for errors in Confluent's form."""
    schema = {"$ref": "#/components/schemas/RegistryError"}
    known = {404: 40403, 422: 42201, 409: 409}
    return {
        status: {
            "description": "An error in Confluent's form.",
            "content": {MEDIA: {"schema": schema, "example": {"error_code": known.get(status, status)}}},
        }
        for status in sorted({*statuses, 400, 401, 403, 408, 413, 415, 431, 500, 503})
    }


# --- requests ---------------------------------------------------------------------------------------------------------


def schema_body() -> dict[str, Any]:
    """OpenAPI's form of a body with a schema."""
    return {"requestBody": body(_REGISTERED, {"schema": {"schema": SCHEMA}}, *ACCEPTED)}


async def asked(request: Request, *, normalize: bool) -> Asked:
    """The registration in a body. Raises InvalidSchema."""
    value = await json_body(request, ACCEPTED)
    if not isinstance(value, dict) or not isinstance(value.get("schema"), str):
        raise InvalidSchema('{"schema": "<text>"} is expected')
    if value.get("schemaType") not in (None, "AVRO"):
        raise InvalidSchema("schemaType: AVRO is the only one here")
    if value.get("schemaTagsToAdd") or value.get("schemaTagsToRemove") or value.get("propagateSchemaTags"):
        raise InvalidSchema("schema tags cannot be added here")
    form = Form(
        value["schema"],
        _references(value.get("references") or []),
        _extra(value, "metadata"),
        _extra(value, "ruleSet"),
    )
    return Asked(form, normalize, _number(value, "id"), _number(value, "version"))


async def json_object(request: Request) -> dict[str, Any]:
    """A body that is an object. Raises InvalidSchema."""
    value = await json_body(request, ACCEPTED)
    if not isinstance(value, dict):
        raise InvalidSchema("an object is expected")
    return value


def version_of(text: str) -> int | None:
    """A version in a path, None for the newest. Raises InvalidVersion."""
    told = text.strip().lower()
    if told in ("latest", "-1"):
        return None
    if not _VERSION.fullmatch(told) or int(told) < 1:
        raise InvalidVersion
    return int(told)


def id_of(text: str) -> int:
    """A schema's id in a path. Raises SchemaNotFound: what is no id stands for nothing."""
    if not _ID.fullmatch(text):
        raise SchemaNotFound
    return int(text)


def _references(value: Any) -> tuple[Reference, ...]:
    if not isinstance(value, list) or len(value) > MAX_REFERENCES:
        raise InvalidSchema(f"references: a list of at most {MAX_REFERENCES}")
    found = []
    for place, each in enumerate(value):
        name, subject, version = (each.get(one) for one in Reference._fields) if isinstance(each, dict) else [None] * 3
        if not isinstance(name, str) or not isinstance(subject, str) or type(version) is not int:
            raise InvalidSchema(f"references[{place}]: name, subject and version are needed")
        if not 0 < len(name) <= MAX_NAME or "\0" in name or not is_name(plain(subject)) or not 0 < version < 1 << 31:
            raise InvalidSchema(f"references[{place}]: there is no such version of that subject")
        found.append(Reference(name, plain(subject), version))
    return tuple(found)


def _extra(value: Mapping[str, Any], name: str) -> str | None:
    found = value.get(name)
    if not found:
        return None
    if not isinstance(found, dict):
        raise InvalidSchema(f"{name}: an object is expected")
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    if len(text) > MAX_EXTRAS:
        raise InvalidSchema(f"{name}: at most {MAX_EXTRAS} characters")
    return text


def _number(value: Mapping[str, Any], name: str) -> int | None:
    """Clients write null, 0 or -1 for none."""
    found = value.get(name)
    if found is None or (type(found) is int and -1 <= found <= 0):
        return None
    if type(found) is not int or not 0 < found < 1 << 31:
        raise InvalidSchema(f"{name}: a whole number is expected")
    return found


# --- answers ----------------------------------------------------------------------------------------------------------


def answered(document: Any) -> Response:
    """A JSON answer."""
    return Response(json.dumps(document, ensure_ascii=False), media_type=MEDIA)


def raw(text: str) -> Response:
    """A schema's text as the answer."""
    return Response(text, media_type=MEDIA)


def standing(version: Version) -> dict[str, Any]:
    """A schema as it stands under a subject."""
    told: dict[str, Any] = {"subject": version.subject, "id": version.id, "version": version.version}
    return told | told_form(version.form) | ({"deleted": True} if version.deleted else {})


def told_form(form: Form, text: str | None = None) -> dict[str, Any]:
    """A schema with what belongs to it; `text` in the place of its own."""
    told: dict[str, Any] = {"guid": form.guid, "schema": form.text if text is None else text}
    if form.references:
        told["references"] = [each._asdict() for each in form.references]
    if form.metadata is not None:
        told["metadata"] = json.loads(form.metadata)
    if form.rule_set is not None:
        told["ruleSet"] = json.loads(form.rule_set)
    return told
