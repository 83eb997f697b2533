"""One Keycloak server over an H2 file, from the archive of pom-keycloak.xml, with the realms of deploy/keycloak.

It is started as in production but for TLS and the database, from a build that is made once (half a minute): that
start takes a third of the time of `start-dev`, which builds at each. It listens on loopback only, and its cache is
local, so that it looks for no other server.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import urllib.request
import zipfile
from pathlib import Path

from jars import resolve
from processes import PATIENCE, Process, Refused, admin_password, free_port, run, tail, wait

HERE = Path(__file__).resolve().parent
REALMS = HERE.parent / "keycloak"
SERVER = HERE.parent.parent / ".services" / "keycloak-server"  # shared by all folders of data
HEAP = "512m"
# What bin/kc.sh of the archive says, for a small server that starts soon.
JAVA = [
    f"-Xmx{HEAP}",
    "-Xms64m",
    "-XX:MaxMetaspaceSize=256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dfile.encoding=UTF-8",
    "-Duser.language=en",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
    "-Dpicocli.disable.closures=true",
    "-Dquarkus-log-max-startup-records=10000",
    "-Djava.util.concurrent.ForkJoinPool.common.threadFactory="
    "io.quarkus.bootstrap.forkjoin.QuarkusForkJoinWorkerThreadFactory",
    *(f"--add-opens=java.base/java.{each}=ALL-UNNAMED" for each in ("util", "util.concurrent", "security", "lang")),
]
BUILD = ["build", "--db=dev-file"]


class Keycloak:
    """Its data, port, pid, log and the password of its user `admin` are in `folder/keycloak`."""

    name = "keycloak"

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "keycloak"
        self.process = Process(self.folder / "pid")
        self.log = self.folder / "server.log"

    def lines(self, product: bool) -> dict[str, str]:
        """The variables that name it: the product's setting with the realm's issuer, or the tests' variable."""
        where = f"127.0.0.1:{(self.folder / 'port').read_text()}"
        if product:
            issuer = {"issuer": f"http://{where}/realms/city", "name": "https://issuer.exchange.invalid"}
            return {"EXCHANGE_ISSUERS": json.dumps([issuer], separators=(",", ":"))}
        return {"EXCHANGE_TEST_KEYCLOAK": f"http://admin:{admin_password(self.folder)}@{where}"}

    def start(self) -> None:
        """Start it, import the realms that it has not yet, and wait until it answers. Raises Refused."""
        java = shutil.which("java")
        if java is None:
            raise Refused("Keycloak needs Java 17 or newer: install Debian's package openjdk-17-jre-headless")
        server = _server(java)
        home = self.folder / "home"
        (home / "data" / "import").mkdir(parents=True, exist_ok=True)
        for part in ("conf", "lib", "providers", "themes"):
            with contextlib.suppress(FileExistsError):
                (home / part).symlink_to(server / part)
        for realm in REALMS.glob("*.json"):
            shutil.copyfile(realm, home / "data" / "import" / realm.name)
        port = free_port(self.folder / "port")
        url = f"http://127.0.0.1:{port}"
        options = [f"--http-port={port}", "--http-host=127.0.0.1", "--http-enabled=true", f"--hostname={url}"]
        options += ["--hostname-backchannel-dynamic=true"]  # as docker-compose.yml has it
        options += ["--cache=local", f"--db-url=jdbc:h2:file:{home}/data/h2;NON_KEYWORDS=VALUE", "--import-realm"]
        admin = {"KC_BOOTSTRAP_ADMIN_USERNAME": "admin", "KC_BOOTSTRAP_ADMIN_PASSWORD": admin_password(self.folder)}
        command = [*_program(java, home), "start", "--optimized", *options]
        self.process.start(command, self.log, env={**os.environ, **admin})
        ready = f"{url}/realms/city/.well-known/openid-configuration"
        if not wait(lambda: self.process.running() is None or _serves(ready), PATIENCE):
            self.stop()
        if self.process.running() is None:
            raise Refused(f"Keycloak did not start; the end of {self.log}:\n{tail(self.log)}")

    def stop(self) -> None:
        """Stop it and wait for its end."""
        self.process.stop(signal.SIGTERM)


def _server(java: str) -> Path:
    """The server's folder, fetched, unpacked and built once for all folders of data. Raises Refused."""
    SERVER.mkdir(parents=True, exist_ok=True)
    pom, built, archive = HERE / "pom-keycloak.xml", SERVER / "built", SERVER / "archive"
    made = pom.read_text() + "\n".join(BUILD)
    with (SERVER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists() or built.read_text() != made:
            resolve(pom, archive)
            for old in SERVER.glob("keycloak-*"):
                shutil.rmtree(old)
            (packed,) = archive.glob("*.zip")
            with zipfile.ZipFile(packed) as opened:
                opened.extractall(SERVER)
            (unpacked,) = SERVER.glob("keycloak-*")
            for script in unpacked.glob("bin/*.sh"):
                script.chmod(0o755)  # which zipfile does not
            done = run([*_program(java, unpacked), *BUILD])
            if done.returncode:
                raise Refused(f"Keycloak could not be built:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
            built.write_text(made)
            shutil.rmtree(archive)
    (server,) = SERVER.glob("keycloak-*")
    return server


def _program(java: str, home: Path) -> list[str]:
    where = [f"-Dkc.home.dir={home}", f"-Djboss.server.config.dir={home}/conf"]
    return [java, *JAVA, *where, "-cp", f"{home}/lib/quarkus-run.jar", "io.quarkus.bootstrap.runner.QuarkusEntryPoint"]


def _serves(address: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=2) as answer:  # noqa: S310 loopback
        return bool(answer.status == 200)
    return False
