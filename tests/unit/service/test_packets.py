"""Packets that come for a container that is cut off: which are kept, how they travel, how they are delivered."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from migrator.errors import IntegrityError
from migrator.service.network.announcement import checksum
from migrator.service.network.attachment import Attachment
from migrator.service.network.packets import (
    LIMIT_BYTES,
    TCP,
    KeptPackets,
    filter_for,
    fitting,
    is_for,
    pack_packets,
    read_packets,
    whole,
    within_limit,
)

PEERS = [("10.9.0.1", "10.78.1.10"), ("fd00::1", "fd00::5")]
FOUND = Attachment(
    plugin="cni", network="lab", container_id="c", interface="eth0", mac="02:00:00:00:00:05",
    addresses=("10.78.1.10/16", "fd00::5/64"), host_link="veth1",
)  # fmt: skip


def packet_of(sender: str, receiver: str, content: bytes = b"hello", *, flags: int = 0x18) -> bytes:
    """An IP packet of TCP whose card was to compute the checksums."""
    addresses = ip_address(sender).packed + ip_address(receiver).packed
    segment = struct.pack("!HHIIBBHHH", 40000, 80, 1, 2, 5 << 4, flags, 512, 0xBEEF, 0) + content
    if len(addresses) == 8:
        return struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(segment), 7, 0x4000, 64, TCP, 0) + addresses + segment
    return struct.pack("!IHBB", 6 << 28, len(segment), TCP, 64) + addresses + segment


def passes(program: bytes, packet: bytes) -> bool:
    """Run the few instructions that a filter has, as the kernel would."""
    place, accumulator = 0, 0
    while True:
        code, if_true, if_false, value = struct.unpack_from("=HBBI", program, 8 * place)
        place += 1
        if code == 0x06:
            return bool(value)
        if code == 0x30:
            accumulator = packet[value]
        elif code == 0x20:
            accumulator = int.from_bytes(packet[value : value + 4])
        elif code == 0x54:
            accumulator &= value
        elif code == 0x15:
            place += if_true if accumulator == value else if_false
        else:
            raise AssertionError(f"{code:#x} is no instruction that is used")


@pytest.mark.parametrize(("sender", "receiver"), PEERS)
def test_the_filter_lets_through_what_is_for_the_container(sender: str, receiver: str) -> None:
    program = filter_for(FOUND.plain_addresses)
    coming, going = packet_of(sender, receiver), packet_of(receiver, sender)
    assert passes(program, coming)
    assert not passes(program, going)
    udp = bytearray(coming)
    udp[9 if udp[0] >> 4 == 4 else 6] = 17
    assert not passes(program, bytes(udp))
    assert (is_for(coming, FOUND), is_for(going, FOUND)) == (True, False)


@pytest.mark.parametrize(("sender", "receiver"), PEERS)
def test_what_says_nothing_is_not_kept_and_padding_goes(sender: str, receiver: str) -> None:
    said = packet_of(sender, receiver)
    assert whole(said + bytes(9)) == said
    assert whole(packet_of(sender, receiver, b"", flags=0x10)) is None, "an acknowledgement"
    assert whole(packet_of(sender, receiver, b"", flags=0x02)) is not None, "somebody who wants to connect"
    assert whole(said[:-1]) is None
    assert whole(b"") is None


@pytest.mark.parametrize(("sender", "receiver"), PEERS)
@pytest.mark.parametrize("content", [b"hello", b"odd lengths", bytes(range(256)) * 30])
def test_a_packet_is_cut_to_a_frame_and_its_checksums_are_right(sender: str, receiver: str, content: bytes) -> None:
    sent = fitting(packet_of(sender, receiver, content), 1500)
    assert len(sent) <= 1500
    begin = 20 if sent[0] >> 4 == 4 else 40
    addresses, segment = (sent[12:20] if begin == 20 else sent[8:40]), sent[begin:]
    assert content.startswith(segment[20:])
    assert whole(sent) == sent
    pseudo = addresses + struct.pack("!II", len(segment), TCP)
    assert checksum(pseudo + segment + bytes(len(segment) % 2)) == 0
    assert begin == 40 or checksum(sent[:20]) == 0


def test_packets_travel_behind_their_lengths() -> None:
    packets = [packet_of(*peers) for peers in PEERS]
    assert read_packets(pack_packets(packets)) == packets
    assert read_packets(b"") == []


@pytest.mark.parametrize("damaged", [b"\0", b"\0\x05hel", pack_packets([packet_of(*PEERS[0])])[:-1], b"\0\0"])
def test_what_was_damaged_is_refused(damaged: bytes) -> None:
    with pytest.raises(IntegrityError) as caught:
        read_packets(damaged)
    assert caught.value.code == "bad_packets"


def test_where_listening_is_not_possible_nothing_is_kept_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no filters here")

    monkeypatch.setattr("migrator.service.network.packets._attach", refuse)
    kept = KeptPackets()
    kept.begin("job", FOUND)
    assert kept.so_far("job") == []
    assert kept.drop("job") == []


def test_who_sends_too_much_has_to_send_again() -> None:
    packet = packet_of(*PEERS[0], bytes(1000))
    assert sum(map(len, within_limit([packet] * 1000))) <= LIMIT_BYTES
