"""Any department's subjects over REST, as clients of Confluent's registry use them; the gate, deletion, references."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.routes.registry_form import MEDIA
from tests.support.gateway import CITIZEN, City, client, person

pytestmark = pytest.mark.anyio

INBOX = "civil.person.inbox-value"
CONTRACT = "civil.person.v1-value"


@pytest.fixture
def city(tmp_path: Path) -> Iterator[City]:
    made = City(tmp_path)
    made.clients.append(client("clerk", "clerk", "registry"))
    made.make_bundle()
    yield made
    made.close()


async def call(city: City, method: str, path: str, document: Any = None, client_id: str = "civil-push") -> Any:
    async with city.http(client_id) as http:
        content = None if document is None else json.dumps(document).encode()
        return await http.request(method, f"/registry{path}", content=content, headers={"Content-Type": MEDIA})


async def ok(city: City, method: str, path: str, document: Any = None) -> Any:
    answer = await call(city, method, path, document)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == MEDIA
    return answer.json()


async def code(city: City, method: str, path: str, document: Any = None, client_id: str = "civil-push") -> int:
    answer = await call(city, method, path, document, client_id)
    assert answer.status_code >= 400, answer.text
    assert answer.status_code < 500
    told = answer.json()
    assert set(told) == {"error_code", "message"}
    assert told["message"]
    assert told["error_code"] // (100 if told["error_code"] > 999 else 1) == answer.status_code
    return int(told["error_code"])


def record(*fields: Any, name: str = "Person", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "gov.civil", "fields": list(fields), **more}


def field(name: str, type_: Any = "string", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": type_, **more}


def said(schema: Any, **more: Any) -> dict[str, Any]:
    return {"schema": json.dumps(schema), **more}


ONE = record(field("name"))
TWO = record(field("name"), field("phone", ["null", "string"], default=None))
BREAKS = record(field("name"), field("age", "int"))


async def add(city: City, schema: Any, subject: str = INBOX, **more: Any) -> Any:
    return await ok(city, "POST", f"/subjects/{subject}/versions", said(schema, **more))


# --- registering ------------------------------------------------------------------------------------------------------


async def test_any_avro_schema_is_taken_in_one_form_under_one_id(city: City) -> None:
    first = await add(city, ONE)
    assert first["version"] == 1
    assert json.loads(first["schema"]) == ONE
    assert await add(city, dict(reversed(ONE.items()))) == first
    key = await add(city, "string", "civil.person.inbox-key")
    assert (key["version"], key["schema"]) == (1, '"string"')
    elsewhere = await add(city, ONE, "civil.other")
    assert (elsewhere["id"], elsewhere["guid"]) == (first["id"], first["guid"])
    tree = record(field("next", ["null", "gov.civil.Tree"]), name="Tree")
    assert (await add(city, tree, "civil.tree-value"))["version"] == 1
    assert await ok(city, "GET", f"/schemas/ids/{first['id']}/versions") == [
        {"subject": "civil.other", "version": 1},
        {"subject": INBOX, "version": 1},
    ]
    assert await ok(city, "GET", f"/schemas/ids/{first['id']}/subjects?subject={INBOX}") == [INBOX]
    assert (await ok(city, "GET", f"/schemas/guids/{first['guid']}"))["schema"] == first["schema"]
    assert await ok(city, "GET", f"/schemas/guids/{first['guid']}/ids") == [{"context": ".", "id": first["id"]}]
    assert (await ok(city, "GET", f"/schemas/ids/{first['id']}?fetchMaxId=true"))["maxId"] >= elsewhere["id"]
    assert [entry.act for entry in city.log.entries] == ["register"] * 4


async def test_normalize_finds_a_text_that_says_the_same(city: City) -> None:
    wordy = record(field("name", {"type": "string"}), field("home", {"type": "map", "values": {"type": "int"}}))
    brief = {**record(field("name"), field("home", {"type": "map", "values": "int"})), "name": "gov.civil.Person"}
    del brief["namespace"]
    first = await ok(city, "POST", f"/subjects/{INBOX}/versions?normalize=True", said(wordy))
    assert json.loads(first["schema"]) == brief
    found = await ok(city, "POST", f"/subjects/{INBOX}?normalize=true&deleted=False", said(wordy))
    assert (found["id"], found["version"]) == (first["id"], 1)
    assert await code(city, "POST", f"/subjects/{INBOX}", said(wordy)) == 40403
    await ok(city, "PUT", f"/config/{INBOX}", {"normalize": True})
    assert (await ok(city, "POST", f"/subjects/{INBOX}", said(wordy)))["id"] == first["id"]


async def test_metadata_and_rules_are_kept_untouched_and_make_another_schema(city: City) -> None:
    plain = await add(city, ONE)
    metadata = {"properties": {"owner": "civil", "z": "1", "a": "2"}, "tags": {"name": ["PII"]}}
    rules = {"domainRules": [{"name": "r", "kind": "CONDITION", "type": "CEL", "expr": "size(message.name) > 0"}]}
    ruled = await add(city, ONE, metadata=metadata, ruleSet=rules)
    assert ruled["id"] != plain["id"]
    assert ruled["version"] == 2
    answer = await call(city, "GET", f"/subjects/{INBOX}/versions/latest")
    assert answer.json()["metadata"] == metadata
    assert answer.json()["ruleSet"] == rules
    assert list(answer.json()["metadata"]["properties"]) == ["owner", "z", "a"]
    assert (await ok(city, "GET", f"/subjects/{INBOX}/metadata?key=owner&value=civil"))["id"] == ruled["id"]
    assert await code(city, "GET", f"/subjects/{INBOX}/metadata?key=owner&value=tax") == 40403
    later = await add(city, TWO)
    assert later["metadata"] == metadata, "who sends the text alone means what was set before"
    assert (await ok(city, "POST", f"/subjects/{INBOX}", said(TWO)))["id"] == later["id"]


LEVELS: dict[str, tuple[bool, bool, bool]] = {
    # a field with default comes; a required one comes; one goes that is required
    "NONE": (True, True, True),
    "BACKWARD": (True, False, True),
    "BACKWARD_TRANSITIVE": (True, False, True),
    "FORWARD": (True, True, False),
    "FORWARD_TRANSITIVE": (True, True, False),
    "FULL": (True, False, False),
    "FULL_TRANSITIVE": (True, False, False),
}


@pytest.mark.parametrize("level", LEVELS)
async def test_each_level_takes_what_it_should(city: City, level: str) -> None:
    await add(city, record(field("name"), field("town")))
    assert await ok(city, "PUT", f"/config/{INBOX}", {"compatibility": level}) == {"compatibility": level}
    optional = record(field("name"), field("town"), field("x", ["null", "int"], default=None))
    for schema, compatible in zip(
        (optional, record(field("name"), field("town"), field("x")), ONE), LEVELS[level], strict=True
    ):
        for path in ("latest", "1"):
            verdict = await ok(
                city, "POST", f"/compatibility/subjects/{INBOX}/versions/{path}?verbose=true", said(schema)
            )
            assert verdict["is_compatible"] is compatible
            assert bool(verdict["messages"]) is not compatible
        whole = await ok(city, "POST", f"/compatibility/subjects/{INBOX}/versions", said(schema))
        assert whole == {"is_compatible": compatible}
        answer = await call(city, "POST", f"/subjects/{INBOX}/versions", said(schema))
        assert answer.status_code == (200 if compatible else 409)
        if compatible:
            await ok(city, "DELETE", f"/subjects/{INBOX}/versions/latest")


@pytest.mark.parametrize(("level", "taken"), [("BACKWARD", True), ("BACKWARD_TRANSITIVE", False)])
async def test_transitive_levels_look_at_the_whole_history_but_not_at_what_was_deleted(
    city: City, level: str, taken: bool
) -> None:
    """town is a string, then gone, then a number: only the first version's data would be misread."""
    await ok(city, "PUT", f"/config/{INBOX}", {"compatibility": level})
    await add(city, record(field("name"), field("town")))
    await add(city, ONE)
    back = record(field("name"), field("town", "int", default=0))
    verdict = await ok(city, "POST", f"/compatibility/subjects/{INBOX}/versions", said(back))
    assert verdict["is_compatible"] is taken
    await ok(city, "DELETE", f"/subjects/{INBOX}/versions/1")
    assert (await add(city, back))["version"] == 3


