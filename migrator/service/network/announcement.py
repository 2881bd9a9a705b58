"""Tell a network where an address is now, and ask it whether somebody has one.

By ARP (RFC 5227) for IPv4, by neighbour discovery (RFC 4861, RFC 4862) for IPv6. Switches and neighbours send to the
old place until they hear of the new one.
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
SOLICITED_NODES = int(IPv6Address("ff02::1:ff00:0"))
ICMPV6, SOLICITATION, ADVERTISEMENT, OVERRIDE = 58, 135, 136, 0x20000000
NOBODY = IPv6Address("::")
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
    """Ask on an interface of this host whether somebody has an address, without claiming it."""
    wanted, own = ip_address(address), bytes.fromhex(mac.replace(":", ""))
    kind = ETHER_ARP if wanted.version == 4 else ETHER_IPV6
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind)) as line:
        line.bind((interface, kind))
        line.send(probe_for(own, wanted))
        deadline = time.monotonic() + limit_s
        while (left_s := deadline - time.monotonic()) > 0:
            line.settimeout(left_s)
            with suppress(TimeoutError):
                if is_answer(line.recv(2048), wanted.packed):
                    return True
    return False


def is_answer(frame: bytes, address: bytes) -> bool:
    """Whether a frame comes from who has the address: an ARP reply, or a neighbour advertisement."""
    if len(address) == 4:
        return frame[12:14] == b"\x08\x06" and frame[20:22] == b"\x00\x02" and frame[28:32] == address
    is_icmp = frame[12:14] == b"\x86\xdd" and frame[20:21] == bytes([ICMPV6])
    return is_icmp and frame[54:55] == bytes([ADVERTISEMENT]) and frame[62:78] == address


def _enter(descriptor: int) -> None:
    if _LIBC.setns(descriptor, CLONE_NEWNET):  # os.setns needs Python 3.12
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def frame_for(mac: str, address: IPv4Address | IPv6Address) -> bytes:
    """Make the frame that says "this address is at this MAC address"."""
    own = bytes.fromhex(mac.replace(":", ""))
    if isinstance(address, IPv4Address):
        return _arp(own, address.packed, address.packed)  # a request for itself, as most stacks expect it
    option = struct.pack("!BB", 2, 1) + own
    body = struct.pack("!I", OVERRIDE) + address.packed + option
    return _neighbour_discovery(own, ADVERTISEMENT, body, address, ALL_NODES)


def probe_for(own: bytes, address: IPv4Address | IPv6Address) -> bytes:
    """Make the frame that asks who has an address, on behalf of nobody."""
    if isinstance(address, IPv4Address):
        return _arp(own, bytes(4), address.packed)
    listeners = IPv6Address(SOLICITED_NODES | int(address) & 0xFFFFFF)
    return _neighbour_discovery(own, SOLICITATION, bytes(4) + address.packed, NOBODY, listeners)


def _arp(own: bytes, sender: bytes, target: bytes) -> bytes:
    """Make an ARP request."""
    arp = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + own + sender + bytes(6) + target
    return BROADCAST + own + struct.pack("!H", ETHER_ARP) + arp


def _neighbour_discovery(own: bytes, kind: int, body: bytes, sender: IPv6Address, receivers: IPv6Address) -> bytes:
    """Make an ICMPv6 message to a group."""
    pseudo = sender.packed + receivers.packed + struct.pack("!II", len(body) + 4, ICMPV6)
    start = struct.pack("!BB", kind, 0)
    message = start + struct.pack("!H", checksum(pseudo + start + bytes(2) + body)) + body
    head = struct.pack("!IHBB", 6 << 28, len(message), ICMPV6, 255) + sender.packed + receivers.packed
    return b"\x33\x33" + receivers.packed[12:] + own + struct.pack("!H", ETHER_IPV6) + head + message


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
