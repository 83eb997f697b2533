"""An OIDC issuer's web server on a loopback port, which can be told to lie, to be late, or to say nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc.jwk import Key

from tests.support.tokens import public


class Issuer:
    """`issuer` is its name and address; what it serves may be changed while it runs."""

    def __init__(self, port: int, *keys: Key) -> None:
        self.issuer = f"http://127.0.0.1:{port}/realms/city"
        self.document: dict[str, Any] = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/certs"}
        self.jwks: dict[str, Any] = {"keys": [public(key) for key in keys]}
        self.ahead = 0.0  # seconds by which its clock is ahead
        self.silent = threading.Event()  # set: it accepts and does not answer

    def answer(self, path: str) -> Any:
        return {"/realms/city/.well-known/openid-configuration": self.document, "/realms/city/certs": self.jwks}.get(
            path
        )


@contextmanager
def serving_issuer(*keys: Key) -> Iterator[Issuer]:
    """Serve it until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            while made.silent.is_set():
                time.sleep(0.05)
            found = made.answer(self.path)
            self.send_response_only(404 if found is None else 200)
            self.send_header("Date", formatdate(time.time() + made.ahead, usegmt=True))
            self.end_headers()
            self.wfile.write(json.dumps(found or {}).encode())

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made = Issuer(server.server_port, *keys)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield made
        finally:
            made.silent.clear()
            server.shutdown()
            thread.join()
