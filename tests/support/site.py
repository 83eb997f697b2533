"""A whole installation with the reference city's contracts and policies, in this process or in processes of its own."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from exchange.audit import Holder, Sealer
from exchange.cli.administration import open_audit
from exchange.cli.demo.town import free_ports
from exchange.cli.init import initialise
from exchange.cli.policy import apply_policies
from exchange.clock import system_clock
from exchange.settings import Settings
from exchange.wiring import client_secret, open_broker, public_keys, signer

ROOT = Path(__file__).parent.parent.parent
CITIZEN = "110101190001010014"


@dataclass
class Site:
    """An installation in a folder of its own, with the reference city's contracts and policies."""

    folder: Path

    @classmethod
    def made(cls, folder: Path, store: str = "sqlite:///data/store.db") -> Site:
        """Initialised, with its policies applied; nothing runs yet."""
        site = cls(folder)
        shutil.copytree(ROOT / "policies", folder / "policies")
        initialise(site.config, ROOT / "schemas", Path("policies"))
        site.config.write_text(site.config.read_text("utf-8").replace("sqlite:///data/store.db", store), "utf-8")
        apply_policies(site.settings())
        return site

    @property
    def config(self) -> Path:
        return self.folder / "exchange.toml"

    def settings(self, **changes: Any) -> Settings:
        loaded = Settings.load(self.config)
        return loaded.model_copy(
            update={name: getattr(loaded, name).model_copy(update=update) for name, update in changes.items()}
        )

    def apply(self) -> None:
        """`exchange policy apply`."""
        apply_policies(self.settings())

    def seal(self) -> None:
        """A checkpoint leaves, as the gateway's sealer sends it."""
        settings = self.settings()
        with (
            open_audit(settings) as store,
            contextlib.closing(open_broker(settings)) as broker,
            contextlib.closing(broker.publisher()) as out,
        ):
            keys, origin = public_keys(settings), settings.audit.origin
            sealer = Sealer(store, signer(settings), keys, out, origin, system_clock, Holder("test"), patience_s=0.0)
            assert sealer.step() is not None

    def strike(self, client_id: str) -> None:
        """Take a client out of clients.toml and apply."""
        file = self.folder / "policies" / "clients.toml"
        blocks = re.split(r"(?=^\[\[clients\]\])", file.read_text("utf-8"), flags=re.MULTILINE)
        kept = [block for block in blocks if f'client_id = "{client_id}"' not in block]
        assert len(kept) == len(blocks) - 1
        file.write_text("".join(kept), "utf-8")
        self.apply()


@dataclass
class Process:
    """A gateway process, with its two ports."""

    process: subprocess.Popen[bytes]
    port: int
    metrics_port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def memory(self) -> int:
        """Its resident memory now, in bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def metrics(self) -> str:
        answer = httpx2.get(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=10)
        assert answer.status_code == 200
        return answer.text


@contextlib.contextmanager
def gateway_process(site: Site, writer: str = "gateway-1", **environment: str) -> Iterator[Process]:
    """`exchange gateway` as an operator starts it; stopped with SIGTERM in the end."""
    port, metrics_port = free_ports(2)
    log = site.folder / f"{writer}.log"
    ports = {"EXCHANGE_GATEWAY__PORT": str(port), "EXCHANGE_GATEWAY__METRICS_PORT": str(metrics_port)}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "exchange.cli", "gateway", "--config", str(site.config)],
            env={**os.environ, **ports, "EXCHANGE_AUDIT__WRITER": writer, "EXCHANGE_LOG": "json", **environment},
            stdout=output,
            stderr=output,
            preexec_fn=_usual_limits,
        )
    made = Process(process, port, metrics_port, log)
    with ending(process):
        _until_ready(made)
        yield made


@contextlib.contextmanager
def ending(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Stop a process with SIGTERM in the end, and wait until it is gone."""
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()


def _usual_limits() -> None:
    """As most systems start a process: 1,024 open files, unless it asks for more."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, hard), hard))


def free_port() -> int:
    (port,) = free_ports(1)
    return port


def _until_ready(made: Process) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and made.process.poll() is None:
        with contextlib.suppress(httpx2.HTTPError):
            if httpx2.get(f"{made.url}/readyz", timeout=2).status_code == 200:
                return
        time.sleep(0.05)
    raise AssertionError(f"the gateway did not start: {made.log.read_text('utf-8')[-2000:]}")


def bearer(site: Site, url: str, client_id: str, **form: str) -> dict[str, str]:
    secret = client_secret(site.settings(), client_id).read_text("ascii")
    answer = httpx2.post(
        f"{url}/oauth/token", data={"grant_type": "client_credentials", **form}, auth=(client_id, secret)
    )
    assert answer.status_code == 200
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def view(url: str, headers: dict[str, str], **more: Any) -> httpx2.Response:
    purpose = {"Exchange-Purpose": "tax-assessment"}
    return httpx2.post(f"{url}/v1/citizens/view", json={"id": CITIZEN, **more}, headers={**purpose, **headers})
