"""What a city takes on disk."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psycopg
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType  # type: ignore[attr-defined]

from exchange.cli.demo.town import Town

_BLOCK = 512


def size_of(path: Path) -> int:
    """The blocks of a file, or of all files in a folder: what is reserved and never written does not count."""
    files = [path] if path.is_file() else path.rglob("*")
    total = 0
    for file in files:
        with suppress(FileNotFoundError):  # a log that was just emptied
            total += file.lstat().st_blocks * _BLOCK
    return total


def sizes(town: Town, kafka: str | None, database: str | None) -> dict[str, int]:
    """Bytes by what they hold; a SQLite file with its -wal and -shm."""
    data = town.folder / "data"
    found = {"sources": size_of(town.folder / "offices"), "cursor files": size_of(data / "cursors")}
    for name in ("topics", "store", "audit"):
        files = list(data.glob(f"{name}.db*"))
        if files:
            found[name] = sum(map(size_of, files))
    if kafka is not None:
        for folder in log_folders(kafka):
            found["topics (Kafka's log)"] = found.get("topics (Kafka's log)", 0) + size_of(folder)
    if database is not None:
        with psycopg.connect(database) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            found["store and audit (PostgreSQL)"] = row[0] if row else 0
    found["logs"] = size_of(town.folder / "logs")
    return found


def log_folders(kafka: str) -> list[Path]:
    """The folders in which the servers of a cluster keep their logs, those that are on this machine."""
    admin = AdminClient({"bootstrap.servers": kafka})
    servers = [ConfigResource(ResourceType.BROKER, str(number)) for number in admin.list_topics(timeout=10).brokers]
    told = [answer.result(timeout=10) for answer in admin.describe_configs(servers).values()]
    folders = {Path(part) for each in told for part in (each["log.dirs"].value or each["log.dir"].value).split(",")}
    return [folder for folder in sorted(folders) if folder.is_dir()]
