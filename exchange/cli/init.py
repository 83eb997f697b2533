"""`exchange init`: the settings file, the keys, and a secret for each client of the built-in issuer."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from exchange.audit.keys import Signer
from exchange.cli.options import CONFIG, Config, say
from exchange.errors import SettingWrong
from exchange.files import owned_as_folder, synced
from exchange.settings import Settings, read_table
from exchange.wiring import client_secret

app = typer.Typer()

PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,100}")

SETTINGS = """\
# Exchange's settings; docs/reference/settings.md has all of them. Paths are taken from this file's folder.
city = "Lanting"
timezone = "Asia/Shanghai"
schemas = "{schemas}"
policies = "{policies}"
connectors = "connectors.d"

[broker]
url = "sqlite:///data/topics.db"          # or kafka://host:port,host:port

[store]
url = "sqlite:///data/store.db"           # or postgresql://user@host/database

[gateway]
host = "127.0.0.1"
port = {port}
metrics_port = {gateway_metrics}

[materialise]
metrics_port = {materialise_metrics}

# The built-in token issuer, for one machine; with [[issuers]] any OIDC issuer takes its place.
[dev_issuer]
enabled = true
"""


@app.command()
def init(
    config: Config = CONFIG,
    schemas: Annotated[Path, typer.Option(help="The folder of contracts.")] = Path("schemas"),
    policies: Annotated[Path, typer.Option(help="The folder of policies.")] = Path("policies"),
) -> None:
    """Make what is missing: settings, keys (mode 0600), folders, clients' secrets. What exists is left as it is."""
    for made in initialise(config, schemas, policies):
        say(f"made {made}")


def initialise(
    config: Path,
    schemas: Path,
    policies: Path,
    *,
    port: int = 8080,
    gateway_metrics: int = 9464,
    materialise_metrics: int = 9465,
) -> list[Path]:
    """Make what is missing beside the settings file; return what was made. Raises SettingWrong."""
    made = []
    config.parent.mkdir(parents=True, exist_ok=True)
    if not config.exists():
        config.write_text(
            SETTINGS.format(
                schemas=schemas,
                policies=policies,
                port=port,
                gateway_metrics=gateway_metrics,
                materialise_metrics=materialise_metrics,
            ),
            "utf-8",
        )
        made.append(config)
    settings = Settings.load(config)
    instances = settings.path(settings.connectors)
    if not instances.exists():
        instances.mkdir(parents=True)
        made.append(instances)
    for reference, content in (
        (settings.keys.bus, random_secret),
        (settings.keys.audit, random_secret),
        (settings.keys.signing, _signing_key),
        (settings.dev_issuer.key, _signing_key),
    ):
        file = settings.secret_file(reference)
        if file is not None and not file.exists():
            write_private(file, content())
            made.append(file)
    if settings.dev_issuer.enabled:
        made += _clients(settings)
    return made


def write_private(file: Path, content: bytes) -> None:
    """Write a file that only its owner can read; it must not exist yet."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    owned_as_folder(file)
    synced(file.parent)


def _clients(settings: Settings) -> list[Path]:
    """A secret for each client that clients.toml knows from the built-in issuer; the issuer keeps the hashes."""
    listed = settings.path(settings.policies) / "clients.toml"
    file = settings.path(settings.dev_issuer.clients)
    if file.exists() or not listed.exists():
        return []
    try:
        clients = tomllib.loads(listed.read_text("utf-8"))["clients"]
        ours = [each for each in clients if each["issuer"] == settings.dev_issuer.issuer and "struck" not in each]
        names = sorted({str(each["client_id"]) for each in ours})
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingWrong(f"policies: {listed} cannot be read; `exchange policy test` says why") from None
    made, lines = [], ["# The clients of the built-in issuer and the hashes of their secrets.\n"]
    for name in names:
        made.append(client_secret(settings, name))
        lines.append(_secret_of(settings, name))
    write_private(file, "\n".join(lines).encode())
    return [*made, file]


def check_secrets(settings: Settings, name: str) -> Mapping[str, Any]:
    """The clients that the built-in issuer knows, if one of this name can be added. Raises SettingWrong."""
    file = settings.path(settings.dev_issuer.clients)
    if not PLAIN_NAME.fullmatch(name):
        raise SettingWrong("the built-in issuer's clients are named in letters, digits, hyphens and underscores")
    known = read_table(file, "`exchange init` makes one").get("clients", {}) if file.exists() else {}
    if not isinstance(known, dict):
        raise SettingWrong(f"{file}: [clients] is no table")
    return known


def add_secret(settings: Settings, name: str) -> list[Path]:
    """A secret for one more client of the built-in issuer, which knows it when its gateway starts again.

    What was made; nothing if it has one. Raises SettingWrong.
    """
    file, secret = settings.path(settings.dev_issuer.clients), client_secret(settings, name)
    known = check_secrets(settings, name)
    if secret.exists() or name in known:
        return []
    text = _secret_of(settings, name)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as handle:
        handle.write(f"\n{text}".encode())
        handle.flush()
        os.fsync(handle.fileno())
    return [secret, file]


def _secret_of(settings: Settings, name: str) -> str:
    """Make a client's secret; what the issuer keeps of it."""
    secret = secrets.token_urlsafe(32)
    write_private(client_secret(settings, name), secret.encode())
    return f'[clients.{name}]\nsecret = "sha256:{hashlib.sha256(secret.encode()).hexdigest()}"\n'


def random_secret() -> bytes:
    """256 random bits, as text."""
    return secrets.token_urlsafe(32).encode()


def _signing_key() -> bytes:
    return Signer.generate().pem()
