"""Workers die, whole or with all that belongs to them, or stand still and wake up late."""

from __future__ import annotations

import pytest

from tests.acceptance.faults.scene import Fault, Scene
from tests.acceptance.faults.strikes import (
    after_s,
    at_once,
    both,
    group_killed,
    guard_killed,
    killed,
    resumed_in_time,
    stopped,
    turned_back,
)

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

BACK, THERE, EITHER = ("failed",), ("succeeded",), ("failed", "succeeded")
SOURCE, TARGET = killed("source", "worker"), killed("target", "worker")
FAULTS = (
    Fault("source-worker-at-freeze", "freeze", SOURCE, turned_back, BACK),
    Fault("source-worker-at-dump", "dump", SOURCE, resumed_in_time, BACK),
    Fault("source-worker-at-upload", "upload", SOURCE, resumed_in_time, BACK),
    Fault("source-worker-at-fetch", "fetch", SOURCE, resumed_in_time, BACK),
    Fault("source-worker-at-restore", "restore", SOURCE, at_once, THERE),
    Fault("source-worker-at-remove", "remove", SOURCE, at_once, THERE),
    Fault("source-worker-and-guard-at-upload", "upload", both(SOURCE, guard_killed), at_once, BACK),
    Fault("source-group-at-dump", "dump", group_killed("source", "worker"), resumed_in_time, BACK),
    Fault("target-worker-at-prepare", "prepare", TARGET, at_once, EITHER),
    Fault("target-worker-at-dump", "dump", TARGET, turned_back, BACK),
    Fault("target-worker-at-fetch", "fetch", TARGET, turned_back, BACK),
    Fault("target-worker-at-restore", "restore", TARGET, at_once, EITHER),
    Fault("target-worker-at-remove", "remove", TARGET, at_once, THERE),
    Fault("target-group-at-restore", "restore", group_killed("target", "worker"), after_s(5), EITHER),
    Fault("both-workers-at-restore", "restore", both(SOURCE, TARGET), at_once, EITHER),
    Fault("source-worker-stands-at-dump", "dump", stopped("source", "worker"), turned_back, BACK),
    Fault("source-worker-stands-at-restore", "restore", stopped("source", "worker"), after_s(6), THERE),
    Fault("target-worker-stands-at-fetch", "fetch", stopped("target", "worker"), turned_back, BACK),
    Fault("target-worker-stands-at-restore", "restore", stopped("target", "worker"), after_s(6), THERE),
    Fault("guard-at-dump", "dump", guard_killed, at_once, BACK),
    Fault("guard-at-restore", "restore", guard_killed, at_once, THERE),
)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_a_worker_fails(scene: Scene, fault: Fault) -> None:
    scene.play(fault)
