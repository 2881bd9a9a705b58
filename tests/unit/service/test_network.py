"""The parts of a container's move between networks that need no network."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from migrator.errors import IntegrityError, PreconditionFailed
from migrator.service.network import cni_files, handover
from migrator.service.network.announcement import checksum, frame_for, is_answer, probe_for
from migrator.service.network.attachment import Attachment, Route, pack_attachment, read_attachment
from migrator.service.network.cni import Cni, plugin_input, with_addresses
from migrator.service.network.cni_files import Record, find_program, parse_record, read_networks, write_record

MAC = "02:00:00:00:00:05"
FOUND = Attachment(
    plugin="cni",
    network="lab",
    container_id="default-web",
    interface="eth0",
    mac=MAC,
    addresses=("10.78.1.10/16", "fd00::5/64"),
    routes=(Route("default", "10.78.0.1"), Route("10.9.0.0/16")),
    host_link="veth1",
)
IPAM = {
    "type": "host-local",
    "ranges": [[{"subnet": "10.78.0.0/16", "rangeStart": "10.78.1.10", "rangeEnd": "10.78.1.20"}]],
}
CONFIG = {"cniVersion": "1.0.0", "name": "lab", "plugins": [{"type": "bridge", "ipam": IPAM}, {"type": "portmap"}]}


def test_an_attachment_travels_as_json() -> None:
    assert read_attachment(json.loads(json.dumps(pack_attachment(FOUND)))) == FOUND
    assert read_attachment(pack_attachment(None)) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"interface": "eth0; reboot"},
        {"network": "../etc"},
        {"mac": "no"},
        {"addresses": ["10.0.0.1/24 dev lo"]},
        {"routes": [{"destination": "default dev lo"}]},
        {"host_link": "-all"},
        {"ports": [{"hostPort": 0, "containerPort": 80}]},
    ],
)
def test_an_attachment_from_a_checkpoint_is_not_trusted(wrong: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        read_attachment({**(pack_attachment(FOUND) or {}), **wrong})


def test_addresses_of_the_range_are_asked_for_and_others_are_set() -> None:
    inside = with_addresses(CONFIG, ["10.78.1.11"], ("10.78.1.11/16",))["plugins"][0]
    assert (inside["ipam"]["type"], inside["args"]) == ("host-local", {"cni": {"ips": ["10.78.1.11"]}})
    outside = with_addresses(CONFIG, ["10.78.2.11"], ("10.78.2.11/16",))["plugins"][0]
    assert outside["ipam"] == {"type": "static", "addresses": [{"address": "10.78.2.11/16"}]}
    assert with_addresses(CONFIG, [], ()) == CONFIG


def test_a_plugin_is_told_only_what_it_can_do() -> None:
    ports = {"portMappings": [{"hostPort": 80, "containerPort": 8080}]}
    record = Record(Path("/n"), "default-web", "eth0", "lab", CONFIG, {}, ports)
    able = plugin_input(record, {"type": "portmap", "capabilities": {"portMappings": True}}, {"ips": []})
    assert able["runtimeConfig"] == ports
    assert able["prevResult"] == {"ips": []}
    assert (able["name"], able["cniVersion"], "capabilities" in able) == ("lab", "1.0.0", False)
    assert "runtimeConfig" not in plugin_input(record, {"type": "bridge"}, None)


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = {"interfaces": [{"name": "eth0", "mac": MAC, "sandbox": "/proc/1/ns/net"}]}
    record = Record(tmp_path / "lab-web-eth0", "web", "eth0", "lab", CONFIG, result, namespace="/proc/1/ns/net")
    write_record(record)
    found = parse_record(record.path, json.loads(record.path.read_text()))
    assert found == record
    assert found.has("eth0", MAC)
    assert not found.has("eth0", "02:00:00:00:00:06")


def test_a_note_of_a_single_plugin_is_a_list_of_one(tmp_path: Path) -> None:
    config = base64.b64encode(json.dumps({"name": "lab", "type": "ptp"}).encode()).decode()
    data = {"containerId": "web", "ifName": "eth0", "networkName": "lab", "config": config, "result": {}}
    assert parse_record(tmp_path, data).config["plugins"] == [{"name": "lab", "type": "ptp"}]


def test_networks_are_found_by_name_and_broken_files_left_out(tmp_path: Path) -> None:
    (tmp_path / "10-a.conflist").write_text(json.dumps(CONFIG))
    (tmp_path / "20-b.conf").write_text(json.dumps({"name": "lab", "type": "ptp"}))
    (tmp_path / "30-c.conf").write_text("{")
    (tmp_path / "notes.txt").write_text(json.dumps({"name": "other", "type": "ptp"}))
    assert read_networks(tmp_path) == {"lab": CONFIG}


def test_a_plugin_is_no_path(tmp_path: Path) -> None:
    (tmp_path / "bridge").touch()
    assert find_program("bridge", (tmp_path,)) == tmp_path / "bridge"
    assert find_program("../bridge", (tmp_path / "x",)) is None


def test_what_a_target_lacks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cni_files, "CONFIG_DIR", tmp_path)
    [finding] = Cni().examine(FOUND)
    assert (finding.code, "'lab'" in finding.message) == ("network_missing", True)


def test_gratuitous_arp_says_where_an_address_is() -> None:
    frame = frame_for(MAC, ip_address("10.78.1.10"))
    own = bytes.fromhex(MAC.replace(":", ""))
    assert frame[:14] == b"\xff" * 6 + own + b"\x08\x06"
    assert frame[22:28] == own
    assert frame[28:32] == frame[38:42] == bytes([10, 78, 1, 10])


def test_a_neighbour_advertisement_has_the_right_checksum() -> None:
    frame = frame_for(MAC, ip_address("fd00::5"))
    head, message = frame[14:54], frame[54:]
    pseudo = head[8:40] + len(message).to_bytes(4, "big") + (58).to_bytes(4, "big")
    assert head[7] == 255
    assert message[0] == 136
    assert checksum(pseudo + message) == 0


def test_a_question_about_an_address_claims_nothing() -> None:
    """RFC 4862: from the unspecified address, to those who may have it."""
    frame = probe_for(bytes.fromhex(MAC.replace(":", "")), ip_address("fd00::1234:5678"))
    head, message = frame[14:54], frame[54:]
    assert frame[:6] == bytes.fromhex("3333ff345678")
    assert head[8:24] == bytes(16)
    assert head[24:40] == ip_address("ff02::1:ff34:5678").packed
    assert (message[0], message[8:24]) == (135, ip_address("fd00::1234:5678").packed)
    assert len(message) == 24, "no option tells of an own address"
    assert checksum(head[8:40] + len(message).to_bytes(4, "big") + (58).to_bytes(4, "big") + message) == 0


def test_a_neighbour_advertisement_answers_for_its_address() -> None:
    frame = frame_for(MAC, ip_address("fd00::5"))
    assert is_answer(frame, ip_address("fd00::5").packed)
    assert not is_answer(frame, ip_address("fd00::6").packed)
    assert not is_answer(probe_for(bytes(6), ip_address("fd00::5")), ip_address("fd00::5").packed)


def test_an_interface_is_set_up_as_it_was() -> None:
    assert handover.set_up_commands(FOUND) == [
        "link set dev lo up",
        f"link set dev eth0 address {MAC} mtu 1500",
        "address replace 10.78.1.10/16 dev eth0",
        "address replace fd00::5/64 dev eth0 nodad",
        "link set dev eth0 up",
        "route replace default via 10.78.0.1 dev eth0",
        "route replace 10.9.0.0/16 dev eth0",
    ]


def test_without_a_waiting_room_nothing_is_given_back(tmp_path: Path) -> None:
    room = handover.Room.of(tmp_path / "mig-1.json", tmp_path, FOUND)
    handover.give_back(room, replace(FOUND, plugin="unheard-of"))


def test_a_namespace_that_is_there_already_is_not_taken(tmp_path: Path) -> None:
    room = handover.Room(tmp_path / "marker", tmp_path / "theirs", True)
    room.namespace.touch()
    with pytest.raises(PreconditionFailed, match="already"):
        handover.prepare(room, FOUND)
    assert not room.marker.exists()


def test_an_arp_reply_is_told_from_a_request() -> None:
    request = frame_for(MAC, ip_address("10.78.1.10"))
    reply = request[:21] + b"\x02" + request[22:]
    assert is_answer(reply, bytes([10, 78, 1, 10]))
    assert not is_answer(request, bytes([10, 78, 1, 10]))
    assert not is_answer(reply, bytes([10, 78, 1, 11]))
