"""A real Prometheus with the rules of deploy/prometheus, that looks each second."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml

from tests.support.services import skip_or_fail
from tests.support.site import ROOT, ending, free_port

RULES = ROOT / "deploy" / "prometheus"
# How much sooner everything happens in a hurried Prometheus: what is said in seconds, and how far back a rate looks.
HURRY = {"5m": "10s", "10m": "15s", "1h": "60s"}
SECONDS = {"600": "5", "60": "3"}


@dataclass
class Prometheus:
    """It, and every alert that has fired so far."""

    url: str
    fired: set[str] = field(default_factory=set)

    def query(self, text: str) -> list[dict[str, Any]]:
        answer = httpx2.get(f"{self.url}/api/v1/query", params={"query": text}, timeout=10)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["data"]["result"])

    def alerts(self) -> set[str]:
        """The names of those that fire now."""
        found = httpx2.get(f"{self.url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        return {each["labels"]["alertname"] for each in found if each["state"] == "firing"}

    def rules(self) -> list[dict[str, Any]]:
        groups = httpx2.get(f"{self.url}/api/v1/rules", timeout=10).json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def until_fires(self, *names: str, seconds: float = 40.0) -> None:
        """Wait until each of these has fired at some time."""
        deadline = time.monotonic() + seconds
        while missing := set(names) - self.fired:
            assert time.monotonic() < deadline, f"{missing} did not fire"
            time.sleep(0.2)


def until(condition: Callable[[], bool], otherwise: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.2)


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, int]) -> Iterator[Prometheus]:
    """One with our rules in a hurry (`hurried`), over these ports of loopback by job."""
    program = shutil.which("prometheus")
    if program is None:
        skip_or_fail("prometheus is missing: install Debian's package prometheus")
    folder.mkdir()
    for name in ("recording.yml", "alerts.yml"):
        (folder / name).write_text(hurried((RULES / name).read_text("utf-8")), "utf-8")
    config = yaml.safe_load((RULES / "prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    jobs = [job["job_name"] for job in config["scrape_configs"] if job["job_name"] in targets]
    assert set(targets) - set(jobs) <= {"node"}
    config["scrape_configs"] = [
        {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{targets[job]}"]}]} for job in targets
    ]
    (folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")  # JSON is YAML
    port = free_port()
    command = [
        str(program), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    with ending(process):
        made = Prometheus(f"http://127.0.0.1:{port}")
        until(lambda: answers(f"{made.url}/-/ready"), "Prometheus did not start")
        stop = threading.Event()
        watching = threading.Thread(target=_watch, args=(made, stop))
        watching.start()
        try:
            yield made
        finally:
            stop.set()
            watching.join()


def hurried(rules: str) -> str:
    """The same rules, sooner: no alert waits before it fires, and what is said in time is shorter."""
    text = re.sub(r"^ *for: .*\n", "", rules, flags=re.MULTILINE)
    text = re.sub(r"\[(\w+)\]", lambda found: f"[{HURRY[found[1]]}]", text)
    return re.sub(r"_seconds(\)?) > (\d+)\b", lambda found: f"_seconds{found[1]} > {SECONDS[found[2]]}", text)


def answers(url: str) -> bool:
    """Whether it says 200."""
    try:
        return httpx2.get(url, timeout=2).status_code == 200
    except httpx2.HTTPError:
        return False


def _watch(made: Prometheus, stop: threading.Event) -> None:
    while not stop.wait(0.2):
        try:
            made.fired |= made.alerts()
        except httpx2.HTTPError:
            return
