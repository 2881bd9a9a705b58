"""Containers with an address: clients outside go on with the connections that they have."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from migrator.containerd import ContainerdClient
from migrator.lab import container_network
from tests.acceptance.cluster import Cluster, Machine
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

ATTACH = """
import base64, json, os, pathlib, subprocess, sys
file = pathlib.Path("/etc/cni/net.d/10-lab.conflist").read_bytes()
network, result = json.loads(file), None
words = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": sys.argv[1], "CNI_IFNAME": "eth0", "CNI_NETNS": sys.argv[2],
         "CNI_PATH": "/opt/cni/bin"}
ports = {"portMappings": [{"hostPort": 8080, "containerPort": 7000, "protocol": "tcp"}]}
for part in network["plugins"]:
    part |= {"runtimeConfig": ports} if "portMappings" in part["capabilities"] else {}
    part |= {"cniVersion": network["cniVersion"], "name": "lab"} | ({"prevResult": result} if result else {})
    done = subprocess.run(["/opt/cni/bin/" + part["type"]], input=json.dumps(part), text=True, check=True,
                          capture_output=True, env={**os.environ, **words})
    result = json.loads(done.stdout)
note = {"kind": "cniCacheV1", "containerId": sys.argv[1], "ifName": "eth0", "networkName": "lab", "result": result,
        "config": base64.b64encode(file).decode(), "capabilityArgs": ports}
notes = pathlib.Path("/var/lib/cni/results")
notes.mkdir(parents=True, exist_ok=True)
(notes / f"lab-{sys.argv[1]}-eth0").write_text(json.dumps(note))
"""
"""What `cnitool add` and other callers of libcni do, with a published port."""
ASK_PORT = """
import socket, sys
line = socket.create_connection((sys.argv[1], 8080), 5)
line.sendall(b"hello")
print(line.recv(100).decode())
"""
CLIENT = """
import json, socket, sys, time
line = socket.create_connection((sys.argv[1], 7000))
line.settimeout(20)
asked, longest, nonces, counts = 0, 0.0, set(), []
print("connected", flush=True)
last = time.monotonic()
while not counts or counts[-1] and not __import__("os").path.exists(sys.argv[2]):
    line.sendall(b"%d\\n" % asked)
    answer = b""
    while not answer.endswith(b"\\n"):
        part = line.recv(4096)
        if not part:
            raise SystemExit("the connection was closed")
        answer += part
    now = time.monotonic()
    number, count, nonce = answer.split()
    assert int(number) == asked, f"{number} instead of {asked}"
    assert not counts or int(count) > counts[-1], "the program went back"
    longest, last, asked = max(longest, now - last), now, asked + 1
    counts = [int(count)]
    nonces.add(nonce.decode())
    time.sleep(0.002)
print(json.dumps({"asked": asked, "longest_s": longest, "nonces": sorted(nonces)}))
"""
BROKEN_CRIU = '#!/bin/sh\n[ "$1" != --version ] || { echo Version: 4.2.1; exit 0; }\nexit 1\n'
ASK_UDP = """
import socket, sys
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.settimeout(5)
line.sendto(b"hello", (sys.argv[1], 7001))
print(line.recv(100).decode())
"""
COUNT_RESETS = """
add table inet {table}
add chain inet {table} in {{ type filter hook input priority 0; }}
add rule inet {table} in {family} saddr {address} tcp flags & rst == rst counter
"""
COUNT_ANNOUNCEMENTS = """
import json, os, socket, sys
from ipaddress import ip_address
address = ip_address(sys.argv[1]).packed
line = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
line.bind(("eth1", 0))
line.settimeout(0.1)
print("connected", flush=True)
heard = []
while not os.path.exists(sys.argv[2]):
    try:
        frame = line.recv(2048)
    except TimeoutError:
        continue
    arp = frame[12:14] == b"\x08\x06" and frame[28:32] == frame[38:42] == address
    neighbour = frame[:6] == bytes.fromhex("333300000001") and frame[54] == 136 and frame[62:78] == address
    heard += [frame[6:12].hex(":")] if arp or neighbour else []
