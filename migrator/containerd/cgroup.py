"""The cgroup of a task, read where it is: asking the runtime starts a program, and may be inside a freeze."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from migrator.containerd.task import Task

CGROUPS = Path("/sys/fs/cgroup")


def freezer_of(pid: int) -> tuple[Path, str]:
    """The file that freezes a process's cgroup, and what to write (cgroups(7)); version 1 before version 2, as runc.

    Raises:
        OSError: The process is gone.
        LookupError: It is in no such cgroup.
    """
    places: dict[str, str] = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, place = line.split(":", 2)
        places |= dict.fromkeys(controllers.split(","), place.lstrip("/"))
    if "freezer" in places:
        return CGROUPS / "freezer" / places["freezer"] / "freezer.state", "FROZEN"
    return CGROUPS / places[""] / "cgroup.freeze", "1"


def is_frozen(pid: int) -> bool:
    """Whether the kernel holds all processes of a process's cgroup; one that is gone is not held."""
    try:
        file, word = freezer_of(pid)
        if file.name == "cgroup.freeze":
            return "frozen 1" in (file.parent / "cgroup.events").read_text()
        return file.read_text().strip() == word
    except (OSError, LookupError):
        return False


def pids_of(task: Task) -> list[int]:
    """The processes of a task, by their pids on this machine.

    The runtime is asked where the task's first process is not in the cgroup that has the container's name.
    """
    try:
        directory = freezer_of(task.pid)[0].parent
        if directory.name == task.container_id:
            files = directory.rglob("cgroup.procs")
            return sorted({int(word) for file in files for word in file.read_text().split()})
    except (OSError, LookupError, ValueError):
        pass
    return [process.pid for process in task.pids()]
