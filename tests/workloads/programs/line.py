"""How clients reach their server: by a unix socket beside it, or by TCP from another host.

SIDE in the environment says which half of a program runs: `server`, whose clients are outside; `client`, of the server
at the address SERVER; both halves, in one container, when it says nothing.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

SIDE = os.environ.get("SIDE", "both")
SERVER = os.environ.get("SERVER", "")
TCP = SIDE != "both"
PORT = 7000
PATH = "/run/line.sock"
PLACE = str(PORT) if TCP else PATH
"""Where a server listens: a port, or the path of a socket."""
CONNECT_S = 20.0


def play(serve: Callable[[], subprocess.Popen[bytes] | None], ask: Callable[[], None]) -> None:
    """Start the server, ask it for ever, or both, as SIDE says."""
    server = serve() if SIDE != "client" else None
    if SIDE == "server":
        sys.exit(server.wait() if server else 0)
    ask()


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
        return socket.create_server(("", PORT))
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
                return socket.create_connection((SERVER, PORT))
            client = socket.socket(socket.AF_UNIX)
            client.connect(PATH)
            return client
        except (ConnectionRefusedError, FileNotFoundError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
