"""What may break during a move, and how the move may end then. One line a case; `strikes` says what each does."""

from __future__ import annotations

from tests.acceptance.faults.scene import Fault
from tests.acceptance.faults.strikes import (
    after_s,
    at_once,
    both,
    criu_killed,
    criu_stopped,
    cut,
    filled,
    group_killed,
    guard_killed,
    killed,
    resumed_in_time,
    run_filled,
    shim_killed,
    step,
    stopped,
    turned_back,
)

BACK, THERE, EITHER = ("failed",), ("succeeded",), ("failed", "succeeded")
SOURCE, TARGET = killed("source", "worker"), killed("target", "worker")
CONTROLLER, SERVER = killed("control", "controller"), killed("control", "server")
BROKER, STORE = killed("control", "redis"), killed("control", "s3")
SOURCE_RUNTIME, TARGET_RUNTIME = killed("source", "containerd"), killed("target", "containerd")
INGEST = "/var/lib/containerd/io.containerd.content.v1.content/ingest"
IMAGES = "/run/migrator/criu"
EPOCHS = "/var/lib/migrator/epochs"

WORKERS = (
    Fault("source-worker-at-freeze", "freeze", SOURCE, turned_back, BACK, wide=True),
    Fault("source-worker-at-dump", "dump", SOURCE, resumed_in_time, BACK),
    Fault("source-worker-at-upload", "upload", SOURCE, resumed_in_time, BACK, wide=True),
    Fault("source-worker-at-fetch", "fetch", SOURCE, resumed_in_time, BACK, wide=True),
    Fault("source-worker-at-restore", "restore", SOURCE, at_once, THERE),
    Fault("source-worker-at-remove", "remove", SOURCE, at_once, THERE, wide=True),
    Fault("source-worker-and-guard-at-upload", "upload", both(SOURCE, guard_killed), at_once, BACK, wide=True),
    Fault("source-group-at-dump", "dump", group_killed("source", "worker"), resumed_in_time, BACK, wide=True),
    Fault("target-worker-at-prepare", "prepare", TARGET, at_once, EITHER, wide=True),
    Fault("target-worker-at-dump", "dump", TARGET, turned_back, BACK, wide=True),
    Fault("target-worker-at-fetch", "fetch", TARGET, turned_back, BACK),
    Fault("target-worker-at-restore", "restore", TARGET, at_once, EITHER),
    Fault("target-worker-at-remove", "remove", TARGET, at_once, THERE, wide=True),
    Fault("target-group-at-restore", "restore", group_killed("target", "worker"), after_s(5), EITHER, wide=True),
    Fault("both-workers-at-restore", "restore", both(SOURCE, TARGET), at_once, EITHER, wide=True),
    Fault("source-worker-stands-at-dump", "dump", stopped("source", "worker"), turned_back, BACK),
    Fault("source-worker-stands-at-restore", "restore", stopped("source", "worker"), after_s(6), THERE, wide=True),
    Fault("target-worker-stands-at-fetch", "fetch", stopped("target", "worker"), turned_back, BACK, wide=True),
    Fault("target-worker-stands-at-restore", "restore", stopped("target", "worker"), after_s(6), THERE),
    Fault("guard-at-dump", "dump", guard_killed, at_once, BACK),
    Fault("guard-at-restore", "restore", guard_killed, at_once, THERE),
)
CONTROL_PLANE = (
    Fault("controller-at-prepare", "prepare", CONTROLLER, at_once, EITHER, wide=True),
    Fault("controller-at-freeze", "freeze", CONTROLLER, at_once, EITHER, wide=True),
    Fault("controller-at-dump", "dump", CONTROLLER, after_s(2), EITHER),
    Fault("controller-at-fetch", "fetch", CONTROLLER, at_once, EITHER, wide=True),
    Fault("controller-at-restore", "restore", CONTROLLER, at_once, THERE),
    Fault("controller-at-remove", "remove", CONTROLLER, at_once, THERE, wide=True),
    Fault("controller-stands-at-upload", "upload", stopped("control", "controller"), after_s(5), EITHER),
    Fault("server-at-dump", "dump", SERVER, at_once, THERE),
    Fault("broker-at-freeze", "freeze", BROKER, at_once, EITHER, wide=True),
    Fault("broker-at-upload", "upload", BROKER, after_s(5), EITHER),
    Fault("broker-at-restore", "restore", BROKER, after_s(1), THERE),
    Fault("broker-at-remove", "remove", BROKER, at_once, THERE, wide=True),
    Fault("store-at-publish-image", "publish-image", STORE, at_once, EITHER, wide=True),
    Fault("store-at-upload", "upload", STORE, turned_back, BACK),
    Fault("store-at-fetch", "fetch", STORE, turned_back, BACK, wide=True),
    Fault("store-at-restore", "restore", STORE, after_s(2), EITHER),
    Fault("store-at-remove", "remove", STORE, after_s(2), THERE, wide=True),
    Fault("store-stands-at-upload", "upload", stopped("control", "s3"), after_s(4), EITHER, wide=True),
)
WIRES = (
    Fault("source-cut-at-dump", "dump", cut("source"), turned_back, BACK, wide=True),
    Fault("source-cut-at-upload", "upload", cut("source"), turned_back, BACK, wide=True),
    Fault("source-deaf-at-upload", "upload", cut("source", out=False), turned_back, BACK),
    Fault("source-mute-at-dump", "dump", cut("source", into=False), turned_back, BACK),
    Fault("source-cut-at-restore", "restore", cut("source"), after_s(5), THERE, wide=True),
    Fault("target-cut-at-fetch", "fetch", cut("target"), turned_back, BACK, wide=True),
    Fault("target-cut-at-restore", "restore", cut("target"), after_s(5), EITHER),
    Fault("target-deaf-at-restore", "restore", cut("target", out=False), after_s(5), EITHER, wide=True),
    Fault("target-mute-at-restore", "restore", cut("target", into=False), after_s(5), EITHER),
)
RUNTIME = (
    Fault("source-containerd-at-prepare", "prepare", SOURCE_RUNTIME, at_once, EITHER, wide=True),
    Fault("source-containerd-at-dump", "dump", SOURCE_RUNTIME, turned_back, BACK),
    Fault("source-containerd-at-upload", "upload", SOURCE_RUNTIME, at_once, EITHER, wide=True),
    Fault("source-containerd-at-restore", "restore", SOURCE_RUNTIME, after_s(2), THERE, wide=True),
    Fault("source-containerd-at-remove", "remove", SOURCE_RUNTIME, at_once, THERE, wide=True),
    Fault("target-containerd-at-prepare", "prepare", TARGET_RUNTIME, turned_back, BACK, wide=True),
    Fault("target-containerd-at-fetch", "fetch", TARGET_RUNTIME, turned_back, BACK, wide=True),
    Fault("target-containerd-at-restore", "restore", TARGET_RUNTIME, at_once, EITHER),
    Fault("target-shim-at-restore", "restore", shim_killed("target"), at_once, BACK),
    Fault("source-shim-at-restore", "restore", shim_killed("source"), at_once, THERE),
    Fault("criu-at-dump", "dump", criu_killed("source"), at_once, EITHER, wide=True),
    Fault("criu-in-the-middle-of-the-dump", "dump", criu_killed("source", middle=True), at_once, BACK),
    Fault("criu-at-restore", "restore", criu_killed("target"), at_once, BACK, wide=True),
    Fault("criu-in-the-middle-of-the-restore", "restore", criu_killed("target", middle=True), at_once, BACK),
    Fault("criu-hangs-at-dump", "dump", criu_stopped("source", middle=True), turned_back, BACK),
)
DISKS = (
    Fault("source-disk-full", "prepare", filled("source", INGEST), turned_back, BACK),
    Fault("target-disk-full", "freeze", filled("target", INGEST), turned_back, BACK, wide=True),
    Fault("source-memory-full-at-dump", "prepare", filled("source", IMAGES, "16m"), step("prove"), THERE, wide=True),
    Fault("target-memory-full-at-fetch", "prepare", filled("target", IMAGES, "16m"), turned_back, BACK),
    Fault("source-run-full", "prepare", run_filled("source", 0), turned_back, BACK),
    Fault("source-run-too-small-for-memory", "prepare", run_filled("source", 8 << 20), step("prove"), THERE, wide=True),
    Fault("target-state-full", "freeze", filled("target", EPOCHS), turned_back, BACK),
)
ALL = (*WORKERS, *CONTROL_PLANE, *WIRES, *RUNTIME, *DISKS)
