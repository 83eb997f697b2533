"""POST /v1/citizens/view and /v1/enterprises/view: one subject, merged, trimmed, with a receipt.

The identifier stands in the body only. A view is an ASGI application of its own, which sends the bytes that were
hashed; the edge calls it past FastAPI, whose layers cost as much as the rest of a view together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from exchange.agreements import Bundle
from exchange.disclosure import Disclosure, ViewRequest
from exchange.subjects import SCHEMES, holds_identifier, parse
from gateway.bodies import received_json
from gateway.harvest import Harvest
from gateway.identity import Identity
from gateway.limits import REQUEST_ID, note
from gateway.problems import Fault, Invalid
from gateway.statement import stated, trace_id

_WORD = "[a-z][a-z0-9_]*"
_MOST = 100

ContractName = Annotated[str, StringConstraints(max_length=128, pattern=rf"^{_WORD}\.{_WORD}$")]
FieldName = Annotated[str, StringConstraints(max_length=200, pattern=rf"^{_WORD}(\.{_WORD}){{1,3}}$")]
CursorText = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[!-~]+$")]


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


class ViewRoute(Route):
    """A route that is known by its template in the log and in metrics, as FastAPI's own are."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return match, child if match is Match.NONE else {**child, "route": self}


class ViewApp:
    """The view of one scheme's subjects, as an ASGI application."""

    def __init__(
        self,
        scheme: str,
        identity: Identity,
        bundle: Callable[[], Bundle],
        disclosure: Disclosure,
        harvest: Harvest,
    ) -> None:
        self._scheme = scheme
        self._identity = identity
        self._bundle = bundle
        self._disclosure = disclosure
        self._harvest = harvest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. Raises every error that a view can meet before a byte is sent."""
        harvest = self._harvest
        caller = await self._identity.caller(scope)
        caller.require("view")
        with harvest.under_way(caller.client):
            said = stated(scope["headers"], caller.person, self._bundle())
            asked = read(await received_json(scope, receive))
            subject = parse(self._scheme, asked.id)
            harvest.check(caller.client)
            view, receipt = await self._disclosure.disclose(
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
        if said.traceparent:
            note(scope, trace_id=trace_id(said.traceparent))
        body = view.body
        headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", b"application/json"),
            (b"exchange-policy", view.policy.encode("latin-1")),
            (b"exchange-receipt", receipt.encode().encode("latin-1")),
            (b"content-digest", view.content_digest.encode("latin-1")),
        ]
        for name, text in harvest.saw(caller.client, subject).items():
            headers.append((name.encode("latin-1"), text.encode("latin-1")))
        if said.traceparent:
            headers.append((b"traceparent", said.traceparent.encode("latin-1")))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


def routes(
    identity: Identity, bundle: Callable[[], Bundle], disclosure: Disclosure, harvest: Harvest
) -> list[ViewRoute]:
    """The two views."""
    return [
        ViewRoute(path, ViewApp(scheme.name, identity, bundle, disclosure, harvest), methods=["POST"])
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
