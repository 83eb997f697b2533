"""The schema registry, on the store and over HTTP: ids that never change, and a gate that no reader falls through."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from exchange.errors import ContractRefused, Incompatible, RegistryUnavailable, UnknownSchema
from exchange.registry import HttpRegistry, Registered, Registry, StoreRegistry
from tests.support.contracts import field, schema
from tests.support.faults import commit_fails
from tests.support.registries import BASE, answering, confluent
from tests.support.stores import Stores, new_url

SUBJECT = "civil.person.v1-value"


def text(*more: dict[str, Any], **terms: Any) -> str:
    return json.dumps(schema(*more, **terms))


ONE = text()
TWO = text(field("phone", ["null", "string"], default=None))
LEVEL = {"fields": {"phone": {"level": 3}}}
THREE = text(field("phone", ["null", "string"], default=None), **LEVEL)
BROKEN = text(field("age", "int"))


@pytest.fixture(
    params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)],
)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    opened = Stores(new_url(request, request.param, tmp_path))
    opened.open().migrate()
    yield opened
    opened.close()


@pytest.fixture(params=["stored", "http"])
def opener(request: pytest.FixtureRequest, stores: Stores) -> Callable[[], Registry]:
    """Opens the registry as another process would."""

    def open_() -> Registry:
        stored = StoreRegistry(stores.open().engine, stores.clock)
        if request.param == "stored":
            return stored
        return HttpRegistry(BASE, lambda: "t0ken", transport=confluent(stored, "t0ken"))

    return open_


@pytest.fixture
def registry(opener: Callable[[], Registry]) -> Registry:
    return opener()


# --- both -------------------------------------------------------------------------------------------------------------


def test_a_schema_is_found_under_its_id(registry: Registry) -> None:
    assert registry.lookup(SUBJECT, ONE) is None
    assert registry.latest(SUBJECT) is None
    schema_id = registry.register(SUBJECT, ONE)
    assert registry.lookup(SUBJECT, ONE) == schema_id
    assert json.loads(registry.schema(schema_id)) == json.loads(ONE)
    assert registry.latest(SUBJECT) == Registered(schema_id, 1, registry.schema(schema_id))


def test_one_text_has_one_id_however_it_is_written(registry: Registry) -> None:
    schema_id = registry.register(SUBJECT, ONE)
    spread = json.dumps(dict(reversed(json.loads(ONE).items())), indent=4, ensure_ascii=False)
    assert registry.register(SUBJECT, spread) == schema_id
    assert registry.lookup(SUBJECT, spread) == schema_id


def test_versions_follow_each_other(registry: Registry) -> None:
    first = registry.register(SUBJECT, ONE)
    second = registry.register(SUBJECT, TWO)
    latest = registry.latest(SUBJECT)
    assert latest is not None
    assert (latest.id, latest.version) == (second, 2)
    assert registry.register(SUBJECT, ONE) == first, "an older one keeps its id"
    assert json.loads(registry.schema(first)) == json.loads(ONE)


def test_a_changed_level_is_another_schema(registry: Registry) -> None:
    """What Avro's canonical form drops: levels, docs, defaults."""
    registry.register(SUBJECT, ONE)
    two = registry.register(SUBJECT, TWO)
    three = registry.register(SUBJECT, THREE)
    assert two != three
    assert json.loads(registry.schema(three))["exchange"]["fields"]["phone"]["level"] == 3


def test_what_breaks_a_reader_is_refused_and_named(registry: Registry) -> None:
    registry.register(SUBJECT, ONE)
    with pytest.raises(Incompatible, match="age"):
        registry.register(SUBJECT, BROKEN)
    assert registry.lookup(SUBJECT, BROKEN) is None
    latest = registry.latest(SUBJECT)
    assert latest is not None
    assert latest.version == 1


