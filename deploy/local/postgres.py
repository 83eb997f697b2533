"""One PostgreSQL cluster from the machine's own packages, with the database and superuser `exchange`."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import stat
from pathlib import Path

from processes import PATIENCE, Account, Process, Refused, answers, free_port, run, tail, wait

CONFIG = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 200
logging_collector = off
"""


class Postgres:
    """Its data, port, password, pid and log are in `folder/postgres`."""

    name = "postgres"

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "postgres"
        self.process = Process(self.folder / "pid")
        self.log = self.folder / "server.log"
        self.password = self.folder / "password"

    def lines(self, product: bool) -> dict[str, str]:
        """The variables that name it: the product's setting, or the tests' variable."""
        port, password = (self.folder / "port").read_text(), self.password.read_text().strip()
        url = f"postgresql://exchange:{password}@127.0.0.1:{port}/exchange"
        return {"EXCHANGE_STORE__URL" if product else "EXCHANGE_TEST_POSTGRES": url}

    def start(self) -> None:
        """Start it and wait until its database answers. Raises Refused."""
        programs, account = _programs(), _account()
        self.folder.mkdir(parents=True, exist_ok=True)
        if account is not None:
            _check_reachable(self.folder)
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        data = self.folder / "data"
        if not (data / "PG_VERSION").exists():
            self._initialise(programs, data, account)
        port = free_port(self.folder / "port")
        (data / "exchange.conf").write_text(CONFIG.format(port=port))
        (data / "exchange.conf").chmod(0o644)
        self.process.start([str(programs / "postgres"), "-D", str(data)], self.log, account)
        if not wait(lambda: self.process.running() is None or answers(port), PATIENCE):
            self.stop()
        if self.process.running() is None:
            raise Refused(f"PostgreSQL did not start; the end of {self.log}:\n{tail(self.log)}")
        self._make_database(programs, port)

    def stop(self) -> None:
        """Stop it and wait for its end."""
        self.process.stop(signal.SIGINT)  # "fast": sessions are ended, the data is written

    def _initialise(self, programs: Path, data: Path, account: Account | None) -> None:
        shutil.rmtree(data, ignore_errors=True)
        self.password.touch(mode=0o600)
        self.password.write_text(secrets.token_urlsafe(24) + "\n")
        if account is not None:
            os.chown(self.password, account.pw_uid, account.pw_gid)
        command = [str(programs / "initdb"), "-D", str(data), "-U", "exchange", "--pwfile", str(self.password)]
        done = run([*command, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"], account)
        if done.returncode:
            shutil.rmtree(data, ignore_errors=True)
            raise Refused(f"initdb failed:\n{done.stdout}{done.stderr}")
        with (data / "postgresql.conf").open("a") as config:
            config.write("include_if_exists 'exchange.conf'\n")

    def _make_database(self, programs: Path, port: int) -> None:
        env = dict(os.environ, PGPASSWORD=self.password.read_text().strip())
        ask = [str(programs / "psql"), "-h", "127.0.0.1", "-p", str(port), "-U", "exchange", "-d", "postgres", "-Atqc"]
        if not wait(lambda: run([*ask, "SELECT 1"], env=env).returncode == 0, PATIENCE):
            raise Refused(f"PostgreSQL does not answer; the end of {self.log}:\n{tail(self.log)}")
        if not run([*ask, "SELECT 1 FROM pg_database WHERE datname = 'exchange'"], env=env).stdout.strip():
            done = run([*ask, "CREATE DATABASE exchange"], env=env)
            if done.returncode:
                raise Refused(f"the database could not be made: {done.stderr}")


def _programs() -> Path:
    """The folder of the newest installed server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda program: int(program.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("postgres")
    if elsewhere is None:
        raise Refused("PostgreSQL is not installed: install Debian's package postgresql")
    return Path(elsewhere).parent


def _account() -> Account | None:
    """Whom to run as: PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Refused("PostgreSQL does not run as root and there is no user postgres or nobody: start it as another user")


def _check_reachable(folder: Path) -> None:
    """Another user has to reach the folder; say which of its parents is in the way."""
    for parent in folder.parents:
        if not parent.stat().st_mode & stat.S_IXOTH:
            raise Refused(f"PostgreSQL runs as another user than root and cannot enter {parent}; choose another --dir")
