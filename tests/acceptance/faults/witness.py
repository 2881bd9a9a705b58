"""Sees by the kernel alone whether a program runs on two hosts at once."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

from migrator.lab import cgroups
from migrator.lab.lab import Lab

LOOK_S = 0.02
FREEZER_FILES = ("freezer.state", "cgroup.freeze")
FROZEN = ("FROZEN", "FREEZING", "1")
PF_EXITING = 0x4
SIGKILL_BIT = 1 << (signal.SIGKILL - 1)


class Witness:
    """Looks at a container's cgroups on all hosts, some fifty times a second, on a thread of its own."""

    def __init__(self, lab: Lab, container: str):
        self.cgroups = {name: cgroups.find(lab.layout.cgroup_name, name) for name in lab.hosts}
        """Every host's directory in each hierarchy; to find them takes a while."""
        self._places = {name: [top / "default" / container for top in tops] for name, tops in self.cgroups.items()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="witness", daemon=True)
        self.seen_twice: list[str] = []
        self.looks = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def running(self) -> list[str]:
        """The hosts on which processes of the container are and are not frozen, now."""
        return [name for name, places in self._places.items() if _runs(places)]

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_S):
            self.looks += 1
            first = self.running()
            # One look is no instant: it takes the hosts one after the other. Twice in turn, and both ran in between.
            if len(first) > 1 and self.running() == first:
                self.seen_twice.append(" and ".join(first))


def _runs(places: list[Path]) -> bool:
    """Whether there is a process in these cgroups, and none of them is frozen."""
    try:
        freezers = [place / name for place in places for name in FREEZER_FILES if (place / name).exists()]
        if not freezers or any(file.read_text().strip() in FROZEN for file in freezers):
            return False
        return any(_lives(int(pid)) for file in freezers for pid in (file.parent / "cgroup.procs").read_text().split())
    except OSError:  # it went away meanwhile
        return False


def _lives(pid: int) -> bool:
    """Whether a process may run one more line: one with a SIGKILL before it, or on its way out, will not (proc(5))."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        flags = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[6])
    except OSError:
        return False
    pending = int(status["SigPnd"], 16) | int(status["ShdPnd"], 16)
    return not (flags & PF_EXITING or pending & SIGKILL_BIT or status["State"].split()[0] in "ZX")
