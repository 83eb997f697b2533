"""The client: so many requests in flight, each on a connection that is kept, for so many seconds. A process of its own.

Reads one JSON object from standard input (port, path, headers, bodies, connections, seconds, seed) and writes one:
answers, seconds, p50 and p99 in milliseconds. It ends with 1 at the first answer that is not 200. A general HTTP client
needs as much of a core for a request as the gateway does for the view; this one knows just enough of HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import uvloop

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Connection(asyncio.Protocol):
    """Sends a request, waits for all of its answer, sends the next, until the time is over."""

    def __init__(self, requests: Sequence[bytes], draw: random.Random, ends: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.times: list[float] = []
        self._requests = requests
        self._draw = draw
        self._ends = ends
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not found or (length is not None and len(body) < int(length[1])):
            return
        if length is None or not head.startswith(b"HTTP/1.1 200 "):
            self._end(RuntimeError(f"an answer that is not 200: {self._received[:500]!r}"))
            return
        now = time.perf_counter()
        self.times.append(now - self._sent)
        self._received = b""
        if now < self._ends:
            self._send()
        else:
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or RuntimeError("the server closed the connection"))

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._draw.choice(self._requests))

    def _end(self, error: Exception | None = None) -> None:
        if not self.done.done():
            if error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(error)
        self._transport.close()


async def run(job: dict[str, Any]) -> dict[str, float]:
    """Do the job; see the module's docstring."""
    loop = asyncio.get_running_loop()
    draw = random.Random(job["seed"])
    requests = [_request(job, body) for body in job["bodies"]]
    started = time.perf_counter()
    ends = started + job["seconds"]
    connections = [Connection(requests, draw, ends) for _ in range(job["connections"])]
    for connection in connections:
        await loop.create_connection(lambda connection=connection: connection, "127.0.0.1", job["port"])
    await asyncio.gather(*(connection.done for connection in connections))
    seconds = time.perf_counter() - started
    times = sorted(took for connection in connections for took in connection.times)
    return {
        "answers": len(times),
        "seconds": seconds,
        "p50_ms": times[len(times) // 2] * 1e3,
        "p99_ms": times[len(times) * 99 // 100] * 1e3,
    }


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
