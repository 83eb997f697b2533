"""What the gateway itself writes to the audit log: refusals that no view made, acts, and who was not known, by minute.

A view and its refusals are written by `exchange.disclosure`, which alone can let data out.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import structlog
from starlette.types import Scope

from exchange.agreements import Bundle, Client
from exchange.audit import AuditLog, Entry
from exchange.clock import Clock
from exchange.errors import AuditUnavailable, CallerError, PolicyUnavailable
from gateway.limits import REQUEST_ID, template
from gateway.problems import kind

log = structlog.get_logger("gateway")

COUNT_SECONDS = 60.0


class Trail:
    """Writes the gateway's own entries. Every method raises AuditUnavailable if the log cannot be written."""

    def __init__(self, audit: AuditLog, bundle: Callable[[], Bundle], clock: Clock) -> None:
        self._audit = audit
        self._bundle = bundle
        self._clock = clock
        self._unwritten: Counter[str] = Counter()  # of the few words of identity.Reason: as small after a year

    async def refused(self, client: Client, scope: Scope, error: CallerError) -> None:
        """A known client asked for what it may not do: which route, and the kind of refusal."""
        act = f"{scope['method']} {template(scope)}"
        await self._append(client, act, "refused", scope, reason=kind(error)[1].slug)

    async def act(self, client: Client, scope: Scope, act: str, details: Mapping[str, Any]) -> None:
        """A client is about to change something that everyone sees. If this raises, the act must not happen."""
        await self._append(client, act, "done", scope, details=details)

    async def unknown(self, counts: Mapping[str, int]) -> None:
        """How many more requests were refused before a client was known, by reason.

        What cannot be written is kept and added to the next call's counts. If only the store's answer was lost they
        stand there twice: rather that than not at all.
        """
        if counts:
            log.info("refused before a client was known", **counts)
        self._unwritten.update(counts)
        if not self._unwritten:
            return
        nobody = Client(
            issuer="exchange", client_id="gateway", name="Gateway", department="exchange", scopes=(), purposes=()
        )
        told = Counter(self._unwritten)
        await self._append(nobody, "unauthenticated", "refused", None, details={"requests": dict(told)})
        self._unwritten -= told

    async def count(self, take: Callable[[], Mapping[str, int]]) -> None:
        """Write what `take` gives, each minute, until cancelled."""
        while True:
            await asyncio.sleep(COUNT_SECONDS)
            try:
                await self.unknown(take())
            except AuditUnavailable:
                log.warning("counts of refused requests wait: the audit log cannot be written")

    async def _append(self, client: Client, act: str, outcome: Any, scope: Scope | None, **members: Any) -> None:
        entry = Entry(
            time=self._clock(),
            act=act,
            outcome=outcome,
            issuer=client.issuer,
            client=client.client_id,
            department=client.department,
            bundle=self._version(),
            request=None if scope is None else scope[REQUEST_ID],
            **members,
        )
        await self._audit.append(entry, b"")

    def _version(self) -> str | None:
        try:
            return self._bundle().version
        except PolicyUnavailable:
            return None
