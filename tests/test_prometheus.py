"""A real Prometheus scrapes a gateway and a materialiser: its rules find what they speak of, and alerts come and go."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from tests.support.services import skip_or_fail
from tests.support.site import ROOT, Process, Site, bearer, ending, free_port, gateway_process, view

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]

RULES = ROOT / "deploy" / "prometheus"
ELSEWHERE = {"node_filesystem_avail_bytes", "node_filesystem_size_bytes", "up"}
# Labelled counters that have no series before the first event.
BEFORE_EVENTS = {"exchange_throttled_total", "exchange_watermark_timestamp_seconds"}


@dataclass
class Prometheus:
    url: str

    def query(self, text: str) -> list[dict[str, Any]]:
        answer = httpx2.get(f"{self.url}/api/v1/query", params={"query": text}, timeout=10)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"]["result"])

    def alerts(self) -> set[str]:
        """The names of those that fire."""
        found = httpx2.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {each["labels"]["alertname"] for each in found if each["state"] == "firing"}

    def rules(self) -> list[dict[str, Any]]:
        groups = httpx2.get(f"{self.url}/api/v1/rules", timeout=10).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextmanager
def prometheus(folder: Path, gateway: int, materialise: int) -> Iterator[Prometheus]:
    """Prometheus with our rules, a look each second, and no alert waiting before it fires."""
    program = shutil.which("prometheus")
    if program is None:
        skip_or_fail("prometheus is missing: install Debian's package prometheus")
    assert program is not None
    folder.mkdir()
    shutil.copyfile(RULES / "recording.yml", folder / "recording.yml")
    alerts = re.sub(r"^ *for: .*\n", "", (RULES / "alerts.yml").read_text("utf-8"), flags=re.MULTILINE)
    (folder / "alerts.yml").write_text(alerts, "utf-8")
    config = yaml.safe_load((RULES / "prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    ports = {"exchange-gateway": gateway, "exchange-materialise": materialise}
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{ports[job['job_name']]}"]}]
    (folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")  # JSON is YAML
    port = free_port()
    command = [
        program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    with ending(process):
        made = Prometheus(f"http://127.0.0.1:{port}")
        until(lambda: answers(f"{made.url}/-/ready"), "Prometheus did not start")
        yield made


@contextmanager
def materialiser(site: Site, port: int) -> Iterator[None]:
    with (site.folder / "materialise.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "exchange.cli", "materialise", "--config", str(site.config)],
            env={**os.environ, "EXCHANGE_MATERIALISE__METRICS_PORT": str(port)}, stdout=log, stderr=log,
        )  # fmt: skip
    with ending(process):
        yield


def answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


def until(condition: Callable[[], bool], otherwise: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.2)


def test_a_prometheus_watches_a_city(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    site = Site.made(tmp_path / "site")
    port = free_port()
    few = {"EXCHANGE_GATEWAY__SUBJECTS_PER_DAY_OF": '{"tax-desk": 1}'}
    with (
        materialiser(site, port),
        gateway_process(site, **few) as gateway,
        prometheus(tmp_path / "p", gateway.metrics_port, port) as watching,
    ):
        until(lambda: len(watching.query('up{job=~"exchange-.*"} == 1')) == 2, "the parts are not scraped")
        _look(watching, gateway, site)
        pushed = _push(gateway, site)
        assert pushed.json()["rejected"] == 1, pushed.text
        until(lambda: bool(watching.query("exchange:client_subjects:ratio >= 1")), "the client was not counted")
        until(lambda: "ExchangeHarvesting" in watching.alerts(), "no alarm that a client copies")
        until(lambda: bool(watching.query("exchange:rejects:ratio1h")), "rejects are not counted")
        names = {each["metric"]["__name__"] for each in watching.query('{__name__=~"exchange_.+"}')}
        missing = _spoken_of() - names - ELSEWHERE - BEFORE_EVENTS
        assert not missing, "rules speak of what no part serves"
        assert "ExchangePartDown" not in watching.alerts()
        gateway.process.kill()
        until(lambda: "ExchangePartDown" in watching.alerts(), "no alarm that the gateway is gone")
        broken = [rule["name"] for rule in watching.rules() if rule["health"] == "err"]
        assert not broken, "rules that cannot be evaluated"


def _look(watching: Prometheus, gateway: Process, site: Site) -> None:
    """What a city at rest shows: no alarm, and nothing of a person in any label."""
    until(lambda: all(rule["health"] == "ok" for rule in watching.rules()), "rules are not evaluated")
    assert view(gateway.url, bearer(site, gateway.url, "tax-desk")).status_code == 200
    assert httpx2.get(f"{gateway.url}/v1/contracts", headers={"Authorization": "Bearer x"}).status_code == 401
    until(lambda: bool(watching.query("exchange_token_failures_total")), "refused tokens are not counted")
    labels = json.dumps([each["metric"] for each in watching.query('{__name__=~"exchange.+"}')])
    assert "110101190001010014" not in labels


def _push(gateway: Process, site: Site) -> httpx2.Response:
    headers = bearer(site, gateway.url, "civil-connector")
    return httpx2.post(f"{gateway.url}/v1/datasets/civil.person/records", json=[{"id": 7}], headers=headers, timeout=30)


def _spoken_of() -> set[str]:
    """The metrics that our rules name."""
    files = [yaml.safe_load((RULES / name).read_text("utf-8")) for name in ("recording.yml", "alerts.yml")]
    expressions = " ".join(rule["expr"] for file in files for group in file["groups"] for rule in group["rules"])
    return set(re.findall(r"\b(?:exchange|node)_[a-z0-9_]+", expressions))
