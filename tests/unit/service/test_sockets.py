"""The kernel's socket tables as they are read, and which sockets get into each other's way."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from migrator.service.network.sockets import Endpoint, await_accepted, held_by, parse_socket, read_sockets

LISTENING = (
    "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0"
)
ESTABLISHED = (
    "   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0 100 0 0 10 0"
)
SIX = (
    "   0: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 "
    "00000000:00000000 00:00000000 00000000     0        0 12 2 0 0"
)


def test_a_listening_socket_is_read() -> None:
    found = parse_socket("tcp", LISTENING)
    assert found.local == Endpoint("tcp", "127.0.0.1", 8080)
    assert (found.waiting, found.connected, found.inode) == (True, False, 4711)


def test_a_connection_is_read() -> None:
    found = parse_socket("tcp", ESTABLISHED)
    assert found.remote == Endpoint("tcp", "127.0.0.1", 50000)
    assert (found.waiting, found.connected) == (False, True)


def test_an_ipv6_address_is_read() -> None:
    assert parse_socket("udp", SIX).local == Endpoint("udp", "::1", 53)


@pytest.mark.parametrize(
    ("first", "second", "meet"),
    [
        (("tcp", "0.0.0.0", 80), ("tcp", "10.0.0.1", 80), True),
        (("tcp", "10.0.0.2", 80), ("tcp", "10.0.0.1", 80), False),
        (("tcp", "0.0.0.0", 80), ("udp", "0.0.0.0", 80), False),
        (("tcp", "0.0.0.0", 80), ("tcp", "0.0.0.0", 81), False),
        (("tcp", "::", 80), ("tcp", "10.0.0.1", 80), True),
        (("tcp", "::1", 80), ("tcp", "0.0.0.0", 80), False),
    ],
)
def test_which_sockets_cannot_be_bound_at_once(
    first: tuple[str, str, int], second: tuple[str, str, int], meet: bool
) -> None:
    assert Endpoint(*first).meets(Endpoint(*second)) is meet
    assert Endpoint(*second).meets(Endpoint(*first)) is meet


def test_real_sockets_are_found_by_their_holder_and_one_that_waits_to_be_accepted_too() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        port, peer = server.getsockname()[1], client.getsockname()[1]
        found = held_by(read_sockets(Path("/proc/self")), [os.getpid()])
        ends = {(each.local.port, each.remote.port) for each in found}
    assert {(port, 0), (port, peer), (peer, port)} <= ends


def test_sockets_of_others_are_left_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port not in {each.local.port for each in held_by(read_sockets(Path("/proc/self")), [1 << 30])}


def test_a_connection_that_nobody_accepts_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        port = server.getsockname()[1]
        assert port in {found.local.port for found in await_accepted(Path("/proc/self"), 0.01)}
        server.accept()[0].close()
        assert port not in {found.local.port for found in await_accepted(Path("/proc/self"), 0.01)}


def test_in_a_network_that_others_share_only_ones_own_waiting_connections_count() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        port, here = server.getsockname()[1], Path("/proc/self")
        assert port in {found.local.port for found in await_accepted(here, 0.01, [os.getpid()])}
        assert port not in {found.local.port for found in await_accepted(here, 0.01, [1 << 30])}
