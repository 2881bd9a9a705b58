"""A frozen task that CRIU can dump: no process of it stands in the middle of a vfork.

A parent in vfork sleeps in the kernel, deaf to ptrace, until its child has called exec. Freeze both in that moment and
CRIU waits for the parent until its own deadline (10 s, with the task frozen all the while) and fails: "Unseizable
non-zombie found, state D". Shells and posix_spawn use vfork for every program they start.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from migrator.containerd.cgroup import pids_of
from migrator.errors import ResourceBusy

if TYPE_CHECKING:
    from migrator.containerd.task import Task

TRIES = 30
DELAY_S = 0.003
"""How long the task runs between two tries; an exec takes about a millisecond."""
VFORK_PLACES = frozenset(
    {"kernel_clone", "_do_fork", "wait_for_vfork_done", "wait_for_completion_killable", "wait_for_completion_state"}
)
"""Where a parent sleeps, by /proc/PID/wchan; which of them depends on how the kernel was compiled."""


def in_vfork(task: Task) -> int | None:
    """Return the pid of a thread of the frozen task that stands in a vfork; None when there is none.

    Looks into this machine's /proc, so the daemon must run here; of processes elsewhere it sees nothing.
    """
    for pid in pids_of(task):
        for thread in _threads(pid):
            with suppress(OSError):
                if (thread / "wchan").read_text() in VFORK_PLACES:
                    return int(thread.name)
    return None


def settle(task: Task, timeout_s: float | None = None) -> None:
    """Let a task that was just paused run on for moments until it stands still outside of any vfork.

    Raises:
        ResourceBusy: `task_in_vfork`: it does nothing else; the task runs again.
    """
    pid = in_vfork(task)
    for _ in range(TRIES):
        if pid is None:
            return
        task.resume(timeout_s=timeout_s)
        time.sleep(DELAY_S)
        task.pause(timeout_s=timeout_s, settled=False)
        pid = in_vfork(task)
    if pid is not None:
        task.resume(timeout_s=timeout_s)
        raise ResourceBusy(
            f"task {task.container_id} cannot be frozen for a dump: process {pid} always stands in a vfork",
            code="task_in_vfork",
            remedy="try again; a program whose child never calls exec cannot be dumped",
        )


def _threads(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
