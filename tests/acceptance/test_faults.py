"""Things die in the middle of a move: the program goes on at the source, in time, and nothing is left over."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.inventory import is_frozen, parent_of
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

GUARD_LIMIT_S = 5.0


def catch_frozen(cluster: Cluster, container: Running, strike: Callable[[str], None]) -> str:
    """Start a move and strike as soon as the container is frozen; return the job's id."""
    job_id = str(cluster.done("migrate", str(container), "beta")["id"])
    cluster.wait_frozen(container)
    strike(job_id)
    return job_id


def assert_runs_on(cluster: Cluster, container: Running, before: dict[str, object]) -> None:
    after = WORKLOADS["ticker"].check(before, container)
    assert after["started_at"] == before["started_at"]
    assert cluster["alpha"].tasks()["demo"] == "RUNNING"
    assert "demo" not in cluster["beta"].tasks()
    assert "demo" not in cluster["beta"].containers()


def test_the_worker_dies_during_the_freeze(cluster: Cluster, ticker: Running) -> None:
    before, pid = ticker.state(), ticker.pid
    job_id = catch_frozen(cluster, ticker, lambda _: cluster.kill("alpha", "worker"))
    died = time.monotonic()
    try:
        waited_s = cluster.wait_thawed(pid, GUARD_LIMIT_S) - died
        assert waited_s <= GUARD_LIMIT_S
    finally:
        cluster.restart("alpha", "worker")
    assert cluster.wait_for_job(job_id)["state"] == "failed"
    assert_runs_on(cluster, ticker, before)
    # And once everything is well again it can be moved.
    WORKLOADS["ticker"].check(before, cluster.migrate(ticker, "beta"))


def test_the_targets_containerd_dies_before_the_restore(cluster: Cluster, ticker: Running) -> None:
    before, pid = ticker.state(), ticker.pid
    job_id = catch_frozen(cluster, ticker, lambda _: cluster.kill("beta", "containerd"))
    try:
        # The rollback first lets the source run, then waits for the target to clean up.
        cluster.wait_for_step(job_id, "freeze", "undone")
        assert not is_frozen(pid)
    finally:
        cluster.restart("beta", "containerd")
    job = cluster.wait_for_job(job_id)
    assert job["state"] == "failed", job
    assert job["failure"]["remedy"], job["failure"]
    assert_runs_on(cluster, ticker, before)


def test_the_target_worker_dies_before_the_restore(cluster: Cluster, ticker: Running) -> None:
    before, pid = ticker.state(), ticker.pid
    job_id = catch_frozen(cluster, ticker, lambda _: cluster.kill("beta", "worker"))
    try:
        cluster.wait_for_step(job_id, "freeze", "undone")
        assert not is_frozen(pid)
    finally:
        cluster.restart("beta", "worker")
    assert cluster.wait_for_job(job_id)["state"] == "failed"
    assert_runs_on(cluster, ticker, before)


def test_after_its_promise_a_source_whose_worker_is_dead_runs_on_the_controllers_word(
    cluster: Cluster, ticker: Running
) -> None:
    before, pid = ticker.state(), ticker.pid
    slow_and_useless = "#!/bin/sh\n[ $1 = --version ] && exec echo 'Version: 4.2.1'\nsleep 4\nexit 1\n"
    with cluster.covered("beta", "/usr/sbin/criu", slow_and_useless):
        job_id = str(cluster.done("migrate", str(ticker), "beta")["id"])
        cluster.wait_for_step(job_id, "restore", "started")
        cluster.kill("alpha", "worker")
        try:
            cluster.wait_for_step(job_id, "commit", "undone")
            cluster.wait_thawed(pid, 20.0)
            assert cluster.job(job_id)["state"] == "rolling_back", "the rest waits for the worker"
        finally:
            cluster.restart("alpha", "worker")
    assert cluster.wait_for_job(job_id)["state"] == "failed"
    assert_runs_on(cluster, ticker, before)


def test_a_cancel_before_the_commit(cluster: Cluster, ticker: Running) -> None:
    before, pid = ticker.state(), ticker.pid
    worker = cluster["beta"].host.service("worker")
    # The target stands still, so the job cannot commit before the cancel arrives.
    job_id = catch_frozen(cluster, ticker, lambda _: worker.signal(signal.SIGSTOP))
    try:
        answer = cluster.cli("jobs", "cancel", job_id)
        assert answer.code == 0, answer.said
        cluster.wait_for_step(job_id, "freeze", "undone")
        assert not is_frozen(pid)
    finally:
        worker.signal(signal.SIGCONT)
    assert cluster.wait_for_job(job_id)["state"] == "cancelled"
    assert_runs_on(cluster, ticker, before)


def test_a_cancel_at_once(cluster: Cluster, ticker: Running) -> None:
    before = ticker.state()
    job_id = str(cluster.done("migrate", str(ticker), "beta")["id"])
    cluster.cli("jobs", "cancel", job_id)
    job = cluster.wait_for_job(job_id)
    assert job["state"] == "cancelled", job
    assert_runs_on(cluster, ticker, before)


def test_a_cancel_after_the_end_is_refused(cluster: Cluster, ticker: Running) -> None:
    before = ticker.state()
    job = cluster.done("migrate", str(ticker), "beta", "--wait")
    error = cluster.failure("jobs", "cancel", job["id"])
    assert error["kind"] == "PreconditionFailed", error
    WORKLOADS["ticker"].check(before, Running(cluster["beta"], "demo"))


def test_the_same_key_makes_one_job(cluster: Cluster, ticker: Running) -> None:
    before = ticker.state()
    first = cluster.done("migrate", str(ticker), "beta", "--idempotency-key", "one-move")
    second = cluster.done("migrate", str(ticker), "beta", "--idempotency-key", "one-move")
    assert first["id"] == second["id"]
    assert cluster.wait_for_job(first["id"])["state"] == "succeeded"
    WORKLOADS["ticker"].check(before, Running(cluster["beta"], "demo"))


def test_a_program_that_dies_while_it_is_frozen_is_brought_back_from_its_checkpoint(
    cluster: Cluster, ticker: Running, keeps_checkpoints: None
) -> None:
    before, shim = ticker.state(), parent_of(ticker.pid)
    target = cluster["beta"].host.service("containerd")
    job_id = str(cluster.done("migrate", str(ticker), "beta")["id"])
    cluster.wait_frozen(ticker)
    target.signal(signal.SIGSTOP)  # nothing is fetched, so nothing is promised; its worker is heard of
    try:
        cluster.wait_for_step(job_id, "upload", "done")
        os.kill(shim, signal.SIGKILL)
    finally:
        target.signal(signal.SIGCONT)
    job = cluster.wait_for_job(job_id)
    assert (job["state"], job["failure"]["code"]) == ("failed", "source_gone"), job
    assert job["checkpoint_id"] in job["failure"]["remedy"]
    assert job["checkpoint_id"] in [row["id"] for row in cluster.done("checkpoints", "list")]
    assert cluster.finish("restore", job["checkpoint_id"], "beta")["state"] == "succeeded"
    WORKLOADS["ticker"].check(before, Running(cluster["beta"], "demo"))