async def test_a_logical_type_that_changes_is_refused_though_avro_would_read_it(city: City) -> None:
    def amount(scale: int) -> Any:
        return record(field("a", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": scale}))

    await add(city, amount(2))
    answer = await call(city, "POST", f"/subjects/{INBOX}/versions", said(amount(3)))
    assert answer.status_code == 409
    assert answer.json()["error_code"] == 409
    assert "scale" in answer.json()["message"]


BAD: dict[str, Any] = {
    "no schema": {},
    "a list": [],
    "no json": {"schema": "hello"},
    "an unknown type": said("Person"),
    "protobuf": said(ONE, schemaType="PROTOBUF"),
    "json schema": said(ONE, schemaType="JSON"),
    "a lone surrogate": {"schema": '{"type":"string","doc":"\\ud800"}'},
    "an infinite number": {"schema": '{"type":"string","x":1e999}'},
    "a deep text": {"schema": "[" * 300_000},
    "a deep type": {"schema": '{"type":"array","items":' * 900 + '"int"' + "}" * 900},
    "a huge text": {"schema": json.dumps("x" * 300_000)},
    "many types": said(record(*(field(f"f{n}") for n in range(6_000)))),
    "references that are none": said(ONE, references="x"),
    "a reference without version": said(ONE, references=[{"name": "x", "subject": INBOX}]),
    "an unknown reference": said(ONE, references=[{"name": "x", "subject": INBOX, "version": 1}]),
    "a reference into nowhere": said(ONE, references=[{"name": "x", "subject": "a/b\0", "version": 1}]),
    "a flood of references": said(
        ONE, references=[{"name": "x", "subject": INBOX, "version": n} for n in range(1, 99)]
    ),
    "metadata that is none": said(ONE, metadata="x"),
    "a flood of labels": said(ONE, metadata={"properties": {f"k{n}": "v" * 20 for n in range(5_000)}}),
    "rules that are none": said(ONE, ruleSet=[1]),
    "tags": said(ONE, schemaTagsToAdd=[{"schemaEntity": {}, "tags": ["PII"]}]),
    "a version that is none": said(ONE, version="1"),
    "another version than the next": said(ONE, version=7),
}


@pytest.mark.parametrize("document", BAD.values(), ids=BAD)
async def test_what_cannot_be_registered_is_42201_and_no_entry(city: City, document: Any) -> None:
    assert await code(city, "POST", f"/subjects/{INBOX}/versions", document) == 42201
    if "version" not in document:
        assert await code(city, "POST", f"/compatibility/subjects/{INBOX}/versions", document) == 42201
    assert not city.log.entries
    assert await ok(city, "GET", "/subjects?subjectPrefix=civil.person.inbox") == []


NAMES = ["civil.a b", "civil.户籍", "civil.a%25b", "civil." + "x" * 260, "civil.a;b", "civil.a%00b"]


@pytest.mark.parametrize("name", NAMES)
async def test_a_name_that_no_topic_has_is_42208_and_found_nowhere(city: City, name: str) -> None:
    assert await code(city, "POST", f"/subjects/{name}/versions", said(ONE)) == 42208
    assert await code(city, "PUT", f"/config/{name}", {"compatibility": "NONE"}) == 42208
    assert await code(city, "PUT", f"/mode/{name}", {"mode": "READONLY"}) == 42208
    assert await code(city, "GET", f"/subjects/{name}/versions") == 40401
    assert await code(city, "GET", f"/subjects/{name}/versions/1") == 40401
    assert await code(city, "POST", f"/subjects/{name}", said(ONE)) == 40401
    assert await code(city, "DELETE", f"/subjects/{name}") == 40401
    assert await code(city, "GET", f"/config/{name}") == 40408
    assert await ok(city, "GET", f"/subjects?subjectPrefix={name}") == []


async def test_the_default_context_is_the_only_one(city: City) -> None:
    first = await add(city, ONE, f":.:{INBOX}")
    assert (await ok(city, "GET", f"/subjects/{INBOX}/versions/1"))["id"] == first["id"]
    assert await ok(city, "GET", "/subjects?subjectPrefix=:*:") == [INBOX, CONTRACT, "hotline.call.v1-value"]
    assert await code(city, "POST", f"/subjects/:.mine:{INBOX}/versions", said(ONE)) == 403
    assert await code(city, "GET", f"/subjects/:.mine:{INBOX}/versions") == 40401
    assert await ok(city, "GET", "/contexts") == ["."]


# --- reading ----------------------------------------------------------------------------------------------------------


async def test_lists_and_single_versions(city: City) -> None:
    one, two = await add(city, ONE), await add(city, TWO)
    assert await ok(city, "GET", "/subjects") == [INBOX, CONTRACT, "hotline.call.v1-value"]
    assert await ok(city, "GET", "/subjects?subjectPrefix=civil.&offset=1&limit=1") == [CONTRACT]
    assert await ok(city, "GET", "/subjects?limit=0") == []
    assert await ok(city, "GET", f"/subjects/{INBOX}/versions?offset=0&limit=-1") == [1, 2]
    assert await ok(city, "GET", f"/subjects/{INBOX}/versions?offset=1") == [2]
    for path in ("latest", "LATEST", "-1", "2"):
        assert (await ok(city, "GET", f"/subjects/{INBOX}/versions/{path}"))["id"] == two["id"]
    assert json.loads((await call(city, "GET", f"/subjects/{INBOX}/versions/1/schema")).text) == ONE
    assert json.loads((await call(city, "GET", f"/schemas/ids/{one['id']}/schema")).text) == ONE
    listed = await ok(city, "GET", "/schemas?subjectPrefix=civil.person.inbox")
    assert [(each["subject"], each["version"], each["id"]) for each in listed] == [
        (INBOX, 1, one["id"]), (INBOX, 2, two["id"])
    ]  # fmt: skip
    newest = await ok(city, "GET", "/schemas?latestOnly=true&subjectPrefix=civil.")
    assert [(each["subject"], each["version"]) for each in newest] == [(INBOX, 2), (CONTRACT, 1)]
    assert await ok(city, "GET", "/schemas/types") == ["AVRO"]
    assert await ok(city, "GET", "/") == {}
    assert (await ok(city, "GET", "/v1/metadata/id"))["scope"]["path"] == []
    assert (await ok(city, "GET", "/v1/metadata/version"))["version"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/subjects/{INBOX}/versions/9", 40402),
        (f"/subjects/{INBOX}/versions/0", 42202),
        (f"/subjects/{INBOX}/versions/x", 42202),
        (f"/subjects/{INBOX}/versions/99999999999", 42202),
        (f"/subjects/{INBOX}/versions/{CITIZEN}", 42202),
        ("/subjects/civil.none/versions/1", 40401),
        ("/subjects/civil.none/versions", 40401),
        ("/subjects/civil.none/metadata?key=a&value=b", 40401),
        (f"/subjects/{INBOX}/versions/9/referencedby", 40402),
        ("/schemas/ids/99/subjects", 40403),
        ("/schemas/ids/99/versions", 40403),
        ("/schemas/ids/x/schema", 40403),
        ("/schemas/guids/x", 40403),
        ("/schemas/guids/00000000-0000-0000-0000-000000000000", 40403),
        ("/subjects?offset=-1", 400),
        ("/subjects?limit=x", 400),
        ("/subjects?deleted=maybe", 400),
        ("/subjects/a/b", 404),
    ],
)
async def test_what_is_not_there(city: City, path: str, expected: int) -> None:
    await add(city, ONE)
    answer = await call(city, "GET", path)
    assert answer.json()["error_code"] == expected
    assert CITIZEN not in answer.text


# --- deleting ---------------------------------------------------------------------------------------------------------


async def test_a_version_is_hidden_and_then_deleted(city: City) -> None:
    one, two = await add(city, ONE), await add(city, TWO)
    path = f"/subjects/{INBOX}/versions"
    assert await code(city, "DELETE", f"{path}/2?permanent=true") == 40407
    assert await ok(city, "DELETE", f"{path}/latest") == 2
    assert await code(city, "DELETE", f"{path}/2") == 40406
    assert await code(city, "GET", f"{path}/2") == 40402
    assert (await ok(city, "GET", f"{path}/2?deleted=true"))["deleted"] is True
    assert (await ok(city, "GET", f"{path}/latest"))["id"] == one["id"]
    assert await ok(city, "GET", path) == [1]
    assert await ok(city, "GET", f"{path}?deleted=true") == [1, 2]
    assert await ok(city, "GET", f"{path}?deletedOnly=true") == [2]
    assert await ok(city, "GET", f"{path}?deleted_only=True") == [2]
    assert await code(city, "POST", f"/subjects/{INBOX}", said(TWO)) == 40403
    assert (await ok(city, "POST", f"/subjects/{INBOX}?deleted=true", said(TWO)))["id"] == two["id"]
    assert json.loads((await ok(city, "GET", f"/schemas/ids/{two['id']}"))["schema"]) == TWO, "data is still decoded"
    assert await ok(city, "GET", f"/schemas/ids/{two['id']}/subjects") == []
    again = await add(city, TWO)
    assert (again["id"], again["version"]) == (two["id"], 3)
    assert await ok(city, "GET", f"{path}?deleted=true") == [1, 3]
    assert await ok(city, "DELETE", f"{path}/3") == 3
    assert await ok(city, "DELETE", f"{path}/3?permanent=true") == 3
    assert await code(city, "GET", f"/schemas/ids/{two['id']}") == 40403
    assert (await add(city, TWO))["id"] > two["id"], "no id is given twice"
    for wrong in ("0", "x"):
        assert await code(city, "DELETE", f"{path}/{wrong}") == 42202
    assert await code(city, "DELETE", f"{path}/99") == 40402


async def test_a_subject_is_hidden_and_then_deleted_with_what_was_set_for_it(city: City) -> None:
    await add(city, ONE)
    await add(city, TWO)
    await ok(city, "PUT", f"/config/{INBOX}", {"compatibility": "NONE"})
    assert await code(city, "DELETE", f"/subjects/{INBOX}?permanent=true") == 40405
    assert await ok(city, "DELETE", f"/subjects/{INBOX}") == [1, 2]
    assert await code(city, "DELETE", f"/subjects/{INBOX}") == 40404
    assert await ok(city, "GET", "/subjects?subjectPrefix=civil.person.inbox") == []
    assert await ok(city, "GET", "/subjects?subjectPrefix=civil.person.inbox&deleted=true") == [INBOX]
    assert await ok(city, "GET", "/subjects?deletedOnly=true") == [INBOX]
    assert await code(city, "GET", f"/subjects/{INBOX}/versions/latest") == 40401
    assert await code(city, "POST", f"/subjects/{INBOX}", said(ONE)) == 40401
    assert await ok(city, "DELETE", f"/subjects/{INBOX}?permanent=true") == [1, 2]
    assert await code(city, "DELETE", f"/subjects/{INBOX}?permanent=true") == 40401
    assert await code(city, "GET", f"/config/{INBOX}") == 40408
    assert [entry.act for entry in city.log.entries] == [
        "register", "register", "schema level", "schema delete", "schema delete permanent"
    ]  # fmt: skip


async def test_a_contracts_versions_stay_and_so_does_its_level(city: City) -> None:
    """A materialiser that begins anew must decode every record of the topic."""
    path = f"/subjects/{CONTRACT}"
    for refused in (path, f"{path}?permanent=true", f"{path}/versions/1", f"{path}/versions/latest?permanent=true"):
        assert await code(city, "DELETE", refused) == 42205
    for level in ("NONE", "BACKWARD", "FULL_TRANSITIVE"):
        assert await code(city, "PUT", f"/config/{CONTRACT}", {"compatibility": level}) == 42205
    assert await ok(city, "PUT", f"/config/{CONTRACT}", {"compatibility": "BACKWARD_TRANSITIVE"})
    assert await ok(city, "GET", f"/config/{CONTRACT}") == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}
    assert await code(city, "PUT", f"/mode/{CONTRACT}", {"mode": "IMPORT"}) == 42205
    assert await code(city, "DELETE", f"/config/{CONTRACT}") == 40401
    assert (
        await code(city, "POST", f"{path}/versions", said({**json.loads(person().schema_text), "x": 1}, id=77)) == 42205
    )
    assert await code(city, "POST", "/subjects/civil.person.v01-value/versions", said(ONE)) == 42201
    loose = {**json.loads(person().schema_text)}
    loose["fields"] = [each for each in loose["fields"] if each["name"] != "name"]
    verdict = await ok(city, "POST", f"/compatibility/subjects/{CONTRACT}/versions?verbose=true", said(loose))
    assert verdict["is_compatible"] is False
    assert verdict["messages"]


