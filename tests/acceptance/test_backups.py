"""Backups: the second costs what changed, and is as good as any checkpoint."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.cluster import Cluster
from tests.workloads import WORKLOADS, Running

pytestmark = [pytest.mark.real, pytest.mark.timeout(400), pytest.mark.usefixtures("keeps_checkpoints")]
WORKLOAD = WORKLOADS["counter"]
LARGE, LATER = os.urandom(12 << 20), os.urandom(10_000)
SLOW_S = 150.0


@pytest.fixture
def changed(cluster: Cluster) -> Iterator[Running]:
    """A program with some memory and changed files."""
    for name in ("kept", "copy", "exported"):
        cluster.remove(name)
    running = cluster.start(WORKLOAD, "alpha", "kept")
    (running.root / "opt/large").write_bytes(LARGE)
    yield running
    for name in ("kept", "copy", "exported"):
        cluster.remove(name)


def test_a_second_backup_is_small_restores_elsewhere_and_is_exported_for_containerds_own_tool(
    cluster: Cluster, changed: Running, tmp_path: Path
) -> None:
    first = _back_up(cluster, changed)
    (changed.root / "opt/later").write_bytes(LATER)
    before, pid = WORKLOAD.look(changed), changed.pid
    second = _back_up(cluster, changed)
    assert changed.pid == pid
    assert first["backup"] is second["backup"] is True
    assert second["size_bytes"] > len(LARGE) + 4_000_000
    assert first["stored_bytes"] > len(LARGE)
    assert second["stored_bytes"] < 1_500_000, (first, second)
    job = cluster.done("restore", second["id"], "beta", "--name", "copy", "--wait", timeout_s=SLOW_S)
    assert job["state"] == "succeeded", job
    _check(before, Running(cluster["beta"], "copy"))
    _restore_by_ctr(cluster, second["id"], tmp_path / "kept.tar")
    _check(before, Running(cluster["beta"], "exported"))
    WORKLOAD.check(before, changed)


def _check(before: dict[str, Any], container: Running) -> None:
    WORKLOAD.check(before, container)
    assert (container.root / "opt/large").read_bytes() == LARGE
    assert (container.root / "opt/later").read_bytes() == LATER


def _back_up(cluster: Cluster, container: Running) -> dict[str, Any]:
    job = cluster.done("backup", str(container), "--wait", timeout_s=SLOW_S)
    assert job["state"] == "succeeded", job
    shown: dict[str, Any] = cluster.done("checkpoints", "show", job["checkpoint_id"])
    print({name: shown[name] for name in ("size_bytes", "stored_bytes")}, job["measures"])
    return shown


def _restore_by_ctr(cluster: Cluster, checkpoint_id: str, file: Path) -> None:
    cluster.done("checkpoints", "export", checkpoint_id, str(file), timeout_s=SLOW_S)
    beta = cluster["beta"]
    inside = beta.host.root / "root/kept.tar"
    shutil.move(file, inside)
    known = set(beta.ctr("images", "ls", "-q").split())
    try:
        beta.ctr("images", "import", "/root/kept.tar", check=False)  # it wants to unpack, and imports nevertheless
        (name,) = set(beta.ctr("images", "ls", "-q").split()) - known
        beta.ctr("containers", "restore", "--rw", "--live", "exported", name)
    finally:
        inside.unlink()
        beta.run("sh", "-c", "rm -rf /tmp/ctrd-checkpoint*")  # containerd never removes where it unpacked the images
        for name in set(beta.ctr("images", "ls", "-q").split()) - known:
            beta.ctr("images", "delete", "--sync", name)
