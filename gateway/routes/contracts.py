"""GET /v1/contracts: the catalogue, for every listed client. It shows what there is, never what it holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from exchange.agreements import Bundle, Terms
from exchange.errors import NotFound
from gateway.identity import Identity
from gateway.routes.describing import CALLER, answer, problems

_EXAMPLE = {
    "contract": "market.registration",
    "major": 1,
    "owner": "market",
    "title": {"zh-CN": "企业登记信息", "en": "Enterprise registration"},
    "subject": {"kind": "enterprise", "scheme": "cn.uscc"},
    "sharing": "unconditional",
    "reason": None,
    "cycle_s": 86_400,
    "record_key": [],
}
_FIELD = {
    "name": "name",
    "type": "string",
    "nullable": False,
    "level": 1,
    "concept": "enterprise.name",
    "leads": True,
    "doc": "Registered name.",
}


def router(identity: Identity, bundle: Callable[[], Bundle]) -> APIRouter:
    """The catalogue's routes."""
    routes = APIRouter(tags=["catalogue"], default_response_class=Response)

    @routes.get(
        "/v1/contracts",
        summary="The catalogue",
        responses={200: answer("Every contract that there is.", {"contracts": [_EXAMPLE]}), **problems(*CALLER)},
    )
    async def contracts(request: Request) -> Response:
        """Every contract, by name and major: title, owner, sharing class; of a withheld one the reason.

        For every listed client, whatever it may read: a catalogue that only shows what one may read already helps
        nobody to ask for more.
        """
        await identity.caller(request.scope)
        now = bundle()
        return _answer(now, {"contracts": [_summary(terms) for _, terms in sorted(now.terms.items())]})

    @routes.get(
        "/v1/contracts/{contract}",
        summary="One contract with its fields",
        responses={
            200: answer(
                "Each major of the contract, newest first.",
                {"contract": _EXAMPLE["contract"], "majors": [{**_EXAMPLE, "fields": [_FIELD]}]},
            ),
            **problems("not-found", *CALLER),
        },
    )
    async def contract(request: Request, contract: str) -> Response:
        """Each major of a contract, newest first, with its fields: type, level, concept, and who leads it."""
        await identity.caller(request.scope)
        now = bundle()
        found = [now.terms[contract, major] for major in now.majors(contract)]
        if not found:
            raise NotFound("there is no such contract")
        majors = [_summary(terms) | {"fields": _fields(terms)} for terms in found]
        return _answer(now, {"contract": found[0].contract, "majors": majors})

    return routes


def _summary(terms: Terms) -> dict[str, Any]:
    return {
        "contract": terms.contract,
        "major": terms.major,
        "owner": terms.owner,
        "title": terms.title,
        "subject": {"kind": terms.kind, "scheme": terms.scheme},
        "sharing": terms.sharing,
        "reason": terms.reason,
        "cycle_s": terms.cycle_s,
        "record_key": terms.record_key,
    }


def _fields(terms: Terms) -> list[dict[str, Any]]:
    return [
        {
            "name": field.name,
            "type": field.type,
            "nullable": field.nullable,
            "level": field.level,
            "concept": field.concept,
            "leads": field.leads,
            "doc": field.doc,
        }
        for field in terms.fields.values()
    ]


def _answer(bundle: Bundle, document: Any) -> Response:
    return Response(orjson.dumps(document), media_type="application/json", headers={"Exchange-Policy": bundle.version})
