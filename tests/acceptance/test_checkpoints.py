"""Checkpoints: taken while the program goes on, listed, shown, exported for containerd's own tool, restored twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(300), pytest.mark.usefixtures("keeps_checkpoints")]


@pytest.fixture
def taken(cluster: Cluster, ticker: Running) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What the program said before, and the checkpoint as `checkpoints show` tells it."""
    before = ticker.state()
    job = cluster.finish("checkpoints", "create", str(ticker))
    yield before, cluster.done("checkpoints", "show", job["checkpoint_id"])
    for name in ("copy", "second"):
        cluster.remove(name)


def test_the_program_goes_on_after_a_checkpoint(cluster: Cluster, ticker: Running) -> None:
    before, pid = ticker.state(), ticker.pid
    job = cluster.finish("checkpoints", "create", str(ticker))
    assert job["state"] == "succeeded"
    WORKLOADS["ticker"].check(before, ticker)
    assert ticker.pid == pid
    assert cluster["alpha"].tasks()["demo"] == "RUNNING"


def test_a_checkpoint_is_listed_and_shown(cluster: Cluster, taken: tuple[dict[str, Any], dict[str, Any]]) -> None:
    _, shown = taken
    assert shown["id"] in [row["id"] for row in cluster.done("checkpoints", "list")]
    assert (shown["host"], shown["container"]) == ("alpha", "demo")
    assert shown["image"] == "migrator.local/ticker:1"
    assert shown["size_bytes"] > 64 << 20


def test_what_is_inside_is_what_the_kernel_says(
    cluster: Cluster, ticker: Running, taken: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    _, shown = taken
    tree = cluster.done("checkpoints", "tree", shown["id"], "--memory")
    (process,) = tree["processes"]
    kernel = Path(f"/proc/{ticker.pid}")
    assert process["pid"] == 1
    assert process["name"] == (kernel / "comm").read_text().strip()
    assert process["program"] == str((kernel / "exe").readlink())
    assert {0, 1, 2} <= {file["descriptor"] for file in process["files"]}
    lines = [line.split() for line in (kernel / "maps").read_text().splitlines() if "/" in line]
    mapped = {(item["start"], item["end"], item["access"], item["name"]) for item in process["memory"]}
    assert {(*(int(edge, 16) for edge in words[0].split("-")), words[1], words[5]) for words in lines} <= mapped
    assert process["stored_bytes"] > 64 << 20, "all of its memory is random"


def test_two_checkpoints_of_a_program_at_work_differ(
    cluster: Cluster, ticker: Running, taken: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    _, shown = taken
    later = cluster.finish("checkpoints", "create", str(ticker))["checkpoint_id"]
    differ = cluster.done("checkpoints", "diff", shown["id"], later)
    assert differ["same_workload"] is True
    assert (differ["started"], differ["ended"], differ["sockets"], differ["mounted"]) == ([], [], [], [])
    (memory,) = differ["memory"]
    assert 0 < memory["changed_bytes"] + memory["added_bytes"] < memory["after_bytes"]
    (usage,) = cluster.done("checkpoints", "du", later)["checkpoints"]
    assert memory["after_bytes"] < usage["own_bytes"] < usage["size_bytes"]


def test_a_restore_under_a_new_name_runs_beside_the_first(
    cluster: Cluster, ticker: Running, taken: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    before, shown = taken
    for name, host in (("copy", "beta"), ("second", "alpha")):
        job = cluster.finish("restore", shown["id"], host, "--name", name)
        assert job["state"] == "succeeded", job
        copy = Running(cluster[host], name)
        WORKLOADS["ticker"].check(before, copy)
    assert cluster["alpha"].tasks()["demo"] == "RUNNING"
    WORKLOADS["ticker"].check(before, ticker)


def test_a_restore_onto_a_taken_name_is_refused(
    cluster: Cluster, ticker: Running, taken: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    failure = cluster.failure("restore", taken[1]["id"], "alpha")
    assert failure["kind"] == "AlreadyExists"
    assert "demo" in failure["message"]
    assert cluster["alpha"].tasks()["demo"] == "RUNNING"


def test_containerds_own_tool_restores_an_export(
    cluster: Cluster, taken: tuple[dict[str, Any], dict[str, Any]], tmp_path: Path
) -> None:
    before, shown = taken
    file, beta = tmp_path / "demo.tar", cluster["beta"]
    cluster.done("checkpoints", "export", shown["id"], str(file))
    inside = beta.host.root / "root/demo.tar"
    shutil.copyfile(file, inside)
    known = set(beta.ctr("images", "ls", "-q").split())
    try:
        # It wants to unpack what it imports; a checkpoint is not for unpacking, and it is imported nevertheless.
        beta.ctr("images", "import", "/root/demo.tar", check=False)
        (name,) = set(beta.ctr("images", "ls", "-q").split()) - known
        beta.ctr("containers", "restore", "--rw", "--live", "copy", name)
        WORKLOADS["ticker"].check(before, Running(beta, "copy"))
    finally:
        inside.unlink()
        cluster.remove("copy")
        beta.run("sh", "-c", "rm -rf /tmp/ctrd-checkpoint*")  # containerd never removes where it unpacked the images
        for name in set(beta.ctr("images", "ls", "-q").split()) - known:
            beta.ctr("images", "delete", "--sync", name)
