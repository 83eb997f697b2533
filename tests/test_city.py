"""The reference city: its contracts and policies load, and what the generator writes is what truth.json says."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from exchange import city
from exchange.agreements import Bundle
from exchange.city import instances, story
from exchange.city.canaries import leaves
from exchange.city.commands import app
from exchange.city.datasets import DATASETS
from exchange.city.draws import Draw
from exchange.city.life import CERTAIN, State, live
from exchange.city.sources import Append, Dataset, Push, Snapshot, Symbol, Table
from exchange.city.tables import KEY, table
from exchange.city.world import DAY_ZERO, Subject, World, citizen, enterprise
from exchange.contracts import Catalogue, Contract, load_catalogue
from exchange.decisions import Decider, load_bundle, without_effect
from exchange.errors import SettingWrong
from exchange.store.database import is_postgres, open_engine
from exchange.subjects import parse

ROOT = Path(__file__).parent.parent
WORLD = World(seed=5, citizens=400, enterprises=80)
SOUND = State(present=True, deleted=False, fault=None, edition=0, born=DAY_ZERO, at=DAY_ZERO)
IDS = [dataset.contract for dataset in DATASETS]


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(ROOT / "schemas")


@pytest.fixture(scope="module")
def bundle(catalogue: Catalogue) -> Bundle:
    return load_bundle(ROOT / "policies", catalogue, "Asia/Shanghai")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("city")
    city.generate(out, citizens=WORLD.citizens, enterprises=WORLD.enterprises, seed=WORLD.seed)
    return out


def subject(dataset: Dataset, index: int) -> Subject:
    return citizen(WORLD, index) if dataset.subject_field == "citizen_id" else enterprise(WORLD, index)


def some_records(dataset: Dataset, state: State = SOUND) -> Iterator[dict[str, Any]]:
    for index in range(60):
        one = subject(dataset, index)
        for slot in range(dataset.slots_of(one, certain=index < CERTAIN)):
            values = dataset.values(one, slot, state)
            yield {name: value for name, value in values.items() if name not in hidden(dataset)}


def hidden(dataset: Dataset) -> tuple[str, ...]:
    return dataset.source.hidden if isinstance(dataset.source, Table) else ()


# --- contracts and policies -------------------------------------------------------------------------------------------


def test_the_catalogue_is_as_large_and_varied_as_a_city(catalogue: Catalogue) -> None:
    contracts = catalogue.contracts.values()
    assert len({contract.department for contract in contracts}) == 10
    assert len(contracts) == 20
    assert Counter(contract.sharing for contract in contracts) == {
        "conditional": 15,
        "unconditional": 4,
        "withheld": 1,
    }
    assert {contract.kind for contract in contracts} == {"citizen", "enterprise"}
    assert {field.level for contract in contracts for field in contract.fields.values()} == {1, 2, 3, 4}
    types = {field.type for contract in contracts for field in contract.fields.values()}
    assert types >= {
        *("string", "int", "long", "double", "boolean", "enum", "array"),
        *("date", "timestamp-millis", "timestamp-micros", "decimal"),
    }


def test_each_concept_has_one_lead_and_several_sources(catalogue: Catalogue) -> None:
    leads: Counter[str] = Counter()
    sources: Counter[str] = Counter()
    for contract in catalogue.contracts.values():
        for field in contract.fields.values():
            if field.concept is not None:
                sources[field.concept] += 1
                leads[field.concept] += field.leads
    assert set(leads.values()) == {1}
    assert {concept for concept, count in sources.items() if count > 1} >= {
        *("citizen.name", "citizen.birth_date", "citizen.address", "citizen.phone"),
        *("enterprise.name", "enterprise.address", "enterprise.legal_representative"),
    }


def test_every_dataset_has_a_contract_and_every_shared_contract_a_dataset(catalogue: Catalogue) -> None:
    shared = {contract.name for contract in catalogue.contracts.values() if contract.sharing != "withheld"}
    assert set(IDS) == shared


def test_the_page_about_the_city_names_every_contract(catalogue: Catalogue) -> None:
    page = (ROOT / "docs/city.md").read_text("utf-8")
    told = {tuple(row) for row in re.findall(r"^\| `([a-z_.]+)` \| (\w+) \| (\w+) \| (\w+) \|", page, re.MULTILINE)}
    assert told == {
        (contract.name, contract.kind, "many" if contract.record_key else "one", contract.sharing)
        for contract in catalogue.contracts.values()
    }


def test_the_policies_load_and_no_grant_is_idle(bundle: Bundle) -> None:
    assert len(bundle.clients) == 20
    assert without_effect(bundle) == []
    assert {client.issuer for client in bundle.clients.values()} == {"https://issuer.exchange.invalid"}


def seen(bundle: Bundle, client_id: str, purpose: str, kind: str, *, case: bool = False) -> dict[str, dict[str, Any]]:
    client = next(client for client in bundle.clients.values() if client.client_id == client_id)
    now = datetime(2026, 6, 1, 12, tzinfo=ZoneInfo("Asia/Shanghai"))
    found = Decider(bundle).permitted(client, purpose, kind, case, now)
    return {decision.contract: dict(decision.fields) for decision in found}


def test_eleven_desks_see_one_citizen_in_eleven_ways(bundle: Bundle) -> None:
    views = {
        (client.client_id, purpose): seen(bundle, client.client_id, purpose, "citizen")
        for client in bundle.clients.values()
        for purpose in client.purposes
    }
    assert len(views) == 12
    assert views.pop(("market-inspector", "market-supervision")) == {}
    assert all(views.values())
    assert len({json.dumps(view, sort_keys=True) for view in views.values()}) == 11
    assert views["credit-office", "credit-assessment"]["civil.person"] == {"name": "initial", "birth_date": "year_only"}
    assert views["tax-desk", "tax-assessment"]["transport.vehicle"]["plate"] == "last4"


def test_the_inspector_sees_enterprises(bundle: Bundle) -> None:
    view = seen(bundle, "market-inspector", "market-supervision", "enterprise")
    assert {"market.registration", "tax.enterprise", "credit.rating"} <= set(view)


def test_health_needs_a_purpose_and_a_case(bundle: Bundle) -> None:
    without = seen(bundle, "hotline-desk", "emergency-response", "citizen")
    with_case = seen(bundle, "hotline-desk", "emergency-response", "citizen", case=True)
    assert "health.record" not in without
    assert set(with_case["health.record"]) == {"blood_type", "rh_negative", "allergies"}


def test_nobody_sees_what_is_withheld_or_sealed(bundle: Bundle) -> None:
    for client in bundle.clients.values():
        for purpose in client.purposes:
            for kind in ("citizen", "enterprise"):
                view = seen(bundle, client.client_id, purpose, kind, case=True)
                assert "civil.case_file" not in view
                fields = {field for contract in view.values() for field in contract}
                assert not fields & {"fingerprint_ref", "genome_ref", "payroll_account"}


# --- people, firms, chance --------------------------------------------------------------------------------------------


def test_identifiers_are_valid_unique_and_nobodys() -> None:
    world = World(seed=9, citizens=3_000, enterprises=3_000)
    people = [citizen(world, index) for index in range(world.citizens)]
    firms = [enterprise(world, index) for index in range(world.enterprises)]
    for person in people:
        assert parse("cn.ric", person.id).identifier == person.id
        assert person.id.startswith("29")  # no province
        assert person.id[6:14] == f"{person.birth_date:%Y%m%d}"
        assert int(person.id[16]) % 2 == (person.gender == "male")
    for firm in firms:
        assert parse("cn.uscc", firm.id).identifier == firm.id
        assert firm.id[2:4] == "29"
    assert len({one.id for one in people} | {one.ghost_id for one in people}) == 6_000
    assert len({one.id for one in firms} | {one.ghost_id for one in firms}) == 6_000


def test_draws_are_the_same_everywhere() -> None:
    """Pinned: another Python, machine or order of calls must not write another city."""
    draw = Draw(7, "somebody", 41)
    assert [draw.below(1000) for _ in range(5)] == [916, 867, 979, 920, 273]
    assert draw.digits(12).isdigit()
    spread = Counter(Draw(1, index).below(10) for index in range(5_000))
    assert min(spread.values()) > 400


# --- the offices' records ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dataset", DATASETS, ids=IDS)
def test_sound_records_keep_their_contract(dataset: Dataset, catalogue: Catalogue) -> None:
    contract = catalogue.newest(dataset.contract)
    for values in some_records(dataset):
        record = contract.check(complete(contract, values))
        assert contract.encode(record)
    assert dataset.key == tuple(contract.record_key)
    assert dataset.version == contract.version_field
    assert dataset.event_time == contract.event_time_field


def complete(contract: Contract, values: dict[str, Any]) -> dict[str, Any]:
    """What the connector adds: the scale of decimals, and null for the level 4 field that it leaves out."""
    sealed = {name: None for name, field in contract.fields.items() if field.level == 4}
    return {name: plain(value) for name, value in (sealed | values).items()}


def plain(value: Any) -> Any:
    if isinstance(value, Symbol):
        return str(value)
    return value.quantize(Decimal("0.01")) if isinstance(value, Decimal) else value


@pytest.mark.parametrize("dataset", DATASETS, ids=IDS)
def test_every_edition_of_a_row_differs_and_its_key_does_not(dataset: Dataset) -> None:
    later = [replace(SOUND, edition=edition, at=DAY_ZERO + timedelta(days=edition)) for edition in range(4)]
    for editions in zip(*(list(some_records(dataset, state)) for state in later), strict=True):
        for before, after in pairwise(editions):
            assert before != after
            assert [before[name] for name in dataset.key] == [after[name] for name in dataset.key]


@pytest.mark.parametrize("dataset", DATASETS, ids=IDS)
def test_columns_name_every_field(dataset: Dataset, catalogue: Catalogue) -> None:
    if isinstance(dataset.source, Push):
        pytest.skip("a push has the contract's own names")
    fields = catalogue.newest(dataset.contract).fields
    visible = {name for name, field in fields.items() if field.level < 4}
    assert {column.field for column in dataset.columns} - set(hidden(dataset)) == visible
    assert len({column.header for column in dataset.columns}) == len(dataset.columns)


def test_a_later_state_never_has_an_earlier_time() -> None:
    for dataset in DATASETS:
        source = dataset.source
        for index in range(200):
            life = live(WORLD, dataset.contract, index, 0, faults=source.faults, deletes=source.deletes)
            states = [life.on(day) for day in range(12)]
            assert [state.at for state in states] == sorted(state.at for state in states)
            assert [state.edition for state in states] == sorted(state.edition for state in states)
            assert not any(state.deleted and state.fault for state in states)


# --- what is written --------------------------------------------------------------------------------------------------


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        city.generate(tmp_path / name, citizens=150, enterprises=40, seed=3, days=2)
    assert digests(tmp_path / "one") == digests(tmp_path / "other")
    city.generate(tmp_path / "other", citizens=150, enterprises=40, seed=4, days=2)
    assert digests(tmp_path / "one") != digests(tmp_path / "other")


def test_days_in_one_go_are_days_one_by_one(tmp_path: Path) -> None:
    city.generate(tmp_path / "one", citizens=60, enterprises=30, seed=3, days=2)
    city.generate(tmp_path / "other", citizens=60, enterprises=30, seed=3)
    assert city.advance(tmp_path / "other") == 1
    assert city.advance(tmp_path / "other") == 2
    assert digests(tmp_path / "one") == digests(tmp_path / "other")


def lines(out: Path, dataset: Dataset, day: str = "") -> int:
    """The rows of a dataset's source, counted by other means than ours."""
    folder, name = out / "offices" / dataset.department, dataset.contract.partition(".")[2]
    match dataset.source:
        case Table() as table:
            with closing(sqlite3.connect(folder / f"{dataset.department}.db")) as connection:
                return int(connection.execute(f"SELECT count(*) FROM {table.name}").fetchone()[0])
        case Push():
            return sum(len(file.read_text("utf-8").splitlines()) for file in folder.glob(f"{name}-*.ndjson"))
        case (
            Snapshot(encoding=encoding, delimiter=delimiter) | Append(encoding=encoding, delimiter=delimiter) as source
        ):
            count = 0
            for file in folder.glob(f"{name}*.csv"):
                text = file.read_bytes().decode(encoding, "replace")
                rows = list(csv.reader(text.splitlines(keepends=True), delimiter=delimiter))
                count += len(rows) - (not isinstance(source, Append) or source.header)
            return count


