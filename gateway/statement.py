"""What a client states about a request in its headers: purpose, case, officer, trace.

Each header may stand once. A purpose is one of the registered ones, byte for byte; a case must not hold anybody's
number; an officer is named by the token where the token knows, else by the client, and is recorded as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from exchange.agreements import Bundle
from exchange.errors import BadRequest
from exchange.subjects import holds_identifier, holds_split_identifier

PURPOSE = "Exchange-Purpose"
CASE = "Exchange-Case"
OFFICER = "Exchange-On-Behalf-Of"
MAX_OFFICER = 64

Headers = Iterable[tuple[bytes, bytes]]

_CASE = re.compile(rb"[A-Za-z0-9._/-]{1,64}")
_CASE_SEPARATORS = "._/-"
# W3C Trace Context level 1, version 00; all zeros are no trace.
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_DIGITS = re.compile(r"[0-9]{17}")  # what a person's number begins with: one trace in two hundred


@dataclass(frozen=True, slots=True)
class Statement:
    """The stated purpose, case and officer, checked. `officer_by` says who named the officer."""

    purpose: str
    case: str | None
    officer: str | None
    officer_by: Literal["token", "client"] | None
    traceparent: str | None


def stated(headers: Headers, person: str | None, bundle: Bundle) -> Statement:
    """What these headers state. `person` is whom the token names. Raises BadRequest, naming the header only."""
    found = _single(headers)
    named = _officer(found.get(b"exchange-on-behalf-of"))
    if person is not None and named not in (None, person):
        raise BadRequest(f"{OFFICER} names another person than the token does")
    officer = person or named
    return Statement(
        purpose=_purpose(found.get(b"exchange-purpose"), bundle),
        case=_case(found.get(b"exchange-case")),
        officer=officer,
        officer_by=None if officer is None else "token" if person is not None else "client",
        traceparent=traceparent(found.get(b"traceparent")),
    )


def traceparent(value: bytes | None) -> str | None:
    """A traceparent that is well-formed; any other is passed over, as its standard asks.

    So is one with a person's number among its digits: it would stand in the audit log and come back in a header. The
    numbers of enterprises are left alone, for one random trace in three would hold something like them.
    """
    if value is None or not _TRACEPARENT.fullmatch(value):
        return None
    text = value.decode("ascii")
    return None if _DIGITS.search(text) and holds_identifier(text, "citizen") else text


def trace(headers: Headers) -> str | None:
    """The one `traceparent` of these headers, as above."""
    found = [value for name, value in headers if name == b"traceparent"]
    return traceparent(found[0]) if len(found) == 1 else None


def trace_id(parent: str) -> str:
    """The part of a traceparent that all of a trace has, for log lines (W3C Trace Context, section 3.2.2.3)."""
    return parent[3:35]


_READ = {PURPOSE.lower().encode(): PURPOSE, CASE.lower().encode(): CASE, OFFICER.lower().encode(): OFFICER}


def _single(headers: Headers) -> Mapping[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in _READ:
            if name in found:
                raise BadRequest(f"{_READ[name]} stands there twice")
            found[name] = value
        elif name == b"traceparent":
            found[name] = value if name not in found else b""  # two traces are none
    return found


def _purpose(value: bytes | None, bundle: Bundle) -> str:
    if value is None:
        raise BadRequest(f"{PURPOSE} is missing: every request names a registered purpose")
    purpose = value.decode("latin-1")  # one character for each byte, so that only the exact bytes can match
    if purpose not in bundle.purposes:
        raise BadRequest(f"{PURPOSE} is not a registered purpose, letter for letter")
    return purpose


def _case(value: bytes | None) -> str | None:
    if value is None:
        return None
    if not _CASE.fullmatch(value):
        raise BadRequest(f"{CASE} takes 1 to 64 letters, digits and . _ / -")
    case = value.decode("ascii")
    if holds_identifier(case) or holds_split_identifier(case, _CASE_SEPARATORS):
        raise BadRequest(f"{CASE} holds a personal or credit number; name the case by its own number")
    return case


def _officer(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        officer = value.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(f"{OFFICER} is not UTF-8") from None
    if not 0 < len(officer) <= MAX_OFFICER or not officer.isprintable():
        raise BadRequest(f"{OFFICER} takes 1 to {MAX_OFFICER} characters, none of them a control character")
    return officer
