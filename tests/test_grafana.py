"""deploy/grafana: dashboards speak of what is measured, and lie on a grid. tests/test_prometheus.py asks a real one."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.support.grafana import FOLDER, boards, panels, queries
from tests.test_prometheus_rules import ALERTS, LABELS, NOT_OURS, RECORDED, exposed, rules

BOARDS = boards()
CLIENT_LIBRARY = {"process_resident_memory_bytes", "process_cpu_seconds_total"}
SHOWN = LABELS | {"status", "route", "connector", "alertname"}


def test_every_query_speaks_of_what_is_there_and_of_nobody() -> None:
    for query in queries():
        words = set(re.findall(r"\b(?:exchange|node|process)[_:][a-z0-9_:]+", query.text))
        assert words or "ALERTS" in query.text or "up{" in query.text, query
        assert words <= exposed() | RECORDED | NOT_OURS | CLIENT_LIBRARY, query
        grouped = {
            name for each in re.findall(r"\b(?:by|on|left|right) \(([^)]*)\)", query.text) for name in each.split(", ")
        }
        assert grouped - {""} <= SHOWN, query
        assert set(re.findall(r"\{\{(\w+)\}\}", query.legend)) <= SHOWN, query


def test_nothing_that_is_measured_goes_unseen() -> None:
    seen = " ".join([query.text for query in queries()] + [rule["expr"] for rule in rules("recording.yml")])
    seen += " ".join(rule["expr"] for rule in ALERTS.values())
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exposed()}
    assert not [name for name in families if name not in seen]
    assert not [name for name in RECORDED if name not in seen]


@pytest.mark.parametrize("name", BOARDS)
def test_a_dashboard_is_whole(name: str) -> None:
    board = BOARDS[name]
    assert board["uid"] == name
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)
    variables = {variable["name"] for variable in board["templating"]["list"]}
    used = set(re.findall(r"\$(\w+)", " ".join(each["expr"] for panel in panels(board) for each in panel["targets"])))
    assert used == variables
    for panel in panels(board):
        assert panel["description"].endswith("."), panel["title"]
        assert set(re.findall(r"\bExchange[A-Z]\w+", panel["description"])) <= set(ALERTS), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_lies_over_another(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARDS[name]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


def test_every_alert_has_a_panel() -> None:
    told = " ".join(panel["description"] for board in BOARDS.values() for panel in panels(board))
    assert {name for name in ALERTS if name in told} == set(ALERTS)


def test_every_query_goes_to_the_data_source_that_is_provisioned() -> None:
    sources = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text("utf-8"))["datasources"]
    (uid,) = [source["uid"] for source in sources]
    found = list(_sources(BOARDS))
    assert found
    assert set(found) == {uid}


def _sources(document: Any) -> list[str]:
    if isinstance(document, dict):
        own = [document["datasource"]["uid"]] if isinstance(document.get("datasource"), dict) else []
        return own + [uid for value in document.values() for uid in _sources(value)]
    return [uid for value in document for uid in _sources(value)] if isinstance(document, list) else []
