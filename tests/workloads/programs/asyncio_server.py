#!/usr/bin/python3
"""An asyncio server and twenty clients of it, by websockets, in one process each."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import line
import websockets.asyncio.client as client_side
import websockets.asyncio.server as server_side
from witness import Witness, start_server

CLIENTS = 20


async def answer_all() -> None:
    """Answer each number with how many this connection has asked, and a secret."""
    secret = os.urandom(8).hex()

    async def answer(connection: server_side.ServerConnection) -> None:
        count = 0
        async for message in connection:
            count += 1
            await connection.send(f"{message} {count} {secret}")

    server = server_side.serve(answer, "", line.PORT) if line.TCP else server_side.unix_serve(answer, line.PATH)
    async with server:
        await asyncio.Future()


async def ask_all(witness: Witness) -> None:
    """Ask by every connection at once, for ever."""

    async def connect() -> client_side.ClientConnection:
        where = f"ws://{line.SERVER or 'localhost'}:{line.PORT}"
        return await client_side.connect(where, sock=line.connect())

    connections, secrets = [await connect() for _ in range(CLIENTS)], set()
    while True:
        number = witness.counter
        await asyncio.gather(*(connection.send(str(number)) for connection in connections))
        for told in await asyncio.gather(*(connection.recv() for connection in connections)):
            answer, _, secret = str(told).rpartition(" ")
            secrets.add(secret)
            witness.expect("an answer", answer, f"{number} {number + 1}")
        witness.expect("the number of secrets", len(secrets), 1)
        witness.done()
        await asyncio.sleep(0.01)


def serve() -> subprocess.Popen[bytes]:
    """Start the server, a process of its own."""
    return start_server("/usr/bin/python3", "-B", __file__, "--serve")


def ask() -> None:
    """Connect, and ask for ever."""
    witness = Witness()
    try:
        asyncio.run(ask_all(witness))
    except Exception as error:
        witness.fail(error)
        raise


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        asyncio.run(answer_all())
    else:
        line.play(serve, ask)
