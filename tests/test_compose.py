"""docker-compose.yml and the Dockerfile, without a container engine: what they name is there, and works as it is named.

The last tests run the programs themselves with what the files give them: nginx in front of two gateways, the scripts of
deploy/compose, and the image's steps in a folder.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psycopg
import pytest
from typer.testing import CliRunner

from exchange.cli import client
from exchange.cli.token import fetch
from exchange.settings import IssuerSettings, Settings
from tests.support import compose
from tests.support.keycloak import Keycloak
from tests.support.nginx import nginx
from tests.support.services import skip_or_fail
from tests.support.site import ROOT, Site, free_port, gateway_process

COMPOSE = compose.load()
SERVICES = COMPOSE["services"]
SETTINGS = "./deploy/compose/exchange.toml:/etc/exchange/exchange.toml"


def run(*command: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    """What it said and how it ended."""
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=180, **more)


def test_it_keeps_the_compose_specification() -> None:
    checked = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yml"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout


def test_all_that_it_names_is_there() -> None:
    assert compose.problems(COMPOSE) == []


def change(service: str, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["services"][service].update(changes)


WRONG: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "a path": (change("prometheus", volumes=["./deploy/prom:/etc/prometheus:ro"]), "./deploy/prom does not exist"),
    "a volume": (change("postgres", volumes=["pg:/var/lib/postgresql/data"]), "there is no volume pg"),
    "no version": (change("grafana", image="grafana/grafana:latest"), "names no version"),
    "another version": (change("kafka-2", image="apache/kafka:4.0.0"), "is not the version that is tried"),
    "a command": (change("materialise-1", command=["materialize"]), "there is no command materialize"),
    "half a command": (change("apply", command=["policy"]), "a command is missing"),
    "an instance": (
        change("connector-registration", command=["connector", "run", "/etc/exchange/x.toml"]), "no instance file"
    ),
    "a setting": (change("apply", environment={"EXCHANGE_STORE__URI": "x"}), "EXCHANGE_STORE__URI is no setting"),
    "one name twice": (
        change("gateway-2", environment={"EXCHANGE_AUDIT__WRITER": "gateway-1"}), "one name in the audit log"
    ),
    "a variable": (
        change("grafana", environment={"GF_SECURITY_ADMIN_PASSWORD": "${GRAFANA_SECRET:?}"}), "does not have GRAFANA_S"
    ),
    "a password": (change("grafana", environment={"GF_SECURITY_ADMIN_PASSWORD": "admin"}), "is written out"),
    "a host": (change("clients", command=["http://idp:8080", "/public-keys"]), "nobody listens at idp:8080"),
    "a port": (change("clients", command=["http://keycloak:8081", "/public-keys"]), "nobody listens at keycloak:8081"),
    "everybody": (change("grafana", ports=["0.0.0.0:3000:3000"]), "open to everybody"),
    "a published port": (change("grafana", ports=["127.0.0.1:3000:3001"]), "nobody listens at 3001"),
    "a root to write": (change("gateway-1", read_only=False), "may write to its root"),
    "keys to write": (
        change("apply", volumes=["keys:/etc/exchange/keys", SETTINGS]),
        "may write keys",
    ),
    "no data": (
        change("gateway-1", volumes=["keys:/etc/exchange/keys:ro", SETTINGS]),
        "/var/lib/exchange is no volume",
    ),
    "a dependency": (
        change("nginx", depends_on={"gateway": {"condition": "service_healthy"}}), "depends on gateway, which is none"
    ),
    "no health": (
        change("nginx", depends_on={"prometheus": {"condition": "service_healthy"}}), "never tells that it is well"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_found(what: str) -> None:
    spoil, told = WRONG[what]
    document = copy.deepcopy(COMPOSE)
    spoil(document)
    assert any(told in problem for problem in compose.problems(document)), compose.problems(document)


def test_settings_of_the_city_fit_each_other() -> None:
    settings = compose.settings()
    assert not settings.dev_issuer.enabled
    (issuer,) = settings.issuers
    assert settings.broker.replication == 3
    listed = (ROOT / "policies/clients.toml").read_text("utf-8")
    assert f'issuer = "{issuer.listed}"' in listed
    realm = json.loads((ROOT / "deploy/keycloak/city-realm.json").read_text("utf-8"))
    known = {each["clientId"] for each in realm["clients"]}
    assert set(SERVICES["init"]["command"]) <= known, "each key that is made is one of a client of the realm"
    assert issuer.issuer == f"{SERVICES['keycloak']['environment']['KC_HOSTNAME']}/realms/{realm['realm']}"
    for instance in compose.instances().values():
        assert instance["registry"]["issuer"] == issuer.issuer
        assert instance["registry"]["client_id"] in SERVICES["init"]["command"]


def test_the_image_copies_what_is_there_and_the_builder_gets_it() -> None:
    let_through = {
        line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")
    }
    copied: set[str] = set()
    for line in (ROOT / "Dockerfile").read_text("utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            *sources, _ = [word for word in line.split()[1:] if not word.startswith("--")]
            copied |= set(sources)
    assert all((ROOT / source).exists() for source in copied)
    assert copied == let_through


# --- the image --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_images_steps_make_a_program_that_needs_nothing_of_this_folder(tmp_path: Path) -> None:
    """What the first stage does: copy, sync, copy, sync without the folder. It has all it needs inside."""
    app, etc = tmp_path / "app", tmp_path / "etc"
    app.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("EXCHANGE_", "VIRTUAL_ENV"))}
    environment |= {"UV_LINK_MODE": "copy", "UV_PYTHON_DOWNLOADS": "never", "UV_PYTHON": sys.executable}
    _, first, _ = (ROOT / "Dockerfile").read_text("utf-8").split("\nFROM ")
    for line in first.splitlines():
        word, _, rest = line.partition(" ")
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                goal = app / (source if target == "./" else target)
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, goal, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copyfile(ROOT / source, goal)
        elif rest.startswith("uv "):
            command = [str(ROOT / ".uv/bin/uv"), *rest.split()[1:]]
            done = run(*command, cwd=app, env=environment)
            assert done.returncode == 0, done.stderr
    for folder in ("exchange", "connectors", "gateway"):
        shutil.rmtree(app / folder)  # the second stage has the environment alone
    for folder in ("schemas", "policies"):
        shutil.copytree(ROOT / folder, etc / folder)
    shutil.copyfile(ROOT / "deploy/compose/exchange.toml", etc / "exchange.toml")
    environment["EXCHANGE_CONFIG"] = str(etc / "exchange.toml")
    program = str(app / ".venv/bin/exchange")
    for command in (["--help"], ["policy", "test"], ["gateway", "--help"], ["connector", "run", "--help"], ["init"]):
        done = run(program, *command, cwd=tmp_path, env=environment)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
    sqlite = {"EXCHANGE_BROKER__URL": "sqlite:///t.db", "EXCHANGE_STORE__URL": "sqlite:///s.db"}
    done = run(program, "policy", "apply", cwd=tmp_path, env=environment | sqlite)
    assert done.returncode == 0, (done.stdout, done.stderr)


# --- its scripts ------------------------------------------------------------------------------------------------------


PASSWORD = 'it\'s "odd" $HOME'


@pytest.mark.services
def test_keycloak_gets_a_database_of_its_own(fresh_postgres: Callable[[], str], tmp_path: Path) -> None:
    url = fresh_postgres()
    parts = urlsplit(url)
    psql = shutil.which("psql")
    if psql is None:
        skip_or_fail("psql is missing: install Debian's package postgresql-client")
    script = (ROOT / "deploy/compose/postgres-keycloak.sh").read_text("utf-8")
    own = f"keycloak_{tmp_path.name[-8:].strip('_').lower()}"
    (tmp_path / "script.sh").write_text(
        script.replace("ROLE keycloak", f"ROLE {own}").replace(
            "DATABASE keycloak OWNER keycloak", f"DATABASE {own} OWNER {own}"
        )
    )
    environment = {
        **os.environ, "PGHOST": str(parts.hostname), "PGPORT": str(parts.port), "PGPASSWORD": str(parts.password),
        "POSTGRES_USER": str(parts.username), "POSTGRES_DB": parts.path[1:], "KEYCLOAK_DB_PASSWORD": PASSWORD,
    }  # fmt: skip
    done = run("bash", tmp_path / "script.sh", env=environment)
    assert done.returncode == 0, done.stderr
    try:
        with psycopg.connect(
            host=parts.hostname, port=parts.port, user=own, password=environment["KEYCLOAK_DB_PASSWORD"], dbname=own
        ) as connection:
            connection.execute("CREATE TABLE mine (n int)")
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {own}")  # type: ignore[arg-type]
            connection.execute(f"DROP ROLE {own}")  # type: ignore[arg-type]


@pytest.mark.services
@pytest.mark.timeout(300)
def test_the_realm_is_told_the_keys_that_were_made(
    keycloak_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`init.sh`'s two commands, then `keycloak-clients.sh` with the kcadm.sh of the same Keycloak."""
    monkeypatch.setattr(client, "load", Settings.load)
    site = Site.made(tmp_path / "site")
    keys = tmp_path / "public-keys"
    keys.mkdir()
    names = [name for name in SERVICES["init"]["command"] if name != "tax-desk"]  # another test has that one
    for name in names:
        told = CliRunner().invoke(client.app, ["key", name, "-c", str(site.config)])
        (keys / f"{name}.json").write_text(told.stdout, "utf-8")
    keycloak = Keycloak(keycloak_url)
    (kcadm,) = (ROOT / ".services/keycloak-server").glob("keycloak-*/bin/kcadm.sh")
    environment = {
        **os.environ, "KCADM": f"{tmp_path}/kcadm", "KEYCLOAK_ADMIN_PASSWORD": str(urlsplit(keycloak_url).password),
    }  # fmt: skip
    (tmp_path / "kcadm").write_text(f'#!/bin/sh\nexec bash {kcadm} "$@"\n')  # a zip file keeps no modes
    (tmp_path / "kcadm").chmod(0o755)
    command = ["bash", str(ROOT / "deploy/compose/keycloak-clients.sh"), keycloak.root, str(keys)]
    done = run(*command, env=environment)
    assert done.returncode == 0, (done.stdout, done.stderr)
    issuer = IssuerSettings(issuer=keycloak.issuer(), name="https://issuer.exchange.invalid")
    trusting = site.settings(dev_issuer={"enabled": False}).model_copy(update={"issuers": [issuer]})
    for name in names:
        assert fetch(trusting, name)["access_token"]
    (keys / "nobody.json").write_text('{"keys": []}')
    failed = run(*command, env=environment)
    assert failed.returncode == 1
    assert "no client nobody" in failed.stderr


