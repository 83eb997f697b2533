"""What OpenAPI says of the two views, which stand outside of FastAPI's routes."""

from __future__ import annotations

from typing import Any

from gateway.routes.describing import CALLER, answer, body, header, problems
from gateway.routes.views import PATHS, ViewBody
from gateway.statement import CASE, OFFICER, PURPOSE

_VIEW = {
    "values": {
        "enterprise.name": {
            "value": "澜汀精密仪器有限公司",
            "conflict": False,
            "said_by": [
                {
                    "value": "澜汀精密仪器有限公司",
                    "contract": "market.registration",
                    "department": "market",
                    "version": "12",
                    "event_time": "2026-05-28T01:12:00.000Z",
                    "as_of": "2026-06-01T01:00:00.000Z",
                    "stale": False,
                }
            ],
        }
    },
    "records": {
        "market.penalty": {
            "items": [
                {
                    "value": {"penalty_number": "P-2026-0031", "decided_on": "2026-03-02", "amount": "20000.00"},
                    "contract": "market.penalty",
                    "department": "market",
                    "version": "3",
                    "event_time": "2026-03-02T16:00:00.000Z",
                    "as_of": "2026-06-01T01:00:00.000Z",
                    "stale": False,
                }
            ],
            "more": False,
            "next": None,
        }
    },
    "not_available": [],
}
_SUBJECTS = {"citizen": "11010119900307451X", "enterprise": "91310000MA1FL0Q12A"}
_SAID = {
    "type": "object",
    "properties": {
        "value": {"description": "In the contract's JSON form; under a mask, text."},
        "contract": {"type": "string"},
        "department": {"type": "string"},
        "version": {"type": "string", "description": "The record's version, digits."},
        "event_time": {"type": "string", "format": "date-time", "description": "When it was said."},
        "as_of": {
            "type": ["string", "null"],
            "format": "date-time",
            "description": "Until when this source has told everything.",
        },
        "stale": {"type": "boolean", "description": "`as_of` is older than the promised cycle."},
    },
}

SCHEMAS: dict[str, Any] = {
    "ViewBody": ViewBody.model_json_schema(),
    "View": {
        "type": "object",
        "required": ["values", "records", "not_available"],
        "properties": {
            "values": {
                "type": "object",
                "description": "One for each concept, else `<contract>.<field>`; the lead source first.",
                "additionalProperties": {
                    "type": "object",
                    "properties": {
                        "value": {},
                        "conflict": {"type": "boolean"},
                        "said_by": {"type": "array", "items": _SAID},
                    },
                },
            },
            "records": {
                "type": "object",
                "description": "The lists, by contract: newest event time first, 200 in one answer.",
                "additionalProperties": {
                    "type": "object",
                    "properties": {
                        "items": {"type": "array", "items": _SAID},
                        "more": {"type": "boolean"},
                        "next": {"type": ["string", "null"], "description": "What `after` takes to go on."},
                        "cut": {
                            "type": "boolean",
                            "description": "There, and true, if it may not be whole: under a row condition, or long.",
                        },
                    },
                },
            },
            "not_available": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Asked for and not permitted, whether it exists or not.",
            },
        },
    },
}


def operations() -> dict[str, Any]:
    """OpenAPI's paths for the two views."""
    return {PATHS[kind]: {"post": _operation(kind, subject)} for kind, subject in _SUBJECTS.items()}


def _operation(kind: str, subject: str) -> dict[str, Any]:
    said = answer(
        f"What may be seen of this {kind}; empty where nothing is known.",
        _VIEW,
        Exchange_Policy="The version of the policies that decided.",
        Exchange_Receipt="Signed proof that this access stands in the audit log; keep it with the body.",
        Content_Digest="SHA-256 of the body (RFC 9530).",
        RateLimit_Policy="How many distinct subjects this client may see in a day.",
        RateLimit="How many of them are left, and in how many seconds the next day begins.",
    )
    said["content"]["application/json"]["schema"] = {"$ref": "#/components/schemas/View"}
    found = problems(
        "bad-request", "media-type", "invalid-body", "invalid-identifier", "insufficient-scope", "nothing-permitted",
        "too-many-under-way", "subjects-exhausted",
        "audit-unavailable", "store-unavailable", *CALLER,
    )  # fmt: skip
    return {
        "tags": ["disclose"],
        "operationId": f"view_{kind}",
        "summary": f"View one {kind}",
        "description": (
            f"Everything that this client may see of one {kind} for this purpose, merged: one value for each concept "
            "with everyone who said it, and the lists.\n\nWhat does not exist and what may not be seen look alike."
        ),
        "parameters": [
            header(PURPOSE, "A registered purpose that this client may name.", "tax-assessment", required=True),
            header(CASE, "The case it is for: 1 to 64 of `A-Z a-z 0-9 . _ / -`, nobody's number.", "2026/TA/00417"),
            header(OFFICER, "Whom the client acts for, at most 64 characters; kept as a pseudonym.", "desk-4 Li"),
            header("traceparent", "W3C Trace Context; noted with the access.", f"00-{'4b' * 16}-{'00f0' * 4}-01"),
        ],
        "requestBody": body(
            {"$ref": "#/components/schemas/ViewBody"},
            {
                "everything permitted": {"id": subject},
                "some of it": {"id": subject, "fields": [f"{kind}.name"]},
            },
        ),
        "responses": {"200": said, **{str(status): response for status, response in found.items()}},
    }
