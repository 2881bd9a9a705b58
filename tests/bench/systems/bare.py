"""Bare containerd with CRIU's images in memory that both hosts see: no store, no proof, no way back. The floor."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from migrator.containerd import CheckpointOptions, ContainerdClient
from migrator.containerd.parts import diff_snapshot
from migrator.gen.containerd.runc.v1.options_pb2 import Options
from tests.acceptance.cluster import Cluster, Machine
from tests.bench.load import Load
from tests.bench.systems.system import NAME, System
from tests.workloads import Running

IMAGES = "run/bench-images"
SLOW_S = 300.0


class Bare(System):
    """Dump, diff, apply, restore: containerd's calls and nothing else.

    Args:
        cluster: A lab; its workers have nothing to do meanwhile.
    """

    name = "floor"
    mode = "eager"

    def __init__(self, cluster: Cluster):
        self._cluster = cluster
        self._moved_bytes = 0

    def start(self, load: Load) -> Running:
        self.remove()
        archive = load.image(self._cluster.root)
        for machine in self._cluster.machines.values():
            machine.host.import_image(archive)
        alpha = self._cluster["alpha"]
        alpha.ctr("run", "--detach", "--null-io", load.image_name, NAME)
        container = Running(alpha, NAME)
        load.wait_started(container)
        return container

    def move(self, container: Running) -> Running:
        source = self._cluster[container.host.name]
        target = self._cluster["beta" if source.name == "alpha" else "alpha"]
        images = source.host.root / IMAGES
        shutil.rmtree(images, ignore_errors=True)
        with _client(source) as here, _client(target) as there:
            self._dump(here)
            self._restore(here, there, images)
        self._moved_bytes = 2 * sum(file.stat().st_size for file in images.iterdir())
        shutil.rmtree(images)
        _forget(source)
        return Running(target, NAME)

    def remove(self) -> None:
        self._cluster.remove(NAME)

    def costs(self) -> dict[str, float | int | None]:
        return {"bytes_moved": self._moved_bytes}

    def _dump(self, here: ContainerdClient) -> None:
        options = CheckpointOptions(exit=True, image_path=f"/{IMAGES}")
        here.task(NAME).checkpoint_memory(options, timeout_s=SLOW_S)

    def _restore(self, here: ContainerdClient, there: ContainerdClient, images: Path) -> None:
        record = here.containers.get(NAME)
        parent = here.snapshots(record.snapshotter).stat(record.snapshot_key).parent
        with here.lease() as leased, there.lease() as taken:
            diff = diff_snapshot(leased, record.snapshotter, record.snapshot_key)
            data = leased.content.read(diff.digest)
            taken.content.write("bench", data, size_bytes=diff.size_bytes, digest=diff.digest)
            mounts = taken.snapshots(record.snapshotter).prepare(NAME, parent)
            taken.diffs.apply(diff, mounts)
            taken.containers.create(replace(record, snapshot_key=NAME))
            options = Options(criu_image_path=str(images))
            taken.create_task(NAME, rootfs=mounts, options=options, timeout_s=SLOW_S).start(timeout_s=SLOW_S)


def _client(machine: Machine) -> ContainerdClient:
    return ContainerdClient(machine.host.containerd_socket, timeout_s=SLOW_S)


def _forget(machine: Machine) -> None:
    machine.ctr("tasks", "delete", "--force", NAME, check=False)
    machine.ctr("containers", "delete", NAME, check=False)
