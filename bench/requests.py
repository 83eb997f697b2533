"""The client: requests on connections that are kept, for so many seconds. A process of its own.

Reads one JSON object from standard input (ports, path, headers, bodies, connections, rate, seconds, seed) and writes
one: answers, seconds, and the times of an answer in milliseconds, p50_ms to p999_ms. Without a rate each connection
always has a request under way. With one (requests a second) they come by themselves, at random as from many clients who
know nothing of each other, and wait for a free connection; their time runs from when they came.

It ends with 1 at the first answer that is not 200. A general HTTP client needs as much of a core for a request as the
gateway does for the view; this one knows just enough of HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """Sends a request at a time; when all of its answer is here, `answered` hears how long it took."""

    def __init__(self, answered: Callable[[Connection, float], None], failed: Callable[[Exception], None]) -> None:
        self._answered = answered
        self._failed = failed
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, request: bytes, began: float) -> None:
        self._began = began
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not found or (length is not None and len(body) < int(length[1])):
            return
        if length is None or not head.startswith(b"HTTP/1.1 200 "):
            self._failed(RuntimeError(f"an answer that is not 200: {self._received[:500]!r}"))
            return
        self._received = b""
        self._answered(self, time.perf_counter() - self._began)

    def connection_lost(self, error: Exception | None) -> None:
        self._failed(error or RuntimeError("the server closed the connection"))

    def close(self) -> None:
        self._failed = lambda _: None
        self._transport.close()


class Asking:
    """Who asks: what is sent when, and how long it took."""

    def __init__(self, requests: Sequence[bytes], job: dict[str, Any]) -> None:
        self.times: list[float] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._draw = random.Random(job["seed"])
        self._rate: float | None = job.get("rate")
        self._started = time.perf_counter()
        self._ends = self._started + job["seconds"]
        self._free: list[Connection] = []
        self._came: deque[float] = deque()  # requests that wait for a connection
        self._under_way = 0

    def begin(self, connections: Sequence[Connection]) -> None:
        if self._rate is None:
            for connection in connections:
                self._send(connection, time.perf_counter())
            return
        self._free = list(connections)
        self._next = time.perf_counter()
        self._arrive()

    def answered(self, connection: Connection, took: float) -> None:
        self.times.append(took)
        self._under_way -= 1
        now = time.perf_counter()
        if self._rate is None:
            if now < self._ends:
                self._send(connection, now)
        elif self._came:
            self._send(connection, self._came.popleft())
        else:
            self._free.append(connection)
        if not (self._under_way or self._came) and now >= self._ends:
            self._end()

    def failed(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)

    def _arrive(self) -> None:
        """Let come what should have come by now, and look again when the next one comes."""
        assert self._rate is not None
        while self._next <= time.perf_counter():
            if self._next >= self._ends:
                if not self._under_way:
                    self._end()
                return
            if self._free:
                self._send(self._free.pop(), self._next)
            else:
                self._came.append(self._next)
            self._next += self._draw.expovariate(self._rate)
        asyncio.get_running_loop().call_later(self._next - time.perf_counter(), self._arrive)

    def _send(self, connection: Connection, began: float) -> None:
        self._under_way += 1
        connection.send(self._draw.choice(self._requests), began)

    def _end(self) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def run(job: dict[str, Any]) -> dict[str, float]:
    """Do the job; see the module's docstring."""
    loop = asyncio.get_running_loop()
    asking = Asking([_request(job, body) for body in job["bodies"]], job)
    connections = [Connection(asking.answered, asking.failed) for _ in range(job["connections"])]
    for number, connection in enumerate(connections):
        port = job["ports"][number % len(job["ports"])]
        await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", port)
    started = time.perf_counter()
    asking.begin(connections)
    await asking.done
    seconds = time.perf_counter() - started
    for connection in connections:
        connection.close()
    times = sorted(asking.times)
    shares = {"p50_ms": 0.5, "p99_ms": 0.99, "p999_ms": 0.999}
    at = {name: times[min(len(times) - 1, int(len(times) * share))] * 1e3 for name, share in shares.items()}
    return {"answers": len(times), "seconds": seconds, **at}


def _request(job: dict[str, Any], body: Any) -> bytes:
    content = json.dumps(body).encode()
    head = [f"POST {job['path']} HTTP/1.1", "host: 127.0.0.1", "content-type: application/json"]
    head += [f"{name}: {text}" for name, text in job["headers"].items()]
    return "\r\n".join([*head, f"content-length: {len(content)}", "", ""]).encode() + content


if __name__ == "__main__":
    try:
        print(json.dumps(uvloop.run(run(json.load(sys.stdin)))))
    except (RuntimeError, OSError) as reason:
        sys.exit(str(reason))
