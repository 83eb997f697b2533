"""The process: two listeners in one event loop, the gateway's and that of its metrics, until SIGTERM or SIGINT.

A clean stop takes no new connections, lets what is under way be answered (at most ten seconds), then closes the parts.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator

import structlog
import uvicorn
from starlette.types import ASGIApp

from exchange.errors import SettingWrong
from exchange.settings import Settings
from gateway.connection import CONNECTIONS, allow_connections, bounded
from gateway.limits import Edge
from gateway.metrics_listener import metrics_app

log = structlog.get_logger("gateway")

KEEP_ALIVE_SECONDS = 15
GRACE_SECONDS = 10
BACKLOG = 2048
METRICS_CONNECTIONS = 64


class _Server(uvicorn.Server):
    """uvicorn's server without its hold on the signals: in the end it would kill the process by the one it got."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def stop(self) -> None:
        """Stop; asked twice, without waiting for what is under way."""
        self.force_exit = self.should_exit
        self.should_exit = True


def run(settings: Settings, make: Callable[[Settings], Edge]) -> None:
    """Serve what `make` builds until stopped. The ports are bound first: with port 0 the app learns the real one.

    Raises SettingWrong for an address that cannot be had, and whatever `make` raises.
    """
    gateway = settings.gateway
    listener = bind(gateway.host, gateway.port, "gateway.host, gateway.port")
    metrics = bind(gateway.metrics_host, gateway.metrics_port, "gateway.metrics_host, gateway.metrics_port")
    ports = {"port": listener.getsockname()[1], "metrics_port": metrics.getsockname()[1]}
    app = make(settings.model_copy(update={"gateway": gateway.model_copy(update=ports)}))
    main = _Server(configuration(app, lifespan=True, connections=allow_connections()))
    log.info("gateway starts", host=gateway.host, **ports)
    try:
        with asyncio.Runner(loop_factory=main.config.get_loop_factory()) as runner:
            runner.run(_serve(main, listener, metrics))
    except SystemExit:
        if app.failure is not None:
            raise app.failure from None
        raise
    log.info("gateway stopped")


def configuration(app: ASGIApp, *, lifespan: bool, connections: int = CONNECTIONS) -> uvicorn.Config:
    """uvicorn with our bounds and at most so many connections.

    No access log of its own (it writes URLs as they were sent), no trust in proxies.
    """
    return uvicorn.Config(
        app,
        http=bounded(connections),
        ws="none",
        lifespan="on" if lifespan else "off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


def bind(host: str, port: int, name: str) -> socket.socket:
    """A listening address. Raises SettingWrong naming the setting."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise SettingWrong(f"{name}: cannot listen on {host} port {port} ({error.strerror})") from None
    listener.setblocking(False)
    return listener


async def _serve(main: _Server, listener: socket.socket, metrics: socket.socket) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, main.stop)
    second = _Server(configuration(metrics_app, lifespan=False, connections=METRICS_CONNECTIONS))
    watching = asyncio.create_task(second.serve(sockets=[metrics]))
    try:
        await main.serve(sockets=[listener])
    finally:
        second.stop()
        await watching
