"""One program that lives through all the faults, and after each of them a look whether anything was left over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrator.lab.lab import Shape
from tests.acceptance.cluster import Cluster
from tests.acceptance.faults.scene import NAME, Scene
from tests.acceptance.faults.witness import Witness
from tests.acceptance.inventory import Inventory, settled_difference, take_inventory
from tests.workloads import WORKLOADS, Running


class Stage:
    """Where the program is between the faults, and what lies about when all is well."""

    def __init__(self, cluster: Cluster, witness: Witness):
        self.cluster = cluster
        self.witness = witness
        self.container: Running | None = None
        self.calm = Inventory(frozenset())

    def set(self) -> Running:
        """The program, started anew if the last fault cost it its life."""
        if self.container is None:
            self.cluster.lab.up(Shape(hosts=2))  # whatever is down is started
            self.cluster.remove(NAME)
            self.container = self.cluster.start(WORKLOADS["ticker"], "alpha", NAME)
            self.calm = take_inventory(self.cluster.lab)
            self.witness.seen_twice.clear()
        return self.container


@pytest.fixture(scope="session")
def stage(cluster: Cluster) -> Iterator[Stage]:
    witness = Witness(cluster.lab, NAME)
    witness.start()
    yield Stage(cluster, witness)
    witness.stop()
    assert witness.looks > 0
    cluster.remove(NAME)


@pytest.fixture(autouse=True)
def nothing_left(stage: Stage, image_objects: frozenset[str]) -> Iterator[None]:
    """After a fault everything is as it was, but for the host on which the program runs."""
    stage.set()
    yield
    if stage.container is None:
        return  # the test has failed, and says more
    gained, lost = settled_difference(stage.cluster.lab, stage.calm, allowed=image_objects, moved=NAME)
    if gained or lost:
        stage.container = None
    assert not gained, "left over"
    assert not lost, "missing afterwards"


@pytest.fixture
def scene(stage: Stage, nothing_left: None) -> Iterator[Scene]:
    """The program, about to be moved to the other host."""
    container, stage.container = stage.set(), None
    scene = Scene(stage.cluster, container, stage.witness)
    try:
        yield scene
    finally:
        scene.api.close()
    stage.container = scene.container if scene.judged else None