# --- references -------------------------------------------------------------------------------------------------------


ADDRESS = record(field("town"), name="Address")
HOME = record(field("home", "gov.civil.Address"), name="Home")
TO_ADDRESS = [{"name": "gov.civil.Address", "subject": "civil.address-value", "version": 1}]


async def test_references_bring_types_and_hold_what_they_refer_to(city: City) -> None:
    address = await add(city, ADDRESS, "civil.address-value")
    assert await code(city, "POST", f"/subjects/{INBOX}/versions", said(HOME)) == 42201
    home = await add(city, HOME, references=TO_ADDRESS)
    found = await ok(city, "GET", f"/schemas/ids/{home['id']}")
    assert found["references"] == TO_ADDRESS
    assert json.loads(found["schema"]) == HOME
    whole = json.loads((await ok(city, "GET", f"/schemas/ids/{home['id']}?format=resolved"))["schema"])
    assert whole["fields"][0]["type"]["name"] == "gov.civil.Address"
    assert whole["fields"][0]["type"]["fields"] == ADDRESS["fields"]
    assert await ok(city, "GET", "/subjects/civil.address-value/versions/1/referencedby") == [home["id"]]
    assert (await ok(city, "POST", f"/subjects/{INBOX}", said(HOME, references=TO_ADDRESS)))["id"] == home["id"]
    for path in ("/subjects/civil.address-value", "/subjects/civil.address-value/versions/1"):
        assert await code(city, "DELETE", path) == 42206
    await ok(city, "DELETE", f"/subjects/{INBOX}")
    await ok(city, "DELETE", "/subjects/civil.address-value")
    assert await code(city, "DELETE", "/subjects/civil.address-value?permanent=true") == 42206, "it could come back"
    assert await code(city, "POST", "/subjects/civil.x/versions", said(HOME, references=TO_ADDRESS)) == 42201
    await ok(city, "DELETE", f"/subjects/{INBOX}?permanent=true")
    assert await ok(city, "DELETE", "/subjects/civil.address-value?permanent=true") == [1]
    assert await code(city, "GET", f"/schemas/ids/{address['id']}") == 40403


