"""Freeze the source, let it run again, or promise to wait for the verdict."""

from __future__ import annotations

import time

from migrator.containerd import ContainerdClient, ProcessState
from migrator.errors import NotFound, PreconditionFailed
from migrator.models.values import Facts
from migrator.service.host import Act, Host, HostStep


class Freeze(HostStep):
    """Arm the pause guard, then pause the task. Undo: resume it, then send the guard away."""

    name = "freeze"

    def run(self, host: Host, act: Act) -> Facts:
        """Return how long the pause itself took, in seconds.

        Raises:
            PreconditionFailed: `task_not_running`, the task ended meanwhile.
        """
        container = str(act.request.container)
        runtime = host.runtime(act.request.namespace)
        host.guards.arm(act.command.job_id, act.request.namespace, container)
        act.check_aborted()
        task = runtime.task(container)
        begun = time.monotonic()
        if task.status().state is ProcessState.RUNNING:
            task.pause()
        state = task.status().state
        if state is not ProcessState.PAUSED:
            raise PreconditionFailed(
                f"container '{container}' did not freeze (its task is {state.value})",
                code="task_not_running",
                remedy="look at why it ended, then try again",
            )
        return {"pause_s": time.monotonic() - begun}

    def undo(self, host: Host, act: Act) -> None:
        """Let the task run again; one that is gone needs nothing."""
        resume(host.runtime(act.request.namespace), str(act.request.container))
        host.guards.release(act.command.job_id)


class Thaw(HostStep):
    """Let the source run again after the dump of a checkpoint."""

    name = "thaw"

    def run(self, host: Host, act: Act) -> Facts:
        """Resume the task and send the guard away."""
        resume(host.runtime(act.request.namespace), str(act.request.container))
        host.guards.release(act.command.job_id)
        return {}


class Promise(HostStep):
    """From now on the source waits for the verdict instead of its own clock."""

    name = "promise"

    def run(self, host: Host, act: Act) -> Facts:
        """Promise, unless the task runs again.

        Raises:
            PreconditionFailed: `guard_resumed`, the freeze budget was spent or the task is not frozen any more.
        """
        host.guards.promise(act.command.job_id)
        task = host.runtime(act.request.namespace).task(str(act.request.container))
        if task.status().state is not ProcessState.PAUSED:
            raise PreconditionFailed(
                f"container '{act.request.container}' is not frozen any more",
                code="guard_resumed",
                remedy="somebody resumed it from outside; start the migration again",
            )
        return {}


def resume(runtime: ContainerdClient, container: str) -> None:
    """Let a paused task run; a running or absent one is left alone."""
    try:
        task = runtime.task(container)
        if task.status().state is ProcessState.PAUSED:
            task.resume()
    except NotFound:
        return
