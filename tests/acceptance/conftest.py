"""One full lab for all acceptance tests, and after each of them a look whether anything was left over."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from migrator.lab.lab import Lab
from tests.acceptance.cluster import Cluster
from tests.acceptance.inventory import settled_difference, take_inventory
from tests.workloads import WORKLOADS, Running


@pytest.fixture(scope="session")
def cluster(lab: Lab, lab_root: Path) -> Cluster:
    """The lab, with the images that many tests use on both hosts: what an image adds is no leftover."""
    cluster = Cluster(lab, lab_root)
    for name in ("arena", "counter", "files", "ledger", "odd", "redis", "server", "threads", "ticker", "tree"):
        cluster.import_image(WORKLOADS[name], *cluster.machines)
    return cluster


@pytest.fixture
def workload_image(request: pytest.FixtureRequest, cluster: Cluster) -> None:
    """The image of the workload that a test is about, on both hosts."""
    if "workload" in request.fixturenames:
        cluster.import_image(request.getfixturevalue("workload"), *cluster.machines)


@pytest.fixture
def image_objects(cluster: Cluster, workload_image: None) -> frozenset[str]:
    """What stays in the object store for the next move: its layout mark, and the objects that base images become."""
    images = {line for archive in cluster.archives for line in _objects(archive)}
    return frozenset(images | {"store object - oci-layout"})


@pytest.fixture
def keeps_checkpoints() -> None:
    """Asked for by tests that leave checkpoints in the object store, as a user wants."""


@pytest.fixture
def prunes_store(keeps_checkpoints: None) -> None:
    """Asked for by tests that prune: base images that earlier tests left in the object store may go, too."""


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, cluster: Cluster, image_objects: frozenset[str]) -> Iterator[None]:
    """After a test everything is as it was before it, on all hosts and in the store.

    A test that is tried again starts on hosts without the containers of its first try; what else that left may go.
    """
    tried_again = getattr(request.node, "execution_count", 1) > 1
    if tried_again:
        cluster.sweep()
    before = take_inventory(cluster.lab)
    yield
    keeps = "store object" if "keeps_checkpoints" in request.fixturenames else None
    gained, lost = settled_difference(cluster.lab, before, allowed=image_objects, keeps=keeps)
    if "prunes_store" in request.fixturenames:
        lost = [line for line in lost if not line.startswith("store object")]
    assert not gained, "left over"
    assert tried_again or not lost, "missing afterwards"


@pytest.fixture
def ticker(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    """64 MiB of changing memory in the container `demo` on alpha; removed from wherever it is afterwards."""
    cluster.remove("demo")
    yield cluster.start(WORKLOADS["ticker"], "alpha", "demo")
    cluster.remove("demo")


@cache
def _objects(archive: Path) -> frozenset[str]:
    with tarfile.open(archive) as image:
        return frozenset(f"store object - {entry}" for entry in image.getnames() if entry.startswith("blobs/sha256/"))


def pytest_report_header() -> str:
    return json.dumps({"workloads": sorted(WORKLOADS)})
