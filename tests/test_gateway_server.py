"""The process: two listeners, a clean stop that answers what is under way, and a start that says why it failed."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from exchange.errors import SettingWrong
from gateway.server import bind

SCRIPT = """
import asyncio, contextlib, sys
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from exchange import logs
from exchange.errors import Fenced
from exchange.settings import Settings
from gateway import server
from gateway.limits import Edge

async def slow(request):
    await asyncio.sleep(1)
    return PlainTextResponse("late but whole")

@contextlib.asynccontextmanager
async def life(app):
    if "fail" in sys.argv:
        raise Fenced("110101190001010014 is not in the log")
    print("open", flush=True)
    yield
    print("closed", flush=True)

def make(settings):
    print(settings.gateway.port, settings.gateway.metrics_port, flush=True)
    return Edge(Starlette(routes=[Route("/slow", slow)], lifespan=life))

logs.configure("json")
try:
    server.run(Settings(gateway={"port": 0, "metrics_port": 0}), make)
except Fenced as error:
    print("Fenced", flush=True)
    sys.exit(78)
"""


@contextlib.contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    running = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    try:
        yield running
    finally:
        running.kill()
        running.communicate()


def line(running: subprocess.Popen[str]) -> str:
    assert running.stdout is not None
    return running.stdout.readline().strip()


def ready(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    pytest.fail("the server did not listen")


def test_both_listeners_serve_and_a_stop_lets_what_is_under_way_finish() -> None:
    with process() as running:
        port, metrics = map(int, line(running).split())
        assert line(running) == "open"
        ready(port)
        assert "exchange_http_requests" in httpx2.get(f"http://127.0.0.1:{metrics}/metrics").text
        assert httpx2.get(f"http://127.0.0.1:{metrics}/").status_code == 404
        assert httpx2.get(f"http://127.0.0.1:{port}/metrics").status_code == 404
        found: list[str] = []
        asking = threading.Thread(target=lambda: found.append(httpx2.get(f"http://127.0.0.1:{port}/slow").text))
        asking.start()
        time.sleep(0.4)
        running.send_signal(signal.SIGTERM)
        asking.join(5)
        assert found == ["late but whole"]
        assert line(running) == "closed"
        assert running.wait(5) == 0


def test_a_start_that_fails_says_why_and_prints_no_traceback() -> None:
    with process("fail") as running:
        output, errors = running.communicate(timeout=20)
        assert running.returncode == 78
        assert output.splitlines()[-1] == "Fenced"
        assert "Traceback" not in errors


def test_an_address_that_is_taken_names_the_setting() -> None:
    with contextlib.closing(bind("127.0.0.1", 0, "gateway")) as taken:
        taken.listen()
        with pytest.raises(SettingWrong, match=r"gateway: cannot listen on 127\.0\.0\.1 port"):
            bind("127.0.0.1", taken.getsockname()[1], "gateway")
    with pytest.raises(SettingWrong, match="gateway"):
        bind("not-a-host.invalid", 0, "gateway")
