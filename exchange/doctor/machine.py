"""This machine: the settings' files, the keys and their age, disk, the programs' versions."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version

from exchange import sqlite
from exchange.doctor.findings import Check, Finding, Means, Said
from exchange.errors import ExchangeError, UnsafeSQLite
from exchange.store.database import is_sqlite, sqlite_path
from exchange.wiring import audit_keys, key_maker, public_keys, signer

KEY_DAYS = 730
SPARE_SHARE = 0.05  # of a disk
SPARE_BYTES = 1 << 30


def look_at_settings(means: Means) -> Iterator[Said]:
    """Folders that the settings name, and what of them has no effect."""
    settings = means.settings
    for name, folder in (("schemas", settings.schemas), ("policies", settings.policies)):
        path = settings.path(folder)
        if not path.is_dir():
            yield Finding(f"there is no folder {path}", name, f"set {name} to the folder, or make it")
    data = settings.path(settings.data)
    if data.exists() and not os.access(data, os.W_OK | os.X_OK):
        yield Finding(
            f"{data} cannot be written", "data", "give the folder to the account that runs exchange, or set another"
        )
    if not settings.issuers and not settings.dev_issuer.enabled:
        yield Finding(
            "no issuer of tokens is named, so nobody can call the gateway",
            "issuers",
            "name an OIDC issuer under [[issuers]] (docs/identity.md)",
        )
    yield f"{settings.city}, {settings.timezone}, settings of {settings.root}"


def look_at_keys(means: Means) -> Iterator[Said]:
    """Every secret is there, readable by its owner only, of the right form; those that can be rotated are not old."""
    settings, keys = means.settings, means.settings.keys
    makers: list[tuple[str, Callable[[], object]]] = [
        ("keys.bus", lambda: key_maker(settings)),
        ("keys.audit", lambda: audit_keys(settings)),
        ("keys.signing", lambda: signer(settings)),
    ]
    if keys.former_signing:
        makers.append(("keys.former_signing", lambda: public_keys(settings)))
    if settings.dev_issuer.enabled:
        makers.append(("dev_issuer.key", lambda: settings.secret("dev_issuer.key", settings.dev_issuer.key)))
    for name, make in makers:
        try:
            make()
        except (ExchangeError, ValueError) as error:
            detail = str(error) if isinstance(error, ExchangeError) else "it is not of the form of this key"
            yield Finding(detail, name, "`exchange init` makes what is missing; chmod 600 what others can read")
    for name, reference in (("keys.bus", keys.bus), ("keys.audit", keys.audit), ("keys.signing", keys.signing)):
        days = _age_days(means, reference)
        if days is None:
            continue
        yield f"{name} is {days} days old"
        if days > KEY_DAYS and name != "keys.bus":  # another bus secret is a rebuild, so its age alone is no finding
            yield Finding(
                f"it is {days} days old, more than {KEY_DAYS}",
                name,
                f"`exchange keys rotate {name.removeprefix('keys.')}` puts a new one in its place (docs/keys.md)",
            )


def look_at_disk(means: Means) -> Iterator[Said]:
    """Room for what this machine writes: its data folder (bodies of pushes) and SQLite files."""
    settings = means.settings
    places = {"data": settings.path(settings.data)}
    for name, url in (
        ("broker.url", settings.url(settings.broker.url)),
        ("store.url", settings.url(settings.store.url)),
        ("audit.url", settings.audit_url),
    ):
        if is_sqlite(url):
            places[name] = sqlite_path(url).parent
    seen: set[int] = set()
    for name, folder in places.items():
        there = next(one for one in (folder, *folder.parents) if one.exists())
        disk = os.stat(there).st_dev
        if disk in seen:
            continue
        seen.add(disk)
        usage = shutil.disk_usage(there)
        free = f"{usage.free / (1 << 30):.1f} GiB of {usage.total / (1 << 30):.0f} are free at {there}"
        needed = max(SPARE_BYTES, settings.push.spool_bytes if name == "data" else 0)
        if usage.free < needed or usage.free < SPARE_SHARE * usage.total:
            yield Finding(f"only {free}", name, "make room: a full disk stops pushes, and SQLite's store and audit log")
        else:
            yield free


def look_at_versions(means: Means) -> Iterator[Said]:
    """The programs that run here."""
    yield (
        f"exchange {version('exchange-bus')}, Python {platform.python_version()}, "
        f"SQLite {sqlite.dbapi2.sqlite_version}, confluent-kafka {version('confluent-kafka')}"
    )
    try:
        sqlite.check_build()
    except UnsafeSQLite as unsafe:
        yield Finding(unsafe.detail, "pysqlite3", "install the wheel of the lock file")


def _age_days(means: Means, reference: str) -> int | None:
    """Days since a secret's file was written; None for one that is no file."""
    file = means.settings.secret_file(reference)
    if file is None:
        return None
    try:
        written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except OSError:
        return None
    return max(0, (means.clock() - written).days)


MACHINE = (
    Check("settings", "exchange.toml", look_at_settings),
    Check("keys", "keys", look_at_keys),
    Check("disk", "data", look_at_disk),
    Check("versions", "pysqlite3", look_at_versions),
)
