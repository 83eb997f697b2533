"""deploy/prometheus: rules speak of metrics that exist, each alert is tried and explained; promtool runs the tests."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from exchange import metrics
from tests.support.services import skip_or_fail

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "deploy" / "prometheus"
NOT_OURS = {"up", "node_filesystem_avail_bytes", "node_filesystem_size_bytes"}
# Never a subject, an officer, a path: what an alert may be about.
LABELS = {"job", "instance", "topic", "contract", "source", "client", "bound", "reason", "outcome", "mountpoint", "le"}


def rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((FOLDER / file).read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def exposed() -> set[str]:
    """Every name under which our metrics appear."""
    names = set()
    for metric in vars(metrics).values():
        if hasattr(metric, "_documentation"):
            ends = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}.get(metric._type, [""])
            names |= {metric._name + end for end in ends}
    return names


def test_every_label_is_one_of_a_few_words_and_none_is_about_a_person() -> None:
    names = {
        name for metric in vars(metrics).values() if hasattr(metric, "_documentation") for name in metric._labelnames
    }
    assert names == {
        "contract", "connector", "outcome", "topic", "partition", "source", "reason", "route", "method", "status",
        "client", "bound",
    }  # fmt: skip


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}
RECORDED = {rule["record"] for rule in rules("recording.yml")}


def test_rules_speak_of_what_is_there() -> None:
    for rule in [*rules("alerts.yml"), *rules("recording.yml")]:
        words = set(re.findall(r"\b(?:exchange|node)[_:][a-z0-9_:]+", rule["expr"]))
        assert words or "up{" in rule["expr"]
        assert words <= exposed() | RECORDED | NOT_OURS, rule
    used = " ".join(rule["expr"] for rule in rules("alerts.yml"))
    assert {name for name in RECORDED if name in used} == RECORDED - {
        "exchange:view_seconds:p50_5m", "exchange:views:rate5m"
    }, "what no alert uses is for dashboards"  # fmt: skip


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_says_what_to_do_and_is_tried_both_ways(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    assert rule["annotations"]["action"]
    assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= LABELS
    tried = {test["name"]: test for test in yaml.safe_load((FOLDER / "tests.yml").read_text("utf-8"))["tests"]}
    assert tried[f"{name} fires"]["alert_rule_test"][0]["exp_alerts"]
    assert tried[f"{name} stays calm"]["alert_rule_test"][0]["exp_alerts"] == []
    assert f"| `{name}` |" in (ROOT / "docs/monitoring.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("part", "family"),
    [(metrics.MATERIALISER, "exchange_materialise_lag_records"), (metrics.CONNECTOR, "exchange_publish_rows")],
)
def test_a_part_serves_its_own_and_no_nought_of_another(part: metrics.OfPart, family: str) -> None:
    """Else a materialiser would tell of an audit log that cannot be written, and of a disk without room."""
    served = {metric.name for metric in part.restricted_registry(["any"]).collect()}
    assert {family, "process_cpu_seconds"} <= served
    assert not served & {"exchange_audit_writable", "exchange_data_free_bytes", "exchange_policy_age_seconds"}


@pytest.mark.services
@pytest.mark.parametrize(
    "command", [["check", "config", "prometheus.yml"], ["test", "rules", "tests.yml"]], ids=["config", "rules"]
)
def test_promtool_finds_them_sound(command: list[str]) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        skip_or_fail("promtool is missing: install Debian's package prometheus")
    assert promtool is not None
    done = subprocess.run([promtool, *command], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_groups_in_the_order_in_which_they_build_on_each_other() -> None:
    files = [yaml.safe_load((FOLDER / name).read_text("utf-8"))["groups"] for name in ("recording.yml", "alerts.yml")]
    order = yaml.safe_load((FOLDER / "tests.yml").read_text("utf-8"))["group_eval_order"]
    assert order == [group["name"] for groups in files for group in groups]
