"""Backups: the second costs what changed, and is as good as any checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(300), pytest.mark.usefixtures("keeps_checkpoints")]
WORKLOAD = WORKLOADS["files"]


@pytest.fixture
def changed(cluster: Cluster) -> Iterator[Running]:
    """A program with some 100 MB of changed files."""
    for name in ("files", "copy", "exported"):
        cluster.remove(name)
    yield cluster.start(WORKLOAD, "alpha", "files")
    for name in ("files", "copy", "exported"):
        cluster.remove(name)


def test_a_second_backup_is_small_restores_elsewhere_and_is_exported_for_containerds_own_tool(
    cluster: Cluster, changed: Running, tmp_path: Path
) -> None:
    pid = changed.pid
    first, before = _back_up(cluster, changed), WORKLOAD.look(changed)
    second = _back_up(cluster, changed)
    assert changed.pid == pid
    assert first["backup"] is second["backup"] is True
    assert first["size_bytes"] > 100 << 20
    assert second["stored_bytes"] < min(first["stored_bytes"] / 10, 3 << 20), (first, second)
    assert {part["role"]: part["media_type"] for part in second["parts"]}["rw-diff"].endswith(".tar")
    job = cluster.done("restore", second["id"], "beta", "--name", "copy", "--wait")
    assert job["state"] == "succeeded", job
    WORKLOAD.check(before, Running(cluster["beta"], "copy"))
    WORKLOAD.check(before, changed)
    _restore_by_ctr(cluster, second["id"], tmp_path / "files.tar")
    WORKLOAD.check(before, Running(cluster["beta"], "exported"))


def _back_up(cluster: Cluster, container: Running) -> dict[str, object]:
    job = cluster.done("backup", str(container), "--wait")
    assert job["state"] == "succeeded", job
    shown: dict[str, object] = cluster.done("checkpoints", "show", job["checkpoint_id"])
    print({name: shown[name] for name in ("size_bytes", "stored_bytes")}, job["measures"])
    return shown


def _restore_by_ctr(cluster: Cluster, checkpoint_id: object, file: Path) -> None:
    cluster.done("checkpoints", "export", str(checkpoint_id), str(file))
    beta = cluster["beta"]
    inside = beta.host.root / "root/files.tar"
    shutil.move(file, inside)
    known = set(beta.ctr("images", "ls", "-q").split())
    try:
        beta.ctr("images", "import", "/root/files.tar", check=False)  # it wants to unpack, and imports nevertheless
        (name,) = set(beta.ctr("images", "ls", "-q").split()) - known
        beta.ctr("containers", "restore", "--rw", "--live", "exported", name)
    finally:
        inside.unlink()
        beta.run("sh", "-c", "rm -rf /tmp/ctrd-checkpoint*")  # containerd never removes where it unpacked the images
        for name in set(beta.ctr("images", "ls", "-q").split()) - known:
            beta.ctr("images", "delete", "--sync", name)
