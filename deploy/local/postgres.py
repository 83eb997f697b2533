"""One PostgreSQL cluster from the machine's own packages, with the database and superuser `exchange`."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import stat
import tempfile
from pathlib import Path

from processes import PATIENCE, Account, Process, Refused, answers, free_port, run, say, tail, wait

CONFIG = """\
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
max_connections = 200
logging_collector = off
"""


class Postgres:
    """Its port, pid and log are in `folder/postgres`, and so are its data and password.

    PostgreSQL does not run as root. Where root starts it and its user cannot enter that folder (a project in /root),
    data and password are in a folder of /var/tmp instead, to which `folder/postgres/elsewhere` points.
    """

    name = "postgres"

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "postgres"
        self.process = Process(self.folder / "pid")
        self.log = self.folder / "server.log"
        self.elsewhere = self.folder / "elsewhere"

    @property
    def home(self) -> Path:
        """Where data and password are."""
        return self.elsewhere.resolve() if self.elsewhere.exists() else self.folder

    def lines(self, product: bool) -> dict[str, str]:
        """The variables that name it: the product's setting, or the tests' variable."""
        port, password = (self.folder / "port").read_text(), (self.home / "password").read_text().strip()
        url = f"postgresql://exchange:{password}@127.0.0.1:{port}/exchange"
        return {"EXCHANGE_STORE__URL" if product else "EXCHANGE_TEST_POSTGRES": url}

    def start(self) -> None:
        """Start it and wait until its database answers. Raises Refused."""
        programs, account = _programs(), _account()
        self.folder.mkdir(parents=True, exist_ok=True)
        if account is not None:
            self._let_in(account)
        data = self.home / "data"
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

    def _let_in(self, account: Account) -> None:
        """Give the server's user a folder that it can enter."""
        closed = [parent for parent in self.folder.parents if not parent.stat().st_mode & stat.S_IXOTH]
        if closed and not self.elsewhere.exists():
            self.elsewhere.unlink(missing_ok=True)
            self.elsewhere.symlink_to(tempfile.mkdtemp(prefix="exchange-postgres-", dir="/var/tmp"))
        if closed:
            say(f"PostgreSQL's user {account.pw_name} cannot enter {closed[-1]}: its data is in {self.home}")
        os.chown(self.home, account.pw_uid, account.pw_gid)

    def _initialise(self, programs: Path, data: Path, account: Account | None) -> None:
        shutil.rmtree(data, ignore_errors=True)
        password = self.home / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24) + "\n")
        if account is not None:
            os.chown(password, account.pw_uid, account.pw_gid)
        command = [str(programs / "initdb"), "-D", str(data), "-U", "exchange", "--pwfile", str(password)]
        done = run([*command, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8"], account)
        if done.returncode:
            shutil.rmtree(data, ignore_errors=True)
            raise Refused(f"initdb failed:\n{done.stdout}{done.stderr}")
        with (data / "postgresql.conf").open("a") as config:
            config.write("include_if_exists 'exchange.conf'\n")

    def _make_database(self, programs: Path, port: int) -> None:
        env = dict(os.environ, PGPASSWORD=(self.home / "password").read_text().strip())
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
