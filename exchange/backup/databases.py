"""One database into a file, and back: SQLite by its own online copy, PostgreSQL by its own pg_dump.

Each is consistent in itself and is taken while everything runs. What stood where one is put back is moved aside and
never removed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg

from exchange import sqlite
from exchange.errors import Conflict, SettingWrong, StoreUnavailable
from exchange.files import owned_as_folder, synced
from exchange.store.database import postgres_parameters

_SERVICE = "exchange"
_SIDES = ("", "-wal", "-shm")  # a SQLite database and what belongs to it


class SqliteFile:
    """A database in a file. The copy is one file without a log beside it."""

    suffix = "db"

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """Whether there is anything to save."""
        return self.path.exists()

    def save(self, target: Path) -> None:
        """Copy what is committed now; writers go on meanwhile. Raises StoreUnavailable."""
        try:
            with closing(sqlite.connect(self.path)) as source, closing(sqlite.connect(target)) as copy:
                source.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE").fetchone()
        except sqlite.dbapi2.Error as error:
            raise StoreUnavailable(f"{self.path} cannot be copied: {error}") from None

    @staticmethod
    def problems(saved: Path) -> list[str]:
        """What SQLite finds wrong with a saved file (integrity_check), three things at most."""
        try:
            with closing(sqlite.connect(saved, readonly=True)) as opened:
                found = [str(row[0]) for row in opened.execute("PRAGMA integrity_check(3)")]
        except sqlite.dbapi2.Error as error:
            found = [str(error)]
        return [] if found == ["ok"] else found

    def occupied(self) -> str | None:
        """What stands where it would be put back."""
        return next((str(file) for file in self._sides() if file.exists()), None)

    def move_aside(self, mark: str) -> str | None:
        """Give what stands there another name; which. A log without its file goes too: it would be played back."""
        if self.occupied() is None:
            return None
        for file, aside in zip(self._sides(), self._sides(f".{mark}"), strict=True):
            if file.exists():
                file.rename(aside)
        synced(self.path.parent)
        return f"{self.path}.{mark}"

    def move_back(self, mark: str) -> None:
        """What `move_aside` did, undone where the place is empty."""
        for file, aside in zip(self._sides(), self._sides(f".{mark}"), strict=True):
            if aside.exists() and not file.exists():
                aside.rename(file)
        synced(self.path.parent)

    def _sides(self, more: str = "") -> list[Path]:
        return [self.path.with_name(f"{self.path.name}{more}{side}") for side in _SIDES]

    def stage(self, saved: Path) -> Path:
        """Bring a saved file beside the place where it will be, durably: room for it is there then."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(prefix=f".{self.path.name}-", dir=self.path.parent)
        try:
            with os.fdopen(handle, "wb") as target, saved.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)
                target.flush()
                os.fsync(target.fileno())
            owned_as_folder(Path(name))
        except BaseException:
            os.unlink(name)
            raise
        return Path(name)

    def put_back(self, staged: Path) -> None:
        """Give what was staged its name, in the empty place. Raises Conflict."""
        try:
            if (standing := self.occupied()) is not None:
                raise Conflict(f"{standing} stands there again: something was started")
            os.link(staged, self.path)  # and not over anything
        finally:
            staged.unlink()
        synced(self.path.parent)


