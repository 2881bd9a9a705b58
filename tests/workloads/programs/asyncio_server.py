#!/usr/bin/python3
"""An asyncio server and twenty clients of it, by websockets, in one process each."""

from __future__ import annotations

import asyncio
import os

import line
import websockets.asyncio.client as client_side
import websockets.asyncio.server as server_side
from witness import Witness, wait_for

CLIENTS = 20


async def serve(secret: int) -> None:
    """Answer each number with how many this connection has asked, and a secret."""

    async def answer(connection: server_side.ServerConnection) -> None:
        count = 0
        async for message in connection:
            count += 1
            await connection.send(f"{message} {count} {secret}")

    server = (
        server_side.serve(answer, "127.0.0.1", line.PORT) if line.TCP else server_side.unix_serve(answer, line.PATH)
    )
    async with server:
        await asyncio.Future()


async def ask(witness: Witness, secret: int) -> None:
    """Ask by every connection at once, for ever."""
    if not line.TCP:
        wait_for(line.PATH)

    async def connect() -> client_side.ClientConnection:
        if line.TCP:
            return await client_side.connect(f"ws://127.0.0.1:{line.PORT}")
        return await client_side.unix_connect(line.PATH, "ws://localhost")

    connections = [await connect() for _ in range(CLIENTS)]
    while True:
        number = witness.counter
        await asyncio.gather(*(connection.send(str(number)) for connection in connections))
        for answer in await asyncio.gather(*(connection.recv() for connection in connections)):
            witness.expect("an answer", answer, f"{number} {number + 1} {secret}")
        witness.done()
        await asyncio.sleep(0.01)


def main() -> None:
    """Fork the server and be its clients."""
    secret = int.from_bytes(os.urandom(4), "big")
    if os.fork() == 0:
        asyncio.run(serve(secret))
    asyncio.run(ask(Witness(), secret))


if __name__ == "__main__":
    main()
