"""Backed up several times, forgotten by rules, pruned: what is kept restores, and the store gives its bytes back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(400), pytest.mark.usefixtures("prunes_store")]


@pytest.fixture
def taken(cluster: Cluster, ticker: Running) -> Iterator[tuple[dict[str, Any], list[str]]]:
    """Three checkpoints of a running program, the oldest first, and what it said before the last."""
    ids = [cluster.finish("checkpoints", "create", str(ticker))["checkpoint_id"] for _ in range(2)]
    before = ticker.state()
    yield before, [*ids, cluster.finish("checkpoints", "create", str(ticker))["checkpoint_id"]]
    cluster.remove("copy")


def test_forget_and_prune_leave_what_is_kept_restorable(
    cluster: Cluster, ticker: Running, taken: tuple[dict[str, Any], list[str]]
) -> None:
    before, (oldest, middle, newest) = taken
    cluster.done("checkpoints", "pin", oldest, "--reason", "the first")
    dry = cluster.done("forget", str(ticker), "--keep-last", "1", "--dry-run")["forget"]
    fates = {row["id"]: (row["keep"], row["reasons"]) for row in dry if row["id"] in taken[1]}
    assert fates == {
        newest: (True, ["last"]),
        middle: (False, ["no rule keeps it"]),
        oldest: (True, ["pinned: the first"]),
    }
    cluster.done("forget", str(ticker), "--keep-last", "1")
    listed = [row["id"] for row in cluster.done("checkpoints", "list")]
    assert newest in listed
    assert oldest in listed
    assert middle not in listed

    cluster.done("prune", "--grace", "0")
    freed = cluster.done("prune", "--grace", "0")["prune"]
    assert freed["freed_bytes"] == freed["planned_bytes"] > 64 << 20, "the memory of the one that was forgotten"
    assert cluster.done("prune", "--grace", "0", "--dry-run")["prune"]["planned_bytes"] == 0

    found = cluster.done("verify", "--read-data")["verify"]
    assert found["damaged"] == []
    assert found["read_objects"] == found["objects"] > 0
    job = cluster.finish("restore", newest, "beta", "--name", "copy")
    assert job["state"] == "succeeded", job
    WORKLOADS["ticker"].check(before, Running(cluster["beta"], "copy"))
    cluster.done("checkpoints", "unpin", oldest)
    cluster.done("checkpoints", "remove", oldest, newest)
    assert cluster.done("catalog", "rebuild")["verify"]["added"] == []