@pytest.mark.parametrize("dataset", DATASETS, ids=IDS)
def test_truth_counts_every_row_that_was_written(dataset: Dataset, written: Path) -> None:
    figures = json.loads((written / "truth.json").read_text("utf-8"))["datasets"][dataset.contract]
    (day,) = figures["days"]
    assert day["rows"] == lines(written, dataset)
    rejected = sum(day["rejected"].values())
    assert day["rows"] == day["published"] + day["unchanged"] + day["deleted"] + rejected
    assert rejected > 0
    assert figures["facets"] > 0


def test_no_unfinished_file_is_left(written: Path) -> None:
    assert not list(written.rglob("*.part"))
    assert not list(written.rglob("*-wal"))


def test_the_story_is_told_in_every_office(written: Path) -> None:
    story = json.loads((written / "truth.json").read_text("utf-8"))["story"]
    for file in written.glob("offices/*/*"):
        if file.suffix in (".csv", ".ndjson") and "registration-2901" not in file.name:
            content = file.read_bytes()
            assert story["citizen"].encode() in content or story["enterprise"].encode() in content, file.name


def test_a_city_without_people_or_without_firms(tmp_path: Path) -> None:
    city.generate(tmp_path / "firms", citizens=0, enterprises=30)
    city.generate(tmp_path / "people", citizens=30, enterprises=0)


