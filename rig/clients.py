"""How the rig's programs call the gateways: tokens of the rig's issuer, and which gateway is asked next."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx2

from rig.issuer import Issuer

TOKEN_SECONDS = 5.0  # so that the gateways verify tokens all the time; one lives five minutes
PATIENCE = 20.0  # seconds for an answer


class NoAnswer(Exception):
    """The gateway did not answer, or not whole"""


class Client:
    """One program; asks the gateways in turn. Used by one thread."""

    def __init__(self, name: str, issuer: Issuer, gateways: Sequence[str]) -> None:
        self.name = name
        self._issuer = issuer
        self._gateways = itertools.cycle(gateways)
        self._http = httpx2.Client(timeout=PATIENCE)
        self._token, self._since = "", float("-inf")

    def post(self, path: str, headers: Mapping[str, str], **body: Any) -> httpx2.Response:
        """One request to the next gateway. Raises NoAnswer."""
        gateway = next(self._gateways)
        if time.monotonic() - self._since > TOKEN_SECONDS:
            self._token, self._since = self._issuer.token(self.name), time.monotonic()
        try:
            bearer = {"Authorization": f"Bearer {self._token}"}
            return self._http.post(gateway + path, headers=bearer | dict(headers), **body)
        except httpx2.TransportError as error:
            raise NoAnswer(type(error).__name__) from None

    def close(self) -> None:
        self._http.close()


class Tally:
    """Counts answers by status, from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def add(self, what: str) -> None:
        with self._lock:
            self._counts[what] = self._counts.get(what, 0) + 1

    def counts(self) -> dict[str, int]:
        with self._lock:
            return dict(sorted(self._counts.items()))
