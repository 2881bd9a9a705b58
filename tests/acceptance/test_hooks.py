"""Hooks run in the container around its freeze, as its own user; the second also when the job fails, or its worker dies."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(300), pytest.mark.usefixtures("keeps_checkpoints")]

NOTE = "echo $HOOK $(cut -d ' ' -f 1 /proc/uptime) >> /notes"
"""`/notes` is a changed file of the container: it travels with it."""
LABELS = {
    "before": f"HOOK=before; {NOTE}",
    "after": f"HOOK=after; {NOTE}",
    "timeout": "20",
}


@pytest.fixture
def hooked(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    """A container on alpha with hooks by its labels."""
    for name in ("hooked", "copy"):
        cluster.remove(name)
    options = [word for name, text in LABELS.items() for word in ("--label", f"io.migrator.hook/{name}={text}")]
    yield cluster.start(WORKLOADS["ticker"], "alpha", "hooked", options=tuple(options))
    for name in ("hooked", "copy"):
        cluster.remove(name)


def notes(container: Running) -> list[str]:
    """Which hooks have run, in order."""
    file = container.root / "notes"
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


def test_hooks_run_around_a_checkpoint_and_the_second_in_what_is_restored_from_it(
    cluster: Cluster, hooked: Running
) -> None:
    pid, before = hooked.pid, hooked.state()
    job = cluster.finish("checkpoints", "create", str(hooked))
    assert job["state"] == "succeeded", job
    assert (notes(hooked), hooked.pid) == (["before", "after"], pid)
    assert hooked.processes() == 1, "what a hook was run by is gone"
    restored = cluster.finish("restore", job["checkpoint_id"], "beta", "--name", "copy")
    assert restored["state"] == "succeeded", restored
    copy = Running(cluster["beta"], "copy")
    assert notes(copy) == ["before", "after"], "it was dumped between the two, and told that the freeze is over"
    WORKLOADS["ticker"].check(before, copy)


def test_a_hook_that_fails_stops_the_job_and_what_it_had_begun_is_ended(cluster: Cluster, hooked: Running) -> None:
    failing = ("--before", "echo half done; echo no room >&2; exit 3", "--after", f"HOOK=job; {NOTE}")
    failure = cluster.failure("checkpoints", "create", str(hooked), *failing)
    assert failure["code"] == "hook_failed"
    assert "exit status 3" in failure["message"]
    assert "no room" in failure["message"]
    assert notes(hooked) == ["job"], "the job's word outranks the label, and what was begun is taken back"
    job = cluster.finish("checkpoints", "create", str(hooked), *failing, "--on-hook-failure", "before=ignore")
    assert job["state"] == "succeeded", job
    assert [found["code"] for found in job["findings"]] == ["hook_failed"]
    assert notes(hooked) == ["job", "job"]


def test_a_hook_that_hangs_is_ended_with_all_that_it_started(cluster: Cluster, hooked: Running) -> None:
    began = time.monotonic()
    words = ("--before", "sleep 50 & sleep 50", "--after", '["/bin/sh", "-c", "exit 7"]', "--hook-timeout", "1")
    failure = cluster.failure("checkpoints", "create", str(hooked), *words)
    assert "was ended after 1 s" in failure["message"]
    assert "the hook after the freeze failed with exit status 7" in failure["message"]
    assert time.monotonic() - began < 20
    assert hooked.processes() == 1
    assert cluster["alpha"].tasks()["hooked"] == "RUNNING"


def test_the_worker_dies_during_the_hook_before_the_freeze(cluster: Cluster, hooked: Running) -> None:
    words = ("--before", f"HOOK=begun; {NOTE}; sleep 60", "--hook-timeout", "60")
    job_id = str(cluster.done("checkpoints", "create", str(hooked), *words)["id"])
    deadline = time.monotonic() + 20
    while notes(hooked) != ["begun"]:
        assert time.monotonic() < deadline, notes(hooked)
        time.sleep(0.05)
    cluster.kill("alpha", "worker")
    cluster.restart("alpha", "worker")
    job = cluster.wait_for_job(job_id)
    assert job["state"] == "failed", job
    assert notes(hooked) == ["begun", "after"]
    assert hooked.processes() == 1


def test_hooks_of_a_migration_run_on_the_source_and_on_the_target(cluster: Cluster, hooked: Running) -> None:
    before = hooked.state()
    moved = cluster.migrate(hooked, "beta")
    assert notes(moved) == ["before", "after"]
    WORKLOADS["ticker"].check(before, moved)


def test_a_label_without_sense_is_refused_before_anything_runs(cluster: Cluster, nothing_left: None) -> None:
    cluster.remove("odd-hook")
    try:
        label = ("--label", "io.migrator.hook/timeout=soon")
        container = cluster.start(WORKLOADS["ticker"], "alpha", "odd-hook", options=label)
        failure = cluster.failure("checkpoints", "create", str(container))
        assert failure["code"] == "bad_hook"
        assert "soon" in failure["message"]
    finally:
        cluster.remove("odd-hook")
