"""What a client states: purpose, case, officer, trace; exact, once, and without anybody's number."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from exchange.errors import BadRequest
from gateway.bodies import JSON, media_type
from gateway.problems import MediaTypeRefused
from gateway.statement import stated

CITIZEN = "11010119000101009X"
ENTERPRISE = "91350100M000100Y43"
BUNDLE: Any = SimpleNamespace(purposes={"tax-assessment": object()})
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

Pairs = list[tuple[bytes, bytes]]


def said(*more: tuple[bytes, bytes], purpose: bytes = b"tax-assessment", person: str | None = None) -> Any:
    return stated([(b"exchange-purpose", purpose), *more], person, BUNDLE)


@pytest.mark.parametrize(
    "purpose",
    [
        b"Tax-Assessment", b"tax-assessment ", "tax-assessment\u00a0".encode(), "t\u0430x-assessment".encode(),
        b"tax-assessment\xa0", b"", b"tax_assessment", b"x" * 5000, "ta\u0301x-assessment".encode(), b"marketing",
    ],
)  # fmt: skip
def test_a_purpose_is_registered_byte_for_byte(purpose: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        said(purpose=purpose)
    assert "Exchange-Purpose" in str(caught.value)
    assert "marketing" not in str(caught.value)


def test_a_purpose_stands_there_once() -> None:
    with pytest.raises(BadRequest, match="twice"):
        said((b"exchange-purpose", b"tax-assessment"))
    with pytest.raises(BadRequest, match="missing"):
        stated([], None, BUNDLE)


@pytest.mark.parametrize("case", [b"2026/TA/00417", b"a", b"A" * 64, b"1.2_3-4", b"1101011900010100"])
def test_a_case_may_be(case: bytes) -> None:
    assert said((b"exchange-case", case)).case == case.decode()


@pytest.mark.parametrize(
    "case",
    [
        b"", b"A" * 65, b"a b", b"a\tb", "案件".encode(), b"a:b", b"a\n",
        CITIZEN.encode(), CITIZEN.lower().encode(), b"case/" + CITIZEN.encode() + b".1", b"x" + CITIZEN.encode() + b"9",
        ENTERPRISE.encode(), b"U-" + ENTERPRISE.lower().encode(),
    ],
)  # fmt: skip
def test_a_case_holds_nobodys_number(case: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        said((b"exchange-case", case))
    assert CITIZEN not in str(caught.value).upper()
    assert ENTERPRISE not in str(caught.value)


def test_other_headers_stand_there_once_too() -> None:
    for name in (b"exchange-case", b"exchange-on-behalf-of"):
        with pytest.raises(BadRequest, match="twice"):
            said((name, b"a"), (name, b"a"))


@pytest.mark.parametrize(
    ("header", "person", "officer", "by"),
    [
        (None, None, None, None),
        (b"desk 4", None, "desk 4", "client"),
        ("李".encode() * 64, None, "李" * 64, "client"),
        (None, "officer-7", "officer-7", "token"),
        (b"officer-7", "officer-7", "officer-7", "token"),
    ],
)
def test_who_names_the_officer(header: bytes | None, person: str | None, officer: str | None, by: str | None) -> None:
    more: Pairs = [] if header is None else [(b"exchange-on-behalf-of", header)]
    found = said(*more, person=person)
    assert (found.officer, found.officer_by) == (officer, by)


@pytest.mark.parametrize("officer", [b"", b"x" * 65, b"\xff", b"a\x00b", "a\u200bb".encode(), b"a\nb"])
def test_an_officer_is_a_short_printable_text(officer: bytes) -> None:
    with pytest.raises(BadRequest, match="Exchange-On-Behalf-Of"):
        said((b"exchange-on-behalf-of", officer))


def test_a_header_may_not_differ_from_the_token() -> None:
    with pytest.raises(BadRequest, match="another person") as caught:
        said((b"exchange-on-behalf-of", b"officer-8"), person="officer-7")
    assert "officer-" not in str(caught.value)


@pytest.mark.parametrize(
    ("trace", "kept"),
    [
        (TRACE, True),
        (TRACE.upper(), False),
        ("00-" + "0" * 32 + "-00f067aa0ba902b7-01", False),
        (TRACE.replace("00f067aa0ba902b7", "0" * 16), False),
        ("01" + TRACE[2:], False),
        (TRACE + "-x", False),
        (f"00-110101190001010014{'a' * 14}-{'b' * 16}-01", False),
        (f"00-110101190001010015{'a' * 14}-{'b' * 16}-01", True),
        ("", False),
    ],
)
def test_a_trace_is_kept_if_it_is_one(trace: str, kept: bool) -> None:
    assert said((b"traceparent", trace.encode())).traceparent == (trace if kept else None)
    assert said((b"traceparent", trace.encode()), (b"traceparent", trace.encode())).traceparent is None


@pytest.mark.parametrize(
    "value",
    [b"application/json", b"Application/JSON", b"application/json; charset=utf-8", b'application/json;charset="UTF-8"'],
)
def test_json_in_utf_8_is_accepted(value: bytes) -> None:
    assert media_type([(b"content-type", value)], JSON) == "application/json"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"content-type", b"text/plain")],
        [(b"content-type", b"application/json; charset=gb18030")],
        [(b"content-type", b"application/json, text/plain")],
        [(b"content-type", b"application/json"), (b"content-type", b"application/json")],
        [(b"content-type", b"application/x-www-form-urlencoded")],
        [(b"content-type", b"application/json"), (b"content-encoding", b"gzip")],
        [(b"content-type", b"\xff")],
    ],
)
def test_other_media_types_are_refused(headers: Pairs) -> None:
    with pytest.raises(MediaTypeRefused):
        media_type(headers, JSON)
