"""A running container is rewound in place: its memory, its files, its address; and whatever fails, one of the two runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import Running
from tests.workloads.workload import State

pytestmark = [pytest.mark.real, pytest.mark.timeout(300), pytest.mark.usefixtures("keeps_checkpoints")]

COUNT = """
import json, os, socket, threading, time
nonce, number = os.urandom(8).hex(), 0
listener = socket.create_server(("", 7000))
def answer():
    while True:
        with listener.accept()[0] as peer:
            peer.sendall(nonce.encode())
threading.Thread(target=answer, daemon=True).start()
os.makedirs("/state", exist_ok=True)
book = open("/book", "a", buffering=1)
while True:
    number += 1
    print(number, file=book)
    open("/state/new", "w").write(json.dumps({"counter": number, "nonce": nonce}))
    os.rename("/state/new", "/state/state.json")
    time.sleep(0.02)
"""
ASK = "import socket, sys; print(socket.create_connection((sys.argv[1], 7000), 5).recv(99).decode())"
IMAGE = "migrator.local/ticker:1"
NAME = "rewound"
CRIU = "/run/migrator/criu"


@pytest.fixture
def counter(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    """A program on alpha that counts, writes each number into a file that it opened once, and answers at its address."""
    cluster.remove(NAME)
    alpha = cluster["alpha"]
    alpha.ctr("run", "--detach", "--null-io", "--cni", IMAGE, NAME, "/usr/bin/python3", "-B", "-c", COUNT)
    container = Running(alpha, NAME)
    container.wait_until(lambda state: state["counter"] > 20)
    yield container
    cluster.remove(NAME)


def take(cluster: Cluster, container: Running) -> tuple[str, State]:
    """A backup, and what the program said after it; since then it has a file more and has gone on."""
    job = cluster.finish("backup", str(container))
    assert job["state"] == "succeeded", job
    seen = container.state()
    (container.root / "later").touch()
    container.wait_until(lambda state: state["counter"] > seen["counter"] + 20)
    return str(job["checkpoint_id"]), seen


def is_rewound(container: Running) -> bool:
    """Whether it is the program as it was before its file."""
    return not (container.root / "later").exists()


def check(container: Running, begun: State, address: str) -> State:
    """The same program goes on, each number stands in its file once, and it answers where it did."""
    now = container.state()
    after = container.wait_until(lambda state: state["counter"] > now["counter"] + 5)
    assert after["nonce"] == begun["nonce"]
    pid = container.pid
    book = container.host.run("cat", f"/proc/{pid}/root/book").split()
    assert book == [str(number + 1) for number in range(len(book))]
    assert len(book) >= after["counter"]
    assert container.address == address
    assert container.host.run("python3", "-c", ASK, address).strip() == begun["nonce"]
    return after


def asides(cluster: Cluster) -> list[str]:
    return [name for name in cluster["alpha"].containers() if name.endswith("-displaced")]


def test_a_rewind_and_back_again(cluster: Cluster, counter: Running) -> None:
    address = counter.address
    checkpoint, seen = take(cluster, counter)
    assert "--replace" in cluster.failure("restore", checkpoint, "alpha")["remedy"]

    before = counter.state()
    answer = cluster.cli("restore", checkpoint, "alpha", "--replace", "--wait")
    assert answer.code == 0, answer.said
    job = answer.data
    assert (job["kind"], job["rewinds_to"], job["source"]) == ("rewind", checkpoint, "alpha")
    check(counter, seen, address)
    assert is_rewound(counter)
    assert not asides(cluster)

    # What ran before is kept, and is the way back.
    kept = cluster.done("checkpoints", "show", job["checkpoint_id"])
    assert kept["pinned_at"]
    assert checkpoint in kept["pin_reason"]
    back = cluster.finish("restore", job["checkpoint_id"], "alpha", "--replace")
    assert back["state"] == "succeeded", back
    assert check(counter, seen, address)["counter"] > before["counter"]
    assert not is_rewound(counter)

    # By time; and what was rewound moves as any other does.
    by_time = cluster.finish("restore", "alpha/rewound", "alpha", "--replace", "--at", shown_at(cluster, checkpoint))
    assert (by_time["state"], by_time["rewinds_to"]) == ("succeeded", checkpoint), by_time
    assert is_rewound(counter)
    moved = cluster.migrate(counter, "beta")
    check(moved, seen, address)
    assert is_rewound(moved)


def shown_at(cluster: Cluster, checkpoint: str) -> str:
    return str(cluster.done("checkpoints", "show", checkpoint)["created_at"])


def test_refusals_touch_nothing(cluster: Cluster, counter: Running) -> None:
    checkpoint, seen = take(cluster, counter)
    assert cluster.failure("restore", checkpoint, "beta", "--replace")["code"] == "container_not_found"
    assert (
        cluster.failure("restore", checkpoint, "alpha", "--replace", "--name", "nobody")["code"]
        == "container_not_found"
    )
    assert cluster.failure("restore", checkpoint, "alpha", "beta", "--replace")["code"] == "bad_clones"
    assert cluster.failure("restore", checkpoint, "alpha", "--replace", "--network", "none")["code"] == (
        "contradictory_request"
    )
    assert counter.state()["counter"] > seen["counter"] + 20
    assert not is_rewound(counter)


def test_a_restore_that_fails_brings_the_original_back(cluster: Cluster, counter: Running) -> None:
    address = counter.address
    checkpoint, seen = take(cluster, counter)
    before, pid = counter.state(), counter.pid
    job_id = cluster.done("restore", checkpoint, "alpha", "--replace")["id"]
    spoil = f"while ! [ -d {CRIU}/{job_id}/images ]; do sleep 0.01; done; rm {CRIU}/{job_id}-rewind/images/core-*.img"
    cluster["alpha"].run("sh", "-c", spoil)
    job = cluster.wait_for_job(job_id)
    assert job["state"] == "failed", job
    assert status_of(job, "displace") == "undone"
    assert counter.pid != pid, "it was displaced, and came back from its images"
    assert check(counter, seen, address)["counter"] > before["counter"]
    assert not asides(cluster)
    assert job["checkpoint_id"] not in [row["id"] for row in cluster.done("checkpoints", "list")]


@pytest.mark.wide
def test_when_neither_can_be_restored_the_sealed_one_is_the_last_copy(cluster: Cluster, counter: Running) -> None:
    checkpoint, seen = take(cluster, counter)
    address, before = counter.address, counter.state()
    job_id = cluster.done("restore", checkpoint, "alpha", "--replace")["id"]
    spoil = f"while ! [ -e {CRIU}/{job_id}/whole ]; do sleep 0.01; done; rm {CRIU}/{job_id}*/images/core-*.img"
    cluster["alpha"].run("sh", "-c", spoil)
    job = cluster.wait_for_job(job_id)
    assert (job["state"], job["failure"]["code"]) == ("failed", "source_gone"), job
    assert job["checkpoint_id"] in job["failure"]["remedy"]
    assert not asides(cluster)
    assert NAME in cluster["alpha"].containers(), "its record and files are in their place"
    assert NAME not in cluster["alpha"].tasks()
    cluster.remove(NAME)
    restored = cluster.finish("restore", job["checkpoint_id"], "beta")
    assert restored["state"] == "succeeded", restored
    back = counter.on(cluster["beta"])
    assert check(back, seen, address)["counter"] > before["counter"]
    assert not is_rewound(back)


@pytest.mark.parametrize("moment", ["{job}/whole", pytest.param("{job}-rewind/restore.log", marks=pytest.mark.wide)])
def test_a_worker_killed_in_the_middle(cluster: Cluster, counter: Running, moment: str) -> None:
    address = counter.address
    checkpoint, seen = take(cluster, counter)
    job_id = cluster.done("restore", checkpoint, "alpha", "--replace")["id"]
    file = f"{CRIU}/{moment.format(job=job_id)}"
    cluster["alpha"].run("sh", "-c", f"while ! [ -e {file} ]; do sleep 0.01; done")
    cluster["alpha"].host.service("worker").kill()
    cluster.restart("alpha", "worker")
    job = cluster.wait_for_job(job_id)
    assert job["state"] in ("failed", "succeeded"), json.dumps(job)
    check(counter, seen, address)
    assert is_rewound(counter) is (job["state"] == "succeeded")
    assert not asides(cluster)


def status_of(job: dict[str, Any], name: str) -> str:
    return str(next(step["status"] for step in job["steps"] if step["name"] == name))
