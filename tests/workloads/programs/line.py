"""How a client here reaches its server. By a unix socket for now: set TCP to True once open TCP connections move."""

from __future__ import annotations

import socket
import time
from pathlib import Path

TCP = False
PORT = 7000
PATH = "/run/line.sock"
ADDRESS = f"127.0.0.1:{PORT}" if TCP else PATH
CONNECT_S = 20.0


class Line:
    """A connection that is opened once and used for ever, read by whole lines."""

    def __init__(self) -> None:
        self.socket = connect()
        self.file = self.socket.makefile("rwb")

    def ask(self, *lines: bytes) -> bytes:
        """Send whole lines and return the first line of the answer without its end."""
        self.file.write(b"".join(line + b"\r\n" for line in lines))
        self.file.flush()
        return self.read_line()

    def read_line(self) -> bytes:
        """Return the next line without its end.

        Raises:
            EOFError: The server has closed the connection.
        """
        line = self.file.readline()
        if not line.endswith(b"\n"):
            raise EOFError(f"the connection was closed after {line!r}")
        return line.rstrip(b"\r\n")


def listen() -> socket.socket:
    """Listen where clients connect."""
    if TCP:
        return socket.create_server(("127.0.0.1", PORT))
    Path(PATH).parent.mkdir(parents=True, exist_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(PATH)
    server.listen()
    return server


def connect() -> socket.socket:
    """Connect as soon as somebody listens."""
    deadline = time.monotonic() + CONNECT_S
    while True:
        try:
            if TCP:
                return socket.create_connection(("127.0.0.1", PORT))
            client = socket.socket(socket.AF_UNIX)
            client.connect(PATH)
            return client
        except (ConnectionRefusedError, FileNotFoundError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
