"""Any schema in the store, on both databases: ids, deletion, references, import, and what happens in a race."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exchange.errors import ExchangeError, Incompatible, RegistryUnavailable
from exchange.registry import StoreRegistry
from exchange.registry.faults import InvalidSchema, NotPermitted, ReferenceExists, SchemaNotFound, SubjectNotFound
from exchange.registry.forms import Form, Reference, Version
from exchange.registry.shelf import Page
from exchange.registry.stored import Asked
from tests.support.faults import commit_fails
from tests.support.stores import DATABASES, Stores, new_url

SUBJECT = "civil.person.inbox-value"


@pytest.fixture(params=DATABASES)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    opened = Stores(new_url(request, request.param, tmp_path))
    opened.open().migrate()
    yield opened
    opened.close()


@pytest.fixture
def registry(stores: Stores) -> StoreRegistry:
    return StoreRegistry(stores.open().engine, stores.clock)


def text(*fields: str, name: str = "Person") -> str:
    told = [{"name": each, "type": ["null", "string"], "default": None} for each in fields]
    return json.dumps({"type": "record", "name": name, "namespace": "gov.civil", "fields": told})


def add(registry: StoreRegistry, form: Form, subject: str = SUBJECT, **more: Any) -> Version:
    return registry.carry_out(registry.prepare(subject, Asked(form, **more)))


def test_one_form_has_one_id_wherever_it_stands(registry: StoreRegistry) -> None:
    first = add(registry, Form(text("a")))
    assert add(registry, Form(text("a"))) == first
    assert add(registry, Form(text("a")), "civil.other").id == first.id
    ruled = add(registry, Form(text("a"), metadata='{"properties":{"b":"1","a":"2"}}'))
    assert ruled.id != first.id
    assert registry.shelf.form(ruled.id).metadata == '{"properties":{"b":"1","a":"2"}}'
    assert registry.shelf.by_guid(ruled.form.guid) == (ruled.id, ruled.form)
    assert registry.shelf.by_guid(first.form.guid.upper()) == (first.id, first.form)
    assert registry.shelf.subjects("civil.o", Page(), deleted=False, only=False) == ["civil.other"]
    assert registry.shelf.subjects("Civil", Page(), deleted=True, only=False) == []
    assert registry.shelf.places(first.id, "", Page(), deleted=False) == [("civil.other", 1), (SUBJECT, 1)]


def test_what_is_deleted_for_good_leaves_no_row_and_its_id_is_never_given_again(registry: StoreRegistry) -> None:
    first, second = add(registry, Form(text("a"))), add(registry, Form(text("a", "b")))
    elsewhere = add(registry, Form(text("a")), "civil.other")
    assert registry.striking.subject(SUBJECT, permanent=False) == [1, 2]
    assert registry.schema(second.id)
    assert registry.striking.subject(SUBJECT, permanent=True) == [1, 2]
    assert registry.shelf.form(elsewhere.id) == first.form, "another subject has it"
    with pytest.raises(SchemaNotFound):
        registry.shelf.form(second.id)
    with pytest.raises(SubjectNotFound):
        registry.shelf.version(SUBJECT, None, deleted=True)
    assert add(registry, Form(text("a", "b"))).id > second.id


def test_an_id_that_was_deleted_for_good_cannot_be_imported_either(registry: StoreRegistry) -> None:
    add(registry, Form(text("a")))
    struck = add(registry, Form(text("a", "b")))
    registry.striking.version(SUBJECT, 2, permanent=False)
    registry.striking.version(SUBJECT, 2, permanent=True)
    registry.configured.set_mode("civil.other", "IMPORT")
    with pytest.raises(NotPermitted, match="deleted for good"):
        add(registry, Form(text("c")), "civil.other", schema_id=struck.id, version=1)
    assert registry.newest_id() == struck.id
    assert add(registry, Form(text("c")), "civil.other", schema_id=struck.id + 5, version=1).id == struck.id + 5
    assert add(registry, Form(text("a", "d"))).id == struck.id + 6


def test_what_was_hidden_comes_back_under_its_number_where_others_rely_on_that(registry: StoreRegistry) -> None:
    add(registry, Form(text("town", name="Address")), "civil.address")
    home = json.dumps({"type": "array", "items": "gov.civil.Address"})
    references = (Reference("gov.civil.Address", "civil.address", 1),)
    referring = add(registry, Form(home, references))
    assert registry.shelf.form(referring.id).references == references
    assert registry.shelf.referrers("civil.address", 1, Page(), deleted=False) == [referring.id]
    with pytest.raises(ReferenceExists):
        registry.striking.version("civil.address", 1, permanent=False)
    registry.striking.subject(SUBJECT, permanent=False)
    registry.striking.subject("civil.address", permanent=False)
    with pytest.raises(InvalidSchema):
        add(registry, Form(home, references), "civil.third")
    assert add(registry, Form(text("town", name="Address")), "civil.address").version == 1
    assert add(registry, Form(home, references), "civil.third").id == referring.id


def test_imported_ids_are_jumped_over_by_those_that_are_given(registry: StoreRegistry) -> None:
    registry.configured.set_mode(SUBJECT, "IMPORT")
    there = add(registry, Form(text("a")), schema_id=500, version=4)
    assert (there.id, there.version) == (500, 4)
    with pytest.raises(NotPermitted):
        add(registry, Form(text("b")), schema_id=500)
    registry.configured.drop_mode(SUBJECT)
    assert [add(registry, Form(text("a", *more))).id for more in (["b"], ["b", "c"])] == [501, 502]
    assert registry.newest_id() == 502


def test_a_verdict_is_given_again_if_something_changed_meanwhile(registry: StoreRegistry) -> None:
    add(registry, Form(text("a")))
    prepared = registry.prepare(SUBJECT, Asked(Form(text("b"))))
    clash = {"type": "record", "name": "Person", "namespace": "gov.civil", "fields": [{"name": "b", "type": "int"}]}
    registry.configured.set_level(SUBJECT, "NONE", None)
    add(registry, Form(json.dumps(clash)))
    registry.configured.drop_level(SUBJECT)
    with pytest.raises(Incompatible):
        registry.carry_out(prepared)


def test_many_at_once_end_in_one_row_each(stores: Stores) -> None:
    barrier = threading.Barrier(4)
    got: list[int | ExchangeError] = []

    def work() -> None:
        registry = StoreRegistry(stores.open().engine, stores.clock)
        barrier.wait()
        for fields in (["a"], ["a", "b"], ["a", "b", "c"]):
            try:
                got.append(add(registry, Form(text(*fields))).id)
            except ExchangeError as error:
                got.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(str, got))) == 3, got
    listed = StoreRegistry(stores.open().engine).shelf.versions(SUBJECT, Page(), deleted=True, only=False)
    assert listed == [1, 2, 3]


@pytest.mark.parametrize("is_stored", [False, True], ids=["lost", "stored"])
def test_the_commit_of_a_deletion_fails(stores: Stores, is_stored: bool) -> None:
    engine = stores.open().engine
    registry = StoreRegistry(engine, stores.clock)
    add(registry, Form(text("a")))
    with commit_fails(engine, stored=is_stored), pytest.raises(RegistryUnavailable):
        registry.striking.subject(SUBJECT, permanent=False)
    assert registry.shelf.exists(SUBJECT) is not is_stored
