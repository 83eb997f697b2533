"""The verb: decide, read, trim, merge, write to the audit log, and only then let out."""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from exchange.agreements import Bundle, Client
from exchange.audit.encoding import digest
from exchange.audit.entries import Entry, Outcome
from exchange.audit.keys import AuditKeys
from exchange.audit.log import AuditLog
from exchange.audit.receipts import Receipt
from exchange.clock import Clock
from exchange.decisions import Decider
from exchange.disclosure.gathering import Gathering
from exchange.disclosure.plans import Plans
from exchange.disclosure.policy import PolicyWatch
from exchange.errors import CallerError, ExchangeError, NothingPermitted
from exchange.metrics import VIEW_SECONDS, VIEWS
from exchange.store import FacetReader
from exchange.subjects import SCHEMES, KeyMaker, Subject

_SERVED = VIEWS.labels("served")

WATERMARKS_S = 0.5
"""How old the watermarks of a view may be: as_of lags by at most this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRequest:
    """Who asks for whom, why, and for what; checked by whoever makes it.

    `contracts` and `fields` narrow; None is all that is permitted. `after` maps contracts to the `next` of an earlier
    answer. `officer` is a name as stated, `officer_by` who stated it.
    """

    client: Client
    subject: Subject
    purpose: str
    case: str | None = None
    officer: str | None = None
    officer_by: Literal["token", "client"] | None = None
    contracts: Sequence[str] | None = None
    fields: Sequence[str] | None = None
    after: Mapping[str, str] = field(default_factory=dict)
    request_id: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class View:
    """The bytes to send, as they were hashed, and the policy version under which they were made."""

    body: bytes
    policy: str

    @property
    def content_digest(self) -> str:
        """The value of the header Content-Digest (RFC 9530)."""
        return f"sha-256=:{b64encode(digest(self.body)).decode('ascii')}:"


class Disclosure:
    """The one way out of the exchange. One event loop uses it."""

    def __init__(
        self,
        policy: PolicyWatch,
        reader: FacetReader,
        audit: AuditLog,
        keys: KeyMaker,
        audit_keys: AuditKeys,
        clock: Clock,
    ) -> None:
        self._policy = policy
        self._reader = reader
        self._audit = audit
        self._keys = keys
        self._audit_keys = audit_keys
        self._clock = clock
        self._plans = Plans()
        self._watermarks = _Watermarks(reader)

    async def disclose(self, request: ViewRequest) -> tuple[View, Receipt]:
        """The merged view of a subject, and the durable proof that this access is in the audit log.

        Raises NothingPermitted if no contract is open to this client for this purpose, whoever the subject is;
        BadRequest for a cursor that no answer gave; PolicyUnavailable, StoreUnavailable, AuditUnavailable. Then nothing
        was shown, and unless it is the log that cannot be written, one entry says why.
        """
        started = time.perf_counter()
        now = self._clock()
        known: dict[str, Any] = {"bundle": self._policy.version}  # what the entry says of the rules, as far as we come
        try:
            try:
                body = await self._merged(request, now, known)
            except Exception as error:
                outcome, reason = _refusal(error, known)
                await self._audit.append(self._entry(request, now, outcome, reason=reason, **known), b"")
                raise
            receipt = await self._audit.append(self._entry(request, now, "served", **known), body)
        except CallerError:
            VIEWS.labels("refused").inc()
            raise
        except Exception:
            VIEWS.labels("unavailable").inc()
            raise
        # The line of no return: before it nothing has left.
        _SERVED.inc()
        VIEW_SECONDS.observe(time.perf_counter() - started)
        return View(body, known["bundle"]), receipt

    async def _merged(self, request: ViewRequest, now: datetime, known: dict[str, Any]) -> bytes:
        """The answer's bytes under the policy that is in force when they are made; `known` gets what was decided."""
        while True:
            decider = self._policy.decider  # taken once: nothing below looks at another version
            known.clear()
            body = await self._under(decider, request, now, known)
            if self._policy.decider is decider:  # else it was replaced while the store was read: begin again
                return body

    async def _under(self, decider: Decider, request: ViewRequest, now: datetime, known: dict[str, Any]) -> bytes:
        bundle = decider.bundle
        known["bundle"] = bundle.version
        kind = SCHEMES[request.subject.scheme].kind
        survey = decider.survey(request.client, request.purpose, kind, request.case is not None, now)
        plan = self._plans.of(bundle, survey, request.contracts, request.fields)
        if plan.errors:
            known["details"] = {"errors": plan.errors}
        known["policies"] = plan.policies
        if not plan.permitted:
            raise NothingPermitted
        known["contracts"] = plan.contracts
        gathering = Gathering(self._reader, plan.trimmers, bundle.terms, request.after, now)
        told = await self._watermarks.of(bundle)  # before the facets: no value is said to be newer than it is
        trimmed = await gathering.of(self._keys.subject(request.subject))
        return plan.speller(trimmed, told, now, request.after, cut=gathering.cut, not_available=plan.not_available)

    def _entry(self, request: ViewRequest, now: datetime, outcome: Outcome, **members: Any) -> Entry:
        client = request.client
        officer = None if request.officer is None else self._audit_keys.officer(client.department, request.officer)
        return Entry(
            time=now,
            act="view",
            outcome=outcome,
            issuer=client.issuer,
            client=client.client_id,
            department=client.department,
            officer=officer,
            officer_by=request.officer_by,
            purpose=request.purpose,
            case=request.case,
            subject=self._audit_keys.subject(request.subject),
            request=request.request_id,
            traceparent=request.traceparent,
            **members,
        )


class _Watermarks:
    """Until when each source has told everything, looked up at most twice a second for all requests together."""

    def __init__(self, reader: FacetReader) -> None:
        self._reader = reader
        self._look: asyncio.Task[Mapping[tuple[str, str], datetime]] | None = None
        self._of = ""
        self._began = float("-inf")

    async def of(self, bundle: Bundle) -> Mapping[tuple[str, str], datetime]:
        """Raises StoreUnavailable."""
        now = time.monotonic()
        if self._look is None or now - self._began > WATERMARKS_S or self._of != bundle.version or _failed(self._look):
            self._look = asyncio.create_task(self._read(bundle))
            self._of, self._began = bundle.version, now
        if self._look.done():
            return self._look.result()
        return await asyncio.shield(self._look)  # one who goes away does not take it from the others

    async def _read(self, bundle: Bundle) -> Mapping[tuple[str, str], datetime]:
        told = await self._reader.watermarks(sorted({contract for contract, _ in bundle.terms}))
        return {(one.contract, one.source): one.as_of for one in told}


def _failed(look: asyncio.Task[Any]) -> bool:
    return look.done() and (look.cancelled() or look.exception() is not None)


def _refusal(error: Exception, known: Mapping[str, Any]) -> tuple[Outcome, str]:
    """What the entry says of a request that got nothing: the rules' no, or an error, which is one too."""
    if not isinstance(error, ExchangeError):
        return "error", type(error).__name__  # its text may hold anything
    by_error = not isinstance(error, CallerError) or (isinstance(error, NothingPermitted) and "details" in known)
    return ("error" if by_error else "refused"), str(error)
