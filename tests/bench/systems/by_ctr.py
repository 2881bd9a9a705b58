"""containerd's own tool: checkpoint, export, import, restore, with the archive on a disk that both hosts see."""

from __future__ import annotations

from pathlib import Path

from tests.acceptance.cluster import Machine
from tests.bench.load import Load
from tests.bench.systems.bare import Bare
from tests.bench.systems.system import NAME
from tests.workloads import Running

CHECKPOINT = "migrator.local/busy-checkpoint:1"
ARCHIVE = "var/lib/containerd/bench.tar"
SLOW_S = 300.0


class ByCtr(Bare):
    """`ctr containers checkpoint`, `ctr images export`, `ctr images import`, `ctr containers restore`."""

    name = "ctr"
    mode = "eager"

    def start(self, load: Load) -> Running:
        container = super().start(load)
        self._forget_checkpoints()
        return container

    def move(self, container: Running) -> Running:
        source = self._cluster[container.host.name]
        target = self._cluster["beta" if source.name == "alpha" else "alpha"]
        _ctr(source, "containers", "checkpoint", "--image", "--rw", "--task", NAME, CHECKPOINT)
        _ctr(source, "tasks", "pause", NAME)  # or two would run; the dump's end lets it go on for a moment
        _ctr(source, "images", "export", "--skip-manifest-json", f"/{ARCHIVE}", CHECKPOINT)
        shown = _place(source)
        self._moved_bytes = 2 * shown.stat().st_size
        _ctr(target, "images", "import", "--no-unpack", str(shown))
        _ctr(target, "containers", "restore", "--rw", "--live", NAME, CHECKPOINT)
        self._end(source)
        shown.unlink()
        self._forget_checkpoints()
        return Running(target, NAME)

    def _end(self, machine: Machine) -> None:
        machine.ctr("tasks", "kill", "--signal", "SIGKILL", "--all", NAME, check=False)
        machine.ctr("tasks", "delete", "--force", NAME, check=False)
        machine.ctr("containers", "delete", NAME, check=False)

    def _forget_checkpoints(self) -> None:
        for machine in self._cluster.machines.values():
            machine.ctr("images", "rm", "--sync", CHECKPOINT, check=False)


def _place(machine: Machine) -> Path:
    """The archive as the other host sees it."""
    return machine.host.root / ARCHIVE


def _ctr(machine: Machine, *words: str) -> None:
    machine.run("ctr", *words, timeout_s=SLOW_S)