def test_sizes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for citizens, enterprises in ((-1, 1), (0, 0), (1, 10**9)):
        with pytest.raises(SettingWrong):
            city.generate(tmp_path, citizens=citizens, enterprises=enterprises)
    with pytest.raises(SettingWrong, match="canaries"):
        city.generate(tmp_path, citizens=10_000, enterprises=1, canaries=True)
    with pytest.raises(SettingWrong, match="generate"):
        city.advance(tmp_path / "nowhere")


def test_the_command_writes_and_reports(tmp_path: Path) -> None:
    run = CliRunner().invoke
    made = run(app, ["generate", "--out", str(tmp_path), "--citizens", "30", "--enterprises", "20", "--json"])
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["city"]["day"] == 0
    later = run(app, ["advance", "--out", str(tmp_path), "--days", "2"])
    assert later.exit_code == 0, later.output
    assert "day 2, 30 citizens, 20 enterprises" in later.stdout
    assert all(name in later.stdout for name in IDS)


# --- canaries ---------------------------------------------------------------------------------------------------------


def test_every_canary_is_one_of_a_kind(tmp_path: Path) -> None:
    city.generate(tmp_path, citizens=120, enterprises=40, canaries=True, days=1)
    planted: dict[str, set[tuple[str, str, int]]] = {}
    for line in (tmp_path / "canaries.ndjson").read_text("utf-8").splitlines():
        note = json.loads(line)
        planted.setdefault(note["value"], set()).add((note["contract"], note["field"], note["subject"]))
    assert len(planted) > 5_000
    assert {value: places for value, places in planted.items() if len(places) > 1} == {}
    assert all(value.startswith("canary-") or len(value) >= 10 for value in planted)


