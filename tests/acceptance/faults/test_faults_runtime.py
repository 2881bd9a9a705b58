"""containerd, its shims and CRIU die or hang on either host."""

from __future__ import annotations

import pytest

from tests.acceptance.faults.scene import Fault, Scene
from tests.acceptance.faults.strikes import (
    after_s,
    at_once,
    criu_killed,
    criu_stopped,
    killed,
    shim_killed,
    turned_back,
)

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

BACK, THERE, EITHER = ("failed",), ("succeeded",), ("failed", "succeeded")
SOURCE, TARGET = killed("source", "containerd"), killed("target", "containerd")
FAULTS = (
    Fault("source-containerd-at-prepare", "prepare", SOURCE, at_once, EITHER),
    Fault("source-containerd-at-dump", "dump", SOURCE, turned_back, BACK),
    Fault("source-containerd-at-upload", "upload", SOURCE, at_once, EITHER),
    Fault("source-containerd-at-restore", "restore", SOURCE, after_s(2), THERE),
    Fault("source-containerd-at-remove", "remove", SOURCE, at_once, THERE),
    Fault("target-containerd-at-prepare", "prepare", TARGET, turned_back, BACK),
    Fault("target-containerd-at-fetch", "fetch", TARGET, turned_back, BACK),
    Fault("target-containerd-at-restore", "restore", TARGET, at_once, EITHER),
    Fault("target-shim-at-restore", "restore", shim_killed("target"), at_once, BACK),
    Fault("source-shim-at-restore", "restore", shim_killed("source"), at_once, THERE),
    Fault("criu-at-dump", "dump", criu_killed("source"), at_once, BACK),
    Fault("criu-in-the-middle-of-the-dump", "dump", criu_killed("source", middle=True), at_once, BACK),
    Fault("criu-at-restore", "restore", criu_killed("target"), at_once, BACK),
    Fault("criu-in-the-middle-of-the-restore", "restore", criu_killed("target", middle=True), at_once, BACK),
    Fault("criu-hangs-at-dump", "dump", criu_stopped("source", middle=True), turned_back, BACK),
)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_the_runtime_fails(scene: Scene, fault: Fault) -> None:
    scene.play(fault)
