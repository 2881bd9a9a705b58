"""Containers with an address: clients outside go on with the connections that they have."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator

import pytest

from migrator.lab import container_network
from tests.acceptance.cluster import Cluster
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

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
ASK_UDP = """
import socket, sys
line = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
line.settimeout(5)
line.sendto(b"hello", (sys.argv[1], 7001))
print(line.recv(100).decode())
"""
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


@pytest.fixture
def served(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    """A server in the lab's CNI network, on alpha."""
    cluster.remove("served")
    yield cluster.start(WORKLOADS["server"], "alpha", "served", options=("--cni",))
    cluster.remove("served")


def address_of(container: Running) -> str:
    shown = container.host.run("nsenter", "-t", str(container.pid), "-n", "ip", "-json", "address", "show", "eth0")
    [link] = json.loads(shown)
    return str(link["addr_info"][0]["local"])


def mac_of(container: Running) -> str:
    return container.host.run("nsenter", "-t", str(container.pid), "-n", "cat", "/sys/class/net/eth0/address").strip()


def outside(cluster: Cluster, script: str, address: str) -> str:
    done = cluster.lab.control.exec(["python3", "-c", script, address], timeout_s=30)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_client_goes_on_with_its_connection(cluster: Cluster, served: Running) -> None:
    """TCP that never rests, a connection nobody has accepted, a UDP socket: there and back again."""
    workload = WORKLOADS["server"]
    before, address, mac = workload.look(served), address_of(served), mac_of(served)
    client, early = Client(cluster, CLIENT, address), Client(cluster, WAIT_ACCEPTED, address)
    there = cluster.migrate(served, "beta")
    middle = workload.check(before, there)
    assert (address_of(there), mac_of(there)) == (address, mac)
    back = cluster.migrate(there, "alpha")
    workload.check(middle, back)
    (back.root / "accept").touch()
    assert early.finish().split()[0] == "early"
    assert outside(cluster, ASK_UDP, address) == f"hello {before['nonce']}"
    told = json.loads(client.finish())
    assert told["nonces"] == [before["nonce"]]
    print(f"\n{told['asked']} requests, none lost in two moves, longest gap {told['longest_s']:.2f} s")


def test_a_move_that_is_taken_back_leaves_the_client_where_it_was(cluster: Cluster, served: Running) -> None:
    client = Client(cluster, CLIENT, address_of(served))
    with cluster.covered("beta", "/usr/sbin/criu", "#!/bin/sh\nexit 1\n"):
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


def test_connections_are_closed_or_refused_as_the_job_says(cluster: Cluster, served: Running) -> None:
    client = Client(cluster, CLIENT, address_of(served))
    error = cluster.failure("migrate", "alpha/served", "beta", "--tcp", "refuse")
    assert error["code"] == "open_connections"
    assert container_network.address_of("control") in error["message"]
    nonce = served.state()["nonce"]
    job = cluster.done("migrate", "alpha/served", "beta", "--tcp", "close", "--wait")
    assert job["state"] == "succeeded", job
    with pytest.raises(AssertionError, match="closed|reset"):
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


def test_host_networking_moves_without_open_connections(cluster: Cluster) -> None:
    cluster.remove("shared")
    try:
        shared = cluster.start(WORKLOADS["server"], "alpha", "shared", options=("--net-host",))
        nonce = shared.state()["nonce"]
        error = cluster.failure("migrate", "alpha/shared", "beta")
        assert error["code"] == "bind_mounts" or error["code"] == "host_network_connections"
        job = cluster.done("migrate", "alpha/shared", "beta", "--tcp", "close", "--wait")
        assert job["state"] == "succeeded", job
        moved = Running(cluster["beta"], "shared")
        moved.wait_until(lambda state: bool(state["connects"] == 2 and state["nonce"] == nonce))
        assert nonce in outside(cluster, ASK_UDP, container_network.address_of("beta"))
    finally:
        cluster.remove("shared")