print(json.dumps(heard))
"""
"""Gratuitous ARP and unsolicited neighbour advertisements, by who sent them."""
WAIT_ACCEPTED = """
import socket, sys
line = socket.create_connection((sys.argv[1], 7002))
line.sendall(b"early")
print("connected", flush=True)
line.settimeout(30)
print(line.recv(100).decode())
"""


class Client:
    """A program on the control host that talks to a container."""

    def __init__(self, cluster: Cluster, script: str, address: str):
        self._cluster = cluster
        self._done = f"/run/client-{time.monotonic_ns()}"
        command = cluster.lab.control.enter_command(["python3", "-c", script, address, self._done])
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "connected"

    def finish(self) -> str:
        """Tell it to stop, and return its last words."""
        self._cluster.lab.control.exec(["touch", self._done])
        said, _ = self._process.communicate(timeout=40)
        self._cluster.lab.control.exec(["rm", self._done])
        assert self._process.returncode == 0, said
        return said

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(timeout=10)


@contextmanager
def one_voice(cluster: Cluster, address: str) -> Iterator[None]:
    """While a container moves, no connection is reset in its name, and nobody answers beside it."""
    control = cluster.lab.control
    table, family = ("watch6", "ip6") if ":" in address else ("watch", "ip")
    rules = COUNT_RESETS.format(table=table, family=family, address=address)
    assert control.exec(["nft", rules]).returncode == 0
    pinging = control.enter_command(["ping", "-n", "-i", "0.05", address])
    ping = subprocess.Popen(pinging, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield
    finally:
        ping.send_signal(signal.SIGINT)
        said, _ = ping.communicate(timeout=10)
        counted = control.exec(["nft", "list", "table", "inet", table]).stdout
        control.exec(["nft", "delete", "table", "inet", table])
    assert " received" in said, said
    assert "DUP!" not in said, said
    assert "counter packets 0 bytes 0" in counted, counted


@pytest.fixture
def served(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    """A server in the lab's CNI network, on alpha."""
    cluster.remove("served")
    yield cluster.start(WORKLOADS["server"], "alpha", "served", options=("--cni",))
    cluster.remove("served")


