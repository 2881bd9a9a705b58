"""The reader that looks for leftovers sees them: a blind one would pass every test."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from migrator.lab.lab import Lab
from tests.acceptance.cluster import Cluster
from tests.acceptance.inventory import host_lines, is_frozen
from tests.workloads import Running

pytestmark = pytest.mark.real


@pytest.fixture
def alpha(cluster: Cluster) -> Iterator[set[str]]:
    """What lay about on alpha before the test."""
    yield host_lines(cluster.lab, "alpha")
    cluster.remove("seen")


def kinds_gained(lab: Lab, before: set[str]) -> set[str]:
    return {line.split()[0] for line in host_lines(lab, "alpha") - before}


def wait_for_kind(lab: Lab, before: set[str], kind: str) -> None:
    deadline = time.monotonic() + 10
    while kind not in kinds_gained(lab, before):
        assert time.monotonic() < deadline, f"no {kind} was seen"


def test_a_frozen_container_is_seen(cluster: Cluster, ticker: Running, alpha: set[str]) -> None:
    assert not is_frozen(ticker.pid)
    ticker.ctr("tasks", "pause", "demo")
    assert is_frozen(ticker.pid)
    assert {"frozen", "task"} <= kinds_gained(cluster.lab, alpha)
    ticker.ctr("tasks", "resume", "demo")
    assert not is_frozen(ticker.pid)


def test_a_container_is_seen_with_all_it_has(cluster: Cluster, alpha: set[str]) -> None:
    cluster["alpha"].ctr("run", "--detach", "--null-io", "migrator.local/ticker:1", "seen")
    assert {"container", "task", "snapshot", "bundle", "shim", "mount"} <= kinds_gained(cluster.lab, alpha)


@pytest.mark.parametrize(
    ("kind", "make", "remove"),
    [
        ("lease", "ctr leases create --id seen", "ctr leases delete seen"),
        ("file", "mkdir -p /run/migrator/x && touch /run/migrator/x/seen", "rm -r /run/migrator/x"),
        ("file", "touch /tmp/seen", "rm /tmp/seen"),
        (
            "file",
            "mkdir -p /var/lib/migrator/criu/x && touch /var/lib/migrator/criu/x/seen",
            "rm -r /var/lib/migrator/criu/x",
        ),
        ("mount", "mount -t tmpfs seen /mnt", "umount /mnt"),
        ("image", "ctr images tag migrator.local/ticker:1 seen:1", "ctr images delete --sync seen:1"),
        ("snapshot", "ctr snapshots prepare seen ''", "ctr snapshots delete seen"),
        ("iptables", "iptables -A INPUT -s 10.9.9.9 -j DROP", "nft delete table ip filter"),
        ("nft", "nft add table inet seen", "nft delete table inet seen"),
    ],
)
def test_leftovers_are_seen(cluster: Cluster, alpha: set[str], kind: str, make: str, remove: str) -> None:
    cluster["alpha"].run("sh", "-c", make)
    try:
        assert kind in kinds_gained(cluster.lab, alpha)
    finally:
        cluster["alpha"].run("sh", "-c", remove)


def test_an_unfinished_ingest_is_seen(cluster: Cluster, alpha: set[str]) -> None:
    ingest = cluster["alpha"].host.enter_command(["ctr", "content", "ingest", "seen"])
    with subprocess.Popen(ingest, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"begun")
        process.stdin.flush()
        wait_for_kind(cluster.lab, alpha, "ingest")
        process.stdin.close()
        process.wait(timeout=20)
    for line in host_lines(cluster.lab, "alpha") - alpha:
        cluster["alpha"].ctr("content", "delete", line.split()[2])


def test_a_guard_is_seen(cluster: Cluster, alpha: set[str]) -> None:
    argv = ["python3", "-c", "import time; time.sleep(30)", "migrator.service.pause_guard"]
    process = subprocess.Popen(cluster["alpha"].host.enter_command(argv))
    try:
        wait_for_kind(cluster.lab, alpha, "guard")
    finally:
        process.kill()
        process.wait(timeout=10)


def test_a_program_that_outlived_its_purpose_is_seen(cluster: Cluster, alpha: set[str]) -> None:
    process = subprocess.Popen(cluster["alpha"].host.enter_command(["bash", "-c", "exec -a criu sleep 30"]))
    try:
        wait_for_kind(cluster.lab, alpha, "program")
    finally:
        process.kill()
        process.wait(timeout=10)


def test_a_locked_network_of_a_container_is_seen(cluster: Cluster, ticker: Running, alpha: set[str]) -> None:
    inside = ("nsenter", "--target", str(ticker.pid), "--net", "nft")
    cluster["alpha"].run(*inside, "add", "table", "inet", "CRIU-seen")
    assert "lock" in kinds_gained(cluster.lab, alpha)
