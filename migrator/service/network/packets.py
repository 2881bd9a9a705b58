"""Keep the TCP packets that come for a container while it is cut off, and deliver them when it can be reached again.

Nobody needs them: a peer sends again what is not acknowledged. But it waits twice as long each time (RFC 6298), so
after a freeze of a second it may be silent for another one. A packet that comes late is to TCP one that the network has
delayed; one that comes twice is dropped.
"""

from __future__ import annotations

import socket
import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from ctypes import addressof, create_string_buffer
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from migrator.errors import IntegrityError
from migrator.service.network.announcement import checksum
from migrator.service.network.attachment import Attachment

LIMIT_BYTES = 256 << 10
"""So much is kept for a container; who sends more at once has to send again."""
JOBS_LIMIT = 64
EVERY_PROTOCOL = 3
"""ETH_P_ALL (packet(7))."""
ETHER_TYPES = {4: 0x0800, 6: 0x86DD}
TCP = 6
SYN_OR_FIN = 0b11
IPV6_HEADER_BYTES = 40
LONGEST_BYTES = 65535
_SIZE = struct.Struct("!H")
_LOAD_BYTE, _LOAD_WORD, _AND, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x20, 0x54, 0x15, 0x06
"""Classic BPF (the kernel's networking/filter.rst)."""
_ALL = 0xFFFFFFFF
_INSTRUCTION_BYTES = 8
_SO_ATTACH_FILTER = 26
"""In asm-generic/socket.h; Python has no name for it."""


@dataclass(slots=True)
class _Line:
    """What listens for one container, and what it has heard."""

    listener: socket.socket
    heard: list[bytes] = field(default_factory=list)

    def listen(self) -> list[bytes]:
        """Take in what came since the last time; return all."""
        with suppress(BlockingIOError):
            while True:
                packet = whole(self.listener.recv(LONGEST_BYTES))
                if packet is not None and packet not in self.heard:
                    self.heard.append(packet)
        return list(within_limit(self.heard))


class KeptPackets:
    """The packets of all containers of this host that jobs have cut off. They die with the process.

    The kernel keeps them, by a socket that sees what arrives at any interface: nothing of it costs the freeze a thing.
    """

    def __init__(self) -> None:
        self._lines: OrderedDict[str, _Line] = OrderedDict()

    def begin(self, job_id: str, attachment: Attachment) -> None:
        """Listen from now on; where that is not possible nothing is kept."""
        self.drop(job_id)
        with suppress(OSError):
            self._lines[job_id] = _Line(_listen(attachment))
        while len(self._lines) > JOBS_LIMIT:
            self.drop(next(iter(self._lines)))

    def so_far(self, job_id: str) -> list[bytes]:
        """Return the IP packets that have come, and go on listening."""
        line = self._lines.get(job_id)
        return line.listen() if line else []

    def drop(self, job_id: str) -> list[bytes]:
        """Listen no more, and return the IP packets that have come."""
        packets = self.so_far(job_id)
        line = self._lines.pop(job_id, None)
        if line:
            line.listener.close()
        return packets


def _listen(attachment: Attachment) -> socket.socket:
    """Open a socket that sees what comes for a container, and never waits.

    Raises:
        OSError: That is not possible here.
    """
    with ExitStack() as opened:
        listener = opened.enter_context(
            socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(EVERY_PROTOCOL))
        )
        listener.setblocking(False)
        _attach(listener, filter_for(attachment.plain_addresses))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * LIMIT_BYTES)
        _Line(listener).listen()  # it heard everything until the filter was there
        opened.pop_all()
    return listener


def deliver(attachment: Attachment, packets: Iterable[bytes]) -> None:
    """Hand packets to a container that is reachable; those that are not for it, or cannot be sent, are let be."""
    mac = bytes.fromhex(attachment.mac.replace(":", ""))
    with suppress(OSError), socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as line:
        for packet in packets:
            if is_for(packet, attachment):
                ether_type = ETHER_TYPES[packet[0] >> 4]
                line.sendto(fitting(packet, attachment.mtu), (attachment.host_link, ether_type, 0, 0, mac))


def pack_packets(packets: Iterable[bytes]) -> bytes:
    """Write packets down, each behind its length."""
    return b"".join(_SIZE.pack(len(packet)) + packet for packet in packets)


