"""`exchange policy explain` tells what gateways decide now, not what the files would make of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from exchange.cli import policy
from exchange.cli.init import initialise
from exchange.cli.materialise import topics_to_read
from exchange.clock import system_clock
from exchange.errors import NotFound, PolicyUnavailable
from exchange.settings import Settings
from exchange.store.database import writing
from exchange.store.tables import bundles
from exchange.wiring import open_store
from gateway.parts import create_app
from tests.support.server import serving
from tests.support.site import ROOT, Site

ASKED = ("tax-desk", "tax-assessment", "civil.person")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "load", Settings.load)  # without setting up this process's logs


def explain(site: Site, *arguments: str) -> Result:
    return CliRunner().invoke(policy.app, ["explain", *arguments, "-c", str(site.config)])


def shown(told: Result) -> list[str]:
    assert told.exit_code == 0, told.output
    document: dict[str, Any] = json.loads(told.output)
    return [field["name"] for field in document["majors"][0]["fields"] if field["shown"]]


def test_the_bundle_in_force_is_explained_until_the_files_are_applied(tmp_path: Path) -> None:
    site = Site.made(tmp_path)
    before = shown(explain(site, *ASKED, "--json"))
    assert before
    (tmp_path / "policies" / "civil" / "agreements.toml").write_text("")
    assert shown(explain(site, *ASKED, "--json")) == before
    assert len(shown(explain(site, *ASKED, "--json", "--files"))) < len(before)
    policy.apply_policies(site.settings())
    assert len(shown(explain(site, *ASKED, "--json"))) < len(before)


@pytest.mark.parametrize(
    ("asked", "unknown"),
    [
        (("nobody", "tax-assessment", "civil.person"), "client nobody"),
        (("tax-desk", "curiosity", "civil.person"), "purpose curiosity"),
        (("tax-desk", "tax-assessment", "civil.horoscope"), "contract civil.horoscope"),
        ((*ASKED, "--issuer", "https://elsewhere.example"), "client tax-desk of https://elsewhere.example"),
    ],
)
def test_an_unknown_name_is_an_error(tmp_path: Path, asked: tuple[str, ...], unknown: str) -> None:
    told = explain(Site.made(tmp_path), *asked)
    assert isinstance(told.exception, NotFound)
    assert unknown in str(told.exception)


def test_before_the_first_apply_only_the_files_can_be_explained(tmp_path: Path) -> None:
    site = Site(tmp_path)
    initialise(site.config, ROOT / "schemas", ROOT / "policies")
    told = explain(site, *ASKED)
    assert told.exception is not None
    assert "policy apply" in str(told.exception) or "exchange" in str(told.exception)
    assert shown(explain(site, *ASKED, "--json", "--files"))


def test_a_bundle_that_was_damaged_in_the_store_is_mended_by_the_next_apply(tmp_path: Path) -> None:
    site = Site.made(tmp_path)
    before = shown(explain(site, *ASKED, "--json"))
    store = open_store(site.settings(), system_clock)
    with writing(store.engine) as connection:
        connection.execute(bundles.update().values(body=b"damaged"))
    with pytest.raises(PolicyUnavailable, match="policy apply"):
        topics_to_read(store)  # none is whole: what was read before goes on being read
    policy.apply_policies(site.settings())
    assert topics_to_read(store)
    assert REGISTRY.get_sample_value("exchange_contract_cycle_seconds", {"contract": "market.registration"}) == 86_400
    store.close()
    assert shown(explain(site, *ASKED, "--json")) == before


def test_a_number_of_subjects_for_nobody_is_told_when_policies_are_read_and_when_a_gateway_starts(
    tmp_path: Path,
) -> None:
    site = Site.made(tmp_path)
    with site.config.open("a", encoding="utf-8") as file:
        file.write("\n[gateway.subjects_per_day_of]\ntax-desk = 500\ntax-dsek = 5\n")
    wrong = "gateway.subjects_per_day_of: there is no client tax-dsek"
    for command in ("test", "apply"):
        told = CliRunner().invoke(policy.app, [command, "-c", str(site.config)])
        assert (told.exit_code, told.stderr) == (0, f"without effect: {wrong}\n")
    with capture_logs() as said, serving(create_app(site.settings()), lifespan=True):
        pass
    assert [line["what"] for line in said if "without effect" in line["event"]] == [wrong]
