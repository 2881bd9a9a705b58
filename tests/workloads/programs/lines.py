#!/usr/bin/python3
"""A server of lines, and clients that stay connected: each answer must carry the line, its number and one secret.

lines.py COMMAND...          the server to start; it is given the place to listen at as its last argument
"""

from __future__ import annotations

import subprocess
import sys

import line
from line import Line
from witness import Witness, start_server

CLIENTS = 8


def serve() -> subprocess.Popen[bytes]:
    """Start the server that the command line names."""
    return start_server(*sys.argv[1:], line.PLACE)


def ask() -> None:
    """Connect, and ask for ever."""
    clients = [Line() for _ in range(CLIENTS)]
    witness = Witness()
    secrets: set[bytes] = set()

    def act(number: int) -> None:
        for place, client in enumerate(clients):
            asked = f"client{place} {witness.nonce}{number}".encode()
            answer = client.ask(asked)
            word, count, secret = answer.rsplit(b" ", 2)
            secrets.add(secret)
            witness.expect("an answer", (word, int(count)), (asked, number + 1))
        witness.expect("the number of secrets", len(secrets), 1)

    witness.run(act)


if __name__ == "__main__":
    line.play(serve, ask)
