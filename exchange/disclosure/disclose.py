"""The verb: decide, read, trim, merge, write to the audit log, and only then let out."""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import orjson

from exchange.agreements import Client
from exchange.audit.entries import Entry, Outcome
from exchange.audit.keys import AuditKeys
from exchange.audit.log import AuditLog
from exchange.audit.receipts import Receipt
from exchange.clock import Clock
from exchange.decisions import Decision
from exchange.disclosure.gathering import Gathering
from exchange.disclosure.policy import PolicyWatch
from exchange.errors import NothingPermitted, PolicyUnavailable, TryLater
from exchange.metrics import VIEW_SECONDS, VIEWS
from exchange.store import FacetReader
from exchange.subjects import SCHEMES, KeyMaker, Subject
from exchange.views import Selection, merge, select

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
        return f"sha-256=:{b64encode(hashlib.sha256(self.body).digest()).decode('ascii')}:"


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
        self._watermarks = _Watermarks(reader)

    async def disclose(self, request: ViewRequest) -> tuple[View, Receipt]:
        """The merged view of a subject, and the durable proof that this access is in the audit log.

        Raises NothingPermitted if no contract is open to this client for this purpose, whoever the subject is; that
        refusal is in the log too. BadRequest for a cursor that no answer gave; PolicyUnavailable, StoreUnavailable,
        AuditUnavailable: nothing was shown.
        """
        started = time.perf_counter()
        try:
            shown = await self._disclose(request)
        except NothingPermitted:
            VIEWS.labels("refused").inc()
            raise
        except TryLater:
            VIEWS.labels("unavailable").inc()
            raise
        VIEWS.labels("served").inc()
        VIEW_SECONDS.observe(time.perf_counter() - started)
        return shown

    async def _disclose(self, request: ViewRequest) -> tuple[View, Receipt]:
        now = self._clock()
        try:
            decider = self._policy.decider  # taken once: nothing below looks at another version
        except PolicyUnavailable as unavailable:
            await self._audit.append(self._entry(request, now, "error", reason=unavailable.detail), b"")
            raise
        bundle = decider.bundle
        kind = SCHEMES[request.subject.scheme].kind
        survey = decider.survey(request.client, request.purpose, kind, request.case is not None, now)
        permitted = [decision for decision in survey if decision.allowed]
        errors = {_topic(one): one.reason for one in survey if one.error}
        if not permitted:
            outcome: Outcome = "error" if errors else "refused"
            refusal = self._entry(
                request, now, outcome, bundle=bundle.version, reason="no contract is permitted", policies=_ids(survey)
            )
            await self._audit.append(refusal, b"")
            raise NothingPermitted
        asked = select(permitted, bundle.terms, request.contracts, request.fields)
        gathering = Gathering(self._reader, asked.decisions, bundle.terms, request.after)
        trimmed = await gathering.of(self._keys.subject(request.subject))
        told = await self._watermarks.of({contract for contract, _ in bundle.terms})
        document = merge(trimmed, bundle.terms, told, now, request.after, not_available=asked.not_available)
        view = View(orjson.dumps(document), bundle.version)
        entry = self._entry(
            request,
            now,
            "served",
            bundle=bundle.version,
            contracts=_shown(asked),
            policies=_ids(asked.decisions),
            details={"errors": errors} if errors else {},
        )
        receipt = await self._audit.append(entry, view.body)  # the line of no return: before it nothing has left
        return view, receipt

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
        self._told: dict[tuple[str, str], datetime] = {}
        self._contracts: frozenset[str] = frozenset()
        self._read = float("-inf")

    async def of(self, contracts: Iterable[str]) -> Mapping[tuple[str, str], datetime]:
        wanted = frozenset(contracts)
        if wanted != self._contracts or time.monotonic() - self._read > WATERMARKS_S:
            began = time.monotonic()
            told = await self._reader.watermarks(sorted(wanted))
            self._told = {(one.contract, one.source): one.as_of for one in told}
            self._contracts, self._read = wanted, began
        return self._told


def _topic(decision: Decision) -> str:
    return f"{decision.contract}.v{decision.major}"


def _ids(decisions: Iterable[Decision]) -> list[str]:
    """What the decisions rest on: guardrails and agreements, each once."""
    named: set[str] = set()
    for decision in decisions:
        named.update(decision.policies)
        if decision.agreement is not None:
            named.add(decision.agreement)
    return sorted(named)


def _shown(asked: Selection) -> dict[str, list[str]]:
    return {_topic(decision): sorted(decision.fields) for decision in asked.decisions}