def test_every_older_version_counts(registry: Registry) -> None:
    """A level may not be lowered to what an older version had."""
    registry.register(SUBJECT, TWO)
    registry.register(SUBJECT, THREE)
    with pytest.raises(Incompatible, match="level"):
        registry.register(
            SUBJECT,
            text(
                field("phone", ["null", "string"], default=None),
                field("mail", ["null", "string"], default=None),
            ),
        )


def test_subjects_are_apart(registry: Registry) -> None:
    person = registry.register(SUBJECT, ONE)
    enterprise = text(name="Household")
    household = registry.register("civil.household.v1-value", enterprise)
    assert person != household
    assert registry.lookup("civil.household.v1-value", enterprise) == household
    assert registry.latest("tax.person.v1-value") is None


def test_a_schema_of_another_subject_is_refused(registry: Registry) -> None:
    with pytest.raises(ContractRefused, match=r"civil\.person\.v1-value"):
        registry.register("civil.household.v1-value", ONE)


@pytest.mark.parametrize("bad", ["", "not json", '{"type":"record","name":"P","fields":[]}', '"string"'])
def test_what_is_no_contract_is_refused(registry: Registry, bad: str) -> None:
    with pytest.raises(ContractRefused):
        registry.register(SUBJECT, bad)


@pytest.mark.parametrize("number", [1, 9999, 2**32 - 1])
def test_an_unknown_id(registry: Registry, number: int) -> None:
    with pytest.raises(UnknownSchema, match=str(number)):
        registry.schema(number)


def test_many_that_register_at_once_get_one_id(opener: Callable[[], Registry]) -> None:
    registries = [opener() for _ in range(4)]
    barrier = threading.Barrier(len(registries))
    got: list[int] = []

    def register(registry: Registry) -> None:
        barrier.wait()
        got.extend(registry.register(SUBJECT, each) for each in (ONE, TWO))

    threads = [threading.Thread(target=register, args=(registry,)) for registry in registries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len(set(got)) == 2
    latest = registries[0].latest(SUBJECT)
    assert latest is not None
    assert latest.version == 2


def test_of_two_that_exclude_each_other_one_is_registered(opener: Callable[[], Registry]) -> None:
    """Both pass the gate against what stood when they looked; the second must look again."""
    texts = [text(field("x", ["null", kind], default=None)) for kind in ("string", "long")]
    opener().register(SUBJECT, ONE)
    barrier = threading.Barrier(2)
    got: list[object] = []

    def register(each: str) -> None:
        registry = opener()
        barrier.wait()
        try:
            got.append(registry.register(SUBJECT, each))
        except Incompatible as error:
            got.append(error)

    threads = [threading.Thread(target=register, args=(each,)) for each in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(one).__name__ for one in got) == ["Incompatible", "int"]


# --- on the store -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stored", [False, True], ids=["lost", "stored"])
def test_the_commit_of_a_registration_fails(stores: Stores, is_stored: bool) -> None:
    engine = stores.open().engine
    registry = StoreRegistry(engine, stores.clock)
    with commit_fails(engine, stored=is_stored), pytest.raises(RegistryUnavailable):
        registry.register(SUBJECT, ONE)
    assert (registry.lookup(SUBJECT, ONE) is not None) is is_stored
    schema_id = registry.register(SUBJECT, ONE)
    assert registry.latest(SUBJECT) == Registered(schema_id, 1, registry.schema(schema_id))


def test_checking_registers_nothing_and_names_all(stores: Stores) -> None:
    registry = StoreRegistry(stores.open().engine, stores.clock)
    household = "civil.household.v1-value"
    registry.register(SUBJECT, ONE)
    registry.check({SUBJECT: TWO, household: text(name="Household")})
    assert registry.latest(household) is None
    registry.register(household, text(name="Household"))
    with pytest.raises(Incompatible) as caught:
        registry.check({SUBJECT: BROKEN, household: text(field("size", "int"), name="Household")})
    assert "age" in caught.value.detail
    assert "size" in caught.value.detail
    assert registry.lookup(SUBJECT, TWO) is None


def test_a_schema_is_found_with_its_version(stores: Stores) -> None:
    registry = StoreRegistry(stores.open().engine, stores.clock)
    first, second = registry.register(SUBJECT, ONE), registry.register(SUBJECT, TWO)
    assert registry.find(SUBJECT, ONE) == Registered(first, 1, registry.schema(first))
    assert registry.find(SUBJECT, TWO) == Registered(second, 2, registry.schema(second))
    assert registry.find(SUBJECT, THREE) is None


def test_a_store_that_is_away() -> None:
    store = Stores("postgresql://nobody@127.0.0.1:1/nothing").open()
    registry = StoreRegistry(store.engine)
    for call in (lambda: registry.schema(1), lambda: registry.register(SUBJECT, ONE)):
        with pytest.raises(RegistryUnavailable):
            call()


# --- over HTTP --------------------------------------------------------------------------------------------------------


def over(transport: httpx2.MockTransport) -> HttpRegistry:
    return HttpRegistry(BASE, lambda: "", transport=transport)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"id": "7", "schema": 7}'),
        (200, b'{"id": true, "schema": null}'),
        (301, b"{}"),
        (401, b'{"error_code": 40101, "message": "a token"}'),
        (403, b"{}"),
        (404, b"<html>not here</html>"),
        (404, b'{"message": "no route"}'),
        (404, b'{"error_code": 404}'),
        (409, b"conflict"),
        (429, b"{}"),
        (500, b'{"error_code": 50001, "message": "secret"}'),
        (503, b""),
    ],
)
def test_whatever_else_is_answered_can_be_tried_again(status: int, body: bytes) -> None:
    """Above all a 404 that is not the registry's own: it must not make every record a reject."""
    registry = over(answering(status, body))
    for call in (
        lambda: registry.schema(7),
        lambda: registry.register(SUBJECT, ONE),
        lambda: registry.lookup(SUBJECT, ONE),
        lambda: registry.latest(SUBJECT),
    ):
        with pytest.raises(RegistryUnavailable) as caught:
            call()
        assert "secret" not in str(caught.value)
        assert "token" not in str(caught.value)