async def test_verdicts_see_through_references(city: City) -> None:
    await add(city, ADDRESS, "civil.address-value")
    await add(
        city,
        record(field("town"), field("zip", ["null", "string"], default=None), name="Address"),
        "civil.address-value",
    )
    await ok(city, "PUT", "/config/civil.address-value", {"compatibility": "NONE"})
    await add(city, record(field("town"), field("zip", "int"), name="Address"), "civil.address-value")
    await add(city, HOME, references=TO_ADDRESS)
    second, third = ([{**TO_ADDRESS[0], "version": number}] for number in (2, 3))
    assert (await add(city, HOME, references=second))["version"] == 2
    answer = await call(city, "POST", f"/subjects/{INBOX}/versions", said(HOME, references=third))
    assert answer.status_code == 409
    assert "home.zip" in answer.json()["message"]


async def test_long_chains_of_references_are_bounded(city: City) -> None:
    references: list[Any] = []
    for number in range(25):
        last = references[0]["name"] if references else None
        schema = record(field("f", last or "int"), name=f"R{number}")
        answer = await call(city, "POST", f"/subjects/civil.r{number}/versions", said(schema, references=references))
        if answer.status_code != 200:
            break
        references = [{"name": f"gov.civil.R{number}", "subject": f"civil.r{number}", "version": 1}]
    assert number == 21
    assert answer.json()["error_code"] == 42201


