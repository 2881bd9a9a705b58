"""The sockets of a network namespace, and which of them a task holds (proc(5), /proc/PID/net)."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from migrator.errors import Unavailable

FAMILIES = ("tcp", "tcp6", "udp", "udp6")
LOOK_S = 0.005
LISTEN, TIME_WAIT, CLOSE = 0x0A, 0x06, 0x07
TABLE = {"tcp": "tcp", "tcp6": "tcp", "udp": "udp", "udp6": "udp"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a socket is bound."""

    protocol: str
    """`tcp` or `udp`."""
    address: str
    port: int

    def __str__(self) -> str:
        """As people write it."""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.protocol} {host}:{self.port}"

    def meets(self, other: Endpoint) -> bool:
        """Whether two sockets cannot be bound at once: same port, and same address or one of them bound to all."""
        if (self.protocol, self.port) != (other.protocol, other.port):
            return False
        mine, theirs = ip_address(self.address), ip_address(other.address)
        if mine.is_unspecified or theirs.is_unspecified:
            return mine.version == theirs.version or _holds_both(mine) or _holds_both(theirs)
        return mine == theirs


@dataclass(frozen=True, slots=True)
class Socket:
    """One line of the kernel's table."""

    local: Endpoint
    remote: Endpoint
    state: int
    inode: int
    """0 for a connection that nobody has accepted yet."""
    unread: int = 0
    """Bytes that nobody has read; of a listening socket, connections that nobody has accepted."""

    @property
    def connected(self) -> bool:
        """Whether the other end would miss it."""
        return self.local.protocol == "tcp" and self.state not in (LISTEN, TIME_WAIT, CLOSE)

    @property
    def waiting(self) -> bool:
        """Whether others may send to it: a listening TCP socket, or a UDP socket of no single peer."""
        listening = self.local.protocol == "tcp" and self.state == LISTEN
        return listening or (self.local.protocol == "udp" and self.state == CLOSE)


def read_sockets(process: Path) -> list[Socket]:
    """Read all sockets of the network namespace that a process (`/proc/PID`) lives in.

    Raises:
        Unavailable: `process_gone`.
    """
    found: list[Socket] = []
    for family in FAMILIES:
        try:
            lines = (process / "net" / family).read_text().splitlines()[1:]
        except FileNotFoundError:  # a kernel without IPv6
            continue
        except OSError as error:
            raise Unavailable(f"process {process.name} has ended", code="process_gone") from error
        found += [parse_socket(TABLE[family], line) for line in lines]
    return found


def await_accepted(process: Path, limit_s: float, pids: Iterable[int] | None = None) -> list[Socket]:
    """Wait until no connection waits to be accepted in the network of a process; return where some still do.

    CRIU dumps a connection by the descriptor that a program has of it, so one that waits cannot be dumped.

    Args:
        process: `/proc/PID`.
        limit_s: How long to wait.
        pids: Whose sockets count, where others live in the same network.
    """
    deadline = time.monotonic() + limit_s
    pids = None if pids is None else list(pids)
    while True:
        found = read_sockets(process)
        mine = found if pids is None else held_by(found, pids)
        full = [each for each in mine if each.local.protocol == "tcp" and each.state == LISTEN and each.unread]
        if not full or time.monotonic() >= deadline:
            return full
        time.sleep(LOOK_S)


def held_by(sockets: Iterable[Socket], pids: Iterable[int]) -> list[Socket]:
    """Choose the sockets that processes hold, with the connections that wait to be accepted by one of them."""
    inodes = {inode for pid in pids for inode in _inodes(Path(f"/proc/{pid}/fd"))}
    sockets = list(sockets)
    ports = {found.local.port for found in sockets if found.inode in inodes and found.waiting}
    return [
        found
        for found in sockets
        if found.inode in inodes or (found.inode == 0 and found.connected and found.local.port in ports)
    ]


def parse_socket(protocol: str, line: str) -> Socket:
    """Read one line of `/proc/net/tcp` and its like."""
    words = line.split()
    local, remote = (_endpoint(protocol, words[place]) for place in (1, 2))
    unread = int(words[4].partition(":")[2], 16)
    return Socket(local, remote, int(words[3], 16), int(words[9]), unread)


def _endpoint(protocol: str, text: str) -> Endpoint:
    """Read `0100007F:1F90`: the address as the kernel's 32-bit words in the machine's byte order, and the port."""
    address, port = text.split(":")
    words = [int(address[place : place + 8], 16) for place in range(0, len(address), 8)]
    family = socket.AF_INET if len(words) == 1 else socket.AF_INET6
    packed = struct.pack(f"={len(words)}I", *words)
    return Endpoint(protocol, socket.inet_ntop(family, packed), int(port, 16))


def _inodes(descriptors: Path) -> Iterator[int]:
    with suppress(OSError):  # the process has just ended
        for entry in os.scandir(descriptors):
            with suppress(OSError):
                target = str(Path(entry.path).readlink())
                if target.startswith("socket:["):
                    yield int(target[8:-1])


def _holds_both(address: IPv4Address | IPv6Address) -> bool:
    """A socket bound to `::` mostly takes IPv4 too."""
    return address.version == 6 and address.is_unspecified
