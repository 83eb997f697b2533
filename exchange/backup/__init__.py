"""Backups: what a city cannot make again, in one folder, taken while everything runs.

In reading order:

    databases   one database into a file, and back
    __init__    which files belong together, and that they are still what they were

The order in which the databases are saved makes the folder consistent: the store first, then the topics, then the audit
log. So no position points behind the end of a topic, and no checkpoint covers an entry that is not there.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from exchange.backup.databases import PostgresDatabase, SqliteFile
from exchange.errors import BadRequest, Conflict
from exchange.files import synced

__all__ = ["Backup", "Database", "PostgresDatabase", "Saved", "SqliteFile", "create", "problems", "read"]

MANIFEST = "manifest.json"
RESTORING = "restoring.json"  # in the data folder while a backup is put back: no part starts
FORM = 1
_PIECE = 1 << 20
_PROBLEMS: Mapping[str, Callable[[Path], list[str]]] = {
    SqliteFile.suffix: SqliteFile.problems,
    PostgresDatabase.suffix: PostgresDatabase.problems,
}


class Database(Protocol):
    """What is saved and put back: one conformance suite, tests/test_backup.py."""

    suffix: str

    def exists(self) -> bool: ...
    def save(self, target: Path) -> None: ...
    def occupied(self) -> str | None: ...
    def move_aside(self, mark: str) -> str | None: ...
    def move_back(self, mark: str) -> None: ...
    def stage(self, saved: Path) -> Path: ...
    def put_back(self, staged: Path) -> None: ...


@dataclass(frozen=True, slots=True)
class Saved:
    """One file of a backup. `name` is store, topics or audit."""

    name: str
    file: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup's manifest says. `facts` is whatever helps to put it back, no secret and no personal value."""

    folder: Path
    made: datetime
    saved: Sequence[Saved]
    facts: Mapping[str, Any]


def create(folder: Path, databases: Mapping[str, Database], facts: Mapping[str, Any], made: datetime) -> Backup:
    """Save these databases, in this order, into a new folder; it has its name only once it is whole and durable.

    Raises Conflict if the folder exists; StoreUnavailable, SettingWrong: then there is no folder.
    """
    if folder.exists():
        raise Conflict(f"{folder} exists; a backup is never written over another")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f".{folder.name}.partial")
    partial.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise Conflict(f"another backup is being made in {folder}") from None
    try:
        for left in partial.iterdir():  # of one that was killed
            left.unlink()
        saved = []
        for name, database in databases.items():
            if database.exists():
                file = partial / f"{name}.{database.suffix}"
                database.save(file)
                saved.append(Saved(name, file.name, *_measured(file)))
                synced(file)
        document = {
            "form": FORM,
            "made": made.isoformat(),
            "saved": [asdict(each) for each in saved],
            "facts": dict(facts),
        }
        manifest = partial / MANIFEST
        manifest.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", "utf-8")
        manifest.chmod(0o600)
        synced(manifest)
        synced(partial)
        partial.rename(folder)
        synced(folder.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        os.close(handle)
    return read(folder)


def read(folder: Path) -> Backup:
    """The backup in this folder. Raises BadRequest if there is none, or one of a newer version."""
    try:
        document = json.loads((folder / MANIFEST).read_text("utf-8"))
        form, made = document["form"], datetime.fromisoformat(document["made"])
        if made.tzinfo is None:
            raise ValueError("a time without a zone")  # noqa: TRY301
        saved = [Saved(**each) for each in document["saved"]]
        facts = dict(document["facts"])
        sound = all(
            each.name.isalpha()
            and each.file == f"{each.name}.{each.file.rpartition('.')[2]}"
            and each.file.rpartition(".")[2] in _PROBLEMS
            for each in saved
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadRequest(f"{folder} is no backup: its {MANIFEST} is missing or damaged") from None
    if form != FORM:
        raise BadRequest(f"{folder} is a backup of another version of this program (form {form}, not {FORM})")
    if not sound:
        raise BadRequest(f"{folder} is no backup: its {MANIFEST} names files that no backup has")
    return Backup(folder, made, saved, facts)


def problems(backup: Backup) -> list[str]:
    """What is wrong with a backup: files that are missing, changed, or damaged inside. Empty: it can be put back."""
    found = []
    for each in backup.saved:
        file = backup.folder / each.file
        if not file.is_file() or file.is_symlink():
            found.append(f"{each.file} is missing")
        elif _measured(file) != (each.bytes, each.sha256):
            found.append(f"{each.file} is not what was saved: its length or its SHA-256 differs")
        else:
            found += [f"{each.file}: {what}" for what in _PROBLEMS[file.suffix[1:]](file)]
    return found


def _measured(file: Path) -> tuple[int, str]:
    hashed, size = hashlib.sha256(), 0
    with file.open("rb") as stream:
        while piece := stream.read(_PIECE):
            hashed.update(piece)
            size += len(piece)
    return size, hashed.hexdigest()
