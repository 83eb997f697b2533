"""A real Prometheus over a running city: each alert is made to fire, and every query of the dashboards is answered.

What is wrong is really wrong: a gateway is killed, a lock is held, a disk is full, a bundle in the store is damaged.
Only time goes faster, by one rule for all (tests/support/prometheus.py).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from exchange import sqlite
from exchange.agreements import Bundle
from exchange.cli.policy import read_policies
from exchange.clock import system_clock
from exchange.decisions.cedar import parse
from exchange.records import WATERMARKS_TOPIC, Message, Watermark
from exchange.wiring import open_broker, open_store
from tests.support import grafana
from tests.support.prometheus import RULES, Prometheus, answers, prometheus, until
from tests.support.services import skip_or_fail
from tests.support.site import CITIZEN, Process, Site, bearer, ending, free_port, gateway_process, view
from tests.test_prometheus_rules import ALERTS

pytestmark = [pytest.mark.services, pytest.mark.timeout(400)]

OTHER = "11010119000101009X"
# Labelled counters that have no series before the first event.
BEFORE_EVENTS = {"exchange_throttled_total", "exchange_watermark_timestamp_seconds"}
ELSEWHERE = {"node_filesystem_avail_bytes", "node_filesystem_size_bytes", "up"}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Site]:
    """A site on a disk of 400 MB, which is less than a gateway should have."""
    folder = tmp_path / "site"
    folder.mkdir()
    with mounted(folder, "-t", "tmpfs", "-o", "size=400m", "tmpfs"):
        yield Site.made(folder)


@contextmanager
def mounted(where: Path, *what: str) -> Iterator[None]:
    done = subprocess.run(["mount", *what, str(where)], capture_output=True, text=True, check=False)
    if done.returncode:
        skip_or_fail(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


@contextmanager
def materialiser(site: Site, port: int) -> Iterator[None]:
    with (site.folder / "materialise.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "exchange.cli", "materialise", "--config", str(site.config)],
            env={**os.environ, "EXCHANGE_MATERIALISE__METRICS_PORT": str(port)}, stdout=log, stderr=log,
        )  # fmt: skip
    with ending(process):
        yield


@contextmanager
def node_exporter(folder: Path, port: int) -> Iterator[None]:
    """Debian's, on a machine with a disk of 16 MB that is full but for a twentieth."""
    program = shutil.which("prometheus-node-exporter")
    if program is None:
        skip_or_fail("the node exporter is missing: install Debian's package prometheus-node-exporter")
    disk, image = folder / "disk", folder / "image"
    disk.mkdir()
    image.write_bytes(bytes(16 << 20))
    subprocess.run(["/sbin/mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    command = [str(program), f"--web.listen-address=127.0.0.1:{port}", "--collector.disable-defaults"]
    with mounted(disk, "-o", "loop", str(image)), (folder / "node.log").open("wb") as log:
        (disk / "full").write_bytes(bytes(int(shutil.disk_usage(disk).free * 0.95)))
        with ending(subprocess.Popen([*command, "--collector.filesystem"], stdout=log, stderr=log)):
            until(lambda: answers(f"http://127.0.0.1:{port}/metrics"), "the node exporter did not start")
            yield


@contextmanager
def locked(site: Site, name: str) -> Iterator[None]:
    """Another process holds the write lock of one of the files."""
    with closing(sqlite.connect(site.folder / "data" / name)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            connection.execute("ROLLBACK")


class Town:
    """The gateway's side of it: what clients do."""

    def __init__(self, site: Site, gateway: Process) -> None:
        self.site, self.gateway = site, gateway
        self.window = bearer(site, gateway.url, "civil-window")

    def look(self, citizen: str = CITIZEN) -> int:
        headers = {**self.window, "Exchange-Purpose": "registry-service"}
        asked = httpx2.post(f"{self.gateway.url}/v1/citizens/view", json={"id": citizen}, headers=headers, timeout=30)
        return asked.status_code

    def push(self, rows: list[Any]) -> dict[str, Any]:
        headers = bearer(self.site, self.gateway.url, "civil-connector")
        address = f"{self.gateway.url}/v1/datasets/civil.person/records"
        told: dict[str, Any] = httpx2.post(address, json=rows, headers=headers, timeout=30).json()
        return told


def test_each_alert_fires_and_every_panel_is_answered(town: Site, tmp_path: Path) -> None:
    ports = {"exchange-materialise": free_port(), "node": free_port()}
    few = {"EXCHANGE_GATEWAY__SUBJECTS_PER_DAY_OF": '{"tax-desk": 1}'}
    with ExitStack() as stack:
        gateway = stack.enter_context(gateway_process(town, **few))
        ports["exchange-gateway"] = gateway.metrics_port
        stack.enter_context(node_exporter(tmp_path, ports["node"]))
        watching = stack.enter_context(prometheus(tmp_path / "p", ports))
        stack.enter_context(materialiser(town, ports["exchange-materialise"]))
        until(lambda: len(watching.query('up{job=~"exchange-.*"} == 1')) == 2, "the parts are not scraped")
        city = Town(town, gateway)
        _flood(watching, town)
        watching.until_fires("ExchangeDataDiskFull", "ExchangeServerDiskFull", "ExchangeWatermarkOld")
        assert city.look() == 200
        assert watching.alerts().isdisjoint({"ExchangePartDown", "ExchangeViewsSlow", "ExchangeAuditNotWritable"})
        _clients(watching, city)
        _rejects(watching, city)
        _locks(watching, city)
        _bundles(watching, city)
        _tasks(watching, city)
        _dashboards(watching)
        gateway.process.kill()
        watching.until_fires("ExchangePartDown")
        broken = [rule["name"] for rule in watching.rules() if rule["health"] == "err"]
        assert not broken, "rules that cannot be evaluated"
        assert watching.fired == set(ALERTS)


def _flood(watching: Prometheus, site: Site) -> None:
    """More messages than a materialiser reads, none of which is a record; and a source that is behind."""
    with closing(open_broker(site.settings())) as broker, closing(broker.publisher()) as publisher:
        old = Watermark(
            contract="market.registration", topic="market.registration.v1", source="market/registration", epoch=1,
            as_of=system_clock() - timedelta(days=3), offsets={},
        )  # fmt: skip
        publisher.publish(WATERMARKS_TOPIC, [old.message()])
        for _ in range(20):
            if "ExchangeLag" not in watching.fired:
                publisher.publish("civil.person.v1", [Message(b"k", b"no record", {})] * 30_000)
        watching.until_fires("ExchangeLag")


def _clients(watching: Prometheus, city: Town) -> None:
    """One that comes with tokens that are refused, and one that has seen all it may see today."""
    asked = f"{city.gateway.url}/v1/contracts"
    tax = bearer(city.site, city.gateway.url, "tax-desk")
    assert view(city.gateway.url, tax).status_code == 200
    for times in (1, 150):  # a counter grows from its first look on
        with httpx2.Client() as http:
            for _ in range(times):
                assert http.get(asked, headers={"Authorization": "Bearer x"}).status_code == 401
                assert view(city.gateway.url, tax, id=OTHER).status_code == 429
        until(lambda: bool(watching.query("exchange_throttled_total")), "a client that is turned away is not counted")
    watching.until_fires("ExchangeTokenFailures", "ExchangeThrottled", "ExchangeHarvesting")
    labels = json.dumps([each["metric"] for each in watching.query('{__name__=~"exchange.+"}')])
    assert CITIZEN not in labels
    assert OTHER not in labels


def _rejects(watching: Prometheus, city: Town) -> None:
    assert city.push([{"id": 7}])["rejected"] == 1
    until(lambda: bool(watching.query("exchange_publish_rows_total")), "rows are not counted")
    assert city.push([{"id": 7}] * 40)["rejected"] == 40
    watching.until_fires("ExchangeRejects")


def _locks(watching: Prometheus, city: Town) -> None:
    """Somebody holds the audit log for long, then for a moment again and again; then the topics."""
    with locked(city.site, "audit.db"):
        deadline = time.monotonic() + 30
        while not {"ExchangeAuditNotWritable", "ExchangeViewsUnavailable"} <= watching.fired:
            assert city.look() == 503
            assert time.monotonic() < deadline, watching.fired
    until(lambda: city.look() == 200, "the gateway did not come back")
    for _ in range(30):  # each view waits for a lock, and for less than it takes until it is given up
        if "ExchangeViewsSlow" not in watching.fired:
            until(lambda: city.look() == 200, "the gateway did not come back")
            looking = threading.Thread(target=city.look)
            with locked(city.site, "audit.db"):
                looking.start()
                time.sleep(0.6)
            looking.join()
    watching.until_fires("ExchangeViewsSlow")
    with locked(city.site, "topics.db"):
        deadline = time.monotonic() + 40
        while "ExchangeCheckpointOld" not in watching.fired:
            assert city.look() == 200, "views go on while the broker is away"
            assert time.monotonic() < deadline
            time.sleep(0.3)


def _bundles(watching: Prometheus, city: Town) -> None:
    """A bundle comes whose decisions end in errors; then all that are in the store are damaged where they stand."""
    with (
        closing(sqlite.connect(city.site.folder / "data/store.db")) as connection,
        closing(open_store(city.site.settings(), system_clock)) as store,
    ):
        good = store.newest_bundle_version()
        wrong = _with_an_error(city.site)
        store.save_bundle(wrong.version, wrong.to_bytes())
        until(lambda: city.look() == 403, "the new bundle is not in force")
        for _ in range(10):
            assert city.look() == 403
        watching.until_fires("ExchangeDecisionErrors")
        bodies = connection.execute("SELECT version, body FROM bundles").fetchall()
        connection.execute("UPDATE bundles SET body = CAST('x' AS BLOB)")
        connection.execute("DELETE FROM bundle_applications")
        connection.execute("INSERT INTO bundle_applications (version, applied_at) VALUES (?, 0)", (good,))
        watching.until_fires("ExchangeBundleDamaged", "ExchangePolicyOld")
        connection.executemany("UPDATE bundles SET body = ?2 WHERE version = ?1", bodies)
    until(lambda: city.look() == 200, "the gateway did not take the bundle that was mended")


def _with_an_error(site: Site) -> Bundle:
    """A bundle that nobody tried: `policy apply` runs every case, and would have met the error."""
    files = read_policies(site.settings())[1]
    too_much = "forbid (principal, action, resource) when { 4503599627370496 * 4503599627370496 > 0 };"
    guardrail = parse(f'@id("too-much") @doc("Squares a great number.")\n{too_much}', "too-much")
    return Bundle.make(
        zone=files.zone, clients=files.clients.values(), purposes=files.purposes.values(),
        agreements=files.agreements.values(), terms=files.terms.values(), guardrails=[*files.guardrails, guardrail],
        schema=files.schema,
    )  # fmt: skip


def _tasks(watching: Prometheus, city: Town) -> None:
    """A table is gone under a gateway: what counts subjects breaks off each time."""
    with closing(sqlite.connect(city.site.folder / "data/store.db")) as connection:
        connection.execute("ALTER TABLE subjects_seen RENAME TO elsewhere")
        watching.until_fires("ExchangeBackgroundBreaks")
        connection.execute("ALTER TABLE elsewhere RENAME TO subjects_seen")


def _dashboards(watching: Prometheus) -> None:
    """Every query is answered, and with something: this city has seen all that they speak of."""
    silent = {query for query in grafana.queries() if not _answered(watching, query.text)}
    assert {(query.board, query.panel) for query in silent} == set()
    names = {each["metric"]["__name__"] for each in watching.query('{__name__=~"exchange_.+"}')}
    assert not _spoken_of() - names - ELSEWHERE - BEFORE_EVENTS, "rules speak of what no part serves"


def _answered(watching: Prometheus, text: str) -> bool:
    with suppress(AssertionError):
        return bool(watching.query(re.sub(r"\[(5m|1h)\]", "[2m]", text)))
    raise AssertionError(text)


def _spoken_of() -> set[str]:
    """The metrics that our rules name."""
    files = [yaml.safe_load((RULES / name).read_text("utf-8")) for name in ("recording.yml", "alerts.yml")]
    expressions = " ".join(rule["expr"] for file in files for group in file["groups"] for rule in group["rules"])
    return set(re.findall(r"\b(?:exchange|node)_[a-z0-9_]+", expressions))
