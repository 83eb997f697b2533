"""The two views over HTTP: what is asked for, what is answered, and that nothing sent comes back."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from prometheus_client import generate_latest

from exchange.errors import AuditUnavailable, IssuerUnavailable, PolicyUnavailable, StoreUnavailable
from tests.support.gateway import CITIZEN, ENTERPRISE, KEY, City, client, refused
from tests.support.tokens import claims, ec, sign
from tests.test_gateway_json import HOSTILE
from tests.test_gateway_statement import TRACE

pytestmark = pytest.mark.anyio

VIEW = "/v1/citizens/view"
PURPOSE = {"Exchange-Purpose": "tax-assessment"}


@pytest.fixture(scope="module")
def one_city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    made = City(tmp_path_factory.mktemp("city"))
    yield made
    made.close()


@pytest.fixture
def city(one_city: City) -> City:
    """One city for all tests, as it was in the beginning."""
    one_city.reset()
    return one_city


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


async def ask(city: City, body: Any, headers: dict[str, str] | None = None, path: str = VIEW, **token: Any) -> Any:
    async with city.http(**token) as http:
        if isinstance(body, bytes):
            given = {**PURPOSE, "Content-Type": "application/json", **(headers or {})}
            return await http.post(path, content=body, headers=given)
        return await http.post(path, json=body, headers={**PURPOSE, **(headers or {})})


async def test_a_view_is_the_bytes_that_were_hashed(city: City) -> None:
    city.disclosing.body = '{"values":{"citizen.name":"李"}}'.encode()
    answer = await ask(city, {"id": CITIZEN}, {"traceparent": TRACE})
    assert answer.status_code == 200
    assert answer.content == city.disclosing.body
    assert answer.headers["content-type"] == "application/json"
    digest = answer.headers["content-digest"].removeprefix("sha-256=:").removesuffix(":")
    assert b64decode(digest) == hashlib.sha256(answer.content).digest()
    assert answer.headers["exchange-policy"] == "policy-1"
    assert answer.headers["exchange-receipt"] == "cmVjZWlwdA"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["traceparent"] == TRACE


async def test_what_is_asked_reaches_the_library_whole(city: City) -> None:
    body = {
        "id": CITIZEN.lower() + " ",
        "contracts": ["civil.person", "tax.standing"],
        "fields": ["citizen.name", "civil.person.name"],
        "after": {"hotline.call": "1.2.ab.3"},
    }
    headers = {"Exchange-Case": "2026/TA/1", "Exchange-On-Behalf-Of": "desk 4", "traceparent": TRACE}
    answer = await ask(city, body, headers)
    (asked,) = city.disclosing.asked
    assert asked.client == city.clients[0]
    assert (asked.subject.scheme, asked.subject.identifier) == ("cn.ric", CITIZEN)
    assert (asked.purpose, asked.case) == ("tax-assessment", "2026/TA/1")
    assert (asked.officer, asked.officer_by) == ("desk 4", "client")
    assert asked.contracts == body["contracts"]
    assert asked.fields == body["fields"]
    assert asked.after == body["after"]
    assert asked.request_id == answer.headers["x-request-id"]
    assert asked.traceparent == TRACE


async def test_absent_and_null_are_all_that_is_permitted(city: City) -> None:
    await ask(city, {"id": CITIZEN})
    await ask(city, {"id": CITIZEN, "contracts": None, "fields": None, "after": None})
    for asked in city.disclosing.asked:
        assert (asked.contracts, asked.fields, dict(asked.after or {})) == (None, None, {})


async def test_enterprises_have_a_scheme_of_their_own(city: City) -> None:
    answer = await ask(city, {"id": ENTERPRISE.lower()}, path="/v1/enterprises/view")
    assert answer.status_code == 200
    assert city.disclosing.asked[0].subject.scheme == "cn.uscc"
    assert city.disclosing.asked[0].subject.identifier == ENTERPRISE
    assert (await ask(city, {"id": CITIZEN}, path="/v1/enterprises/view")).status_code == 422


WRONG: dict[str, tuple[Any, str]] = {
    "no object": ([CITIZEN], ""),
    "text": (CITIZEN, ""),
    "null": (b"null", ""),
    "no id": ({"contracts": ["civil.person"]}, "/id"),
    "id a number": ({"id": int(CITIZEN)}, "/id"),
    "id null": ({"id": None}, "/id"),
    "id a list": ({"id": [CITIZEN]}, "/id"),
    "id of 65 signs": ({"id": "1" * 65}, "/id"),
    "member unknown": ({"id": CITIZEN, CITIZEN: 1}, ""),
    "member almost known": ({"id": CITIZEN, "contract": ["civil.person"]}, ""),
    "contracts empty": ({"id": CITIZEN, "contracts": []}, "/contracts"),
    "contracts text": ({"id": CITIZEN, "contracts": "civil.person"}, "/contracts"),
    "contracts number": ({"id": CITIZEN, "contracts": [1]}, "/contracts/0"),
    "contracts a person": ({"id": CITIZEN, "contracts": ["civil.person", CITIZEN]}, "/contracts/1"),
    "contracts hide a person": ({"id": CITIZEN, "contracts": [f"a.b{ENTERPRISE.lower()}"]}, "/contracts"),
    "contracts in capitals": ({"id": CITIZEN, "contracts": ["Civil.Person"]}, "/contracts/0"),
    "contracts with a line break": ({"id": CITIZEN, "contracts": ["civil.person\n"]}, "/contracts/0"),
    "contracts too many": ({"id": CITIZEN, "contracts": ["a.b"] * 101}, "/contracts"),
    "fields empty": ({"id": CITIZEN, "fields": []}, "/fields"),
    "fields a person": ({"id": CITIZEN, "fields": [CITIZEN]}, "/fields/0"),
    "fields hide a person": ({"id": CITIZEN, "fields": [f"a.b.c{CITIZEN}"]}, "/fields"),
    "after a list": ({"id": CITIZEN, "after": ["x"]}, "/after"),
    "after a person": ({"id": CITIZEN, "after": {CITIZEN: "x"}}, "/after"),
    "after a number": ({"id": CITIZEN, "after": {"hotline.call": 1}}, "/after"),
    "after empty": ({"id": CITIZEN, "after": {"hotline.call": ""}}, "/after"),
}


@pytest.mark.parametrize(("body", "pointer"), WRONG.values(), ids=WRONG)
async def test_a_body_of_another_form_is_told_where_and_why(
    city: City, logged: list[Any], body: Any, pointer: str
) -> None:
    answer = await ask(city, body)
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["type"] == "/errors/invalid-body"
    assert pointer in [fault["pointer"] for fault in problem["errors"]]
    assert all(fault["reason"] for fault in problem["errors"])
    silent(answer, logged)
    assert not city.disclosing.asked


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_json_is_refused_and_never_breaks_the_answer(city: City, logged: list[Any], body: bytes) -> None:
    answer = await ask(city, body)
    assert answer.status_code == 400
    assert answer.json()["type"] == "/errors/bad-request"
    silent(answer, logged)
    assert not city.disclosing.asked


IDENTIFIERS = {
    "empty": "",
    "check character": CITIZEN[:-1] + "5",
    "15 digits": "110101000101001",
    "invisible": CITIZEN + "\u200b",
    "full width": CITIZEN.replace("1", "１"),
    "spreadsheet": "1.10101E+17",
    "formula": f'="{CITIZEN}"',
    "no date": "110101190013010014",
    "two": f"{CITIZEN} {CITIZEN}",
}


@pytest.mark.parametrize("identifier", IDENTIFIERS.values(), ids=IDENTIFIERS)
async def test_an_invalid_identifier_is_not_repeated(city: City, logged: list[Any], identifier: str) -> None:
    answer = await ask(city, {"id": identifier})
    assert answer.status_code == 422
    assert answer.json()["type"] == "/errors/invalid-identifier"
    assert answer.json()["detail"]
    if len(identifier) > 4:
        assert identifier not in answer.text + str(logged)
    silent(answer, logged)


@pytest.mark.parametrize(
    "headers",
    [
        {"Exchange-Purpose": "marketing"},
        {"Exchange-Purpose": "Tax-Assessment"},
        {"Exchange-Case": CITIZEN},
        {"Exchange-Case": f"case-{CITIZEN}"},
        {"Exchange-Case": f"{CITIZEN[:6]}-{CITIZEN[6:14]}-{CITIZEN[14:]}"},
        {"Exchange-On-Behalf-Of": "x" * 65},
    ],
    ids=str,
)
async def test_headers_that_state_something_else_are_400(
    city: City, logged: list[Any], headers: dict[str, str]
) -> None:
    answer = await ask(city, {"id": CITIZEN}, headers)
    assert answer.status_code == 400
    assert next(iter(headers)) in answer.json()["detail"]
    silent(answer, logged)
    assert not city.disclosing.asked


async def test_a_purpose_is_required_and_stands_there_once(city: City) -> None:
    async with city.http() as http:
        assert (await http.post(VIEW, json={"id": CITIZEN})).status_code == 400
        twice = [("Exchange-Purpose", "tax-assessment"), ("Exchange-Purpose", "tax-assessment")]
        assert (await http.post(VIEW, json={"id": CITIZEN}, headers=twice)).status_code == 400


@pytest.mark.parametrize(
    "media", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=gbk", ""]
)
async def test_only_json_is_read(city: City, logged: list[Any], media: str) -> None:
    answer = await ask(city, json.dumps({"id": CITIZEN}).encode(), {"Content-Type": media})
    assert answer.status_code == 415
    silent(answer, logged)


async def test_an_identifier_never_stands_in_a_url(city: City, logged: list[Any]) -> None:
    async with city.http() as http:
        for path in (f"/v1/citizens/{CITIZEN}", f"/v1/citizens/view/{CITIZEN}", f"{VIEW}?id={CITIZEN}"):
            answer = await http.get(path)
            assert answer.status_code in (404, 405)
            silent(answer, logged)
        wrong = await http.get(VIEW)
        assert wrong.headers["allow"] == "POST"
        assert wrong.json()["type"] == "/errors/method-not-allowed"
        assert [line["route"] for line in logged if line.get("status") == 405][-1] == VIEW
        slash = await http.post(f"{VIEW}/?id={CITIZEN}", json={"id": CITIZEN}, headers=PURPOSE)
        assert slash.status_code == 404
        silent(slash, logged)


def silent(answer: Any, logged: list[Any]) -> None:
    """Nothing that was sent is in any byte of the answer, the log or the metrics."""
    out = answer.text + str(answer.headers) + str(logged) + generate_latest().decode()
    for number in (CITIZEN, ENTERPRISE, ENTERPRISE.lower()):
        assert number not in out


async def test_whoever_is_not_known_gets_401_before_anything_is_read(city: City, logged: list[Any]) -> None:
    city.policy_away = False
    tokens = [sign(ec(), claims()), "x", sign(KEY, claims(aud="account")), sign(KEY, claims(exp=1))]
    for token in tokens:
        async with city.http(None) as http:
            headers = {"Authorization": f"Bearer {token}"}
            answer = await http.post(f"{VIEW}?access_token=x", content=CITIZEN, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["type"] == "/errors/unauthenticated"
        assert answer.headers["www-authenticate"] == 'Bearer realm="exchange", error="invalid_token"'
        silent(answer, logged)
    async with city.http(None) as http:
        answer = await http.post(VIEW, json={"id": CITIZEN}, params={"access_token": "x"})
    assert answer.status_code == 401
    assert "error" not in answer.headers["www-authenticate"]
    assert not city.log.entries


async def test_an_unlisted_client_is_403_and_not_in_the_audit_log(city: City) -> None:
    answer = await ask(city, {"id": CITIZEN}, client_id="stranger")
    assert answer.status_code == 403
    assert answer.json()["type"] == "/errors/forbidden"
    assert not city.log.entries


async def test_a_missing_scope_is_403_with_an_entry(city: City) -> None:
    for token in ({"client_id": "civil-push"}, {"scope": "publish"}, {"scope": "viewer view_all"}):
        answer = await ask(city, {"id": CITIZEN}, **token)
        assert answer.status_code == 403
        assert 'error="insufficient_scope", scope="view"' in answer.headers["www-authenticate"]
    assert [(entry.client, entry.outcome, entry.reason) for entry in city.log.entries] == [
        ("civil-push", "refused", "insufficient-scope"),
        ("tax-desk", "refused", "insufficient-scope"),
        ("tax-desk", "refused", "insufficient-scope"),
    ]
    assert {entry.act for entry in city.log.entries} == {"POST /v1/citizens/view"}
    assert city.log.entries[0].bundle == city.bundle.version


async def test_a_refusal_that_cannot_be_written_down_is_503(city: City) -> None:
    city.log.broken = True
    answer = await ask(city, {"id": CITIZEN}, scope="publish")
    assert answer.status_code == 503
    assert answer.json()["type"] == "/errors/audit-unavailable"


async def test_nothing_permitted_is_403_and_its_entry_is_the_librarys(city: City) -> None:
    city.disclosing.fails = refused()
    answer = await ask(city, {"id": CITIZEN})
    assert answer.status_code == 403
    assert answer.json()["type"] == "/errors/nothing-permitted"
    assert not city.log.entries


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        (AuditUnavailable("disk full"), "audit-unavailable"),
        (PolicyUnavailable("old"), "policy-unavailable"),
        (StoreUnavailable("db1 down"), "store-unavailable"),
        (IssuerUnavailable(), "issuer-unavailable"),
    ],
)
async def test_what_is_away_is_503_with_when_to_come_back(city: City, error: Exception, slug: str) -> None:
    city.disclosing.fails = error
    answer = await ask(city, {"id": CITIZEN})
    assert answer.status_code == 503
    assert answer.json()["type"] == f"/errors/{slug}"
    assert int(answer.headers["retry-after"]) >= 1
    assert "detail" not in answer.json()


async def test_a_stale_policy_decides_nothing(city: City) -> None:
    city.policy_away = True
    answer = await ask(city, {"id": CITIZEN})
    assert answer.json()["type"] == "/errors/policy-unavailable"
    assert not city.disclosing.asked


async def test_a_defect_says_nothing(city: City, logged: list[Any]) -> None:
    city.disclosing.fails = KeyError(CITIZEN)
    answer = await ask(city, {"id": CITIZEN})
    assert answer.status_code == 500
    assert answer.json()["type"] == "/errors/internal"
    silent(answer, logged)


async def test_a_struck_client_is_out_with_the_next_bundle(city: City) -> None:
    assert (await ask(city, {"id": CITIZEN})).status_code == 200
    city.clients = [client("another", "tax", "view")]
    city.make_bundle()
    assert (await ask(city, {"id": CITIZEN})).status_code == 403


async def test_the_log_line_of_a_view(city: City, logged: list[Any]) -> None:
    await ask(city, {"id": CITIZEN}, {"Exchange-On-Behalf-Of": "desk 4", "Exchange-Case": "2026/1"})
    (line,) = [entry for entry in logged if entry["event"] == "request"]
    assert (line["route"], line["client"], line["department"]) == (VIEW, "tax-desk", "tax")
    assert line["purpose"] == "tax-assessment"
    assert "desk 4" not in str(logged)
    assert "2026/1" not in str(logged)