def test_canaries_reach_the_sources_and_keep_the_contracts(tmp_path: Path, catalogue: Catalogue) -> None:
    city.generate(tmp_path, citizens=40, enterprises=25, canaries=True)
    planted = {json.loads(line)["value"] for line in (tmp_path / "canaries.ndjson").read_text("utf-8").splitlines()}
    contract = catalogue.newest("health.record")
    good = 0
    for line in (tmp_path / "offices/health/record-2026-06-01.ndjson").read_text("utf-8").splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if "delete" in values or "genome_ref" in values or "remark" in values or "birth_date" not in values:
            continue
        contract.from_json(values)
        good += 1
        shown = [str(value) for _, value in leaves(values) if isinstance(value, str) and value.startswith("canary-")]
        assert shown
        assert set(shown) <= planted
    assert good > 10


# --- tables, the story ------------------------------------------------------------------------------------------------


def rows(url: str, dataset: Dataset) -> list[dict[str, Any]]:
    engine = open_engine(url)
    try:
        assert isinstance(dataset.source, Table)
        found = table(dataset, dataset.source, dataset.department if is_postgres(engine) else None)
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(found.select().order_by(found.c[KEY])).mappings()]
    finally:
        engine.dispose()


@pytest.mark.services
def test_postgresql_holds_what_sqlite_holds(tmp_path: Path, fresh_postgres: Callable[[], str]) -> None:
    url = fresh_postgres()
    city.generate(tmp_path / "files", citizens=120, enterprises=40, days=1)
    city.generate(tmp_path / "server", citizens=120, enterprises=40, days=1, postgres=url)
    assert not list((tmp_path / "server").rglob("*.db"))
    for dataset in DATASETS:
        if isinstance(dataset.source, Table):
            exact = rows(url, dataset)
            money = [column.header for column in dataset.columns if column.kind == "money"]
            for row in exact:
                row.update({name: f"{row[name]:.2f}" for name in money if row[name] is not None})
            assert exact == rows(instances.sqlite_url(tmp_path / "files", dataset), dataset)
    truths = [json.loads((tmp_path / name / "truth.json").read_text("utf-8")) for name in ("files", "server")]
    assert truths[0]["datasets"] == truths[1]["datasets"]
    with pytest.raises(SettingWrong, match="postgresql"):
        city.advance(tmp_path / "server")


