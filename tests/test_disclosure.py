"""disclose, on real policies, a real store and a real audit log: what is shown to whom, and what the log says of it."""

from __future__ import annotations

import ast
import asyncio
import hashlib
import json
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY

from exchange.audit import Receipt, find, verify_receipt
from exchange.cli.materialise import topics_to_read
from exchange.decisions import Decider, load_bundle
from exchange.disclosure import PolicyWatch
from exchange.errors import (
    AuditUnavailable,
    BadRequest,
    NotFound,
    NothingPermitted,
    PolicyUnavailable,
    StoreUnavailable,
)
from tests.support.audit import KEYS, eventually, new_log
from tests.support.disclosure import AUDIT_KEYS, BUS, FIRM, PERSON_ID, STRANGER, ZHANG, City, city
from tests.support.policies import CITY, ZONE, agreement, write
from tests.support.stores import stores

pytestmark = pytest.mark.anyio
__all__ = ["city", "stores"]


# --- what is shown ---------------------------------------------------------------------------------------------------


async def test_a_view_shows_what_the_agreement_gives_and_its_receipt_proves_it(city: City) -> None:
    document, view, receipt = await city.ask(case="T-1", officer="Li Si", officer_by="client")
    assert set(document["values"]) == {"citizen.name", "civil.person.birth_date"}
    assert document["values"]["citizen.name"]["value"] == "张三"
    assert document["values"]["civil.person.birth_date"]["value"] == "1990"
    said = document["values"]["citizen.name"]["said_by"][0]
    assert (said["department"], said["as_of"], said["stale"]) == ("civil", "2026-03-01T03:00:00.000Z", False)
    assert document["not_available"] == []
    assert view.policy == city.bundle.version
    assert view.content_digest == f"sha-256=:{b64encode(sha256(view.body).digest()).decode()}:"
    verify_receipt(Receipt.decode(receipt.encode()), view.body, KEYS)
    stored = find(city.audit_store, receipt, view.body, KEYS)
    assert json.loads(stored.entry) == {
        "time": "2026-03-01T04:00:00.000Z",
        "act": "view",
        "outcome": "served",
        "issuer": "https://id.example",
        "client": "tax-desk",
        "department": "tax",
        "officer": AUDIT_KEYS.officer("tax", "Li Si"),
        "officer_by": "client",
        "purpose": "tax-assessment",
        "case": "T-1",
        "subject": AUDIT_KEYS.subject(ZHANG),
        "contracts": {"civil.person.v1": ["birth_date", "name"]},
        "policies": json.loads(stored.entry)["policies"],
        "bundle": city.bundle.version,
        "request": "r-1",
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    assert {"a-1", "agreement"} <= set(json.loads(stored.entry)["policies"])


async def test_the_log_holds_nothing_personal(city: City) -> None:
    await city.ask(officer="Li Si", officer_by="token")
    with city.audit_store.reading() as connection:
        stored = b"".join(one.entry for one in city.audit_store.walk_entries(connection))
    for value in (PERSON_ID, "Li Si", "张三", "1990", "east", BUS.subject(ZHANG)):
        assert value.encode() not in stored


async def test_only_permitted_contracts_are_read(city: City) -> None:
    document, _, _ = await city.ask(contracts=["civil.person", "civil.case_file", "health.record"])
    assert city.reader.read == [[("civil.person", 1)]]
    assert document["not_available"] == ["civil.case_file", "health.record"]  # one forbidden, one that does not exist
    await city.ask(fields=["citizen.name"])
    assert city.entries()[-1]["contracts"] == {"civil.person.v1": ["name"]}


async def test_permitted_and_nothing_there_is_an_empty_view(city: City) -> None:
    document, view, receipt = await city.ask(subject=STRANGER)
    assert document == {"values": {}, "records": {}, "not_available": []}
    verify_receipt(receipt, view.body, KEYS)
    assert city.entries()[-1]["outcome"] == "served"


async def test_lists_of_an_open_contract(city: City) -> None:
    document, _, _ = await city.ask(subject=FIRM)
    items = document["records"]["market.penalty"]["items"]
    assert sorted(item["value"]["number"] for item in items) == ["P-0", "P-1", "P-2"]
    assert all("officer" not in item["value"] for item in items)


async def test_a_row_condition_makes_a_row_as_if_it_did_not_exist(city: City) -> None:
    city.apply(condition='[["district", "=", "west"]]')
    await city.watch.look()
    document, _, _ = await city.ask()
    nobody, _, _ = await city.ask(subject=STRANGER)
    assert document == nobody


# --- refusals --------------------------------------------------------------------------------------------------------


async def test_unknown_and_forbidden_are_refused_alike_and_nothing_is_read(city: City) -> None:
    said = set()
    for subject in (ZHANG, STRANGER):
        with pytest.raises(NothingPermitted) as refused:
            await city.ask(subject=subject, purpose="child-protection")
        said.add(str(refused.value))
    assert len(said) == 1
    assert city.reader.read == []
    first, second = city.entries()
    assert (first["outcome"], first["bundle"]) == ("refused", city.bundle.version)
    assert first["reason"] == "No contract is open to this client for this purpose"
    assert {**first, "subject": None} == {**second, "subject": None}


HIDDEN = ["civil.case_file", "health.record", "market.penalty", "civil.no_such"]  # withheld, foreign, of firms, none


async def test_unknown_and_forbidden_run_the_same_statements(city: City) -> None:
    told = set()
    for subject in (ZHANG, STRANGER):
        for name in HIDDEN:
            for narrowed in (
                {"contracts": [name]},
                {"fields": [f"{name}.secret"]},
                {"after": {name: "x"}, "fields": [name]},
            ):
                document, view, _ = await city.ask(subject=subject, **narrowed)
                assert document["not_available"] == [*narrowed.get("contracts", narrowed.get("fields"))]
                told.add(view.body.replace(name.encode(), b"").replace(b".secret", b""))
    assert len(told) == 1
    assert city.reader.read == []  # the store is not asked about what is not permitted
    entries = city.entries()
    for entry in entries:
        del entry["subject"]
    assert all(entry == entries[0] for entry in entries)

    read = []
    for subject in (ZHANG, STRANGER):
        await city.ask(subject=subject)
        await city.ask(subject=subject, contracts=["civil.person", *HIDDEN])
        read.append(city.reader.read)
        city.reader.read = []
    assert read[0] == read[1] == [[("civil.person", 1)]] * 2


async def test_a_policy_that_cannot_be_evaluated_refuses_as_an_error(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("the context does not validate")

    monkeypatch.setattr(Decider, "ask", broken)
    with pytest.raises(NothingPermitted):
        await city.ask()
    (entry,) = city.entries()
    assert (entry["outcome"], entry["bundle"]) == ("error", city.bundle.version)
    assert "the context does not validate" in entry["details"]["errors"]["civil.person.v1"]


async def test_a_cursor_that_no_answer_gave(city: City) -> None:
    with pytest.raises(BadRequest):
        await city.ask(subject=FIRM, after={"market.penalty": "nonsense"})
    assert [entry["outcome"] for entry in city.entries()] == ["refused"]


async def test_a_store_that_is_away_is_an_error_with_an_entry(city: City) -> None:
    city.reader.away = True
    with pytest.raises(StoreUnavailable):
        await city.ask()
    city.reader.away = False
    await city.ask()
    assert [(entry["outcome"], entry["bundle"]) for entry in city.entries()] == [
        ("error", city.bundle.version),
        ("served", city.bundle.version),
    ]


async def test_a_defect_lets_nothing_out_and_its_text_stays_out_of_the_log(city: City) -> None:
    def defect() -> None:
        raise RuntimeError(PERSON_ID)

    city.reader.during = defect
    with pytest.raises(RuntimeError):
        await city.ask()
    (entry,) = city.entries()
    assert (entry["outcome"], entry["reason"]) == ("error", "RuntimeError")


async def test_no_log_no_view(city: City) -> None:
    await city.log.close()
    begun = time.monotonic()
    for changes in ({}, {"purpose": "child-protection"}):
        with pytest.raises(AuditUnavailable):
            await city.ask(**changes)
    assert time.monotonic() - begun < 1.0
    assert city.entries() == []


# --- the policy in force ---------------------------------------------------------------------------------------------


async def test_a_revoked_agreement_is_dead_once_the_watch_has_looked(city: City) -> None:
    await city.ask()
    city.apply(until="2026-02-01")
    city.reader.during = lambda: None
    await city.watch.look()
    with pytest.raises(NothingPermitted):
        await city.ask()
    versions = [entry["bundle"] for entry in city.entries()]
    assert versions[0] != versions[1] == city.bundle.version


async def test_a_policy_that_is_replaced_while_the_store_is_read_shows_nothing_any_more(city: City) -> None:
    newer = Decider(load_bundle(write(city.folder, agreements={"civil": agreement('district = "plain"')}), CITY, ZONE))

    def replaced() -> None:  # while it reads, another bundle comes into force
        city.watch._decider = newer

    city.reader.during = replaced
    document, view, receipt = await city.ask()
    assert view.policy == newer.bundle.version
    assert set(document["values"]) == {"civil.person.district"}
    assert len(city.reader.read) == 2
    (entry,) = city.entries()
    assert (entry["bundle"], entry["contracts"]) == (view.policy, {"civil.person.v1": ["district"]})
    verify_receipt(receipt, view.body, KEYS)


async def test_a_store_so_slow_that_the_policy_grew_old_shows_nothing(city: City) -> None:
    def slow() -> None:
        city.monotonic += 2.1

    city.reader.during = slow
    with pytest.raises(PolicyUnavailable):
        await city.ask()
    assert [entry["outcome"] for entry in city.entries()] == ["error"]


VARIANTS = {
    'name = "plain"': {"citizen.name"},
    'name = "initial"\nbirth_date = "year_only"': {"citizen.name", "civil.person.birth_date"},
    'district = "plain"': {"civil.person.district"},
}


async def test_no_answer_mixes_two_versions_while_policies_are_applied(city: City) -> None:
    """Three policies in turn, each as soon as the one before was shown, under views that never pause."""
    shown: dict[str, set[Any]] = {}
    views: Counter[str] = Counter()
    watch = PolicyWatch(city.reader, interval_s=0.005, patience_s=60)
    city.disclosure._policy = watch
    log = city.disclosure._audit = new_log(city.audit_store, "slow", deadline_s=60)
    await log.open()
    await watch.look()
    task, applied = asyncio.create_task(watch.run()), 0

    async def asking() -> None:
        while applied < 12:
            document, view, receipt = await city.ask()
            verify_receipt(receipt, view.body, KEYS)
            shown.setdefault(view.policy, set()).add((frozenset(document["values"]), name(document)))
            views[view.policy] += 1

    async def applying() -> None:
        nonlocal applied
        for fields, _ in list(VARIANTS.items()) * 4:
            city.apply(fields)
            version, before = city.bundle.version, views[city.bundle.version]
            await eventually(lambda: views[version] > before, 60)  # noqa: B023  it is over when the loop goes on
            applied += 1

    await asyncio.gather(applying(), *(asking() for _ in range(4)))
    task.cancel()
    await log.close()
    assert len(shown) >= 3
    assert all(len(found) == 1 for found in shown.values())  # one version, one answer
    for entry in city.entries():
        fields = {f"civil.person.{name}" for name in entry["contracts"]["civil.person.v1"]}
        ((names, _),) = shown[entry["bundle"]]
        assert fields == {one if one.startswith("civil.") else "civil.person.name" for one in names}


def name(document: dict[str, Any]) -> Any:
    return document["values"].get("citizen.name", {}).get("value")


async def test_a_client_of_an_older_bundle_is_denied(city: City) -> None:
    known = city.client()
    city.apply()
    changed = known.model_copy(update={"purposes": ("tax-assessment", "child-protection")})
    with pytest.raises(NothingPermitted):
        await city.ask(client=changed)


async def test_a_bundle_that_nobody_confirms_is_not_decided_on(city: City) -> None:
    city.monotonic = 1.9
    await city.ask()
    city.monotonic = 2.1
    with pytest.raises(PolicyUnavailable, match="could not be looked for in 2 s"):
        await city.ask()
    assert not city.watch.fresh
    entry = city.entries()[-1]
    assert (entry["outcome"], entry["bundle"]) == ("error", city.bundle.version)
    await city.watch.look()
    await city.ask()


async def test_the_watch_goes_on_over_faults_and_broken_bundles(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = PolicyWatch(city.reader, interval_s=0.01, patience_s=0.2)
    with pytest.raises(PolicyUnavailable, match="no whole policy bundle yet"):
        _ = watch.decider
    task = asyncio.create_task(watch.run())

    await eventually(lambda: watch.fresh)
    city.reader.away = True
    await eventually(lambda: not watch.fresh)
    city.reader.away = False
    await eventually(lambda: watch.fresh)

    version = hashlib.sha256(b"{}").hexdigest()
    city.stores.open().save_bundle(version, b"{}")
    await eventually(lambda: not watch.fresh)  # it may take a right away, and it cannot be read: any doubt refuses
    city.apply('name = "plain"')
    await eventually(lambda: watch.fresh)
    assert watch.bundle.version == city.bundle.version
    task.cancel()


async def test_a_bundle_that_is_damaged_in_the_store_changes_nothing_and_alarms(city: City) -> None:
    """Bytes that have not their version's hash were never applied: the newest that is whole is in force."""

    def damaged() -> float | None:
        return REGISTRY.get_sample_value("exchange_policy_damaged_bundles")

    for number in range(3):
        city.stores.open().save_bundle(f"{number:064}", city.bundle.to_bytes()[: 500 * number])
    in_force = city.bundle.version
    with structlog.testing.capture_logs() as logged:
        await city.watch.look()
    assert (city.watch.bundle.version, city.watch.fresh, damaged()) == (in_force, True, 3.0)
    assert {line["log_level"] for line in logged} == {"error"}
    beginner = PolicyWatch(city.reader)
    with pytest.raises(PolicyUnavailable, match="apply` mends it"):
        await beginner.look()  # for all it knows the newest was whole once, and took a right away
    assert (beginner.fresh, damaged()) == (False, 1.0)

    city.apply(until="2026-02-01")  # a right is taken away, and damage is put on top of that
    city.stores.open().save_bundle("f" * 64, b"")
    await city.watch.look()
    assert city.watch.bundle.version == city.bundle.version != in_force
    city.apply()
    for watch in (city.watch, beginner):
        await watch.look()
        assert (watch.bundle.version, watch.fresh, damaged()) == (city.bundle.version, True, 0.0)


async def test_materialisers_read_on_over_broken_bundles(city: City) -> None:
    store = city.stores.open()
    before = topics_to_read(store)
    store.save_bundle("0" * 64, b"damaged")
    assert topics_to_read(store) == before
    store.save_bundle(hashlib.sha256(b"{}").hexdigest(), b"{}")
    with pytest.raises(PolicyUnavailable):
        topics_to_read(store)  # which the materialiser takes for "the same as before"


async def test_a_defect_that_one_bundle_meets_does_not_end_the_watch(
    city: City, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = PolicyWatch(city.reader, interval_s=0.01, patience_s=0.2)

    async def defect(version: str) -> bytes:
        raise RuntimeError(PERSON_ID)

    monkeypatch.setattr(city.reader, "bundle", defect)
    task = asyncio.create_task(watch.run())
    with structlog.testing.capture_logs() as logged:
        await eventually(lambda: bool(logged))
    assert not watch.fresh
    assert PERSON_ID not in str(logged)
    monkeypatch.undo()
    await eventually(lambda: watch.fresh)
    task.cancel()


async def test_a_version_without_a_body_is_not_in_force(city: City, monkeypatch: pytest.MonkeyPatch) -> None:
    async def missing(version: str) -> bytes:
        raise NotFound("no such policy bundle")

    monkeypatch.setattr(city.reader, "bundle", missing)
    with pytest.raises(PolicyUnavailable, match="is damaged"):
        await PolicyWatch(city.reader).look()


# --- watermarks ------------------------------------------------------------------------------------------------------


async def test_watermarks_are_looked_up_twice_a_second_for_all_together(city: City) -> None:
    await asyncio.gather(*(city.ask() for _ in range(30)))
    assert city.reader.looks == 1
    city.reader.away = True
    with pytest.raises(StoreUnavailable):
        await city.ask()
    city.reader.away = False
    await asyncio.sleep(0.6)
    await city.ask()
    assert city.reader.looks == 2


# --- the one way out -------------------------------------------------------------------------------------------------


def made(name: str) -> Iterator[str]:
    """Where a class is instantiated in the program: `<file>:<function>`."""
    root = Path(__file__).parent.parent
    for package in ("exchange", "connectors", "gateway"):
        for file in sorted((root / package).rglob("*.py")):
            for function in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    for node in ast.walk(function):
                        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                            yield f"{file.relative_to(root)}:{function.name}"


def test_a_view_is_made_in_one_place_only() -> None:
    assert list(made("View")) == ["exchange/disclosure/disclose.py:disclose"]
