"""POST /v1/datasets/{dataset}/records: a department pushes records of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing

from fastapi import APIRouter, Request, Response

from exchange.agreements import Bundle
from exchange.errors import BadRequest, Forbidden
from gateway.bodies import media_type
from gateway.harvest import Harvest
from gateway.identity import Caller, Identity
from gateway.limits import note
from gateway.problems import Busy
from gateway.push import Push, Pushing
from gateway.routes.describing import CALLER, answer, body, header, problems
from gateway.spool import Form, Room, Spool
from gateway.statement import trace, trace_id

FORMS: dict[str, Form] = {
    "application/json": "array",
    "application/x-ndjson": "lines",
    "application/ndjson": "lines",
    "application/jsonl": "lines",
}
AT_ONCE = 2  # pushes that are published at the same time, one of each department; more wait
WAIT_SECONDS = 30.0
_KEY = re.compile(rb"[\x21-\x7e]{1,255}")

_RECORD = {
    "citizen_id": "11010119900307451X",
    "ticket": "H-2026-000123",
    "topic": "street lighting",
    "opened_at": "2026-06-01T09:30:00.000Z",
}
_DELETION = {"delete": {"citizen_id": "11010119900307451X", "ticket": "H-2026-000123"}}


def router(identity: Identity, bundle: Callable[[], Bundle], pushing: Pushing, harvest: Harvest) -> APIRouter:
    """The push."""
    routes = APIRouter(tags=["publish"], default_response_class=Response)
    places, room = _Places(), Room(pushing.bounds.spool_bytes, pushing.folder)

    @routes.post(
        "/v1/datasets/{dataset}/records",
        summary="Push records",
        responses={
            200: answer(
                "Every line is accounted for; all of it is acknowledged by the topic.",
                {
                    "accepted": 1,
                    "rejected": 1,
                    "reasons": [{"line": 2, "field": "citizen_id", "reason": "18 characters expected, 17 found"}],
                    "contract": "hotline.call",
                    "epoch": 1780300000,
                    "first_sequence": "1041",
                },
            ),
            **problems(
                "bad-request", "not-found", "conflict", "too-many-under-way", "media-type", "unprocessable",
                "too-many-rejects", "insufficient-scope", "broker-unavailable", "store-unavailable",
                "registry-unavailable", "busy", *CALLER,
            ),
        },
        openapi_extra={
            "parameters": [
                header(
                    "Idempotency-Key",
                    "A name for this request, 1 to 255 visible ASCII characters. The same body under the same key has "
                    "one effect and gets the first answer again; kept for 7 days.",
                    "2026-06-01-night-7",
                )
            ],
            "requestBody": body(
                {"type": "array", "items": {"type": "object"}},
                {"records": [_RECORD], "a deletion": [_DELETION], "heartbeat": []},
                *FORMS,
            ),
        },
    )  # fmt: skip
    async def push(request: Request, dataset: str) -> Response:
        """Records of one dataset, as a JSON array or one JSON object a line (NDJSON), in the contract's JSON form.

        Only for a client of the owning department with the scope `publish`. A record that does not keep its contract is
        set aside with its reason and stops no other; the first hundred reasons are in the answer. `{"delete": {...}}`
        with the subject, the record key and the version field, if there is one, deletes. A request without records is
        a heartbeat: it says that the source has told everything until now. If too many of the records read so far are
        rejected, the push stops with 422: what was read stands, and `stopped_after` says how far that is.
        """
        caller = await identity.caller(request.scope)
        caller.require("publish")
        _own(caller, dataset)
        form = FORMS[media_type(request.scope["headers"], tuple(FORMS))]
        key = _idempotency_key(request)
        parent = trace(request.scope["headers"])
        if parent:
            note(request.scope, trace_id=trace_id(parent))
        with harvest.under_way(caller.client), closing(Spool(room, caller.client.department)) as spool:
            async for chunk in request.stream():
                spool.add(chunk)
            todo = Push(caller.client, dataset, form, spool, key, pushing.clock(), parent)
            found = await _published(pushing, todo, bundle(), places)
        note(request.scope, contract=dataset)
        return Response(found, headers={"traceparent": parent} if parent else None, media_type="application/json")

    return routes


class _Places:
    """Who may publish now: one push of each department and AT_ONCE in all, so that none starves the others.

    A push waits for its department's turn first, and takes a place of all only then.
    """

    def __init__(self) -> None:
        self._all = asyncio.Semaphore(AT_ONCE)
        self._turns: dict[str, asyncio.Lock] = {}  # departments are those of the clients: few

    @asynccontextmanager
    async def of(self, department: str) -> AsyncIterator[None]:
        """Raises Busy after WAIT_SECONDS."""
        async with AsyncExitStack() as held:
            try:
                async with asyncio.timeout(WAIT_SECONDS):
                    await held.enter_async_context(self._turns.setdefault(department, asyncio.Lock()))
                    await held.enter_async_context(self._all)
            except TimeoutError:
                raise Busy("too many pushes are being published") from None
            yield


async def _published(pushing: Pushing, push: Push, bundle: Bundle, places: _Places) -> bytes:
    async with places.of(push.client.department):
        return await asyncio.to_thread(pushing.publish, push, bundle)


def _own(caller: Caller, dataset: str) -> None:
    """A department pushes its own datasets only; whether another's exists is not told."""
    if dataset.partition(".")[0] != caller.client.department:
        raise Forbidden("only a client of the owning department pushes records")


def _idempotency_key(request: Request) -> str | None:
    found = [value for name, value in request.scope["headers"] if name == b"idempotency-key"]
    if not found:
        return None
    if len(found) > 1 or not _KEY.fullmatch(found[0]):
        raise BadRequest("Idempotency-Key takes 1 to 255 visible ASCII characters, once")
    return str(found[0], "ascii")
