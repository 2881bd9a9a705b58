"""A program runs on its target before its memory is there, and finds every page as it left it."""

from __future__ import annotations

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import WORKLOADS, Workload

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

MOVED = ("arena", "counter", "threads", "tree", "redis", "node", "jvm", "postgres", "forking", "processes")


@pytest.mark.parametrize("workload", [WORKLOADS[name] for name in MOVED], ids=MOVED)
def test_programs_are_moved_lazily_and_back(cluster: Cluster, workload_image: None, workload: Workload) -> None:
    container = cluster.start(workload, "alpha", "lazy")
    try:
        seen = workload.look(container)
        for target in ("beta", "alpha"):
            job = cluster.done("migrate", str(container), target, "--lazy", "--wait")
            assert job["state"] == "succeeded", job
            container = container.on(cluster[target])
            seen = workload.check(seen, container)
            print(workload.name, target, cluster.job(job["id"])["measures"])
    finally:
        cluster.remove("lazy")
