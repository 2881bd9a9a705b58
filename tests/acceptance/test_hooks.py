"""Hooks run in the container around its freeze, as its own user; the second also when the job fails, or its worker dies."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import Running
from tests.workloads.workload import State

pytestmark = [pytest.mark.real, pytest.mark.timeout(300), pytest.mark.usefixtures("keeps_checkpoints")]


def python(script: str) -> str:
    """A command for an image without a shell."""
    return json.dumps(["/usr/bin/python3", "-B", "-c", script])


def noting(word: str, then: str = "") -> str:
    """Write a word into `/notes`, a changed file of the container, which travels with it."""
    return python(f"import os, sys, time\nopen('/notes', 'a').write('{word}\\n')\n{then}")


COUNT = """
import json, os, time
nonce, number = os.urandom(8).hex(), 0
os.makedirs("/state", exist_ok=True)
while True:
    number += 1
    open("/state/new", "w").write(json.dumps({"counter": number, "nonce": nonce}))
    os.rename("/state/new", "/state/state.json")
    time.sleep(0.02)
"""
LABELS = {"before": noting("before"), "after": noting("after"), "timeout": "20"}


@pytest.fixture
def hooked(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    """A container on alpha with hooks by its labels."""
    for name in ("hooked", "copy"):
        cluster.remove(name)
    options = [word for name, text in LABELS.items() for word in ("--label", f"io.migrator.hook/{name}={text}")]
    yield start(cluster, "hooked", *options)
    for name in ("hooked", "copy"):
        cluster.remove(name)


def start(cluster: Cluster, name: str, *options: str) -> Running:
    program = ("/usr/bin/python3", "-B", "-c", COUNT)
    cluster["alpha"].ctr("run", "--detach", "--null-io", *options, "migrator.local/ticker:1", name, *program)
    container = Running(cluster["alpha"], name)
    container.wait_until(lambda state: state["counter"] > 20)
    return container


def check(before: State, container: Running) -> None:
    """The same program goes on."""
    after = container.wait_until(lambda state: state["counter"] > before["counter"] + 5)
    assert after["nonce"] == before["nonce"]


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
    check(before, copy)


def test_a_hook_that_fails_stops_the_job_and_what_it_had_begun_is_ended(cluster: Cluster, hooked: Running) -> None:
    failing = ("--before", python("print('half done'); raise SystemExit('no room')"), "--after", noting("job"))
    failure = cluster.failure("checkpoints", "create", str(hooked), *failing)
    assert failure["code"] == "hook_failed"
    assert "exit status 1" in failure["message"]
    assert "no room" in failure["message"]
    assert notes(hooked) == ["job"], "the job's word outranks the label, and what was begun is taken back"
    job = cluster.finish("checkpoints", "create", str(hooked), *failing, "--on-hook-failure", "before=ignore")
    assert job["state"] == "succeeded", job
    assert "hook_failed" in [found["code"] for found in job["findings"]]
    assert notes(hooked) == ["job", "job"]


def test_a_hook_that_hangs_is_ended_with_all_that_it_started(cluster: Cluster, hooked: Running) -> None:
    hanging = python("import os, time; os.fork(); os.fork(); time.sleep(50)")
    words = ("--before", hanging, "--after", python("raise SystemExit(7)"), "--hook-timeout", "2")
    failure = cluster.failure("checkpoints", "create", str(hooked), *words)
    assert "was ended after 2 s" in failure["message"]
    assert "the hook after the freeze failed with exit status 7" in failure["message"]
    assert hooked.processes() == 1
    assert cluster["alpha"].tasks()["hooked"] == "RUNNING"


def test_the_worker_dies_during_the_hook_before_the_freeze(cluster: Cluster, hooked: Running) -> None:
    words = ("--before", noting("begun", "time.sleep(60)"), "--hook-timeout", "60")
    job_id = str(cluster.done("checkpoints", "create", str(hooked), *words)["id"])
    deadline = time.monotonic() + 20
    while notes(hooked) != ["begun"]:
        assert time.monotonic() < deadline, notes(hooked)
        time.sleep(0.05)
    cluster.kill("alpha", "worker")
    while cluster["alpha"].host.service("worker").pid is not None:  # what still dies is not started anew
        time.sleep(0.05)
    cluster.restart("alpha", "worker")
    job = cluster.wait_for_job(job_id)
    assert job["state"] == "failed", job
    assert notes(hooked) == ["begun", "after"]
    assert hooked.processes() == 1


def test_hooks_of_a_migration_run_on_the_source_and_on_the_target(cluster: Cluster, hooked: Running) -> None:
    before = hooked.state()
    moved = cluster.migrate(hooked, "beta")
    assert notes(moved) == ["before", "after"]
    check(before, moved)


def test_a_command_that_is_not_there_is_told(cluster: Cluster, hooked: Running) -> None:
    failure = cluster.failure("checkpoints", "create", str(hooked), "--before", "sync")
    assert failure["code"] == "hook_failed"
    assert "/bin/sh" in failure["message"]


def test_a_label_without_sense_is_refused_before_anything_runs(cluster: Cluster, nothing_left: None) -> None:
    cluster.remove("odd-hook")
    try:
        label = ("--label", "io.migrator.hook/timeout=soon")
        container = start(cluster, "odd-hook", *label)
        failure = cluster.failure("checkpoints", "create", str(container))
        assert failure["code"] == "bad_hook"
        assert "soon" in failure["message"]
    finally:
        cluster.remove("odd-hook")