# --- levels and modes -------------------------------------------------------------------------------------------------


async def test_levels_are_set_dropped_and_fixed_for_all(city: City) -> None:
    assert await ok(city, "GET", "/config") == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}
    assert await ok(city, "GET", "/config?defaultToGlobal=true") == {"compatibilityLevel": "BACKWARD_TRANSITIVE"}
    assert await code(city, "GET", f"/config/{INBOX}") == 40408
    assert await ok(city, "GET", f"/config/{INBOX}?defaultToGlobal=true") == {
        "compatibilityLevel": "BACKWARD_TRANSITIVE"
    }
    assert await code(city, "DELETE", f"/config/{INBOX}") == 40401
    assert await ok(city, "PUT", f"/config/{INBOX}", {"compatibility": "full"}) == {"compatibility": "FULL"}
    assert await ok(city, "GET", f"/config/{INBOX}") == {"compatibilityLevel": "FULL"}
    for wrong in ({"compatibility": "SOME"}, {"compatibility": 1}, {}):
        assert await code(city, "PUT", f"/config/{INBOX}", wrong) == 42203
    assert await code(city, "PUT", f"/config/{INBOX}", {"compatibility": "NONE", "alias": "x"}) == 42205
    assert await code(city, "PUT", f"/config/{INBOX}", [1]) == 42201
    assert await ok(city, "DELETE", f"/config/{INBOX}") == {"compatibilityLevel": "FULL"}
    assert await code(city, "GET", f"/config/{INBOX}") == 40408
    for method in ("PUT", "DELETE"):
        assert await code(city, method, "/config", {"compatibility": "NONE"}) == 403
        assert await code(city, method, "/mode", {"mode": "READONLY"}) == 403


