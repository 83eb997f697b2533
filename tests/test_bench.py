"""`python -m bench` in miniature: it measures both sides, finds that they did the same, and says so in its JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).parent.parent
TINY = ["--records", "1500", "--citizens", "20", "--seconds", "0.3", "--in-flight", "4", "--rounds", "1"]


def bench(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )


@pytest.mark.services
@pytest.mark.timeout(300)
def test_bench_measures_both_sides_and_finds_them_equal(kafka_servers: str, postgres_url: str) -> None:
    pytest.importorskip("cachetools", reason="uv's group bench is not installed; `make bench` installs it")
    done = bench(
        "facets",
        "sqlite",
        "views",
        *TINY,
        "--json",
        EXCHANGE_TEST_KAFKA=kafka_servers,
        EXCHANGE_TEST_POSTGRES=postgres_url,
    )
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["machine"]["cores"] == os.cpu_count()
    on_kafka, ready, on_sqlite, views, core, two, half = document["measurements"]
    assert on_kafka["facts"]["same_facets_and_rejects"] is True
    assert on_kafka["facts"]["rejects"] > 0
    assert on_kafka["facts"]["facets"] < on_kafka["facts"]["messages"] == 1500
    assert ready["facts"] == on_kafka["facts"]
    assert on_sqlite["facts"]["facets"] == on_kafka["facts"]["facets"]
    assert views["facts"]["same_answers"] is True
    assert [list(each["sides"]) for each in document["measurements"]] == [
        ["exchange", "obvious"],
        ["exchange", "ready rows"],
        ["exchange", "ceiling"],
        ["exchange", "obvious"],
        ["exchange", "core"],
        ["exchange", "two"],
        ["exchange"],
    ]
    assert half["ratio"] is None
    for each in (on_kafka, ready, on_sqlite, views, core, two):
        rates = [side[each["rate"]]["median"] for side in each["sides"].values()]
        assert each["ratio"]["median"] == pytest.approx(rates[0] / rates[1])
        assert all(len(rounds) == 1 for rounds in each["rounds"].values())


@pytest.mark.services
@pytest.mark.timeout(300)
def test_the_other_parts_measure_too(kafka_servers: str, postgres_url: str) -> None:
    pytest.importorskip("cachetools", reason="uv's group bench is not installed; `make bench` installs it")
    small = ["--rate", "200", "--pairs", "30", "--entries", "300", "--many", "1500"]
    done = bench(
        "memory", "processes", "csv", "visible", "alike", "verify", *TINY, *small, "--json",
        EXCHANGE_TEST_KAFKA=kafka_servers, EXCHANGE_TEST_POSTGRES=postgres_url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    memory, processes, files, visible, *alike, verify = json.loads(done.stdout)["measurements"]
    assert memory["sides"]["exchange"]["growth"]["median"] >= 1
    assert memory["facts"]["warm_after"] == 750
    assert processes["facts"]["least_share"] > 0.3
    assert files["facts"]["rows"] == 1500
    assert visible["ratio"] is None
    assert [each["facts"]["same_status_size"] for each in alike] == [True] * 4
    assert verify["facts"]["verified"] is True


@pytest.mark.services
@pytest.mark.timeout(300)
def test_kafka_connect_writes_the_rows_that_ours_wrote(kafka_servers: str, postgres_url: str) -> None:
    pytest.importorskip("cachetools", reason="uv's group bench is not installed; `make bench` installs it")
    done = bench(
        "connect", *TINY, "--json", EXCHANGE_TEST_KAFKA=kafka_servers, EXCHANGE_TEST_POSTGRES=postgres_url
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    one, two = json.loads(done.stdout)["measurements"]
    assert ("one against one" in one["name"], "two against two" in two["name"]) == (True, True)
    for measured in (one, two):
        assert list(measured["sides"]) == ["exchange", "connect"]
        assert measured["facts"]["same_rows"] is True
        assert 0 < measured["facts"]["rows"] < measured["facts"]["messages"] == 1500


@pytest.mark.services
@pytest.mark.timeout(300)
def test_how_a_views_cost_grows_and_what_its_stages_take(postgres_url: str, tmp_path: Path) -> None:
    pytest.importorskip("cachetools", reason="uv's group bench is not installed; `make bench` installs it")
    sizes = ["--subjects", "10", "30", "--agreements", "40", "--facets", "1", "9"]
    done = bench(
        "growth", "stages", *TINY, *sizes, "--times", "1", "--picture", f"{tmp_path}/drawn.svg", "--json",
        EXCHANGE_TEST_POSTGRES=postgres_url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    subjects, agreements, facets, *stages = json.loads(done.stdout)["measurements"]
    assert [list(each["sides"]) for each in (subjects, agreements, facets)] == [["10", "30"], ["40"], ["1", "9"]]
    assert all(each["ratio"] is None for each in (subjects, agreements, facets))
    drawn = ElementTree.parse(tmp_path / "drawn.svg").getroot()
    assert len(drawn.findall("{http://www.w3.org/2000/svg}g")) == 3
    assert [each["facts"]["same"] for each in stages] == [True] * 5


def test_bench_without_services_says_what_is_missing() -> None:
    pytest.importorskip("cachetools", reason="uv's group bench is not installed; `make bench` installs it")
    done = bench(*TINY, EXCHANGE_TEST_KAFKA="", EXCHANGE_TEST_POSTGRES="")
    assert done.returncode == 1
    assert "EXCHANGE_TEST_KAFKA is not set" in done.stderr
