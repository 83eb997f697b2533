"""What must never leave: level 3 values of every record carry a canary, and codes stand in views only."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event

import httpx2

from rig.identities import BODY

CANARY = re.compile(rb"canary-\d+|7777\d+\.77")
CODE = re.compile(BODY.encode() + rb"\d{9}[0-9A-Z]")
CHUNK = 1 << 20
EVERY = 1.0  # seconds between two looks at the metrics


def canaries(data: bytes) -> set[str]:
    """The canaries in some bytes."""
    return {found.decode() for found in CANARY.findall(data)}


class Metrics:
    """Reads the metrics of every process, as a monitor does."""

    def __init__(self, urls: Sequence[str] = ()) -> None:
        self._urls = urls
        self.pages = 0
        self.leaks: list[str] = []

    def work(self, over: Event) -> None:
        """Until it is over."""
        with httpx2.Client(timeout=5) as http:
            while not over.wait(EVERY):
                for url in self._urls:
                    with suppress(httpx2.TransportError):  # it is not there just now
                        self.look(http.get(url))

    def look(self, answer: httpx2.Response) -> None:
        """Once, at one page."""
        self.pages += 1
        if answer.status_code != 200:
            self.leaks.append(f"{answer.url} answered with {answer.status_code}")
        for pattern in (CANARY, CODE):
            if found := pattern.search(answer.content):
                self.leaks.append(f"{answer.url}: {found[0].decode()}")


def told(log: Path) -> Iterator[str]:
    """Canaries and codes in what a process wrote."""
    kept = b""
    with log.open("rb") as file:
        while chunk := file.read(CHUNK):
            data = kept + chunk
            for pattern in (CANARY, CODE):
                if found := pattern.search(data):
                    yield f"{log.name}: {found[0].decode()}"
                    return
            kept = data[-64:]
