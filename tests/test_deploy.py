"""docker-compose.yml is well-formed, and what it names is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from exchange.cli import build
from exchange.settings import Settings

ROOT = Path(__file__).parent.parent
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
OURS = [name for name, service in COMPOSE["services"].items() if service.get("image") == "exchange:local"]


def test_it_keeps_the_compose_specification() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("service", OURS)
def test_every_part_runs_a_command_that_exists(service: str) -> None:
    import typer.main

    command = typer.main.get_command(build())
    for word in COMPOSE["services"][service]["command"]:
        command = command.commands[word]  # type: ignore[attr-defined]


@pytest.mark.parametrize("service", OURS)
def test_what_is_mounted_is_there_or_made_by_init(service: str) -> None:
    for volume in COMPOSE["services"][service]["volumes"]:
        where = volume.split(":")[0]
        assert (ROOT / where).exists() or where == "./deploy/compose/keys"


def test_its_settings_load_and_do_not_trust_the_built_in_issuer() -> None:
    settings = Settings.load(ROOT / "deploy/compose/exchange.toml")
    assert not settings.dev_issuer.enabled
    assert settings.issuers


def test_the_image_copies_what_is_there() -> None:
    for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = [word for word in line.split()[1:] if not word.startswith("--")]
            assert all((ROOT / source).exists() for source in sources), line


def test_the_page_shows_the_configuration_of_nginx_that_is_tested() -> None:
    page, tested = ((ROOT / name).read_text("utf-8") for name in ("docs/http.md", "deploy/nginx/exchange.conf"))
    (shown,) = re.findall(r"```nginx\n(.*?)```", page, re.DOTALL)
    assert "Client-Cert $exchange_client_cert" in shown
    assert shown in tested
