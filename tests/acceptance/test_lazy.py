"""A program runs on its target before its memory is there, and finds every page as it left it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.criu.lazy.journal import Journal, State
from migrator.criu.lazy.twins import lives
from tests.acceptance.cluster import Cluster, Machine
from tests.workloads import WORKLOADS, Running, Workload

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

MOVED = ("arena", "counter", "threads", "tree", "redis", "node", "jvm", "postgres", "forking", "processes")
IN_MAKE_TEST = ("arena", "threads", "redis", "forking")


@pytest.fixture
def arena(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    yield cluster.start(WORKLOADS["arena"], "alpha", "lazy")
    cluster.remove("lazy")


@pytest.mark.parametrize(
    "workload",
    [
        pytest.param(WORKLOADS[name], id=name, marks=[] if name in IN_MAKE_TEST else [pytest.mark.wide])
        for name in MOVED
    ],
)
def test_programs_are_moved_lazily_and_back(cluster: Cluster, workload_image: None, workload: Workload) -> None:
    container = cluster.start(workload, "alpha", "lazy")
    try:
        seen = workload.look(container)
        for target in ("beta", "alpha"):
            job = cluster.done("migrate", str(container), target, "--lazy", "--wait")
            assert job["state"] == "succeeded", job
            container = container.on(cluster[target])
            seen = workload.check(seen, container)
    finally:
        cluster.remove("lazy")


def test_the_server_of_pages_dies_and_the_program_does_not_notice(cluster: Cluster, arena: Running) -> None:
    seen = WORKLOADS["arena"].look(arena)
    job_id = cluster.done("migrate", str(arena), "beta", "--lazy")["id"]
    journal = serving(cluster["beta"], job_id)
    os.kill(journal.server, signal.SIGSTOP)
    assert journal.left_bytes > 0
    os.kill(journal.server, signal.SIGKILL)
    job = cluster.wait_for_job(job_id)
    assert job["state"] == "succeeded", job
    WORKLOADS["arena"].check(seen, arena.on(cluster["beta"]))


def test_the_worker_dies_while_memory_comes(cluster: Cluster, arena: Running) -> None:
    seen = WORKLOADS["arena"].look(arena)
    job_id = cluster.done("migrate", str(arena), "beta", "--lazy")["id"]
    journal = serving(cluster["beta"], job_id)
    cluster.kill("beta", "worker")
    time.sleep(1)
    cluster.restart("beta", "worker")
    job = cluster.wait_for_job(job_id)
    assert job["state"] == "succeeded", job
    assert journal.state is State.WHOLE
    WORKLOADS["arena"].check(seen, arena.on(cluster["beta"]))


def test_without_its_pages_a_program_is_ended_and_its_source_is_kept(cluster: Cluster, arena: Running) -> None:
    seen = WORKLOADS["arena"].look(arena)
    job_id = cluster.done("migrate", str(arena), "beta", "--lazy")["id"]
    journal = serving(cluster["beta"], job_id)
    pids = (journal.server, journal.twin)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            os.kill(pid, number)
    job = cluster.wait_for_job(job_id)
    assert (job["state"], job["failure"]["code"]) == ("needs_operator", "pages_lost"), job
    assert cluster["beta"].tasks().get("lazy") == "STOPPED"
    assert cluster["alpha"].tasks()["lazy"] == "PAUSED"
    cluster.done("jobs", "resolve", job_id, "--keep", "source", "--reason", "its pages are lost")
    cluster.wait_for_job(job_id)
    WORKLOADS["arena"].check(seen, arena)


def serving(machine: Machine, job_id: str, timeout_s: float = 60.0) -> Journal:
    """The journal of a job's server, as soon as the program runs."""
    directory = Path(f"/proc/{machine.host.pid}/root/run/migrator/criu/{job_id}")
    deadline = time.monotonic() + timeout_s
    journal: Journal | None = None
    while journal is None or journal.state in (State.STARTING, State.READY):
        assert time.monotonic() < deadline, "the program never ran"
        journal = journal or Journal.open(directory)
    assert journal.state is State.SERVING
    assert lives(journal.server)
    return journal