@pytest.mark.parametrize(("status", "well"), [(200, True), (503, False)])
def test_keycloaks_health_is_what_it_says(status: int, well: bool) -> None:
    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Health) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        _, *command = SERVICES["keycloak"]["healthcheck"]["test"]
        line = command.pop().replace("/9000", f"/{server.server_port}").replace("$$", "$")
        assert (subprocess.run([*command, line], check=False, timeout=10).returncode == 0) is well


# --- its servers ------------------------------------------------------------------------------------------------------


@pytest.mark.services
def test_a_gateway_that_is_gone_is_not_missed_behind_nginx(tmp_path: Path) -> None:
    site, port = Site.made(tmp_path / "site"), free_port()
    with ExitStack() as stack:
        first, second = (stack.enter_context(gateway_process(site, f"gateway-{n}")) for n in (1, 2))
        conf = (ROOT / "deploy/nginx/gateways.conf").read_text("utf-8")
        for name, gateway in (("gateway-1", first), ("gateway-2", second)):
            conf = conf.replace(f"{name}:8080", f"127.0.0.1:{gateway.port}")
        stack.enter_context(nginx(tmp_path / "nginx", conf.replace("listen 8080;", f"listen 127.0.0.1:{port};"), port))
        url = f"http://127.0.0.1:{port}"
        assert {httpx2.get(f"{url}/readyz").status_code for _ in range(8)} == {200}
        first.process.kill()
        first.process.wait()
        assert [httpx2.get(f"{url}/readyz").status_code for _ in range(20)] == [200] * 20