async def test_a_subject_that_is_only_read(city: City) -> None:
    first = await add(city, ONE)
    assert await ok(city, "GET", "/mode") == {"mode": "READWRITE"}
    assert await code(city, "GET", f"/mode/{INBOX}") == 40409
    assert await ok(city, "GET", f"/mode/{INBOX}?defaultToGlobal=true") == {"mode": "READWRITE"}
    assert await ok(city, "PUT", f"/mode/{INBOX}", {"mode": "READONLY"}) == {"mode": "READONLY"}
    assert await code(city, "POST", f"/subjects/{INBOX}/versions", said(TWO)) == 42205
    assert (await add(city, ONE))["id"] == first["id"]
    assert await code(city, "DELETE", f"/subjects/{INBOX}") == 42205
    for wrong in ({"mode": "FORWARD"}, {"mode": "x"}, {}):
        assert await code(city, "PUT", f"/mode/{INBOX}", wrong) == 42204
    assert await ok(city, "DELETE", f"/mode/{INBOX}") == {"mode": "READONLY"}
    assert await code(city, "DELETE", f"/mode/{INBOX}") == 40401
    assert (await add(city, TWO))["version"] == 2


async def test_import_brings_ids_and_versions_from_elsewhere(city: City) -> None:
    path = f"/subjects/{INBOX}/versions"
    assert await code(city, "POST", path, said(ONE, id=100_001)) == 42205
    await ok(city, "PUT", f"/mode/{INBOX}", {"mode": "IMPORT"})
    assert await code(city, "POST", path, said(ONE)) == 42205
    assert await code(city, "POST", path, said(ONE, id=1)) == 42205, "it stands for a contract"
    assert await code(city, "POST", path, said(ONE, id=2**31 - 1)) == 42205, "ids would end there"
    two = await add(city, TWO, id=100_002, version=7)
    assert (two["id"], two["version"]) == (100_002, 7)
    assert (await add(city, BREAKS, id=100_003))["version"] == 8, "what was elsewhere is not judged"
    assert await code(city, "POST", path, said(ONE, id=100_001, version=7)) == 42205
    assert (await add(city, ONE, id=100_001, version=3))["version"] == 3
    await ok(city, "DELETE", f"/mode/{INBOX}")
    await ok(city, "PUT", f"/config/{INBOX}", {"compatibility": "NONE"})
    after = await add(city, record(field("new")))
    assert (after["id"], after["version"]) == (100_004, 9)
    assert await code(city, "PUT", f"/mode/{INBOX}", {"mode": "IMPORT"}) == 42205
    assert await ok(city, "PUT", f"/mode/{INBOX}?force=true", {"mode": "IMPORT"})


