"""Tell a network where an address is now: gratuitous ARP (RFC 5227), unsolicited advertisements (RFC 4861, IPv6).

Switches and neighbours send to the old place until they hear of the new one.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

ETHER_ARP, ETHER_IPV6 = 0x0806, 0x86DD
BROADCAST = b"\xff" * 6
ALL_NODES = IPv6Address("ff02::1")
ALL_NODES_MAC = bytes.fromhex("333300000001")
ICMPV6, ADVERTISEMENT, OVERRIDE = 58, 136, 0x20000000
CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
TIMES = 2
"""A frame may be lost."""


def announce(namespace: Path, interface: str, mac: str, addresses: Iterable[str]) -> None:
    """Send from inside a network namespace. Nobody waits for an answer, and what cannot be sent is let be: the first
    frame that the container sends says the same.
    """
    frames = [frame_for(mac, ip_address(address)) for address in addresses]

    def send() -> None:  # a thread of its own: a namespace is entered by the thread that asks
        with suppress(OSError), namespace.open() as place:
            _enter(place.fileno())
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as line:
                line.bind((interface, 0))
                for frame in frames * TIMES:
                    line.send(frame)

    sender = threading.Thread(target=send, name="announcement", daemon=True)
    sender.start()
    sender.join()


def is_answered(interface: str, mac: str, address: str, limit_s: float = 0.5) -> bool:
    """Ask on an interface of this host whether somebody has an IPv4 address (RFC 5227, ARP probe)."""
    wanted, own = ip_address(address), bytes.fromhex(mac.replace(":", ""))
    if wanted.version != 4:
        return False
    probe = _arp(own, bytes(4), wanted.packed)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHER_ARP)) as line:
        line.bind((interface, ETHER_ARP))
        line.send(probe)
        deadline = time.monotonic() + limit_s
        while (left_s := deadline - time.monotonic()) > 0:
            line.settimeout(left_s)
            with suppress(TimeoutError):
                if is_answer(line.recv(2048), wanted.packed):
                    return True
    return False


def is_answer(frame: bytes, address: bytes) -> bool:
    """Whether a frame is an ARP reply of who has the address."""
    return frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x02" and frame[28:32] == address


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, CLONE_NEWNET):  # os.setns needs Python 3.12
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def frame_for(mac: str, address: IPv4Address | IPv6Address) -> bytes:
    """Make the frame that says "this address is at this MAC address"."""
    own = bytes.fromhex(mac.replace(":", ""))
    if address.version == 4:
        return _arp(own, address.packed, address.packed)  # a request for itself, as most stacks expect it
    return _advertisement(own, address)


def _arp(own: bytes, sender: bytes, target: bytes) -> bytes:
    """Make an ARP request."""
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + own + sender + bytes(6) + target
    return BROADCAST + own + struct.pack("!H", ETHER_ARP) + arp


def _advertisement(own: bytes, address: IPv4Address | IPv6Address) -> bytes:
    option = struct.pack("!BB", 2, 1) + own
    body = struct.pack("!BBHI", ADVERTISEMENT, 0, 0, OVERRIDE) + address.packed + option
    pseudo = address.packed + ALL_NODES.packed + struct.pack("!II", len(body), ICMPV6)
    message = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    head = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, 255) + address.packed + ALL_NODES.packed
    return ALL_NODES_MAC + own + struct.pack("!H", ETHER_IPV6) + head + message


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
