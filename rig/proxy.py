"""A TCP proxy that cuts: what was asked arrives and is done, and its answer is lost on the way back."""

from __future__ import annotations

import selectors
import socket
import threading
from contextlib import closing, suppress

CHUNK = 1 << 16


class Proxy:
    """Listens on a port of the loopback and passes everything on, until it is told to cut."""

    def __init__(self, host: str, port: int) -> None:
        """`host` and `port` are where it leads to."""
        self._target = host, port
        self._lock = threading.Lock()
        self._pattern = b""
        self._due = 0
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name=f"proxy {port}", daemon=True).start()

    def cut(self, pattern: bytes, times: int = 1) -> None:
        """Of the next requests in which these bytes stand, so many get no answer: both sides are cut when it comes."""
        with self._lock:
            self._pattern, self._due = pattern, times

    def close(self) -> None:
        """Listen no more; what is under way goes on to its end."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with closing(client), suppress(OSError), closing(socket.create_connection(self._target, timeout=5)) as server:
            server.settimeout(None)
            cutting = False
            with selectors.DefaultSelector() as ready:
                ready.register(client, selectors.EVENT_READ, server)
                ready.register(server, selectors.EVENT_READ, client)
                while True:
                    for key, _ in ready.select():
                        source = client if key.data is server else server
                        data = source.recv(CHUNK)
                        if not data or (cutting and source is server):
                            return
                        cutting = cutting or (source is client and self._strikes(data))
                        key.data.sendall(data)

    def _strikes(self, data: bytes) -> bool:
        with self._lock:
            if self._due and self._pattern in data:
                self._due -= 1
                self.cuts += 1
                return True
            return False
