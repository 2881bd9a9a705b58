"""No room is left, or the object store does not hold what was put into it."""

from __future__ import annotations

import pytest

from tests.acceptance.faults.scene import Fault, Scene
from tests.acceptance.faults.strikes import at_once, damaged, filled, run_filled, turned_back

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

BACK, THERE = ("failed",), ("succeeded",)
INGEST = "/var/lib/containerd/io.containerd.content.v1.content/ingest"
IMAGES = "/run/migrator/criu"
STATE = "/var/lib/migrator"
DISKS = (
    Fault("source-disk-full", "prepare", filled("source", INGEST), turned_back, BACK),
    Fault("target-disk-full", "freeze", filled("target", INGEST), turned_back, BACK),
    Fault("source-memory-full-at-dump", "prepare", filled("source", IMAGES, "16m"), turned_back, BACK),
    Fault("target-memory-full-at-fetch", "prepare", filled("target", IMAGES, "16m"), turned_back, BACK),
    Fault("source-run-full", "prepare", run_filled("source", 0), turned_back, BACK),
    Fault("target-state-full", "freeze", filled("target", f"{STATE}/epochs"), turned_back, BACK),
)
PARTS = (
    ("memory", "changed"),
    ("memory", "cut"),
    ("memory", "gone"),
    ("rw-diff", "changed"),
    ("container", "changed"),
    ("container", "cut"),
    ("index", "changed"),
    ("index", "cut"),
    ("index", "gone"),
)


@pytest.mark.parametrize("fault", DISKS, ids=str)
def test_no_room_is_left(scene: Scene, fault: Fault) -> None:
    scene.play(fault)


def test_memory_that_does_not_fit_into_run_goes_to_the_disk(scene: Scene) -> None:
    room_bytes = 8 << 20
    scene.play(Fault("", "prepare", run_filled("source", room_bytes), lambda it: it.wait_step("prove"), THERE))


@pytest.mark.parametrize(("part", "how"), PARTS)
def test_the_checkpoint_is_damaged_in_the_store(scene: Scene, part: str, how: str) -> None:
    scene.begin()
    scene.strike(damaged(part, how), at_once)
    failure = scene.judge(BACK).failure
    assert failure.kind in ("IntegrityError", "NotFound"), failure
    assert failure.remedy, failure