# --- who may ----------------------------------------------------------------------------------------------------------


async def test_only_the_owner_changes_and_every_change_stands_in_the_log_before(city: City) -> None:
    await add(city, ONE)
    changes: list[tuple[str, str, Any]] = [
        ("POST", f"/subjects/{INBOX}/versions", said(TWO)),
        ("DELETE", f"/subjects/{INBOX}", None),
        ("DELETE", f"/subjects/{INBOX}/versions/1", None),
        ("PUT", f"/config/{INBOX}", {"compatibility": "NONE"}),
        ("PUT", f"/mode/{INBOX}", {"mode": "READONLY"}),
    ]
    city.log.entries.clear()
    for method, path, document in changes:
        assert await code(city, method, path, document, "hotline-push") == 403
        assert await code(city, method, path, document, "clerk") == 403
    assert [entry.outcome for entry in city.log.entries] == ["refused"] * 10
    for drop in ("config", "mode"):
        assert await code(city, "DELETE", f"/{drop}/{INBOX}", None, "hotline-push") == 403
    city.log.broken = True
    for method, path, document in changes:
        answer = await call(city, method, path, document)
        assert (answer.status_code, answer.json()["error_code"]) == (503, 503)
    city.log.broken = False
    assert await ok(city, "GET", f"/subjects/{INBOX}/versions") == [1]
    assert await code(city, "GET", f"/config/{INBOX}") == 40408
    assert await code(city, "GET", f"/mode/{INBOX}") == 40409


