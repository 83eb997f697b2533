"""From settings to parts: which broker, store and keys the settings name.

Used by the three wiring places only (the CLI, the connector runner, the gateway's create_app).
"""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from exchange.clock import Clock
from exchange.errors import SettingWrong
from exchange.settings import Settings
from exchange.standing import StandingName
from exchange.subjects import KeyMaker
from exchange.topics import Broker

if TYPE_CHECKING:
    from exchange.audit import AuditKeys, PublicKeys, Signer
    from exchange.metrics import OfPart
    from exchange.store import Store

SQLITE = "sqlite:///"
KAFKA = "kafka://"


def open_broker(settings: Settings, member: str | None = None) -> Broker:
    """The broker of `broker.url`: `sqlite:///path` or `kafka://host:port,host:port`. Raises SettingWrong.

    `member` is this process's name in consumer groups, if it has one that stays over restarts (`standing_name`).
    """
    url = settings.url(settings.broker.url)
    if url.startswith(SQLITE):
        from exchange.topics.sqlite import SqliteBroker  # here: one machine never loads the Kafka client

        path = Path(url.removeprefix(SQLITE))
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return SqliteBroker(path)
    if url.startswith(KAFKA):
        from exchange.kafka import KafkaBroker

        servers = url.removeprefix(KAFKA).rstrip("/")
        if "@" in servers:
            raise SettingWrong("broker.url: a log-in has no place there; broker.properties takes it (docs/broker.md)")
        if not servers or not all(":" in server for server in servers.split(",")):
            raise SettingWrong("broker.url: write kafka://host:port, several servers separated by commas")
        return KafkaBroker(servers, _properties(settings), member)
    raise SettingWrong("broker.url: must begin with sqlite:/// or kafka://")


def _properties(settings: Settings) -> dict[str, str | int | float | bool]:
    """What goes to librdkafka; a value `file:PATH` or `env:NAME` is a secret. Raises SettingWrong."""
    return {
        name: settings.secret(f"broker.properties.{name}", value).decode().strip()
        if isinstance(value, str) and value.startswith(("file:", "env:"))
        else value
        for name, value in settings.broker.properties.items()
    }


def open_store(settings: Settings, clock: Clock) -> Store:
    """The store of `store.url`: `sqlite:///path` or `postgresql://...`. Raises SettingWrong, StoreUnavailable."""
    from exchange.store import Store  # here: a connector never loads the store
    from exchange.store.database import open_engine

    return Store(open_engine(store_url(settings), settings.store.options), clock)


def spare_the_collector() -> None:
    """Let the cyclic collector leave alone what exists now, and look seldom at what comes.

    Called when a process that handles rows by the thousand is about to begin. What a batch allocates is freed by
    counting references; going through it all for nothing took a quarter of the time of each row.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


def store_url(settings: Settings) -> str:
    """The store's URL, checked; for SQLite its folder exists afterwards."""
    return _database(settings, "store.url", settings.url(settings.store.url))


def audit_url(settings: Settings) -> str:
    """The audit log's URL, checked; for SQLite its folder exists afterwards."""
    return _database(settings, "audit.url", settings.audit_url)


def key_maker(settings: Settings) -> KeyMaker:
    """The maker of subject keys, from the bus secret. Raises SettingWrong."""
    return KeyMaker(settings.keys.bus_kid, settings.secret("keys.bus", settings.keys.bus).strip())


def audit_keys(settings: Settings) -> AuditKeys:
    """The maker of the audit log's pseudonyms, from the audit secret and former ones. Raises SettingWrong."""
    from exchange.audit import AuditKeys

    keys = settings.keys
    if keys.audit_kid in keys.former_audit:
        raise SettingWrong(
            f"keys.former_audit: {keys.audit_kid} is the key id of keys.audit; a new secret has a new one"
        )
    former = {kid: settings.secret("keys.former_audit", each) for kid, each in keys.former_audit.items()}
    return AuditKeys(keys.audit_kid, settings.secret("keys.audit", keys.audit), former)


def signer(settings: Settings) -> Signer:
    """The signing key of receipts and checkpoints. Raises SettingWrong."""
    from exchange.audit import Signer

    return Signer.from_pem(settings.secret("keys.signing", settings.keys.signing))


def public_keys(settings: Settings) -> PublicKeys:
    """The public halves of the signing key and of former ones. Raises SettingWrong."""
    from exchange.audit import PublicKey, PublicKeys

    former = [settings.secret("keys.former_signing", each) for each in settings.keys.former_signing]
    return PublicKeys([signer(settings).public, *(PublicKey.from_pem(pem) for pem in former)])


def gateway_url(settings: Settings) -> str:
    """Where the gateway is, as clients see it."""
    gateway = settings.gateway
    host = f"[{gateway.host}]" if ":" in gateway.host else gateway.host
    return gateway.public_url or f"http://{host}:{gateway.port}"


def client_secret(settings: Settings, client_id: str) -> Path:
    """Where `exchange init` puts the secret of a client of the built-in issuer."""
    return settings.path(Path("keys/clients")) / client_id


def client_key(settings: Settings, client_id: str) -> Path:
    """Where `exchange client key` puts the private key of a client of another issuer."""
    return client_secret(settings, client_id).with_suffix(".pem")


def data_folder(settings: Settings) -> Path:
    """The folder of what this machine keeps, made if it is missing. Raises SettingWrong."""
    data = settings.path(settings.data)
    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SettingWrong(f"data: {data} cannot be made ({error.strerror})") from None
    if not os.access(data, os.W_OK | os.X_OK):
        raise SettingWrong(f"data: {data} cannot be written, and bodies of pushes are kept there")
    return data


def refuse_while_restoring(settings: Settings) -> None:
    """Raise SettingWrong while a backup is put back here, or where that broke off: nothing may run then."""
    from exchange.backup import RESTORING

    if (file := settings.path(settings.data) / RESTORING).exists():
        raise SettingWrong(
            f"a backup is being put back, or that broke off ({file}): run `exchange backup restore` again"
        )


def standing_name(settings: Settings, role: str) -> StandingName:
    """The standing name of this process in the `data` folder, if there can be one; the caller closes it in the end."""
    with suppress(SettingWrong):
        data_folder(settings)
    return StandingName(settings.path(settings.data), role)


@contextmanager
def metrics_listener(host: str, port: int, setting: str, part: OfPart) -> Iterator[None]:
    """GET /metrics of this part on an address of its own. Raises SettingWrong, naming the setting."""
    from prometheus_client import start_http_server

    try:
        server, thread = start_http_server(port, host, part)
    except OSError as error:
        raise SettingWrong(f"{setting}: cannot listen on {host} port {port} ({error.strerror})") from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def process_name(role: str) -> str:
    """Who owns a partition, for people who look: role, host and process id."""
    return f"{role}@{socket.gethostname()}:{os.getpid()}"


def _database(settings: Settings, name: str, url: str) -> str:
    if url.startswith(SQLITE):
        Path(url.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return url
    if url.startswith(("postgresql://", "postgres://")):
        return url
    raise SettingWrong(f"{name}: must begin with sqlite:/// or postgresql://")