def test_the_story_moves_a_citizen_and_withdraws_a_licence(tmp_path: Path) -> None:
    city.generate(tmp_path, citizens=30, enterprises=30)
    person = next(dataset for dataset in DATASETS if dataset.contract == "civil.person")
    licence = next(dataset for dataset in DATASETS if dataset.contract == "market.licence")
    now = datetime(2026, 7, 1, 10, 0, tzinfo=UTC)
    before = rows(instances.sqlite_url(tmp_path, person), person)
    address = story.move(tmp_path, now)
    after = rows(instances.sqlite_url(tmp_path, person), person)
    assert after[0] == before[0] | {"residence": address, "revision": 2, "updated_at": datetime(2026, 7, 1, 18)}
    assert after[1:] == before[1:]
    number = story.withdraw(tmp_path, now)
    withdrawn = [row for row in rows(instances.sqlite_url(tmp_path, licence), licence) if row["licence_no"] == number]
    assert [(row["is_deleted"], row["revision"]) for row in withdrawn] == [(1, 2)]


# --- size -------------------------------------------------------------------------------------------------------------

MEASURE = """
import resource, sys
from pathlib import Path
from exchange import city
city.generate(Path(sys.argv[1]), citizens=int(sys.argv[2]), enterprises=int(sys.argv[2]) // 10)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_does_not_grow_with_the_city(tmp_path: Path) -> None:
    peaks = []
    for citizens in (2_000, 50_000):
        command = [sys.executable, "-c", MEASURE, str(tmp_path / str(citizens)), str(citizens)]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 1024)
    assert peaks[1] < peaks[0] + 16, f"{peaks[0]:.0f} MiB for 2,000 citizens, {peaks[1]:.0f} MiB for 50,000"
