"""examples/enterprises: files of the shape that offices publish, from the file to the merged enterprise."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors.protocol import Weight
from exchange.agreements import Bundle
from exchange.contracts import Catalogue, load_catalogue
from exchange.decisions import Decider, load_bundle
from exchange.publish import Outcome
from exchange.records import Reject, rejects_topic
from exchange.store import FacetReader, open_reader
from exchange.subjects import parse
from exchange.topics.sqlite import SqliteBroker
from exchange.views import Trimmer, merge
from tests.support.bus import KEYS, NOW, Bus, Running, sqlite_url, until
from tests.support.instances import Instances

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples/enterprises"


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue(EXAMPLE / "schemas")


@pytest.fixture
def bus(tmp_path: Path, catalogue: Catalogue) -> Iterator[Bus]:
    broker = SqliteBroker(tmp_path / "topics.db")
    bus = Bus(broker, sqlite_url(tmp_path), list(catalogue.contracts.values()))
    yield bus
    bus.close()
    broker.close()


@pytest.fixture
def instances(bus: Bus, catalogue: Catalogue, tmp_path: Path) -> Iterator[Instances]:
    running = Instances(bus, EXAMPLE / "connectors.d", catalogue, tmp_path)
    yield running
    running.close()


def told() -> dict[str, tuple[int, ...]]:
    """The README's figures: rows, published, unchanged, rejected of each source."""
    page = (EXAMPLE / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| `([^`]+)` \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE)
    return {name: tuple(map(int, figures)) for name, *figures in rows}


def figures(outcome: Outcome) -> tuple[int, ...]:
    return (outcome.read, outcome.published, outcome.unchanged, outcome.rejected)


def test_nothing_in_the_files_is_refused(instances: Instances) -> None:
    assert all(finding.weight is Weight.NOTE for findings in instances.check().values() for finding in findings)


def test_every_row_is_accounted_for_as_the_readme_says(instances: Instances) -> None:
    outcomes = instances.read()
    assert all(outcome.accounted and outcome.deleted == outcome.gone == 0 for outcome in outcomes.values())
    assert {
        "register/*.csv": figures(outcomes["market.registration"]),
        "construction/builders.csv": figures(outcomes["housing.builder"]),
        "construction/qualifications.csv": figures(outcomes["housing.qualification"]),
    } == told()


def test_a_second_reading_has_nothing_new(instances: Instances) -> None:
    instances.read()
    assert all(figures(outcome) == (0, 0, 0, 0) for outcome in instances.read().values())


def test_each_reject_has_its_line_and_its_reason(instances: Instances, bus: Bus) -> None:
    instances.read()
    found = [Reject.read(message) for message in bus.broker.read(rejects_topic("market"))]
    assert {reject.place: (reject.field, reject.reason) for reject in found} == {
        "lanting_1998.csv line 11 (record 10)": ("uscc", OLD.format(15)),
        "lanting_1998.csv line 12 (record 11)": ("uscc", OLD.format(15)),
        "lanting_1998.csv line 13 (record 12)": ("uscc", OLD.format(13)),
        "lanting_1998.csv line 14 (record 13)": ("uscc", "character U+002D at position 9"),
        "lanting_1998.csv line 15 (record 14)": (
            "uscc",
            "a character other than an ASCII digit or letter at position 1",
        ),
        "lanting_1998.csv line 19 (record 18)": ("uscc", "the check character is wrong (GB 32100)"),
        "lanting_2005.csv line 3 (record 2)": (
            None,
            "a quotation mark in the middle of a value (one inside a quoted value is written twice)",
        ),
        "lanting_2005.csv line 4 (record 3)": (None, "expected 10 values, found 9"),
        "lanting_2005.csv line 5 (record 4)": (None, "expected 10 values, found 13"),
        "lanting_2005.csv line 15 (record 14)": ("province", "a word that is not in the value mapping"),
    }


OLD = "{} digits: an old registration number; ask for the credit code of 18"


# --- the merged enterprise --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(catalogue: Catalogue, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    policies = tmp_path_factory.mktemp("example") / "policies"
    shutil.copytree(EXAMPLE / "policies", policies)
    shutil.copytree(ROOT / "policies/guardrails", policies / "guardrails")
    return load_bundle(policies, catalogue, "Asia/Shanghai")


class Reader:
    """Looks enterprises up as the example's client does: decide, read, trim, merge."""

    def __init__(self, bundle: Bundle, facets: FacetReader) -> None:
        client = bundle.client("https://issuer.exchange.invalid", "reader")
        assert client is not None
        permitted = Decider(bundle).permitted(client, "due-diligence", "enterprise", case=False, now=NOW)
        self._decisions = {(each.contract, each.major): each for each in permitted}
        self._terms = bundle.terms
        self._facets = facets

    async def view(self, code: str) -> dict[str, Any]:
        subject = KEYS.subject(parse("cn.uscc", code))
        found = await self._facets.facets(subject, list(self._decisions))
        trimmed = [
            Trimmer(self._decisions[facet.contract, facet.major], self._terms[facet.contract, facet.major])(facet)
            for facet in found
        ]
        return merge([one for one in trimmed if one is not None], self._terms, {}, NOW)


def codes(name: str, column: int, skip: int) -> set[str]:
    rows = list(csv.reader((EXAMPLE / name).read_text("utf-8").splitlines()))[skip:]
    return {row[column].strip().upper() for row in rows if len(row[column].strip()) == 18}


@pytest.mark.anyio
async def test_the_two_sources_agree_and_disagree_as_the_readme_says(
    instances: Instances, bus: Bus, bundle: Bundle, tmp_path: Path
) -> None:
    published = sum(outcome.published for outcome in instances.read().values())
    with Running(bus.materialiser()):
        until(lambda: bus.store_facets() == published)
    facets = open_reader(sqlite_url(tmp_path))
    reader = Reader(bundle, facets)
    register = codes("register/lanting_1998.csv", 1, 1) | codes("register/lanting_2005.csv", 1, 1)
    both = sorted(register & codes("construction/builders.csv", 0, 0))
    views = {code: await reader.view(code) for code in both}
    await facets.close()

    assert len(views) == 10
    names = {code: view["values"]["enterprise.name"] for code, view in views.items()}
    heads = {code: view["values"]["enterprise.legal_representative"] for code, view in views.items()}
    for said in names.values():
        assert [one["contract"] for one in said["said_by"]] == ["market.registration", "housing.builder"]
        assert said["value"] == said["said_by"][0]["value"]
    spellings = {code: {one["value"] for one in said["said_by"]} for code, said in names.items()}
    same = {code for code, texts in spellings.items() if len(texts) == 1}
    differ = {code for code, said in names.items() if said["conflict"]}
    width = set(both) - same - differ
    assert (len(same), len(width), len(differ)) == (6, 2, 2)
    assert all(any("（" in text for text in spellings[code]) for code in width)
    assert sum(said["conflict"] for said in heads.values()) == 1
    lists = [view["records"].get("housing.qualification", {"items": []})["items"] for view in views.values()]
    assert max(map(len, lists)) == 4
