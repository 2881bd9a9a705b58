"""One program that lives through all the faults, and after each of them a look whether anything was left over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from migrator.lab.lab import Shape
from tests.acceptance.cluster import Cluster
from tests.acceptance.faults.scene import Scene
from tests.acceptance.faults.witness import Witness
from tests.acceptance.inventory import Inventory, settled_difference, take_inventory
from tests.workloads import WORKLOADS, Running


class Stage:
    """Where the program is between the faults, and what lies about when all is well."""

    def __init__(self, cluster: Cluster):
        self.cluster = cluster
        self.container: Running | None = None
        self.witness: Witness | None = None
        self.calm = Inventory(frozenset())
        self.lives = 0

    def set(self) -> tuple[Running, Witness]:
        """The program; started anew, and under another name, if the last fault cost it its life."""
        if self.container is None or self.witness is None:
            self.clear()
            self.cluster.lab.up(Shape(hosts=2))  # whatever is down is started
            self.lives += 1
            name = f"program-{self.lives}"
            self.witness = Witness(self.cluster.lab, name)
            self.witness.start()
            self.container = self.cluster.start(WORKLOADS["ticker"], "alpha", name)
            self.calm = take_inventory(self.cluster.lab)
        return self.container, self.witness

    def clear(self) -> None:
        """Take the program away."""
        if self.witness is not None:
            self.witness.stop()
            self.witness = None
            self.cluster.remove(f"program-{self.lives}")


@pytest.fixture(scope="session")
def stage(cluster: Cluster) -> Iterator[Stage]:
    stage = Stage(cluster)
    yield stage
    stage.clear()


@pytest.fixture(autouse=True)
def nothing_left(stage: Stage, image_objects: frozenset[str]) -> Iterator[None]:
    """After a fault everything is as it was, but for the host on which the program runs."""
    container, _ = stage.set()
    yield
    if stage.container is None:
        return  # the test has failed, and says more
    gained, lost = settled_difference(stage.cluster.lab, stage.calm, allowed=image_objects, moved=container.name)
    if gained or lost:
        stage.container = None
    assert not gained, "left over"
    assert not lost, "missing afterwards"


@pytest.fixture
def scene(stage: Stage, nothing_left: None) -> Iterator[Scene]:
    """The program, about to be moved to the other host."""
    container, witness = stage.set()
    stage.container = None
    scene = Scene(stage.cluster, WORKLOADS["ticker"], container, witness)
    try:
        yield scene
    finally:
        scene.api.close()
    stage.container = scene.container if scene.judged else None
