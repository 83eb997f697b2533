"""The registry's calls in Confluent's form, and our own client against them over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exchange.contracts import Contract
from exchange.errors import ContractRefused, Incompatible, RegistryUnavailable, UnknownSchema
from exchange.registry import HttpRegistry
from gateway.routes.registry import MEDIA
from tests.support.contracts import contract, field
from tests.support.gateway import CITIZEN, KEY, City, person
from tests.support.server import serving
from tests.support.tokens import claims, sign

pytestmark = pytest.mark.anyio

SUBJECT = "civil.person.v1-value"


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    made = City(tmp_path)
    yield made
    made.close()


def newer(*more: str, **changes: Any) -> Contract:
    fields = [field(name, ["null", "string"], default=None) for name in ("name", *more)]
    return contract(*fields, **{"fields": {"name": {"concept": "citizen.name", "lead": True}}, **changes})


async def call(city: City, method: str, path: str, document: Any = None, client_id: str = "civil-push") -> Any:
    async with city.http(client_id) as http:
        content = None if document is None else json.dumps(document).encode()
        return await http.request(method, f"/registry{path}", content=content, headers={"Content-Type": MEDIA})


def text(one: Contract) -> dict[str, Any]:
    return {"schema": one.schema_text, "schemaType": "AVRO"}


def error(answer: Any, status: int, code: int) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == MEDIA
    assert answer.json()["error_code"] == code
    assert answer.json()["message"]


async def test_look_up(city: City) -> None:
    found = await call(city, "POST", f"/subjects/{SUBJECT}", text(person()))
    assert found.status_code == 200
    assert found.headers["content-type"] == MEDIA
    assert found.json() == {
        "subject": SUBJECT, "id": 1, "version": 1, "guid": found.json()["guid"], "schema": person().schema_text
    }  # fmt: skip
    error(await call(city, "POST", f"/subjects/{SUBJECT}", text(newer("address"))), 404, 40403)
    unknown = contract(name="Nobody")
    error(await call(city, "POST", f"/subjects/{unknown.registry_subject}", text(unknown)), 404, 40401)


async def test_register_a_version_that_breaks_nobody(city: City) -> None:
    added = newer("address")
    first = await call(city, "POST", f"/subjects/{SUBJECT}/versions", text(added))
    assert first.status_code == 200
    assert (await call(city, "POST", f"/subjects/{SUBJECT}/versions", text(added))).json() == first.json()
    assert (await call(city, "POST", f"/subjects/{SUBJECT}", text(added))).json()["version"] == 2
    latest = (await call(city, "GET", f"/subjects/{SUBJECT}/versions/latest")).json()
    assert (latest["id"], latest["version"]) == (first.json()["id"], 2)
    read = await call(city, "GET", f"/schemas/ids/{first.json()['id']}")
    assert read.json() == {"schema": added.schema_text, "guid": first.json()["guid"]}
    (entry,) = city.log.entries  # the second time nothing was done
    assert (entry.act, entry.outcome, entry.client, entry.details) == (
        "register", "done", "civil-push", {"subject": SUBJECT},
    )  # fmt: skip


async def test_a_schema_that_breaks_readers_is_409_and_no_entry(city: City) -> None:
    gone = contract(field("address", ["null", "string"], default=None))
    answer = await call(city, "POST", f"/subjects/{SUBJECT}/versions", text(gone))
    error(answer, 409, 409)
    assert "name" in answer.json()["message"]
    assert not city.log.entries


BAD: dict[str, Any] = {
    "no schema": {},
    "schema an object": {"schema": {}},
    "no json in it": {"schema": "hello"},
    "no record": {"schema": '"string"'},
    "no contract": {"schema": '{"type":"record","name":"P","namespace":"gov.civil","fields":[]}'},
    "another subject": {"schema": newer("x", major=2).schema_text},
    "protobuf": {"schema": person().schema_text, "schemaType": "PROTOBUF"},
    "references": {"schema": person().schema_text, "references": [{"name": "x", "subject": "y", "version": 1}]},
    "a list": [],
    "nested deep": {"schema": "[" * 100_000},
}


@pytest.mark.parametrize("document", BAD.values(), ids=BAD)
async def test_what_is_no_contract_of_the_subject_is_42201(city: City, document: Any) -> None:
    error(await call(city, "POST", f"/subjects/{SUBJECT}/versions", document), 422, 42201)


async def test_a_body_that_is_no_json_is_42201(city: City) -> None:
    async with city.http("civil-push") as http:
        for body in (b"{", b'{"schema":"a","schema":"b"}', b"\xff"):
            answer = await http.post(f"/registry/subjects/{SUBJECT}", content=body, headers={"Content-Type": MEDIA})
            error(answer, 422, 42201)


@pytest.mark.parametrize("schema_id", ["999", "0", "-1", "x", "9" * 30, "1.0", CITIZEN])
async def test_an_unknown_id_is_40403(city: City, schema_id: str) -> None:
    answer = await call(city, "GET", f"/schemas/ids/{schema_id}")
    error(answer, 404, 40403)
    assert CITIZEN not in answer.text


async def test_who_may(city: City) -> None:
    foreign = await call(city, "POST", f"/subjects/{SUBJECT}/versions", text(newer("x")), "hotline-push")
    error(foreign, 403, 403)
    assert (await call(city, "POST", f"/subjects/{SUBJECT}", text(person()), "hotline-push")).status_code == 200
    scopeless = await call(city, "GET", "/schemas/ids/1", client_id="tax-desk")
    error(scopeless, 403, 403)
    assert 'scope="registry"' in scopeless.headers["www-authenticate"]
    assert [entry.reason for entry in city.log.entries] == ["forbidden", "insufficient-scope"]
    async with city.http(None) as http:
        error(await http.get("/registry/schemas/ids/1"), 401, 401)


async def test_an_act_that_cannot_be_written_down_does_not_happen(city: City) -> None:
    city.log.broken = True
    answer = await call(city, "POST", f"/subjects/{SUBJECT}/versions", text(newer("x")))
    error(answer, 503, 503)
    assert city.registry.latest(SUBJECT).version == 1  # type: ignore[union-attr]


async def test_other_paths_are_404_in_a_form_that_no_client_takes_for_an_answer(city: City) -> None:
    error(await call(city, "GET", "/nothing"), 404, 404)
    error(await call(city, "GET", "/subjects/a%2Fb/versions"), 404, 404)
    error(await call(city, "GET", f"/subjects/{SUBJECT}"), 405, 405)


def test_our_own_client_over_a_socket(city: City) -> None:
    token = sign(KEY, claims(city.clock(), client_id="civil-push"))
    added = newer("address")
    with serving(city.app) as port:
        registry = HttpRegistry(f"http://127.0.0.1:{port}/registry", lambda: token)
        assert registry.lookup(SUBJECT, person().schema_text) == 1
        assert registry.lookup(SUBJECT, added.schema_text) is None
        schema_id = registry.register(SUBJECT, added.schema_text)
        assert registry.schema(schema_id) == added.schema_text
        assert registry.latest(SUBJECT) == (schema_id, 2, added.schema_text)
        with pytest.raises(UnknownSchema):
            registry.schema(999)
        with pytest.raises(Incompatible, match="name"):
            registry.register(SUBJECT, contract().schema_text)
        with pytest.raises(ContractRefused):
            registry.register(SUBJECT, "{}")
        registry.close()
        stranger = HttpRegistry(f"http://127.0.0.1:{port}/registry", lambda: "")
        with pytest.raises(RegistryUnavailable):
            stranger.schema(1)
        stranger.close()