@pytest.fixture
def joined(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    """A server in a network namespace that was made before it, and connected by CNI, on alpha."""
    place = "/run/netns/joined"
    cluster.remove("joined")
    for machine in cluster.machines.values():  # as `ip netns` does it, but for the mount that it leaves
        machine.run("sh", "-c", "mkdir -p /run/netns; echo 1 > /proc/sys/net/ipv4/ip_forward")
    cluster["alpha"].run("sh", "-c", f"touch {place}; unshare --net={place} ip link set lo up")
    cluster["alpha"].run("python3", "-c", ATTACH, "default-joined", place)
    yield cluster.start(WORKLOADS["server"], "alpha", "joined", options=("--with-ns", f"network:{place}"))
    cluster.remove("joined")
    for machine in cluster.machines.values():
        machine.run("sh", "-c", f"umount {place} 2> /dev/null; rm -f {place}", check=False)
        for family in ("ip", "ip6"):  # the plug-in portmap leaves the chains that all ports share
            machine.run("nft", "delete", "table", family, "nat", check=False)


def address_of(container: Running) -> str:
    return str(link_of(container)["addr_info"][0]["local"])


def address_6_of(container: Running) -> str:
    [address] = [
        each for each in link_of(container)["addr_info"] if each["family"] == "inet6" and each["scope"] == "global"
    ]
    assert "tentative" not in address, address
    return str(address["local"])


def mac_of(container: Running) -> str:
    return str(link_of(container)["address"])


def link_of(container: Running) -> dict[str, Any]:
    shown = container.host.run("nsenter", "-t", str(container.pid), "-n", "ip", "-json", "address", "show", "eth0")
    link: dict[str, Any]
    [link] = json.loads(shown)
    return link


def outside(cluster: Cluster, script: str, address: str) -> str:
    done = cluster.lab.control.exec(["python3", "-c", script, address], timeout_s=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def published_on(machine: Machine) -> str:
    """What answers at the published port of a host, asked from there."""
    address = container_network.address_of(machine.name)
    return machine.run("python3", "-c", ASK_PORT, address, check=False).strip()


def test_a_client_goes_on_with_its_connection(cluster: Cluster, served: Running) -> None:
    """TCP that never rests, a connection that waited to be accepted, a UDP socket: there and back again."""
    workload = WORKLOADS["server"]
    before, address, mac = workload.look(served), address_of(served), mac_of(served)
    client, early = Client(cluster, CLIENT, address), Client(cluster, WAIT_ACCEPTED, address)
    assert cluster.failure("migrate", "alpha/served", "beta")["code"] == "connections_waiting"
    (served.root / "accept").touch()
    with one_voice(cluster, address):
        there = cluster.migrate(served, "beta")
        middle = workload.check(before, there)
        assert (address_of(there), mac_of(there)) == (address, mac)
        back = cluster.migrate(there, "alpha")
    workload.check(middle, back)
    assert early.finish().split()[0] == "early"
    assert outside(cluster, ASK_UDP, address) == f"hello {before['nonce']}"
    told = json.loads(client.finish())
    assert told["nonces"] == [before["nonce"]]
    print(f"\n{told['asked']} requests, none lost in two moves, longest gap {told['longest_s']:.2f} s")


def test_a_client_over_ipv6_goes_on_with_its_connection(cluster: Cluster, served: Running) -> None:
    """There and back: the address is of no other, its neighbours are told where it is, and nobody resets anything."""
    workload = WORKLOADS["server"]
    before, address, mac = workload.look(served), address_6_of(served), mac_of(served)
    client = Client(cluster, CLIENT, address)
    announced = [Client(cluster, COUNT_ANNOUNCEMENTS, each) for each in (address, address_of(served))]
    with one_voice(cluster, address):
        there = cluster.migrate(served, "beta")
        middle = workload.check(before, there)
        assert (address_6_of(there), mac_of(there)) == (address, mac)
        heard = [json.loads(each.finish()) for each in announced]
        back = cluster.migrate(there, "alpha")
    workload.check(middle, back)
    assert [set(each) for each in heard] == [{mac}, {mac}], heard
    told = json.loads(client.finish())
    assert told["nonces"] == [before["nonce"]]
    print(f"\n{told['asked']} requests over IPv6, none lost in two moves, longest gap {told['longest_s']:.2f} s")


def test_a_move_that_is_taken_back_leaves_the_client_where_it_was(cluster: Cluster, served: Running) -> None:
    client = Client(cluster, CLIENT, address_of(served))
    with cluster.covered("beta", "/usr/sbin/criu", BROKEN_CRIU):
        job = cluster.finish("migrate", "alpha/served", "beta")
    assert job["state"] == "failed", job
    assert json.loads(client.finish())["nonces"] == [served.state()["nonce"]]
    assert served.host.tasks()["served"] == "RUNNING"  # type: ignore[attr-defined]


def test_the_guard_joins_what_the_freeze_cut_off(cluster: Cluster, served: Running) -> None:
    """A worker that dies in the freeze: the guard lets the program run, and be reached."""
    client = Client(cluster, CLIENT, address_of(served))
    job = cluster.done("migrate", "alpha/served", "beta")
    cluster.wait_frozen(served)
    cluster.kill("alpha", "worker")
    cluster.wait_thawed(served.pid, 15)
    cluster.restart("alpha", "worker")
    ended = cluster.wait_for_job(job["id"])
    assert ended["state"] == "failed", ended
    assert json.loads(client.finish())["nonces"] == [served.state()["nonce"]]


def test_a_container_in_a_namespace_made_by_others_moves_with_it(cluster: Cluster, joined: Running) -> None:
    workload = WORKLOADS["server"]
    before, address, mac = workload.look(joined), address_of(joined), mac_of(joined)
    client = Client(cluster, CLIENT, address)
    assert before["nonce"] in published_on(cluster["alpha"])
    through = Client(cluster, CLIENT.replace("7000", "8080"), container_network.address_of("alpha"))
    refused = cluster.failure("migrate", "alpha/joined", "beta")
    assert (refused["code"], "--tcp close" in refused["remedy"]) == ("translated_connections", True), refused
    assert refused["message"].count("–") == 1, "the other client asks for the container's own address"
    json.loads(through.finish())
    there = cluster.migrate(joined, "beta")
    middle = workload.check(before, there)
    assert (address_of(there), mac_of(there)) == (address, mac)
    assert before["nonce"] in published_on(cluster["beta"])
    assert published_on(cluster["alpha"]) == ""
    workload.check(middle, cluster.migrate(there, "alpha"))
    assert json.loads(client.finish())["nonces"] == [before["nonce"]]


def test_a_copy_gets_an_address_of_its_own(cluster: Cluster, served: Running, keeps_checkpoints: None) -> None:
    """A checkpoint leaves the client where it is, and its address is not given to a copy while it answers."""
    client = Client(cluster, CLIENT, address_of(served))
    cluster.done("checkpoints", "create", "alpha/served", "--wait")
    checkpoint = cluster.done("checkpoints", "list")[0]["id"]
    assert json.loads(client.finish())["nonces"] == [served.state()["nonce"]]
    assert cluster.failure("restore", checkpoint, "beta")["code"] == "original_runs"
    cluster.remove("copy")
    try:
        job = cluster.done("restore", checkpoint, "beta", "--name", "copy", "--tcp", "close", "--wait")
        assert job["state"] == "succeeded", job
        copy = Running(cluster["beta"], "copy")
        assert address_of(copy) != address_of(served)
        assert served.state()["nonce"] in outside(cluster, ASK_UDP, address_of(copy))
    finally:
        cluster.remove("copy")


def test_connections_are_closed_or_refused_as_the_job_says(cluster: Cluster, served: Running) -> None:
    client = Client(cluster, CLIENT, address_of(served))
    error = cluster.failure("migrate", "alpha/served", "beta", "--tcp", "refuse")
    assert error["code"] == "open_connections"
    assert container_network.address_of("control") in error["message"]
    nonce = served.state()["nonce"]
    job = cluster.done("migrate", "alpha/served", "beta", "--tcp", "close", "--wait")
    assert job["state"] == "succeeded", job
    with pytest.raises(AssertionError, match=r"closed|reset"):
        client.finish()
    moved = Running(cluster["beta"], "served")
    moved.wait_until(lambda state: bool(state["connects"] == 2 and state["nonce"] == nonce))
    assert nonce in outside(cluster, ASK_UDP, address_of(moved))


def test_an_address_that_the_target_gave_to_another_is_refused(cluster: Cluster, served: Running) -> None:
    taken = f"/var/lib/cni/networks/lab/{address_of(served)}"
    cluster["beta"].run("sh", "-c", f"mkdir -p {taken.rpartition('/')[0]}; printf 'default-other\\r\\neth0' > {taken}")
    try:
        error = cluster.failure("migrate", "alpha/served", "beta")
    finally:
        cluster["beta"].run("rm", taken)
    assert error["code"] == "address_taken"
    assert "default-other" in error["message"]


@pytest.fixture
def shared(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    """A server with host networking, on alpha; `ctr --net-host` would add bind mounts to it."""
    cluster.remove("shared")
    machine, workload = cluster["alpha"], WORKLOADS["server"]
    machine.ctr("containers", "create", cluster.import_image(workload, "alpha"), "shared")
    with ContainerdClient(machine.host.containerd_socket).with_namespace("default") as runtime:
        container = runtime.containers.get("shared")
        spec = container.spec_json()
        spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "network"]
        runtime.containers.update(replace(container, spec=container.pack_spec(spec)), "spec")
    machine.ctr("tasks", "start", "--detach", "--null-io", "shared")
    container = Running(machine, "shared")
    workload.started(container)
    yield container
    cluster.remove("shared")
    for machine in cluster.machines.values():  # what CRIU's iptables leaves, empty, where it has locked connections
        for family in ("ip", "ip6"):
            machine.run("nft", "delete", "table", family, "filter", check=False)


def test_host_networking_moves_without_its_open_connections(cluster: Cluster, shared: Running) -> None:
    nonce, beta = shared.state()["nonce"], container_network.address_of("beta")
    assert cluster.failure("migrate", "alpha/shared", "beta")["code"] == "host_network_connections"
    taken = subprocess.Popen(cluster["beta"].host.enter_command(["busybox", "nc", "-l", "-p", "7002"]))
    try:
        cluster["beta"].run(
            "sh", "-c", "until grep -q :1B5A /proc/net/tcp /proc/net/tcp6; do sleep 0.1; done", timeout_s=10
        )
        error = cluster.failure("migrate", "alpha/shared", "beta", "--tcp", "close")
    finally:
        taken.kill()
        taken.wait(timeout=10)
    assert (error["code"], error["message"]) == ("port_taken", "tcp 0.0.0.0:7002 is taken on this host")
    job = cluster.done("migrate", "alpha/shared", "beta", "--tcp", "close", "--wait")
    assert job["state"] == "succeeded", job
    moved = Running(cluster["beta"], "shared")
    moved.wait_until(lambda state: bool(state["connects"] == 2 and state["nonce"] == nonce))
    assert nonce in outside(cluster, ASK_UDP, beta)
