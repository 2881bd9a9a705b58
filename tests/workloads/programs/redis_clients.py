#!/usr/bin/python3
"""redis-server and three clients that stay connected: one counts and reads back, one waits in a list, one subscribes."""

from __future__ import annotations

import subprocess

import line
from line import Line
from witness import Witness, start_server

KEYS = 500


def answer(client: Line) -> bytes | list[bytes]:
    """Read one answer of Redis's protocol; whole numbers and words come as they are written."""
    head = client.read_line()
    if head.startswith(b"-"):
        raise OSError(head.decode())
    if head.startswith(b"$"):
        client_length = int(head[1:])
        return client.file.read(client_length + 2)[:-2] if client_length >= 0 else b"nothing"
    if head.startswith(b"*"):
        return [part for _ in range(int(head[1:])) if isinstance(part := answer(client), bytes)]
    return head[1:]


def send(client: Line, *words: object) -> None:
    """Send a command."""
    parts = [str(word).encode() for word in words]
    client.file.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts))
    client.file.flush()


def serve() -> subprocess.Popen[bytes]:
    """Start the server."""
    outside = ["--bind", "0.0.0.0", "--protected-mode", "no", "--port", line.PLACE]
    place = outside if line.TCP else ["--port", "0", "--unixsocket", line.PLACE]
    return start_server("/usr/bin/redis-server", "--save", "", "--appendonly", "no", "--dir", "/tmp", *place)


def ask() -> None:
    """Connect, and ask for ever."""
    writer, waiter, listener = Line(), Line(), Line()
    witness = Witness()
    send(listener, "SUBSCRIBE", "news")
    answer(listener)
    send(waiter, "BLPOP", "queue", 0)

    def told(client: Line, *words: object) -> bytes | list[bytes]:
        send(client, *words)
        return answer(client)

    def act(number: int) -> None:
        witness.expect("the count", told(writer, "INCR", "count"), str(number + 1).encode())
        witness.expect("SET", told(writer, "SET", f"key:{number % KEYS}", f"{witness.nonce}{number}"), b"OK")
        earlier = max(0, number - KEYS + 1)
        found = told(writer, "GET", f"key:{earlier % KEYS}")
        witness.expect("an earlier value", found, f"{witness.nonce}{earlier}".encode())
        send(writer, "RPUSH", "queue", number)
        answer(writer)
        witness.expect("what the waiting client gets", answer(waiter), [b"queue", str(number).encode()])
        send(waiter, "BLPOP", "queue", 0)
        witness.expect("the number of subscribers", told(writer, "PUBLISH", "news", number), b"1")
        witness.expect("the news", answer(listener), [b"message", b"news", str(number).encode()])

    witness.run(act)


if __name__ == "__main__":
    line.play(serve, ask)
