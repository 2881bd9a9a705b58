#!/usr/bin/python3
"""Answers on TCP and UDP, keeps a connection to itself, and leaves connections waiting until it may accept.

Ports 7000 (TCP, IPv6 too) and 7001 (UDP) give each line back with a nonce that lives in memory only; 7002 listens and
accepts nobody before the file /accept is there. The program asks itself over 127.0.0.1 all the time: `counter` in
/state/state.json rises with each reply, `ok` stays true only while each is the right one, and `connects` says how often
it had to connect.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import time
from pathlib import Path

STATE = Path("/state/state.json")
ACCEPT = Path("/accept")
IPV6 = Path("/proc/net/if_inet6")
"""There where the kernel speaks it."""
ECHO, UDP, LATE = 7000, 7001, 7002
LOOK_S = 0.02


class Server:
    """One loop for all sockets."""

    def __init__(self) -> None:
        self.nonce = os.urandom(8).hex()
        self.counter = self.replies = 0
        self.ok = True
        self.loop = selectors.DefaultSelector()
        self._listen(ECHO)
        if IPV6.exists():
            self._listen(ECHO, socket.AF_INET6)
        self.late: socket.socket | None = self._listen(LATE, watched=False)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind(("0.0.0.0", UDP))
        self.loop.register(self.udp, selectors.EVENT_READ, self._answer_datagram)
        self.connects = 0
        self._connect()

    def _listen(self, port: int, family: int = socket.AF_INET, *, watched: bool = True) -> socket.socket:
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(("", port))
        listener.listen(16)
        if watched:
            self.loop.register(listener, selectors.EVENT_READ, self._accept)
        return listener

    def _connect(self) -> None:
        self.own = socket.create_connection(("127.0.0.1", ECHO))
        self.loop.register(self.own, selectors.EVENT_READ, self._check_own)
        self.connects += 1
        self.asked = -1

    def _accept(self, listener: socket.socket) -> None:
        self.loop.register(listener.accept()[0], selectors.EVENT_READ, self._answer)

    def _answer(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(4096)
        except OSError:
            data = b""
        if not data:
            self.loop.unregister(connection)
            connection.close()
            return
        self.replies += 1
        connection.sendall(data.strip() + f" {self.replies} {self.nonce}\n".encode())

    def _answer_datagram(self, udp: socket.socket) -> None:
        data, sender = udp.recvfrom(4096)
        udp.sendto(data.strip() + f" {self.nonce}\n".encode(), sender)

    def _check_own(self, own: socket.socket) -> None:
        words = own.recv(4096).split()
        self.ok = self.ok and words[:1] == [str(self.counter).encode()]
        self.counter += 1

    def _ask_own(self) -> None:
        if self.asked < self.counter:
            self.asked = self.counter
            self.own.sendall(f"{self.asked}\n".encode())

    def run(self) -> None:
        """Serve for ever."""
        while True:
            self._step()
            self._tell()
            time.sleep(0.002)

    def _step(self) -> None:
        try:
            self._ask_own()
            for key, _ in self.loop.select(LOOK_S):
                key.data(key.fileobj)
        except OSError:  # its connection to itself was closed
            self.loop.unregister(self.own)
            self.own.close()
            self._connect()
        if self.late and ACCEPT.exists():
            self.loop.register(self.late, selectors.EVENT_READ, self._accept)
            self.late = None

    def _tell(self) -> None:
        state = {
            "counter": self.counter,
            "nonce": self.nonce,
            "ok": self.ok,
            "replies": self.replies,
            "connects": self.connects,
        }
        new = STATE.with_suffix(".new")
        new.write_text(json.dumps(state))
        new.rename(STATE)


if __name__ == "__main__":
    STATE.parent.mkdir(exist_ok=True)
    Server().run()