class PostgresDatabase:
    """A database of PostgreSQL. Needs pg_dump and pg_restore (Debian: postgresql-client), not older than the server."""

    suffix = "dump"

    def __init__(self, url: str, options: Mapping[str, Any], ours: Sequence[str]) -> None:
        """`ours`: the names of the tables that may be there."""
        self._parameters = {
            name: value for name, value in postgres_parameters(url, options).items() if name != "options"
        }
        self._ours = ours

    def exists(self) -> bool:
        """Whether there is anything to save."""
        return bool(self._tables())

    def save(self, target: Path) -> None:
        """Dump it as it is now, in one snapshot. Raises SettingWrong, StoreUnavailable."""
        # Of other schemas none is ours but what a restore has set aside.
        self._run("pg_dump", "--format=custom", "--no-owner", "--no-privileges", "--schema=public", f"--file={target}")
        target.chmod(0o600)

    @staticmethod
    def problems(saved: Path) -> list[str]:
        """What pg_restore finds wrong with a dump when it reads all of it."""
        done = _program("pg_restore", ["--file=/dev/null", str(saved)], {})
        return done.stderr.strip().splitlines()[:3] if done.returncode else []

    def occupied(self) -> str | None:
        """What stands where it would be put back. Raises Conflict if it is not ours alone."""
        found = self._tables()
        foreign = sorted(name for name in found if name not in self._ours and not self._is_partition(name))
        if foreign:
            raise Conflict(
                f"the database holds tables that are not Exchange's ({foreign[0]}): restore into an empty one"
            )
        return f"the database {self._parameters.get('dbname', '')}" if found else None

    def move_aside(self, mark: str) -> str | None:
        """Give the schema of what stands there another name; which."""
        if self.occupied() is None:
            return None
        aside = f"public_{mark}"
        with self._connection() as connection:
            connection.execute(f'ALTER SCHEMA public RENAME TO "{aside}"')
            connection.execute("CREATE SCHEMA public")
        return f"schema {aside}"

    def move_back(self, mark: str) -> None:
        """What `move_aside` did, undone where nothing stands in its place."""
        aside = f"public_{mark}"
        with self._connection() as connection:
            there = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (aside,)).fetchone()
        if there is not None and not self._tables():
            with self._connection() as connection:
                connection.execute("DROP SCHEMA public")
                connection.execute(f'ALTER SCHEMA "{aside}" RENAME TO public')

    def stage(self, saved: Path) -> Path:
        """Nothing to do: the dump is read where it is."""
        return saved

    def put_back(self, staged: Path) -> None:
        """Restore a dump into the empty database, all of it or nothing. Raises SettingWrong, StoreUnavailable."""
        name = str(self._parameters.get("dbname", ""))
        self._run(
            "pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction", "--schema=public",
            f"--dbname={name}", str(staged),
        )  # fmt: skip

    def others(self) -> int:
        """How many processes of Exchange are connected."""
        asked = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND application_name = %s"
        )
        with self._connection() as connection:
            (count,) = connection.execute(asked, (self._parameters["application_name"],)).fetchone() or (0,)
        return int(count)

    def _is_partition(self, name: str) -> bool:
        return any(name.startswith(f"{each}_") for each in self._ours)

    def _tables(self) -> set[str]:
        with self._connection() as connection:
            return {
                name for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            }

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with psycopg.connect(**self._parameters) as connection:
                yield connection
        except psycopg.Error as error:
            text = (error.diag.message_primary or type(error).__name__) if error.diag else type(error).__name__
            raise StoreUnavailable(f"PostgreSQL: {text}") from None

    def _run(self, program: str, *arguments: str) -> None:
        """The password travels in a file that only we can read, never on a command line (libpq, service files)."""
        with tempfile.TemporaryDirectory() as folder:
            service = Path(folder) / "service.conf"
            service.touch(mode=0o600)
            lines = [f"{name}={value}" for name, value in self._parameters.items()]
            service.write_text("\n".join([f"[{_SERVICE}]", *lines, ""]), "utf-8")
            done = _program(program, arguments, {"PGSERVICEFILE": str(service), "PGSERVICE": _SERVICE})
        if done.returncode:
            told = (done.stderr.strip().splitlines() or ["it gives no reason"])[0]
            raise StoreUnavailable(f"{program}: {told}")


def _program(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs to its end. Raises SettingWrong if it is not installed."""
    found = shutil.which(name)
    if found is None:
        raise SettingWrong(f"{name} is not installed: Debian's package postgresql-client has it")
    return subprocess.run(  # noqa: S603 our own arguments, no shell
        [found, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
