"""POST /v1/citizens/view and /v1/enterprises/view: one subject, merged, trimmed, with a receipt.

The identifier stands in the body only. These are plain Starlette routes that send the bytes which were hashed: what
FastAPI adds to a route costs as much as the rest of a view together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from exchange.agreements import Bundle
from exchange.disclosure import Disclosure, ViewRequest
from exchange.subjects import SCHEMES, holds_identifier, parse
from gateway.bodies import json_body
from gateway.harvest import Harvest
from gateway.identity import Identity
from gateway.limits import REQUEST_ID, note
from gateway.problems import Fault, Invalid
from gateway.statement import stated

_WORD = "[a-z][a-z0-9_]*"
_MOST = 100

ContractName = Annotated[str, StringConstraints(max_length=128, pattern=rf"^{_WORD}\.{_WORD}$")]
FieldName = Annotated[str, StringConstraints(max_length=200, pattern=rf"^{_WORD}(\.{_WORD}){{1,3}}$")]
CursorText = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[!-~]+$")]


class ViewRoute(Route):
    """A route that is known by its template in the log and in metrics, as FastAPI's own are."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return match, child if match is Match.NONE else {**child, "route": self}


class ViewBody(BaseModel):
    """What is asked of a subject. Absent or null is all that is permitted."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    id: Annotated[str, StringConstraints(max_length=64)] = Field(
        description="The identifier: of a citizen by GB 11643, of an enterprise by GB 32100."
    )
    contracts: Annotated[list[ContractName], Field(min_length=1, max_length=_MOST)] | None = Field(
        default=None, description="Only what these contracts say."
    )
    fields: Annotated[list[FieldName], Field(min_length=1, max_length=_MOST)] | None = Field(
        default=None, description="Only these concepts or `<contract>.<field>`."
    )
    after: Annotated[dict[ContractName, CursorText], Field(max_length=_MOST)] | None = Field(
        default=None, description="Go on with these contracts' lists: their `next` of an earlier answer."
    )


def routes(identity: Identity, bundle: Callable[[], Bundle], disclosure: Disclosure, harvest: Harvest) -> list[Route]:
    """The two views."""

    def view(scheme: str) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            scope = request.scope
            caller = await identity.caller(scope)
            caller.require("view")
            with harvest.under_way(caller.client):
                said = stated(scope["headers"], caller.person, bundle())
                asked = read(await json_body(request))
                subject = parse(scheme, asked.id)
                harvest.check(caller.client)
                view, receipt = await disclosure.disclose(
                    ViewRequest(
                        client=caller.client,
                        subject=subject,
                        purpose=said.purpose,
                        case=said.case,
                        officer=said.officer,
                        officer_by=said.officer_by,
                        contracts=asked.contracts,
                        fields=asked.fields,
                        after=asked.after or {},
                        request_id=scope[REQUEST_ID],
                        traceparent=said.traceparent,
                    )
                )
            note(scope, purpose=said.purpose)
            headers = {
                "Exchange-Policy": view.policy,
                "Exchange-Receipt": receipt.encode(),
                "Content-Digest": view.content_digest,
                **harvest.saw(caller.client, subject),
                **({"traceparent": said.traceparent} if said.traceparent else {}),
            }
            return Response(view.body, media_type="application/json", headers=headers)

        return endpoint

    return [
        ViewRoute(path, view(scheme.name), methods=["POST"])
        for scheme in SCHEMES.values()
        if (path := PATHS.get(scheme.kind)) is not None
    ]


PATHS = {"citizen": "/v1/citizens/view", "enterprise": "/v1/enterprises/view"}


def read(value: Any) -> ViewBody:
    """Check the form of a body. Raises Invalid with pointers and reasons, none of which repeats what was sent."""
    if not isinstance(value, dict):
        raise Invalid([Fault("", "a JSON object is expected")])
    try:
        asked = ViewBody.model_validate(value)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        raise Invalid([_fault(fault["loc"], fault["type"], fault["msg"]) for fault in faults[:20]]) from None
    named = {"contracts": asked.contracts or [], "fields": asked.fields or [], "after": [*(asked.after or {})]}
    numbered = [member for member, names in named.items() if any(holds_identifier(name) for name in names)]
    if numbered:  # a name that does not exist is repeated as not available, so no number may pass for one
        raise Invalid([Fault(f"/{member}", "a name that holds a personal or credit number") for member in numbered])
    return asked


def _fault(loc: tuple[int | str, ...], kind: str, message: str) -> Fault:
    """A pointer of positions and of names that are ours; a name that was sent is not repeated."""
    known = [*ViewBody.model_fields]
    path = []
    for step in loc:
        if not isinstance(step, int) and step not in known:
            break
        path.append(f"/{step}")
        known = []
    return Fault("".join(path), "a member that is not known" if kind == "extra_forbidden" else message)
