"""Clones, restores by time, drills, and what the report makes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.forging import forge
from tests.workloads import WORKLOADS, Running
from tests.workloads.workload import State

pytestmark = [pytest.mark.real, pytest.mark.timeout(300), pytest.mark.usefixtures("keeps_checkpoints")]

COUNT = """
import json, os, time
nonce, number = os.urandom(8).hex(), 0
os.makedirs("/state", exist_ok=True)
while True:
    number += 1
    open("/data/new", "w").write(str(number))
    os.rename("/data/new", "/data/count")
    open("/state/new", "w").write(json.dumps({"counter": number, "nonce": nonce}))
    os.rename("/state/new", "/state/state.json")
    time.sleep(0.02)
"""
DATA = "/srv/origin"
CLONES = "/srv/clones"
IMAGE = "migrator.local/ticker:1"
NAMES = ("origin", "clone-1", "clone-2", "earlier")


@pytest.fixture
def origin(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    """A program on alpha that writes into a copied volume."""
    clear(cluster)
    alpha = cluster["alpha"]
    alpha.run("mkdir", "-p", DATA)
    volume = ("--mount", f"type=bind,src={DATA},dst=/data,options=bind:rw", "--label", "io.migrator.volume/data=copy")
    alpha.ctr("run", "--detach", "--null-io", *volume, IMAGE, "origin", "/usr/bin/python3", "-B", "-c", COUNT)
    container = Running(alpha, "origin")
    container.wait_until(lambda state: state["counter"] > 20)
    yield container
    clear(cluster)


def clear(cluster: Cluster) -> None:
    for name in NAMES:
        cluster.remove(name)
    for machine in cluster.machines.values():
        machine.run("rm", "-rf", DATA, CLONES)


def check(before: State, container: Running) -> State:
    """The same program goes on."""
    after = container.wait_until(lambda state: state["counter"] > before["counter"] + 5)
    assert after["nonce"] == before["nonce"]
    return after


def take(cluster: Cluster, container: Running) -> dict[str, Any]:
    job = cluster.finish("checkpoints", "create", str(container))
    assert job["state"] == "succeeded", job
    shown: dict[str, Any] = cluster.done("checkpoints", "show", job["checkpoint_id"])
    return shown


def test_clones_and_choices_by_time(cluster: Cluster, origin: Running) -> None:
    first, seen = take(cluster, origin), origin.state()
    between = datetime.now(UTC)
    later = origin.wait_until(lambda state: state["counter"] > seen["counter"] + 20)
    second = take(cluster, origin)
    assert second["created_at"] > first["created_at"]

    # The original runs: nothing of its name, and not into its volume.
    failure = cluster.failure("restore", "alpha/origin", "beta")
    assert (failure["code"], failure["host"]) == ("original_runs", "alpha")
    assert cluster.failure("restore", first["id"], "alpha", "--name", "clone-1")["code"] == "volume_exists"

    words = ("--name", "clone-{n}", "--count", "2", "--volumes-at", CLONES, "--network", "none", "--wait")
    jobs = cluster.done("restore", "alpha/origin", "alpha", "beta", *words)
    assert [(job["state"], job["new_name"], job["target"]) for job in jobs] == [
        ("succeeded", "clone-1", "alpha"),
        ("succeeded", "clone-2", "beta"),
    ]
    assert {job["checkpoint_id"] for job in jobs} == {second["id"]}
    for name, host in (("clone-1", "alpha"), ("clone-2", "beta")):
        assert check(later, Running(cluster[host], name))["counter"] > later["counter"]
        content = cluster[host].run("cat", f"{CLONES}/{name}{DATA}/count")
        assert int(content) > later["counter"]
    check(later, origin)

    # The choice by time: the first was the newest then.
    at = ("--at", between.isoformat(), "--name", "earlier", "--volumes-at", CLONES)
    job = cluster.finish("restore", "alpha/origin", "beta", *at)
    assert (job["state"], job["checkpoint_id"]) == ("succeeded", first["id"]), job
    too_early = (between - timedelta(days=400)).strftime("%Y-%m-%d %H:%M")
    failure = cluster.failure("restore", "alpha/origin", "beta", "--at", too_early, "--zone", "Europe/Berlin")
    assert failure["code"] == "no_checkpoint_then"
    assert first["id"] in failure["remedy"] or "the oldest is" in failure["remedy"]
    tomorrow = (between + timedelta(days=1)).isoformat()
    assert cluster.failure("restore", "alpha/origin", "beta", "--at", tomorrow)["code"] == "time_in_future"


def test_what_was_restored_under_its_name_is_the_original_from_then_on(cluster: Cluster, origin: Running) -> None:
    """Also for a checkpoint from before the loss, and wherever it went since."""
    older = take(cluster, origin)
    cluster.remove("origin")
    cluster["alpha"].run("rm", "-rf", DATA)
    restored = cluster.finish("restore", older["id"], "beta")
    assert restored["state"] == "succeeded", restored
    failure = cluster.failure("restore", older["id"], "alpha")
    assert (failure["code"], failure["host"]) == ("original_runs", "beta")
    (row,) = cluster.done("report", "beta/origin")
    assert row["workload_id"].startswith(f"{older['workload_id']}.")
    assert row["checkpoints"], "those from before the loss"
    taken = take(cluster, Running(cluster["beta"], "origin"))
    assert taken["workload_id"] == row["workload_id"]
    assert cluster.failure("restore", taken["id"], "alpha")["code"] == "original_runs"
    cluster.remove("origin")
    assert cluster.finish("restore", older["id"], "alpha")["state"] == "succeeded"
    assert cluster.failure("restore", taken["id"], "beta")["host"] == "alpha"


def test_a_drill_proves_a_checkpoint_and_leaves_nothing(cluster: Cluster, origin: Running) -> None:
    taken = take(cluster, origin)
    probe = json.dumps(["/usr/bin/python3", "-c", "import os; raise SystemExit(not os.path.exists('/data/count'))"])
    job = cluster.finish("drill", "alpha/origin", "beta", "--probe", probe)
    assert job["state"] == "succeeded", job
    shown = cluster.done("checkpoints", "show", taken["id"])
    assert shown["proven_at"]
    assert 0 < shown["restore_s"] < 60
    assert shown["drill_failure"] is None
    (row,) = cluster.done("report", "alpha/origin", "--max-age", "1h", "--max-drill-age", "1h")
    assert (row["proven_checkpoint_id"], row["faults"]) == (taken["id"], [])
    assert row["recovery_time_s"] == shown["restore_s"]

    # A probe that says no: what is known of it stays, and the report ends with 1.
    refusing = json.dumps(["/usr/bin/python3", "-c", "raise SystemExit('the table is empty')"])
    began = time.monotonic()
    failed = cluster.finish("drill", taken["id"], "alpha", "--probe", refusing, "--probe-timeout", "2")
    assert time.monotonic() - began < 60
    assert (failed["state"], failed["failure"]["code"]) == ("failed", "probe_failed")
    assert "the table is empty" in failed["failure"]["message"]
    answer = cluster.cli("report", "alpha/origin")
    assert answer.code == 1
    (row,) = answer.data
    assert row["faults"] == ["drill_failed"]
    assert "the table is empty" in row["drill_failure"]
    assert row["proven_at"]
    for machine in cluster.machines.values():
        assert not [name for name in machine.containers() if name.startswith("drill-")]
        assert machine.run("sh", "-c", "ls -A /var/lib/migrator/drills 2>/dev/null || true").split() == []
    assert origin.state()["counter"] > 0


def test_a_forged_checkpoint_is_refused_before_anything_of_it_is_here(cluster: Cluster, origin: Running) -> None:
    """The database was lost, and the store holds a checkpoint that somebody else has written."""
    taken = take(cluster, origin)

    def ask_for_more(spec: dict[str, Any]) -> None:
        command = {"path": "/bin/sh", "args": ["sh", "-c", "touch /run/forged"]}
        spec["hooks"] = {stage: [command] for stage in ("createRuntime", "poststart", "poststop")}

    forged = forge(cluster.lab, taken["workload_id"], taken["id"], ask_for_more)
    assert cluster.done("catalog", "rebuild")["verify"]["added"] == [forged]
    failure = cluster.failure("restore", forged, "beta", "--name", "clone-1", "--volumes-at", CLONES)
    assert (failure["code"], failure["host"]) == ("runtime_hook", "beta")
    assert cluster.failure("drill", forged, "alpha")["code"] == "runtime_hook"
    for machine in cluster.machines.values():
        assert machine.run("sh", "-c", "ls /run/forged 2>/dev/null || true") == ""
        assert "clone-1" not in machine.containers()
    cluster.done("checkpoints", "remove", forged)


def test_a_backup_with_an_address_is_proven_and_cloned_beside_its_original(
    cluster: Cluster, nothing_left: None
) -> None:
    """What listens at the container's address is restored where nothing leads out, though the original has it."""
    server = cluster.start(WORKLOADS["server"], "alpha", "origin", options=("--cni",))
    try:
        taken = cluster.finish("backup", str(server))
        assert taken["state"] == "succeeded", taken
        for host in ("beta", "alpha"):
            drilled = cluster.finish("drill", "alpha/origin", host)
            assert (drilled["state"], drilled["checkpoint_id"]) == ("succeeded", taken["checkpoint_id"]), drilled
        cloned = cluster.finish("restore", "alpha/origin", "beta", "--name", "clone-1", "--network", "none")
        assert cloned["state"] == "succeeded", cloned
        clone = Running(cluster["beta"], "clone-1")
        assert clone.address == server.address
        clone.wait_until(lambda state: state["counter"] > server.state()["counter"] // 2)
        routes = clone.host.run("nsenter", "-t", str(clone.pid), "-n", "ip", "route", "get", "10.78.0.11")
        assert "via" not in routes
    finally:
        clear(cluster)
