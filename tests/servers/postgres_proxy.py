"""Stands between a client and PostgreSQL, and can swallow the answer to a commit."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SOCKET_NAME = ".s.PGSQL.5432"
WAIT_S = 20.0


class Proxy:
    """Forwards one connection after the other; set `swallow_commit` to lose the next answer to COMMIT."""

    def __init__(self, directory: Path, upstream: Path):
        self.swallow_commit = threading.Event()
        self.directory = directory
        self._upstream = str(upstream / SOCKET_NAME)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / SOCKET_NAME))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(WAIT_S)

    def _serve(self) -> None:
        forwarders = []
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._upstream)
                pairs = ((client, server, False), (server, client, True))
                forwarders += [threading.Thread(target=self._forward, args=pair) for pair in pairs]
                for forwarder in forwarders[-2:]:
                    forwarder.start()
        for forwarder in forwarders:
            forwarder.join(WAIT_S)

    def _forward(self, source: socket.socket, target: socket.socket, from_server: bool) -> None:
        with suppress(OSError), source:
            while data := source.recv(65536):
                if from_server and self.swallow_commit.is_set() and b"COMMIT" in data:
                    break  # the server has committed: its answer names the command
                target.sendall(data)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@contextmanager
def lossy_proxy(directory: Path, upstream: Path) -> Iterator[Proxy]:
    """Listen in a directory for a server whose socket is in another."""
    proxy = Proxy(directory, upstream)
    try:
        yield proxy
    finally:
        proxy.close()
