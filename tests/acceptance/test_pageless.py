"""A dump without pages leaves the program as it was: programs that verify themselves run on, and what was taken is whole."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import WORKLOADS, Running, Workload

pytestmark = [pytest.mark.real, pytest.mark.timeout(400), pytest.mark.usefixtures("keeps_checkpoints")]
VERIFYING = ("threads", "processes", "shared_memory", "forking", "timers")
"""Many threads; processes; five kinds of shared memory; processes that come and go; clocks."""
BROKEN_CRIU = """#!/bin/sh
case "$1" in swrk) exit 1;; esac
echo 'Version: 4.2.1'
"""
NAMES = ("dumped", "again")


@pytest.fixture(params=VERIFYING)
def workload(request: pytest.FixtureRequest) -> Workload:
    return WORKLOADS[request.param]


@pytest.fixture
def running(cluster: Cluster, workload: Workload) -> Iterator[Running]:
    for name in NAMES:
        cluster.remove(name)
    yield cluster.start(workload, "alpha", "dumped")
    for name in NAMES:
        cluster.remove(name)


def test_a_program_that_was_backed_up_runs_on_and_what_was_taken_runs_elsewhere(
    cluster: Cluster, workload: Workload, running: Running
) -> None:
    before, pid = workload.look(running), running.pid
    for _ in range(3):
        job = cluster.done("backup", str(running), "--wait", timeout_s=120)
        assert (job["state"], job["dumped"]) == ("succeeded", "without pages"), job
        assert_nobody_holds(cluster, running)
        workload.check(before, running)
        before = workload.look(running)
    assert running.pid == pid
    if workload is WORKLOADS["forking"]:
        return  # it listens at its host's address, which no other host has
    words = ("restore", job["checkpoint_id"], "beta", "--name", "again", "--wait")
    assert cluster.done(*words, timeout_s=120)["state"] == "succeeded"
    workload.check(before, Running(cluster["beta"], "again"))
    workload.check(before, running)


def test_a_program_whose_move_turned_back_runs_on(cluster: Cluster, workload: Workload, running: Running) -> None:
    before, pid = workload.look(running), running.pid
    with cluster.covered("beta", "/usr/sbin/criu", BROKEN_CRIU):
        job = cluster.wait_for_job(cluster.cli("migrate", str(running), "beta").data["id"])
    assert (job["state"], job["dumped"]) == ("failed", "without pages"), job
    workload.check(before, running)
    workload.check(workload.look(running), running)
    assert running.pid == pid
    assert_nobody_holds(cluster, running)


def assert_nobody_holds(cluster: Cluster, running: Running) -> None:
    """No thread is traced or stopped any more, and nobody has a mapping of CRIU's."""
    script = f"cd /proc/{running.pid}; grep -h TracerPid task/*/status | sort -u; grep -c criu maps"
    assert cluster["alpha"].run("sh", "-c", script, check=False).split() == ["TracerPid:", "0", "0"]
