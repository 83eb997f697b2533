"""The interface as a whole: catalogue, health, pages; and OpenAPI says every route and every error."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.routing import Route

from gateway.explanations import EXPLANATIONS
from gateway.problems import TABLE
from gateway.routes import describing_views
from gateway.routes.views import read
from handbook.http import document
from tests.support.gateway import CITIZEN, City

pytestmark = pytest.mark.anyio

ISSUER = {"/.well-known/openid-configuration", "/oauth/jwks.json", "/oauth/token"}


@pytest.fixture(scope="module")
def one_city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    made = City(tmp_path_factory.mktemp("city"))
    yield made
    made.close()


@pytest.fixture
def city(one_city: City) -> City:
    one_city.reset()
    return one_city


async def get(city: City, path: str, client_id: str | None = None) -> Any:
    async with city.http(client_id) as http:
        return await http.get(path)


# --- the catalogue ----------------------------------------------------------------------------------------------------


async def test_every_listed_client_sees_the_whole_catalogue(city: City) -> None:
    for client_id in ("tax-desk", "hotline-push"):
        answer = await get(city, "/v1/contracts", client_id)
        assert answer.headers["exchange-policy"] == city.bundle.version
        found = {each["contract"]: each for each in answer.json()["contracts"]}
        assert list(found) == ["civil.case_file", "civil.person", "hotline.call"]
        assert (found["civil.case_file"]["sharing"], found["civil.case_file"]["reason"]) == (
            "withheld",
            "State secret.",
        )
        assert found["hotline.call"]["record_key"] == ["ticket"]
        assert found["civil.person"]["title"] == {"zh-CN": "人", "en": "Person"}
        assert found["civil.person"]["owner"] == "civil"
    assert (await get(city, "/v1/contracts", "stranger")).status_code == 403
    assert (await get(city, "/v1/contracts")).status_code == 401


async def test_one_contract_has_its_fields_with_levels(city: City) -> None:
    answer = (await get(city, "/v1/contracts/civil.person", "tax-desk")).json()
    assert answer["contract"] == "civil.person"
    (major,) = answer["majors"]
    assert {field["name"]: field["level"] for field in major["fields"]} == {"citizen_id": 2, "name": 2}
    assert major["fields"][1]["concept"] == "citizen.name"
    assert major["fields"][1]["leads"] is True
    unknown = await get(city, f"/v1/contracts/{CITIZEN}", "tax-desk")
    assert (unknown.status_code, CITIZEN in unknown.text) == (404, False)


# --- health -----------------------------------------------------------------------------------------------------------


async def test_ready_means_that_a_view_would_be_served(city: City) -> None:
    assert (await get(city, "/readyz")).json() == {"ready": True, "checks": {"audit": True, "policy": True}}
    city.log.broken = True
    answer = await get(city, "/readyz")
    assert (answer.status_code, answer.json()["checks"]) == (503, {"audit": False, "policy": True})
    city.log.broken, city.policy_away = False, True
    assert (await get(city, "/readyz")).status_code == 503
    assert (await get(city, "/healthz")).status_code == 200


async def test_signing_keys_are_public_and_may_be_kept_a_while(city: City) -> None:
    answer = await get(city, "/.well-known/exchange-keys.json")
    assert answer.json() == {"keys": [{"kty": "OKP"}]}
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert answer.headers["cache-control"] == "public, max-age=300"


# --- what is said of the interface ------------------------------------------------------------------------------------


def routes(app: Any) -> Iterator[tuple[str, str]]:
    """Every (path, method) that the application answers."""
    for route in app._app.routes:
        inner = getattr(route, "effective_candidates", None)
        if inner is not None:
            for each in route.effective_route_contexts():
                yield from ((each.path, method.lower()) for method in each.methods if method != "HEAD")
        elif isinstance(route, Route):
            yield from ((route.path, method.lower()) for method in route.methods or () if method != "HEAD")


async def test_openapi_says_every_route(city: City) -> None:
    document = (await get(city, "/openapi.json")).json()
    said = {(path, method) for path, operations in document["paths"].items() for method in operations}
    assert said == set(routes(city.app))
    assert ("/v1/citizens/view", "post") in said
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
            assert any(status.startswith("2") for status in operation["responses"])


async def test_openapi_says_every_error(city: City) -> None:
    document = (await get(city, "/openapi.json")).json()
    said = set()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for response in operation["responses"].values():
                for media, content in response.get("content", {}).items():
                    if media == "application/problem+json":
                        said |= set(content["examples"])
            needs_token = operation.get("security") != []
            assert needs_token == ("401" in operation["responses"]), path
            assert {"408", "413", "431", "500"} <= set(operation["responses"]), path
    on_no_route = {"method-not-allowed", "incompatible", "rejected", "contract-refused", "unavailable"}
    assert said | on_no_route == {problem.slug for problem in TABLE.values()}


async def test_references_lead_somewhere_and_examples_are_accepted(city: City) -> None:
    answer = await get(city, "/openapi.json")
    names = set(re.findall(r'"#/components/schemas/(\w+)"', answer.text))
    assert names <= set(answer.json()["components"]["schemas"])
    for operation in describing_views.operations().values():
        for example in operation["post"]["requestBody"]["content"]["application/json"]["examples"].values():
            read(example["value"])


async def test_the_page_needs_nothing_from_anywhere(city: City) -> None:
    answer = await get(city, "/docs")
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "<script" not in answer.text
    assert not re.search(r"""(src|href)=["'](https?:)?//""", answer.text)
    for path in ("/v1/citizens/view", "/v1/datasets/{dataset}/records", "/registry/schemas/ids/{schema_id}"):
        assert path in answer.text
    assert "Exchange-Purpose" in answer.text


async def test_each_kind_of_problem_has_a_line(city: City) -> None:
    for problem in TABLE.values():
        answer = await get(city, problem.type)
        assert answer.status_code == 200
        assert problem.advice in answer.text
        assert EXPLANATIONS[problem.slug].when in answer.text
    assert (await get(city, f"/errors/{CITIZEN}")).status_code == 404


async def test_the_reference_is_made_of_the_document_that_is_served(city: City) -> None:
    served = (await get(city, "/openapi.json")).json()
    made = (await document())["paths"]
    assert {path for path in made if path not in served["paths"]} == ISSUER  # this city has none of its own
    assert {path: made[path] for path in served["paths"]} == served["paths"]
    needed = {path: each["post"]["security"] for path, each in served["paths"].items() if path.endswith("/view")}
    assert all(each == [{"token": ["view"]}, {"bound": ["view"]}] for each in needed.values())
    assert len(needed) == 2
    assert "scope <code>publish</code>" in (await get(city, "/docs")).text


async def test_nothing_of_the_framework_is_served(city: City) -> None:
    for path in ("/redoc", "/docs/oauth2-redirect", "/openapi.yaml", "/metrics", "/favicon.ico", "/"):
        answer = await get(city, path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