@pytest.mark.parametrize(
    "error", [httpx2.ConnectError, httpx2.ReadTimeout, httpx2.RemoteProtocolError, httpx2.PoolTimeout]
)
def test_a_registry_that_is_away(error: type[httpx2.TransportError]) -> None:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise error("somewhere", request=request)

    with pytest.raises(RegistryUnavailable, match=error.__name__):
        over(answering(0, fail)).schema(7)


def test_nobody_listens() -> None:
    registry = HttpRegistry("http://127.0.0.1:1/registry", lambda: "")
    with pytest.raises(RegistryUnavailable, match="ConnectError"):
        registry.lookup(SUBJECT, ONE)
    registry.close()


def test_an_id_is_asked_for_once_and_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exchange.registry.http.CACHED", 10)
    asked: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        return httpx2.Response(200, json={"schema": request.url.path})

    registry = over(answering(0, answer))
    for _ in range(5):
        assert registry.schema(7) == "/registry/schemas/ids/7"
    assert asked == ["/registry/schemas/ids/7"]
    for number in range(100):
        registry.schema(number)
    assert len(registry._texts) <= 10


def test_the_token_is_asked_for_at_each_call_and_no_path_is_made_of_a_subject() -> None:
    tokens = iter(["first", "second"])
    seen: list[tuple[str, str | None]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append((request.url.raw_path.decode(), request.headers.get("authorization")))
        return httpx2.Response(200, json={"id": 1})

    registry = HttpRegistry(BASE, lambda: next(tokens), transport=answering(0, answer))
    registry.lookup("a/../b?c", ONE)
    registry.register(SUBJECT, ONE)
    assert seen == [
        ("/registry/subjects/a%2F..%2Fb%3Fc", "Bearer first"),
        ("/registry/subjects/civil.person.v1-value/versions", "Bearer second"),
    ]