def read_packets(data: bytes) -> list[bytes]:
    """Read what `pack_packets` wrote; what the packets say is not trusted.

    Raises:
        IntegrityError: `bad_packets`.
    """
    found, place = [], 0
    while place < len(data):
        start = place + _SIZE.size
        size_bytes = _SIZE.unpack(data[place:start])[0] if start <= len(data) else 0
        place = start + size_bytes
        packet = whole(data[start:place])
        if packet is None or len(packet) != size_bytes:
            raise IntegrityError("a malformed packet among those that came during the freeze", code="bad_packets")
        found.append(packet)
    return found


def whole(packet: bytes) -> bytes | None:
    """Return an IP packet of TCP without what fills its frame; None if it says nothing that is waited for."""
    try:
        begin, length = _tcp_place(packet)
        header_bytes = (packet[begin + 12] >> 4) * 4
        says = length - begin - header_bytes > 0 or packet[begin + 13] & SYN_OR_FIN
    except IndexError:
        return None
    return packet[:length] if says and begin + 20 <= begin + header_bytes <= length <= len(packet) else None


def is_for(packet: bytes, attachment: Attachment) -> bool:
    """Whether a packet goes to one of a container's addresses."""
    receiver = packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]
    return receiver in [ip_address(address).packed for address in attachment.plain_addresses]


def fitting(packet: bytes, mtu: int) -> bytes:
    """Cut a packet to what one frame holds, and compute its checksums: the card it came by may have left them out.

    The kernel joins packets before it shows them. To cut one is as if the rest had been lost.
    """
    begin, length = _tcp_place(packet)
    data = bytearray(packet[: min(length, mtu)])
    if data[0] >> 4 == 4:
        struct.pack_into("!H", data, 2, len(data))
        struct.pack_into("!H", data, 10, 0)
        struct.pack_into("!H", data, 10, checksum(bytes(data[:begin])))
        addresses = data[12:20]
    else:
        struct.pack_into("!H", data, 4, len(data) - IPV6_HEADER_BYTES)
        addresses = data[8:40]
    struct.pack_into("!H", data, begin + 16, 0)
    segment = bytes(data[begin:])
    pseudo = bytes(addresses) + struct.pack("!II", len(segment), TCP)
    struct.pack_into("!H", data, begin + 16, checksum(pseudo + segment + bytes(len(segment) % 2)))
    return bytes(data)


def within_limit(packets: Iterable[bytes]) -> Iterator[bytes]:
    """Give the first packets, up to the limit."""
    left_bytes = LIMIT_BYTES
    for packet in packets:
        left_bytes -= len(packet)
        if left_bytes < 0:
            return
        yield packet


def _tcp_place(packet: bytes) -> tuple[int, int]:
    """Where TCP begins in an IP packet, and where the packet ends.

    Raises:
        IndexError: It is no packet of TCP, or has headers that TCP seldom has.
    """
    version = packet[0] >> 4
    if version == 4 and packet[9] == TCP and not packet[6] & 0x3F and not packet[7]:  # no fragment
        return (packet[0] & 0xF) * 4, int.from_bytes(packet[2:4]) or len(packet)
    if version == 6 and packet[6] == TCP:
        return IPV6_HEADER_BYTES, IPV6_HEADER_BYTES + int.from_bytes(packet[4:6])
    raise IndexError


def filter_for(addresses: Iterable[str]) -> bytes:
    """Write the program that lets through TCP for some addresses, beginning with the IP header."""
    program = b"".join(_block(ip_address(address)) for address in addresses)
    return program + _instruction(_RETURN, 0)


def _block(address: IPv4Address | IPv6Address) -> bytes:
    """Accept a packet for one address, else go on behind this block."""
    start, protocol_at, receiver_at = (0x40, 9, 16) if address.version == 4 else (0x60, 6, 24)
    words = struct.unpack(f"!{len(address.packed) // 4}I", address.packed)
    tests = [(_LOAD_BYTE, protocol_at, TCP)]
    tests += [(_LOAD_WORD, receiver_at + 4 * number, word) for number, word in enumerate(words)]
    left = 2 * len(tests) + 1  # instructions behind the test of the version
    block = _instruction(_LOAD_BYTE, 0) + _instruction(_AND, 0xF0) + _instruction(_JUMP_IF_EQUAL, start, 0, left)
    for load, place, value in tests:
        left -= 2
        block += _instruction(load, place) + _instruction(_JUMP_IF_EQUAL, value, 0, left)
    return block + _instruction(_RETURN, _ALL)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _attach(listener: socket.socket, program: bytes) -> None:
    """Hand a program to the kernel (socket(7), SO_ATTACH_FILTER): a count of instructions, and where they are."""
    place = create_string_buffer(program, len(program))
    told = struct.pack("@HP", len(program) // _INSTRUCTION_BYTES, addressof(place))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, told)
