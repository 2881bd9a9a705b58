#!/usr/bin/python3
"""Unix sockets of every kind, with something always on its way: data, a descriptor, a connection not yet accepted."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from witness import Witness

KINDS = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM, "packets": socket.SOCK_SEQPACKET}
WAITING = 3
PLACE = "/run/waiting.sock"
WORD_BYTES = 8


def word(number: int) -> bytes:
    """A number as it travels: a stream has no ends of its own."""
    return number.to_bytes(WORD_BYTES, "big")


def main() -> None:
    """Read what was sent one act ago, then send the next."""
    witness = Witness()
    pairs = {name: socket.socketpair(socket.AF_UNIX, kind) for name, kind in KINDS.items()}
    carrier = socket.socketpair()
    Path(PLACE).parent.mkdir(exist_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(PLACE)
    server.listen(WAITING)
    callers: list[socket.socket] = []

    def send(number: int) -> None:
        for sender, _ in pairs.values():
            sender.send(word(number))
        reader, writer = os.pipe()
        os.write(writer, word(number))
        socket.send_fds(carrier[0], [b"x"], [reader])
        os.close(reader)
        os.close(writer)
        caller = socket.socket(socket.AF_UNIX)
        caller.connect(PLACE)
        callers.append(caller)

    def receive(number: int) -> None:
        wanted = word(number)
        for name, (_, receiver) in pairs.items():
            witness.expect(f"what came by {name}", receiver.recv(WORD_BYTES), wanted)
        _, descriptors, _, _ = socket.recv_fds(carrier[1], 1, 1)
        witness.expect("what the passed pipe holds", os.read(descriptors[0], WORD_BYTES), wanted)
        os.close(descriptors[0])
        accepted, _ = server.accept()
        accepted.sendall(wanted)
        witness.expect("what a caller that waited is told", callers.pop(0).recv(WORD_BYTES), wanted)
        accepted.close()

    def act(number: int) -> None:
        send(number + 1)
        receive(number)

    send(0)
    witness.run(act)


if __name__ == "__main__":
    main()
