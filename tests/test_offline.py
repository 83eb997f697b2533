"""Nothing leaves the machine that was not told to: a city runs, and is installed, where there is no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.apart import TRIED, run_apart

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "attempt",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), 1)",  # RFC 5737: an address that is nobody's
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "import socket; socket.create_connection(('2001:db8::1', 80), 1)",
    ],
)
def test_an_attempt_is_noticed_even_if_it_is_swallowed(tmp_path: Path, attempt: str) -> None:
    swallowed = f"try:\n    {attempt}\nexcept OSError:\n    pass"
    assert run_apart([sys.executable, "-c", swallowed], cwd=tmp_path).returncode == TRIED


def test_loopback_is_no_attempt(tmp_path: Path) -> None:
    inside = "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname(), 1)"
    done = run_apart([sys.executable, "-c", inside], cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(300)
def test_a_city_runs_without_a_network_and_tries_none(tmp_path: Path) -> None:
    """Init, policies, connectors, materialiser, gateway, tokens, views, receipts, all of it."""
    done = run_apart(
        [sys.executable, "-m", "exchange.cli", "demo", "--once", "--json", "--dir", str(tmp_path / "demo")],
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    told = json.loads(done.stdout)
    assert told["ok"] is True
    assert len(told["steps"]) >= 11


@pytest.mark.timeout(600)
def test_the_wheelhouse_installs_without_a_network(tmp_path: Path) -> None:
    """`make wheelhouse`, and what docs/installing.md says to do with it; the command works as installed."""
    made = subprocess.run(
        ["make", "wheelhouse", "sbom", f"OUT={tmp_path}", f"PYTHON={sys.executable}"],
        cwd=ROOT, capture_output=True, text=True, env=dict(os.environ), check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    house, venv = tmp_path / "wheelhouse", tmp_path / "venv"
    told = json.loads((tmp_path / "exchange.cdx.json").read_text("utf-8"))
    assert told["bomFormat"] == "CycloneDX"
    shipped = {component["name"] for component in told["components"]}
    wheels = {file.name.partition("-")[0].replace("_", "-").lower() for file in house.glob("*.whl")}
    assert wheels - {"exchange-bus"} <= {name.lower() for name in shipped}
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    for step in (
        [str(venv / "bin/pip"), "install", "--quiet", "--no-index", "--find-links", str(house), "exchange-bus"],
        [str(venv / "bin/exchange"), "init", "-c", "city/exchange.toml", "--schemas", str(ROOT / "schemas"),
         "--policies", str(ROOT / "policies")],
        [str(venv / "bin/exchange"), "policy", "apply", "-c", "city/exchange.toml"],
        [str(venv / "bin/exchange"), "audit", "verify", "--without-checkpoints", "-c", "city/exchange.toml"],
        [str(venv / "bin/exchange"), "gateway", "--help"],
        [str(venv / "bin/exchange"), "connector", "--help"],
    ):  # fmt: skip
        done = run_apart(step, cwd=tmp_path)
        assert done.returncode == 0, (step, done.stderr, done.stdout)
