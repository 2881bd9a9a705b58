"""One full lab for all acceptance tests, and after each of them a look whether anything was left over."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.lab.lab import Lab
from tests.acceptance.cluster import Cluster
from tests.acceptance.inventory import settled_difference, take_inventory
from tests.workloads import WORKLOADS, Running


@pytest.fixture(scope="session")
def cluster(lab: Lab, lab_root: Path) -> Cluster:
    """The lab, with the image of every workload on both hosts: what an image adds is no leftover."""
    cluster = Cluster(lab, lab_root)
    for workload in WORKLOADS.values():
        cluster.import_image(workload, *cluster.machines)
    return cluster


@pytest.fixture(scope="session")
def image_objects(cluster: Cluster) -> frozenset[str]:
    """What stays in the object store for the next move: its layout mark, and the objects that base images become."""
    images = {line for workload in WORKLOADS.values() for line in _objects(workload.image(cluster.root))}
    return frozenset(images | {"store object - oci-layout"})


@pytest.fixture
def keeps_checkpoints() -> None:
    """Asked for by tests that leave checkpoints in the object store, as a user wants."""


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest, cluster: Cluster, image_objects: frozenset[str]) -> Iterator[None]:
    """After a test everything is as it was before it, on all hosts and in the store."""
    before = take_inventory(cluster.lab)
    yield
    keeps = "store object" if "keeps_checkpoints" in request.fixturenames else None
    gained, lost = settled_difference(cluster.lab, before, allowed=image_objects, keeps=keeps)
    assert not gained, "left over"
    assert not lost, "missing afterwards"


@pytest.fixture
def ticker(cluster: Cluster, nothing_left: None) -> Iterator[Running]:
    """64 MiB of changing memory in the container `demo` on alpha; removed from wherever it is afterwards."""
    cluster.remove("demo")
    yield cluster.start(WORKLOADS["ticker"], "alpha", "demo")
    cluster.remove("demo")


def _objects(archive: Path) -> Iterator[str]:
    with tarfile.open(archive) as image:
        for entry in image.getnames():
            if entry.startswith("blobs/sha256/"):
                yield f"store object - {entry}"


def pytest_report_header() -> str:
    return json.dumps({"workloads": sorted(WORKLOADS)})
