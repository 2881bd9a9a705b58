"""A unix socket that leads out of the container moves when the job says so, and is refused otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

IMAGE = "migrator.local/ticker:1"
DIRECTORY = "/srv/journal"
LISTENER = f"""
import os, socket
os.makedirs("{DIRECTORY}", exist_ok=True)
line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); line.bind("{DIRECTORY}/socket")
open("{DIRECTORY}/pid", "w").write(str(os.getpid()))
while True:
    open("{DIRECTORY}/heard", "a").write(line.recv(100).decode() + "\\n")
"""
SPEAKER = f"""
import json, os, socket, time
line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); line.connect("{DIRECTORY}/socket")
os.makedirs("/state"); nonce, number = os.urandom(8).hex(), 0
while True:
    number += 1
    line.send(str(number).encode())
    open("/state/new", "w").write(json.dumps({{"counter": number, "nonce": nonce}}))
    os.rename("/state/new", "/state/state.json")
    time.sleep(0.02)
"""


@pytest.fixture
def speaker(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    """A program that writes to a daemon of its host, as syslog(3) does; each host has one."""
    cluster.remove("speaker")
    for machine in cluster.machines.values():
        (machine.host.root / "srv/listener.py").write_text(LISTENER)
        machine.run("touch", "/etc/resolv.conf")
        machine.run("sh", "-c", "nohup python3 /srv/listener.py > /dev/null 2>&1 &")
        machine.run("sh", "-c", f"until [ -s {DIRECTORY}/pid ]; do sleep 0.05; done", timeout_s=10)
    mount = f"type=bind,src={DIRECTORY},dst={DIRECTORY},options=rbind:rw"
    program = ["/usr/bin/python3", "-B", "-c", SPEAKER]
    cluster["alpha"].ctr("run", "--detach", "--null-io", "--net-host", "--mount", mount, IMAGE, "speaker", *program)
    container = Running(cluster["alpha"], "speaker")
    container.wait_until(lambda state: state["counter"] > 20)
    yield container
    cluster.remove("speaker")
    for machine in cluster.machines.values():
        with suppress(FileNotFoundError):
            machine.run("kill", (machine.host.root / "srv/journal/pid").read_text())
        machine.run("rm", "-rf", DIRECTORY, "/srv/listener.py", "/etc/resolv.conf")


def test_a_socket_that_leads_out_needs_a_word(cluster: Cluster, speaker: Running) -> None:
    shared = [f"--volume={place}=shared" for place in (DIRECTORY, "/etc/hosts", "/etc/resolv.conf")]
    error = cluster.failure("migrate", "alpha/speaker", "beta", *shared)
    assert error["code"] == "criu_external_unix_socket", error
    before = speaker.wait_until(lambda state: state["counter"] > 40)
    job = cluster.finish("migrate", "alpha/speaker", "beta", *shared, "--external-unix-sockets")
    assert job["state"] == "succeeded", job["failure"]
    moved = Running(cluster["beta"], "speaker")
    after = moved.wait_until(lambda state: state["counter"] > before["counter"] + 50)
    assert after["nonce"] == before["nonce"]
    heard = [line for name in ("alpha", "beta") for line in lines(cluster[name].host.root / "srv/journal/heard")]
    assert heard == [str(number) for number in range(1, len(heard) + 1)], "what it said was heard once, here or there"


def lines(file: Path) -> list[str]:
    return file.read_text().rpartition("\n")[0].split("\n")
