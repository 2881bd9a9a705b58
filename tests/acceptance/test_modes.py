"""How a program gets its memory, in which form it moves, and how long it may stand still: chosen, told, and kept to."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


@pytest.fixture
def clone(cluster: Cluster, nothing_left: None) -> Iterator[str]:
    yield "demo-2"
    cluster.remove("demo-2")


def test_a_job_tells_what_it_expected_and_chose_beside_what_happened(cluster: Cluster, ticker: Running) -> None:
    before = WORKLOADS["ticker"].look(ticker)
    job = cluster.job(cluster.done("migrate", str(ticker), "beta", "--wait")["id"])
    forecast = job["forecast"]
    assert forecast["freeze_ms"] > 0
    assert forecast["why"]
    assert job["restored"] == forecast["mode"]
    assert forecast["store_bytes_s"] > 0
    assert job["measures"]["freeze_ms"] > 0
    moved = ticker.on(cluster["beta"])
    before = WORKLOADS["ticker"].check(before, moved)
    for target, mode in (("alpha", "lazy"), ("beta", "eager")):
        job = cluster.job(cluster.done("migrate", str(moved), target, f"--{mode}", "--wait")["id"])
        assert (job["restored"], job["forecast"]["mode"], job["why_eager"]) == (mode, mode, None)
        moved = moved.on(cluster[target])
        before = WORKLOADS["ticker"].check(before, moved)


def test_a_freeze_that_would_be_too_long_is_refused_before_it(cluster: Cluster, ticker: Running) -> None:
    before = WORKLOADS["ticker"].look(ticker)
    failure = cluster.failure("migrate", str(ticker), "beta", "--max-downtime", "10ms", "--wait")
    assert failure["code"] == "freeze_too_long"
    assert "10 ms" in failure["message"]
    assert "--force" in failure["remedy"]
    assert cluster["alpha"].tasks()["demo"] == "RUNNING"
    job = cluster.done("migrate", str(ticker), "beta", "--max-downtime", "10ms", "--force", "--wait")
    assert job["forecast"]["limit_ms"] == 10
    WORKLOADS["ticker"].check(before, ticker.on(cluster["beta"]))


@pytest.mark.usefixtures("keeps_checkpoints")
def test_memory_can_go_as_one_archive(cluster: Cluster, ticker: Running) -> None:
    before = WORKLOADS["ticker"].look(ticker)
    job = cluster.done("migrate", str(ticker), "beta", "--path", "content", "--keep-checkpoint", "--wait")
    WORKLOADS["ticker"].check(before, ticker.on(cluster["beta"]))
    shown = cluster.done("checkpoints", "show", job["checkpoint_id"])
    kinds = {part["role"]: part["media_type"] for part in shown["parts"]}
    assert kinds["memory"] == "application/vnd.containerd.container.criu.checkpoint.criu.tar"
    cluster.done("checkpoints", "remove", job["checkpoint_id"])


@pytest.mark.usefixtures("keeps_checkpoints")
def test_a_checkpoint_is_restored_lazily(cluster: Cluster, ticker: Running, clone: str) -> None:
    before = WORKLOADS["ticker"].look(ticker)
    checkpoint = cluster.done("checkpoints", "create", str(ticker), "--wait")["checkpoint_id"]
    job = cluster.done("restore", checkpoint, "beta", "--name", clone, "--lazy", "--wait")
    assert job["restored"] == "lazy"
    WORKLOADS["ticker"].check(before, Running(cluster["beta"], clone))
