"""The rig's own token issuer: discovery and keys over HTTP, tokens signed here; it can be away, slow, or talk nonsense.

Each gateway reads at an address of its own, so that it is known which of them asked and when.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

NAME = "https://issuer.exchange.invalid"  # as the policies' clients name it
AUDIENCE = "exchange"
LIFETIME = 300  # seconds of a token
CONNECTOR, SECRET = "market-connector", secrets.token_urlsafe(16)  # who gets tokens over HTTP, as connectors do
TOKEN = "token"  # the path of the token endpoint
SCOPES = "view publish registry"  # more than any client has: the gateway takes those that its list gives

Mood = Callable[[bytes], tuple[int, bytes] | None]  # what is answered instead of a document; None: nothing


def well(document: bytes) -> tuple[int, bytes]:
    """As it should be."""
    return 200, document


@dataclass(slots=True)
class Asked:
    """When one gateway began to fetch the keys, and when it was given them (Unix time)."""

    tries: list[float] = field(default_factory=list)
    given: list[float] = field(default_factory=list)

    def pairs(self) -> Iterator[tuple[float, float]]:
        """Each time that it was given keys, with the next time that it asked."""
        for at in self.given:
            again = next((each for each in self.tries if each > at), None)
            if again is not None:
                yield at, again


class Key:
    """A key that signs tokens; it has a new name."""

    def __init__(self) -> None:
        self.kid = secrets.token_hex(6)
        self._private = Ed25519PrivateKey.generate()

    @property
    def public(self) -> dict[str, str]:
        """As it stands in a key set."""
        raw = self._private.public_key().public_bytes_raw()
        return {"kty": "OKP", "crv": "Ed25519", "kid": self.kid, "alg": "EdDSA", "use": "sig", "x": base64url(raw)}

    def token(self, client: str) -> str:
        """An access token for this client, as RFC 9068 has it."""
        now = int(time.time())
        header = {"alg": "EdDSA", "typ": "at+jwt", "kid": self.kid}
        claims = {
            "iss": NAME, "aud": AUDIENCE, "sub": client, "client_id": client, "scope": SCOPES,
            "iat": now, "exp": now + LIFETIME, "jti": secrets.token_hex(8),
        }  # fmt: skip
        signed = f"{_part(header)}.{_part(claims)}"
        return f"{signed}.{base64url(self._private.sign(signed.encode()))}"


class Issuer:
    """Listens on a port of the loopback as long as the process lives; used by every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._published = [Key()]
        self.key = self._published[0]  # that signs now
        self.asked: dict[str, Asked] = {}
        self._mood: Mood = well
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="issuer", daemon=True).start()

    def discovery(self, gateway: str) -> str:
        """Where this gateway finds the discovery document."""
        self.asked[gateway] = Asked()
        return f"{self._address(gateway)}/.well-known/openid-configuration"

    def token(self, client: str) -> str:
        """An access token for this client, of the key that signs now."""
        return self.key.token(client)

    def registry(self, folder: Path, gateway: str) -> str:
        """What an instance file says so that its connector gets its tokens here; the secret is written beside it."""
        (folder / "connector.secret").write_text(SECRET)
        (folder / "connector.secret").chmod(0o600)
        return (
            f'[registry]\nurl = "{gateway}/registry"\nclient_id = "{CONNECTOR}"\n'
            f'client_secret = "file:connector.secret"\ntoken_url = "{self._address(TOKEN)}"\n'
        )

    def publish(self) -> Key:
        """One more key stands in the key set, and signs nothing yet; of the former ones the last stays."""
        with self._lock:
            self._published = [self.key, Key()]
            return self._published[1]

    @contextmanager
    def feeling(self, mood: Mood) -> Iterator[None]:
        """Answer like this as long as the block lasts."""
        self._mood = mood
        try:
            yield
        finally:
            self._mood = well

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str) -> tuple[int, bytes] | None:
        """What is answered to whoever asks for this path; None: nothing. Tokens are always issued."""
        if path.strip("/") == TOKEN:
            told = {"access_token": self.token(CONNECTOR), "token_type": "Bearer", "expires_in": LIFETIME}
            return 200, json.dumps(told).encode()
        gateway, _, document = path.strip("/").partition("/")
        if gateway not in self.asked or document not in (".well-known/openid-configuration", "keys"):
            return 404, b"{}"
        if document != "keys":
            self.asked[gateway].tries.append(time.time())
            said: dict[str, Any] = {"issuer": NAME, "jwks_uri": f"{self._address(gateway)}/keys"}
        else:
            with self._lock:
                said = {"keys": [key.public for key in self._published]}
        mood = self._mood
        if mood is well and document == "keys":
            self.asked[gateway].given.append(time.time())
        return mood(json.dumps(said).encode())

    def _address(self, gateway: str) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/{gateway}"


def _handler(issuer: Issuer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            expected = "Basic " + b64encode(f"{CONNECTOR}:{SECRET}".encode()).decode()
            self._send((401, b"{}") if self.headers.get("Authorization") != expected else issuer.answer(self.path))

        def do_GET(self) -> None:
            self._send((404, b"{}") if self.path.strip("/") == TOKEN else issuer.answer(self.path))

        def _send(self, found: tuple[int, bytes] | None) -> None:
            if found is None:
                self.close_connection = True
                return
            status, body = found
            with suppress(OSError):  # whoever asked has gone
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
            """Nothing: what was asked is counted."""

    return Handler


def _part(said: dict[str, Any]) -> str:
    return base64url(json.dumps(said).encode())


def base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
