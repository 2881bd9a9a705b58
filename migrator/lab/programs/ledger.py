#!/usr/bin/python3
"""A server that counts, writes each number into a file that it opened once, and a client that asks for the next one.

The server's number lives in its memory only; `/state/ledger` gets a line for each, flushed to the disk before the
client is answered. The client knows what the answer must be and keeps its own book, `/state/receipts`. So a number that
is lost, doubled or answered by another server shows in one of the two books.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

STATE = Path("/state/state.json")
PAUSE_S = 0.01
NUMBER_BYTES = 8


def serve(line: socket.socket, nonce: str, client: int) -> None:
    """Count for the client until it goes away."""
    with (STATE.parent / "ledger").open("a") as ledger:
        number = 0
        while line.recv(1):
            number += 1
            ledger.write(f"{number}\n")
            ledger.flush()
            os.fsync(ledger.fileno())
            line.sendall(number.to_bytes(NUMBER_BYTES, "big"))
            if number % 5 == 0:
                tell({"nonce": nonce, "counter": number, "pid": os.getpid(), "client": client})


def ask(line: socket.socket) -> None:
    """Ask for the next number for ever; say so and stop at the first that is not the next."""
    with (STATE.parent / "receipts").open("a") as receipts:
        number = 0
        while True:
            line.sendall(b"?")
            given = int.from_bytes(line.recv(NUMBER_BYTES, socket.MSG_WAITALL), "big")
            receipts.write(f"{given}\n" if given == number + 1 else f"{given} instead of {number + 1}\n")
            receipts.flush()
            os.fsync(receipts.fileno())
            number = given
            time.sleep(PAUSE_S)


def tell(known: dict[str, object]) -> None:
    """Replace the state file as a whole."""
    temporary = STATE.with_suffix(".new")
    temporary.write_text(json.dumps(known))
    temporary.rename(STATE)


def main() -> None:
    """Fork the client and serve it."""
    STATE.parent.mkdir(parents=True, exist_ok=True)
    server, client = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        server.close()
        ask(client)
    client.close()
    serve(server, os.urandom(16).hex(), pid)


if __name__ == "__main__":
    main()
