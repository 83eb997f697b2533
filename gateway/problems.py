"""Errors as RFC 9457 problems: one table from exception class to answer.

The title is the first line of the class's docstring; the detail is what was written where the error was raised, which
never holds a value that was sent. What only an operator can mend has no detail. gateway.explanations has the rest.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exchange import errors

MEDIA_TYPE = "application/problem+json"


class HeadersTooLarge(errors.CallerError):
    """The request's header is too large"""


class BodyTooLarge(errors.CallerError):
    """The request's body is too large"""


class TooSlow(errors.CallerError):
    """The request did not arrive in time"""


class MediaTypeRefused(errors.CallerError):
    """The body's media type is not accepted here"""


class MethodNotAllowed(errors.CallerError):
    """The method is not allowed here"""

    def __init__(self, allow: str = "") -> None:
        super().__init__(f"allowed: {allow}" if allow else "")
        self.allow = allow


class InsufficientScope(errors.Forbidden):
    """The access token or the client lacks a scope"""

    def __init__(self, scope: str, scheme: str = "Bearer") -> None:
        super().__init__(f"this needs the scope `{scope}`, in the token and in the list of clients")
        self.scope = scope
        self.scheme = scheme  # of the token that was sent


class PushStopped(errors.Unprocessable):
    """Too many records of the push were rejected"""

    def __init__(self, answer: Mapping[str, Any]) -> None:
        """`answer` says how far it went: the members of a push's answer, and `stopped_after`, the last line read."""
        super().__init__(
            f"{answer['rejected']} of the first {answer['stopped_after']} records; what was read stands, the rest was "
            "not looked at"
        )
        self.answer = answer


class TooManyUnderWay(errors.CallerError):
    """This client has too many requests under way"""

    policy = "requests-in-flight"

    def __init__(self, limit: int) -> None:
        super().__init__(f"at most {limit} at the same time")
        self.rate_limit = {
            "ratelimit-policy": f'"{self.policy}";q={limit};qu="concurrent-requests"',
            "ratelimit": f'"{self.policy}";r=0',
        }


class SubjectsExhausted(errors.CallerError):
    """This client has seen as many citizens and enterprises as it may in a day"""

    policy = "subjects-a-day"

    def __init__(self, limit: int, seconds: int) -> None:
        super().__init__(f"about {limit} in a day; the next day begins in {seconds} seconds")
        self.retry_after = seconds
        self.rate_limit = rate_limit(self.policy, limit, 0, seconds)


def rate_limit(policy: str, quota: int, remaining: int, seconds: int) -> dict[str, str]:
    """The fields of draft-ietf-httpapi-ratelimit-headers-10 for a number that is given anew every day."""
    return {
        "ratelimit-policy": f'"{policy}";q={quota};w=86400',
        "ratelimit": f'"{policy}";r={remaining};t={seconds}',
    }


