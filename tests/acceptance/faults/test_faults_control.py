"""The control plane dies: controller, server, broker and object store, and the wires to it."""

from __future__ import annotations

import pytest

from tests.acceptance.faults.scene import Fault, Scene
from tests.acceptance.faults.strikes import after_s, at_once, cut, killed, stopped, turned_back

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

BACK, THERE, EITHER = ("failed",), ("succeeded",), ("failed", "succeeded")
CONTROLLER, SERVER = killed("control", "controller"), killed("control", "server")
BROKER, STORE = killed("control", "redis"), killed("control", "s3")
FAULTS = (
    Fault("controller-at-prepare", "prepare", CONTROLLER, at_once, EITHER),
    Fault("controller-at-freeze", "freeze", CONTROLLER, at_once, EITHER),
    Fault("controller-at-dump", "dump", CONTROLLER, after_s(2), EITHER),
    Fault("controller-at-fetch", "fetch", CONTROLLER, at_once, EITHER),
    Fault("controller-at-restore", "restore", CONTROLLER, at_once, THERE),
    Fault("controller-at-remove", "remove", CONTROLLER, at_once, THERE),
    Fault("controller-stands-at-upload", "upload", stopped("control", "controller"), after_s(5), EITHER),
    Fault("server-at-dump", "dump", SERVER, at_once, THERE),
    Fault("broker-at-freeze", "freeze", BROKER, at_once, EITHER),
    Fault("broker-at-upload", "upload", BROKER, after_s(5), EITHER),
    Fault("broker-at-restore", "restore", BROKER, after_s(1), THERE),
    Fault("broker-at-remove", "remove", BROKER, at_once, THERE),
    Fault("store-at-publish-image", "publish-image", STORE, at_once, EITHER),
    Fault("store-at-upload", "upload", STORE, turned_back, BACK),
    Fault("store-at-fetch", "fetch", STORE, turned_back, BACK),
    Fault("store-at-restore", "restore", STORE, after_s(2), EITHER),
    Fault("store-at-remove", "remove", STORE, after_s(2), THERE),
    Fault("store-stands-at-upload", "upload", stopped("control", "s3"), after_s(4), EITHER),
    Fault("source-cut-at-dump", "dump", cut("source"), turned_back, BACK),
    Fault("source-cut-at-upload", "upload", cut("source"), turned_back, BACK),
    Fault("source-deaf-at-upload", "upload", cut("source", out=False), turned_back, BACK),
    Fault("source-mute-at-dump", "dump", cut("source", into=False), turned_back, BACK),
    Fault("source-cut-at-restore", "restore", cut("source"), after_s(5), THERE),
    Fault("target-cut-at-fetch", "fetch", cut("target"), turned_back, BACK),
    Fault("target-cut-at-restore", "restore", cut("target"), after_s(5), EITHER),
    Fault("target-deaf-at-restore", "restore", cut("target", out=False), after_s(5), EITHER),
    Fault("target-mute-at-restore", "restore", cut("target", into=False), after_s(5), EITHER),
)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_the_control_plane_fails(scene: Scene, fault: Fault) -> None:
    scene.play(fault)
