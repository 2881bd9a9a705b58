"""podman's own way: checkpoint to an archive, restore from it, on a disk that both hosts see."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from migrator.lab.lab import Shape
from migrator.lab.rootfs import ensure_root
from tests.bench.load import Load
from tests.bench.systems.system import NAME, System
from tests.compare_podman import DISK, RECIPE, Machine, PodmanLab, PodmanRunning
from tests.workloads import Running

ARCHIVE = f"{DISK}/busy.tar"
SLOW_S = 300.0


class ByPodman(System):
    """`podman container checkpoint --export`, `podman container restore --import`, without compression.

    Args:
        lab: Two hosts with podman, up.
    """

    name = "podman"
    mode = "eager"

    def __init__(self, lab: PodmanLab):
        self._root = ensure_root()
        self._hosts = [Machine(host) for host in lab.hosts.values()]
        self._moved_bytes = 0

    def start(self, load: Load) -> Running:
        self.remove()
        archive = load.image(self._root)
        images = [host.load(archive) for host in self._hosts]
        # The lab's other containers have no filter of system calls either.
        options = ("--network=none", "--security-opt=seccomp=unconfined", f"--name={NAME}")
        self._hosts[0].podman("run", "--detach", *options, images[0])
        container = PodmanRunning(self._hosts[0], NAME)
        load.wait_started(container)
        return container

    def move(self, container: Running) -> Running:
        source, target = self._hosts if container.host.name == self._hosts[0].name else self._hosts[::-1]
        source.podman("container", "checkpoint", f"--export={ARCHIVE}", "--compress=none", NAME, timeout_s=SLOW_S)
        archive = source.host.root / ARCHIVE.lstrip("/")
        self._moved_bytes = 2 * archive.stat().st_size
        target.podman("container", "restore", f"--import={archive}", timeout_s=SLOW_S)
        archive.unlink()
        source.podman("rm", "--force", "--time=0", "--ignore", NAME)
        return PodmanRunning(target, NAME)

    def remove(self) -> None:
        for host in self._hosts:
            host.podman("rm", "--force", "--time=0", "--ignore", NAME, check=False)
            with contextlib.suppress(FileNotFoundError):
                (host.host.root / ARCHIVE.lstrip("/")).unlink()

    def costs(self) -> dict[str, float | int | None]:
        return {"bytes_moved": self._moved_bytes}


@contextlib.contextmanager
def podman_lab(name: str) -> Iterator[PodmanLab]:
    """Two hosts with podman, taken down in every case."""
    ensure_root(recipe=RECIPE)
    lab = PodmanLab(name, RECIPE)
    lab.down()
    try:
        lab.up(Shape(hosts=2, control=False))
        yield lab
    finally:
        lab.down()
