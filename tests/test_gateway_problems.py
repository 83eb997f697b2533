"""One table from errors to answers: complete, documented, and silent about what was sent."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from exchange import errors
from gateway import problems
from gateway.explanations import EXPLANATIONS
from gateway.problems import TABLE, Fault, InsufficientScope, Invalid, MethodNotAllowed, kind, render
from gateway.tokens import TokenRefused


def family(cls: type[Exception]) -> Iterator[type[Exception]]:
    yield cls
    for child in cls.__subclasses__():
        yield from family(child)


def test_every_kind_is_explained_and_nothing_else() -> None:
    assert set(EXPLANATIONS) == {problem.slug for problem in TABLE.values()}
    assert all(each.when and each.steps for each in EXPLANATIONS.values())


@pytest.mark.parametrize("cls", sorted(set(family(errors.ExchangeError)), key=lambda cls: cls.__name__))
def test_whoever_must_act_decides_the_status(cls: type[Exception]) -> None:
    found, problem = kind(cls.__new__(cls))
    if issubclass(cls, errors.TryLater):
        assert problem.status == 503
        assert problem.retry_after
    elif issubclass(cls, errors.CallerError) and found is not Exception:
        assert 400 <= problem.status < 500
    elif issubclass(cls, errors.OperatorError):
        assert problem.status == 500


def test_slugs_are_unique_and_types_are_paths() -> None:
    slugs = [problem.slug for problem in TABLE.values()]
    assert len(set(slugs)) == len(slugs)
    assert TABLE[errors.BadRequest].type == "/errors/bad-request"


def test_what_only_the_operator_can_mend_has_no_detail() -> None:
    for error in (errors.StoreUnavailable("host db1:5432"), errors.SettingWrong("keys.bus"), ValueError("secret")):
        _, headers, body = render(error, "r1")
        assert set(json.loads(body)) == {"type", "title", "status", "request_id"}
        assert headers["content-type"] == "application/problem+json"
    assert render(errors.StoreUnavailable(), "r")[1]["retry-after"] == "2"


def test_headers_that_belong_to_an_error() -> None:
    assert render(errors.Unauthenticated(), "r")[1]["www-authenticate"] == 'Bearer realm="exchange"'
    assert 'error="invalid_token"' in render(TokenRefused("expired"), "r")[1]["www-authenticate"]
    scope = render(InsufficientScope("view"), "r")[1]["www-authenticate"]
    assert scope == 'Bearer realm="exchange", error="insufficient_scope", scope="view"'
    assert render(MethodNotAllowed("GET, HEAD"), "r")[1]["allow"] == "GET, HEAD"


def test_faults_are_listed() -> None:
    body = json.loads(render(Invalid([Fault("/id", "required"), Fault("", "an object")]), "r")[2])
    assert body["errors"] == [{"pointer": "/id", "reason": "required"}, {"pointer": "", "reason": "an object"}]
    assert body["type"] == "/errors/invalid-body"
    assert body["detail"] == "/id: required; the body: an object"


def test_subclasses_are_answered_as_the_nearest_class_of_the_table() -> None:
    assert kind(TokenRefused("missing"))[0] is errors.Unauthenticated
    assert kind(errors.Forbidden())[1].slug == "forbidden"
    assert kind(errors.NothingPermitted())[1].slug == "nothing-permitted"
    assert kind(errors.SchemaOutdated())[1].slug == "internal"
    assert problems.document(ZeroDivisionError("x"), "r")["title"] == "Something went wrong inside the gateway"