class Busy(errors.TryLater):
    """Too much of this is under way"""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a body: where (RFC 6901, only names of ours and positions), and why; never what was sent."""

    pointer: str
    reason: str


class Invalid(errors.Unprocessable):
    """The body is not of the form that is asked for"""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.pointer or 'the body'}: {fault.reason}" for fault in faults[:3]))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Problem:
    """How a class of errors is answered. `advice` is one sentence for the caller; `retry_after` is in seconds."""

    status: int
    slug: str
    advice: str
    retry_after: int | None = None

    @property
    def type(self) -> str:
        return f"/errors/{self.slug}"


TABLE: Mapping[type[Exception], Problem] = {
    errors.BadRequest: Problem(400, "bad-request", "Correct the header or the body that the detail names."),
    errors.Unauthenticated: Problem(401, "unauthenticated", "Get an access token for this gateway and send it."),
    errors.Forbidden: Problem(403, "forbidden", "Ask the operator for the scope, purpose or entry that is missing."),
    errors.NothingPermitted: Problem(403, "nothing-permitted", "Ask the owning department for an agreement."),
    InsufficientScope: Problem(403, "insufficient-scope", "Ask for a token with this scope, or to be given it."),
    errors.NotFound: Problem(404, "not-found", "Check the path and the name in it."),
    MethodNotAllowed: Problem(405, "method-not-allowed", "Use a method that the Allow header names."),
    TooSlow: Problem(408, "too-slow", "Send the request again, faster."),
    errors.Conflict: Problem(409, "conflict", "Wait for the other request with this key, then send it again."),
    errors.Incompatible: Problem(409, "incompatible", "Keep the old fields, or make a new major version."),
    BodyTooLarge: Problem(413, "body-too-large", "Send less in one request."),
    MediaTypeRefused: Problem(415, "media-type", "Send the media type that the detail names."),
    errors.Unprocessable: Problem(422, "unprocessable", "Correct what the detail names."),
    Invalid: Problem(422, "invalid-body", "Correct the members that `errors` points to."),
    PushStopped: Problem(
        422, "too-many-rejects", "Correct the records that `reasons` names, then send what is behind `stopped_after`."
    ),
    errors.Rejected: Problem(422, "rejected", "Correct the value that the detail names."),
    errors.InvalidIdentifier: Problem(422, "invalid-identifier", "Check the number; the reason says what fails."),
    errors.ContractRefused: Problem(422, "contract-refused", "Correct the schema as the detail says."),
    TooManyUnderWay: Problem(429, "too-many-under-way", "Wait for answers before you ask on.", 1),
    SubjectsExhausted: Problem(429, "subjects-exhausted", "Go on the next day, or ask the operator for more.", 3600),
    HeadersTooLarge: Problem(431, "headers-too-large", "Send fewer or shorter headers."),
    Exception: Problem(500, "internal", "Tell the operator the request id."),
    errors.BrokerUnavailable: Problem(503, "broker-unavailable", "Send the same request again later.", 5),
    errors.StoreUnavailable: Problem(503, "store-unavailable", "Send the same request again later.", 2),
    errors.RegistryUnavailable: Problem(503, "registry-unavailable", "Send the same request again later.", 2),
    errors.AuditUnavailable: Problem(503, "audit-unavailable", "Send the same request again later.", 2),
    errors.PolicyUnavailable: Problem(503, "policy-unavailable", "Send the same request again later.", 2),
    errors.IssuerUnavailable: Problem(503, "issuer-unavailable", "Send the same request again later.", 10),
    Busy: Problem(503, "busy", "Send the same request again later.", 1),
    errors.TryLater: Problem(503, "unavailable", "Send the same request again later.", 2),
}


def kind(error: Exception) -> tuple[type[Exception], Problem]:
    """The nearest class of the table to which this error belongs, and its problem."""
    for cls in type(error).__mro__:
        if cls in TABLE:
            return cls, TABLE[cls]
    return Exception, TABLE[Exception]  # not reached: every Exception has Exception among its bases


def title(cls: type[Exception]) -> str:
    """What a problem of this class is called: the first line of its docstring."""
    if cls is Exception:
        return "Something went wrong inside the gateway"
    return (inspect.getdoc(cls) or cls.__name__).split("\n", 1)[0]


def document(error: Exception, request_id: str | None) -> dict[str, Any]:
    """The problem's members. `errors` is there for a body of the wrong form: pointers and reasons.

    A push that was stopped has the members of its answer too.
    """
    cls, problem = kind(error)
    members: dict[str, Any] = {"type": problem.type, "title": title(cls), "status": problem.status}
    if isinstance(error, errors.CallerError | errors.PublisherError) and error.detail:
        members["detail"] = error.detail
    if isinstance(error, Invalid):
        members["errors"] = [{"pointer": fault.pointer, "reason": fault.reason} for fault in error.faults]
    if isinstance(error, PushStopped):
        members |= error.answer
    if isinstance(error, TooManyUnderWay | SubjectsExhausted):
        members["violated-policies"] = [error.policy]
    return members | ({"request_id": request_id} if request_id else {})


def headers(error: Exception) -> dict[str, str]:
    """The headers that belong to this error: a challenge, when to come back, which methods there are."""
    _, problem = kind(error)
    found: dict[str, str] = {}
    if isinstance(error, errors.Unauthenticated):
        found["www-authenticate"] = getattr(error, "challenge", 'Bearer realm="exchange"')
    if isinstance(error, InsufficientScope):
        found["www-authenticate"] = (
            f'{error.scheme} realm="exchange", error="insufficient_scope", scope="{error.scope}"'
        )
    if isinstance(error, MethodNotAllowed) and error.allow:
        found["allow"] = error.allow
    if problem.retry_after is not None:
        found["retry-after"] = str(getattr(error, "retry_after", problem.retry_after))
    return found | getattr(error, "rate_limit", {})


def render(error: Exception, request_id: str | None = None) -> tuple[int, dict[str, str], bytes]:
    """Status, headers with the media type, and body of the answer. What never was a request has no id."""
    body = json.dumps(document(error, request_id), ensure_ascii=False).encode()
    return kind(error)[1].status, {"content-type": MEDIA_TYPE, **headers(error)}, body
