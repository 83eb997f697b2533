"""Desks: the city's client programs. Each gets a token with its own secret and calls the gateway over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from exchange.cli import token
from exchange.settings import Settings
from exchange.wiring import gateway_url

VIEWS = {"citizen": "/v1/citizens/view", "enterprise": "/v1/enterprises/view"}
_SHOWN = ("Exchange-Policy", "Exchange-Receipt", "Content-Digest", "Content-Type")


@dataclass(frozen=True, slots=True)
class Call:
    """A request and its answer. `body` is the answer's bytes as they came; `milliseconds` is its whole time."""

    client: str
    method: str
    path: str
    sent: Mapping[str, str]
    asked: Any
    status: int
    headers: Mapping[str, str]
    body: bytes
    milliseconds: float

    @property
    def answer(self) -> Any:
        """The answer, parsed. Raises ValueError if it is no JSON."""
        return json.loads(self.body)

    @property
    def receipt(self) -> str:
        return self.headers.get("Exchange-Receipt", "")

    def value(self, name: str) -> Any:
        """The value that a view shows under a name; None where it shows none."""
        return self.answer["values"].get(name, {}).get("value")

    def said_by(self, name: str) -> list[dict[str, Any]]:
        """Everyone who said a value, the lead source first."""
        found: list[dict[str, Any]] = self.answer["values"].get(name, {}).get("said_by", [])
        return found

    def items(self, contract: str) -> list[dict[str, Any]]:
        """The records of a list, newest first."""
        return [item["value"] for item in self.answer["records"].get(contract, {}).get("items", [])]

    @property
    def names(self) -> frozenset[str]:
        """What a view shows: names of values, and the fields of the lists' records."""
        answer = self.answer
        fields = {
            f"{contract}.{field}" for contract in answer["records"] for item in self.items(contract) for field in item
        }
        return frozenset(answer["values"]) | fields

    def document(self) -> dict[str, Any]:
        """The call as JSON, the answer whole; instead of the token its owner."""
        try:
            answer = self.answer
        except ValueError:
            answer = None
        return {
            "client": self.client,
            "request": {"method": self.method, "path": self.path, "headers": dict(self.sent), "body": self.asked},
            "status": self.status,
            "milliseconds": round(self.milliseconds, 1),
            "headers": {name: self.headers[name] for name in _SHOWN if name in self.headers},
            "answer": answer,
        }


class Desks:
    """Calls the gateway as any of the city's clients."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = httpx2.Client(base_url=gateway_url(settings), timeout=30)
        self._tokens: dict[str, str] = {}

    def token(self, client: str) -> str:
        """A token of this client, the same one throughout the story."""
        if client not in self._tokens:
            self._tokens[client] = token.fetch(self._settings, client)["access_token"]
        return self._tokens[client]

    def view(
        self, client: str, purpose: str, kind: str, subject: str, *, case: str | None = None, **asked: Any
    ) -> Call:
        """Ask for a view of one citizen or enterprise."""
        sent = {"Exchange-Purpose": purpose} | ({"Exchange-Case": case} if case else {})
        return self._call(client, "POST", VIEWS[kind], sent, {"id": subject, **asked})

    def push(self, client: str, contract: str, file: Path) -> Call:
        """Push a file of NDJSON. A second time under the same name it would have no second effect."""
        sent = {"Content-Type": "application/x-ndjson", "Idempotency-Key": file.name}
        return self._call(client, "POST", f"/v1/datasets/{contract}/records", sent, file)

    def signing_keys(self) -> bytes:
        """/.well-known/exchange-keys.json, as it came."""
        answer = self._http.get("/.well-known/exchange-keys.json")
        answer.raise_for_status()
        return answer.content

    def close(self) -> None:
        self._http.close()

    def _call(self, client: str, method: str, path: str, sent: Mapping[str, str], asked: Any) -> Call:
        pushed = isinstance(asked, Path)
        content = asked.read_bytes() if pushed else json.dumps(asked, ensure_ascii=False).encode()
        headers = {"Content-Type": "application/json", **sent, "Authorization": f"Bearer {self.token(client)}"}
        began = time.perf_counter()
        answer = self._http.request(method, path, content=content, headers=headers)
        spent = (time.perf_counter() - began) * 1000
        return Call(
            client=client,
            method=method,
            path=path,
            sent=sent,
            asked=f"the lines of {asked.name}" if pushed else asked,
            status=answer.status_code,
            headers=httpx2.Headers(answer.headers),
            body=answer.content,
            milliseconds=spent,
        )
