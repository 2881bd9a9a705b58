#!/usr/bin/python3
"""memcached and four clients that stay connected: each sets, counts, and reads back what it has set before."""

from __future__ import annotations

import subprocess

import line
from line import Line
from witness import Witness, start_server

CLIENTS, KEYS = 4, 200


def get(client: Line, key: str) -> bytes:
    """Return a value; b"" when there is none."""
    head = client.ask(f"get {key}".encode())
    if head == b"END":
        return b""
    value = client.read_line()
    client.read_line()  # END
    return value


def serve() -> subprocess.Popen[bytes]:
    """Start the server."""
    place = ["-l", "0.0.0.0", "-p", line.PLACE] if line.TCP else ["-s", line.PLACE]
    return start_server("/usr/bin/memcached", "-u", "root", "-m", "64", *place)


def ask() -> None:
    """Connect, and ask for ever."""
    clients = [Line() for _ in range(CLIENTS)]
    witness = Witness()
    witness.expect("setting the count", clients[0].ask(b"set count 0 0 1", b"0"), b"STORED")

    def act(number: int) -> None:
        client = clients[number % CLIENTS]
        witness.expect("the count", client.ask(b"incr count 1"), str(number + 1).encode())
        value = f"{witness.nonce}{number}".encode()
        stored = client.ask(f"set key{number % KEYS} 0 0 {len(value)}".encode(), value)
        witness.expect("a set", stored, b"STORED")
        earlier = max(0, number - KEYS + 1)
        witness.expect("an earlier value", get(client, f"key{earlier % KEYS}"), f"{witness.nonce}{earlier}".encode())

    witness.run(act)


if __name__ == "__main__":
    line.play(serve, ask)
