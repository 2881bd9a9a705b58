"""End a task so that its program runs not one more line, and delete what belongs to it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from migrator.containerd import Container, ContainerdClient, ProcessState, Task
from migrator.errors import MigratorError, NotFound

END_S = 10.0


def end_task(runtime: ContainerdClient, container: str) -> None:
    """End a task without letting its program run one more line, and delete it; an absent one is fine."""
    try:
        task = runtime.task(container)
        if task.status().state is not ProcessState.STOPPED:
            kill_task(task)
        task.delete()
    except NotFound:
        return


def kill_task(task: Task) -> None:
    """Kill and wait; a task that was created and never started has no process to kill.

    A runtime kills the first process alone and thaws the task; the others would run until the kernel comes to them.
    So each gets its signal before that.
    """
    for pid in _pids(task):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with suppress(NotFound):
        task.kill(signal.SIGKILL, all=True)
    if task.pid:
        with suppress(NotFound):
            task.wait(timeout_s=END_S)


def _pids(task: Task) -> list[int]:
    try:
        return [process.pid for process in task.pids()]
    except MigratorError:  # half-made: the runtime ends what there is
        return []


def delete_container(runtime: ContainerdClient, name: str) -> None:
    """Delete a container's snapshot, then its record, which tells where the snapshot is; absent ones are fine.

    A snapshot that another container has, too, stays: one of the two has been set aside for the other.
    """
    try:
        container = runtime.containers.get(name)
    except NotFound:
        return
    if not any(other.snapshot_key == container.snapshot_key != "" for other in _others(runtime, name)):
        with suppress(NotFound):
            runtime.snapshots(container.snapshotter).remove(container.snapshot_key)
    with suppress(NotFound):
        runtime.containers.delete(name)


def _others(runtime: ContainerdClient, name: str) -> list[Container]:
    return [container for container in runtime.containers.list() if container.id != name]
