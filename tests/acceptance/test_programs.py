"""Real programs are moved, and are the same afterwards."""

from __future__ import annotations

import pytest

from tests.acceptance.cluster import Cluster
from tests.acceptance.inventory import take_inventory
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def assert_only_on(cluster: Cluster, host: str, name: str) -> None:
    for machine in cluster.machines.values():
        here = machine.name == host
        assert (machine.tasks().get(name) == "RUNNING") is here, (machine.name, machine.tasks())
        assert (name in machine.containers()) is here, machine.name


def test_back_and_forth_ten_times_makes_no_difference(cluster: Cluster, ticker: Running) -> None:
    workload = WORKLOADS["ticker"]
    seen = workload.look(ticker)
    first_round = None
    for _ in range(5):
        there = cluster.migrate(ticker, "beta")
        seen = workload.check(seen, there)
        back = cluster.migrate(there, "alpha")
        seen = workload.check(seen, back)
        assert_only_on(cluster, "alpha", "demo")
        now = {kind: len(take_inventory(cluster.lab).of(kind)) for kind in ("snapshot", "content", "image", "lease")}
        first_round = first_round or now
        assert now == first_round, "every round leaves something behind"


def test_the_base_image_travels_when_the_target_lacks_it(cluster: Cluster, ticker: Running) -> None:
    workload, image = WORKLOADS["ticker"], "migrator.local/ticker:1"
    cluster["beta"].ctr("images", "delete", "--sync", image)
    assert image not in cluster["beta"].ctr("images", "ls", "-q").split()
    before = workload.look(ticker)
    workload.check(before, cluster.migrate(ticker, "beta"))
    assert image in cluster["beta"].ctr("images", "ls", "-q").split()
    cluster.remove("demo")
    # What it brought can be used like any image: a new container starts from it.
    cluster["beta"].ctr("run", "--detach", "--null-io", image, "demo")
    workload.started(Running(cluster["beta"], "demo"))


def test_a_container_in_another_namespace_moves_too(cluster: Cluster, nothing_left: None) -> None:
    workload = WORKLOADS["tree"]
    container = cluster.start(workload, "alpha", "elsewhere", namespace="shop")
    try:
        before = workload.look(container)
        workload.check(before, cluster.migrate(container, "beta"))
        assert "elsewhere" not in cluster["beta"].containers()
    finally:
        cluster.remove("elsewhere", "shop")
        for machine in cluster.machines.values():
            names = machine.ctr("images", "ls", "-q", namespace="shop", check=False).split()
            for name in names:
                machine.ctr("images", "delete", "--sync", name, namespace="shop")
            machine.run("ctr", "namespaces", "remove", "shop", check=False)


def test_a_job_tells_what_each_phase_took(cluster: Cluster, ticker: Running) -> None:
    job = cluster.done("migrate", str(ticker), "beta", "--wait")
    shown = cluster.job(job["id"])
    assert shown["state"] == "succeeded"
    measures = shown["measures"]
    for name in ("freeze_ms", "dump_ms", "upload_ms", "fetch_ms", "restore_ms", "orchestration_ms", "total_ms"):
        assert measures[name] > 0, (name, measures)
    assert measures["freeze_ms"] < measures["total_ms"]
    assert measures["bytes_uploaded"] > 64 << 20, "64 MiB of random memory do not shrink"
    assert {step["status"] for step in shown["steps"]} == {"done"}
