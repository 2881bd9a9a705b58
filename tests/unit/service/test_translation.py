"""What the kernel is asked about a connection, and what its answer says."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from migrator.service.network.sockets import Endpoint, Socket
from migrator.service.network.translation import HEAD, question, status_in, translated


def connection(own: str, other: str) -> Socket:
    return Socket(Endpoint("tcp", own, 7000), Endpoint("tcp", other, 42), 1, 7)


def answer(*attributes: bytes, kind: int = 0x100) -> bytes:
    body = bytes([2, 0, 0, 0]) + b"".join(attributes)
    return HEAD.pack(HEAD.size + len(body), kind, 0, 1, 0) + body


def attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def test_the_question_names_both_ends() -> None:
    asked = question(connection("10.78.1.10", "10.77.0.2"))
    assert HEAD.unpack_from(asked)[:3] == (len(asked), 0x101, 1)
    assert asked[16] == 2
    for part in (ip_address("10.78.1.10").packed, ip_address("10.77.0.2").packed):
        assert asked.count(part) == 1
    assert asked.count(struct.pack("!H", 7000)) == 1


def test_ipv4_in_the_guise_of_ipv6_is_ipv4() -> None:
    assert question(connection("::ffff:10.78.1.10", "::ffff:10.77.0.2")) == question(
        connection("10.78.1.10", "10.77.0.2")
    )
    six = question(connection("fd00::1", "fd00::2"))
    assert (six[16], ip_address("fd00::2").packed in six) == (10, True)


def test_the_status_stands_among_other_things() -> None:
    found = answer(attribute(1 | 0x8000, b"abcde"), attribute(3, struct.pack("!I", 0x2E)), attribute(7, b"x"))
    assert status_in(found) == 0x2E
    assert status_in(answer(attribute(1, b"abcd"))) == 0
    assert status_in(answer(b"\0\0\0\0")) == 0, "an attribute without a length is no reason to look for ever"


def test_what_is_not_tracked_is_not_translated() -> None:
    assert status_in(answer(struct.pack("=i", -2), kind=2)) == 0
    assert translated([]) == []
