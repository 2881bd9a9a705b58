#!/usr/bin/python3
"""A server that forks a process for every connection, as sshd does; it buries the dead.

forking.py PLACE
"""

from __future__ import annotations

import os
import signal
import socket

import line


def serve(client: socket.socket, secret: int) -> None:
    """Answer each line with how many came, and the secret."""
    with client.makefile("rwb") as file:
        for count, asked in enumerate(file, 1):
            file.write(asked.rstrip(b"\r\n") + b" %d %d\r\n" % (count, secret))
            file.flush()


def main() -> None:
    """Accept for ever."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    secret, server = int.from_bytes(os.urandom(4), "big"), line.listen()
    while True:
        client, _ = server.accept()
        if os.fork() == 0:
            server.close()
            serve(client, secret)
            os._exit(0)
        client.close()


if __name__ == "__main__":
    main()
