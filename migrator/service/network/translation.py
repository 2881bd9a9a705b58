"""Which connections reach a container only because its host translates addresses (linux/nfnetlink_conntrack.h).

A connection that came through a published port was made to an address of the host, and one that left by masquerading
goes out under one: that address stays behind.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address

from migrator.service.network.sockets import Socket

NETLINK_NETFILTER = 12
GET = (1 << 8) | 1
"""Subsystem conntrack, message get."""
REQUEST, NESTED = 1, 0x8000
TUPLE_ORIG, STATUS = 1, 3
TUPLE_IP, TUPLE_PROTO = 1, 2
PROTO_NUMBER, PORT_FROM, PORT_TO = 1, 2, 3
TRANSLATED = 0x10 | 0x20
"""Source or destination (linux/nf_conntrack_common.h, IPS_SRC_NAT, IPS_DST_NAT)."""
HEAD, FAMILY, ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBH"), struct.Struct("=HH")
ANSWER_S = 1.0


def translated(connections: Iterable[Socket]) -> list[Socket]:
    """Choose the TCP connections whose addresses this host translates; none where its kernel tracks no connections."""
    found: list[Socket] = []
    with suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as line:
        line.settimeout(ANSWER_S)
        line.bind((0, 0))
        for connection in connections:
            line.send(question(connection))
            if status_in(line.recv(65536)) & TRANSLATED:
                found.append(connection)
    return found


def question(connection: Socket) -> bytes:
    """Ask for what the kernel knows of a connection, in the direction in which the container sends."""
    own, other = _address(connection.local.address), _address(connection.remote.address)
    family, base = (socket.AF_INET, 1) if own.version == 4 else (socket.AF_INET6, 3)
    addresses = _attribute(base, own.packed) + _attribute(base + 1, other.packed)
    ports = _attribute(PROTO_NUMBER, bytes([socket.IPPROTO_TCP]))
    ports += _attribute(PORT_FROM, struct.pack("!H", connection.local.port))
    ports += _attribute(PORT_TO, struct.pack("!H", connection.remote.port))
    inside = _attribute(TUPLE_IP | NESTED, addresses) + _attribute(TUPLE_PROTO | NESTED, ports)
    body = FAMILY.pack(family, 0, 0) + _attribute(TUPLE_ORIG | NESTED, inside)
    return HEAD.pack(HEAD.size + len(body), GET, REQUEST, 1, 0) + body


def status_in(answer: bytes) -> int:
    """Read the status of a connection; 0 for an error, such as that it is not tracked."""
    length, kind, *_ = HEAD.unpack_from(answer)
    if kind >> 8 != GET >> 8:
        return 0
    place = HEAD.size + FAMILY.size
    while place + ATTRIBUTE.size <= min(length, len(answer)):
        size, name = ATTRIBUTE.unpack_from(answer, place)
        if name & ~NESTED == STATUS:
            return int.from_bytes(answer[place + ATTRIBUTE.size : place + size], "big")
        place += max(_padded(size), ATTRIBUTE.size)
    return 0


def _address(text: str) -> IPv4Address | IPv6Address:
    found = ip_address(text)
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found


def _attribute(kind: int, data: bytes) -> bytes:
    size = ATTRIBUTE.size + len(data)
    return ATTRIBUTE.pack(size, kind) + data + bytes(_padded(size) - size)


def _padded(size: int) -> int:
    return (size + 3) & ~3