async def test_every_call_needs_the_scope(city: City) -> None:
    calls = [
        ("GET", "/subjects"), ("GET", f"/subjects/{INBOX}/versions"), ("GET", "/schemas"), ("GET", "/schemas/ids/1"),
        ("GET", "/schemas/types"), ("GET", "/contexts"), ("GET", "/"), ("GET", "/config"), ("GET", "/mode"),
        ("GET", "/v1/metadata/id"), ("GET", "/schemas/guids/x"), ("POST", f"/subjects/{INBOX}"),
        ("POST", f"/compatibility/subjects/{INBOX}/versions"), ("PUT", "/config"), ("DELETE", "/mode"),
    ]  # fmt: skip
    for method, path in calls:
        assert (await call(city, method, path, client_id="tax-desk")).status_code == 403
        assert (await call(city, method, path, client_id="nobody")).status_code == 403
        async with city.http(None) as http:
            answer = await http.request(method, f"/registry{path}")
        assert (answer.status_code, answer.json()["error_code"]) == (401, 401)


async def test_bounds_of_a_subject_and_of_a_department(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    third = said(record(field("name"), field("x", ["null", "int"], default=None)))
    monkeypatch.setattr("exchange.registry.stored.MAX_VERSIONS", 2)
    await add(city, ONE)
    await add(city, TWO)
    assert await code(city, "POST", f"/subjects/{INBOX}/versions", third) == 42205
    monkeypatch.setattr("exchange.registry.stored.MAX_VERSIONS", 9)
    monkeypatch.setattr("exchange.registry.stored.MAX_HISTORY", 300)
    assert await code(city, "POST", f"/subjects/{INBOX}/versions", third) == 42205
    monkeypatch.setattr("exchange.registry.stored.MAX_SUBJECTS", 2)
    assert await code(city, "POST", "/subjects/civil.more/versions", said("int")) == 42205


async def test_a_list_of_schemas_ends_where_it_would_be_too_large(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    await add(city, ONE)
    await add(city, TWO)
    monkeypatch.setattr("exchange.registry.shelf.MAX_TEXT_LISTED", len(json.dumps(ONE)) + 10)
    first = await ok(city, "GET", "/schemas?subjectPrefix=civil.person.inbox")
    assert [each["version"] for each in first] == [1]
    second = await ok(city, "GET", "/schemas?subjectPrefix=civil.person.inbox&offset=1")
    assert [each["version"] for each in second] == [2]
