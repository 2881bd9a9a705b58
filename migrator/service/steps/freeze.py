"""Freeze the source, let it run again, or promise to wait for the verdict."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from migrator.containerd import ProcessState, Task, is_frozen, try_to_thaw
from migrator.criu.network_lock import find_lock, remove_lock
from migrator.errors import MigratorError, NotFound, PreconditionFailed, ResourceBusy
from migrator.models.hooks import RAN_BEFORE
from migrator.models.values import Facts, StepAction
from migrator.service.catalogue import SOURCE_GONE, SOURCE_RUNS
from migrator.service.guards import started_ticks
from migrator.service.host import Act, Host, HostStep
from migrator.service.network.attachment import read_attachment
from migrator.service.network.handover import cut_off
from migrator.service.network.packets import deliver
from migrator.service.network.rejoining import rejoin
from migrator.service.network.sockets import await_accepted
from migrator.service.room import touch_memory
from migrator.service.steps.dump_way import choose_way
from migrator.service.steps.restarting import allow_restarts, stop_restarts
from migrator.service.steps.work import criu_works, end_job_criu

PAUSES_LATER = "pauses_later"
"""Fact: the dump pauses the task, when CRIU is ready: nobody stands still for the start of programs."""
OWN_NETWORK = Path("/proc/self/ns/net")
ACCEPTING_S = 0.25
"""So long a container that is cut off may take to accept who waits."""
FROZEN_S, LOOK_S = 0.5, 0.002
"""So long the kernel may take to hold a task again, and how often that is looked at."""
PATIENT_ATTEMPTS = 3
"""So often CRIU may keep a task from being resumed: each attempt waits for it some seconds."""


class Freeze(HostStep):
    """Arm the pause guard, then pause the task, unless its dump does that. Undo: resume it, send the guard away."""

    name = "freeze"

    def run(self, host: Host, act: Act) -> Facts:
        """Return how long the pause itself took, in seconds, or that the dump will pause when CRIU is ready.

        Raises:
            PreconditionFailed: `task_not_running`, the task ended meanwhile; `task_paused`, somebody paused it;
                `connections_waiting`, it does not accept who waits.
        """
        container, job_id = str(act.request.container), act.command.job_id
        task = host.runtime(act.request.namespace).task(container)
        if task.status().state is ProcessState.PAUSED and host.guards.state(job_id) is None:
            raise PreconditionFailed(
                f"container '{container}' was paused by somebody else meanwhile; it stays so",
                code="task_paused",
                remedy=f"resume it first: ctr tasks resume {container}",
            )
        _check_same(task, act)
        network, later = act.facts.get("network"), _pauses_later(host, act)
        if not (later or act.facts.get(RAN_BEFORE)):  # a program that was made ready for the freeze may wait already
            touch_memory(host, int(act.facts.get("memory_bytes", 0)))  # that the dump will write into
        stop_restarts(host.runtime(act.request.namespace), container)
        host.guards.arm(job_id, act.request.namespace, container, network)
        act.check_aborted()
        if later:
            return {PAUSES_LATER: True}
        return {"pause_s": pause(host, act, task)}

    def undo(self, host: Host, act: Act) -> Facts:
        """Let the task run again; one that is gone, or that this job never froze, needs nothing.

        The controller may have left a verdict for the guard: it is taken back in any case.

        Returns:
            `source_gone`: whether the program is no more, so that what was sealed of it is its last copy;
            `source_runs`: whether a task of that name runs, which then may be a later one.
        """
        resume(host, act)
        state, started = _look(host, act)
        gone = state is ProcessState.STOPPED or started != act.facts.get("source_started", started)
        if not gone or "index_digest" not in act.facts:  # else it would be started anew beside its last copy
            allow_restarts(host.runtime(act.request.namespace), str(act.request.container))
        host.verdicts.forget(act.command.job_id)
        return {SOURCE_GONE: gone, SOURCE_RUNS: state is ProcessState.RUNNING}


def pause(host: Host, act: Act, task: Task) -> float:
    """Cut a task off its network and pause it, under the eyes of this job's guard; return how long the pause took.

    Raises:
        PreconditionFailed: `guard_resumed`, the guard does not watch any more; `task_not_running`;
            `connections_waiting`.
    """
    _cut_off(host, act, task)
    with host.guards.holding(act.command.job_id):
        begun = time.monotonic()
        if task.status().state is ProcessState.RUNNING:
            task.pause()
        state = task.status().state
        took_s = time.monotonic() - begun
    if state is not ProcessState.PAUSED:
        raise PreconditionFailed(
            f"container '{task.container_id}' did not freeze (its task is {state.value})",
            code="task_not_running",
            remedy="look at why it ended, then try again",
        )
    return took_s


class Thaw(HostStep):
    """Let the source run again after the dump of a checkpoint."""

    name = "thaw"

    def run(self, host: Host, act: Act) -> Facts:
        """Resume the task and send the guard away."""
        resume(host, act)
        allow_restarts(host.runtime(act.request.namespace), str(act.request.container))
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
        check_paused(host.runtime(act.request.namespace).task(str(act.request.container)))
        return {}


def check_still_frozen(host: Host, act: Act, task: Task) -> None:
    """Make sure that a task has not run since this job froze it.

    Raises:
        PreconditionFailed: `guard_resumed`, it may have: what was dumped is of several moments.
    """
    host.guards.check(act.command.job_id)
    check_paused(task)


def check_paused(task: Task) -> None:
    """Make sure that a task is paused.

    Raises:
        PreconditionFailed: `guard_resumed`.
    """
    if task.status().state is not ProcessState.PAUSED:
        raise _not_frozen(task)


def await_frozen(task: Task) -> None:
    """Make sure that the kernel holds a task, whatever its shim believes: CRIU lets go of it for moments.

    Raises:
        PreconditionFailed: `guard_resumed`.
    """
    deadline = time.monotonic() + FROZEN_S
    while not is_frozen(task.pid):
        if time.monotonic() > deadline:
            raise _not_frozen(task)
        time.sleep(LOOK_S)


def _not_frozen(task: Task) -> PreconditionFailed:
    return PreconditionFailed(
        f"container '{task.container_id}' is not frozen any more",
        code="guard_resumed",
        remedy="somebody resumed it from outside; start again",
    )


def resume(host: Host, act: Act) -> None:
    """Let the task run if this job's guard says that this job froze it, and send the guard away.

    Raises:
        ResourceBusy: `task_left_frozen`, nobody can tell yet whether it runs; the guard stays.
    """
    if host.guards.state(act.command.job_id) is None:
        return
    runtime, container = host.runtime(act.request.namespace), str(act.request.container)
    try:
        task = runtime.task(container)
        failure = _criu_holds(host, act, task) or try_to_thaw(task)
    except NotFound:
        task, failure = None, None
    if failure is not None:
        if act.command.attempt >= PATIENT_ATTEMPTS:
            end_job_criu(host, act)  # of a worker that died; it hangs, and holds the task
        raise ResourceBusy(
            f"container '{container}' does not resume yet: {failure.message}",
            code="task_left_frozen",
            remedy=f"it is tried again; or run: ctr --namespace {runtime.namespace} tasks resume {container}",
        ) from failure
    if task is not None:
        if act.command.action is StepAction.UNDO:
            _unlock_network(task)
        rejoin(act.facts.get("network"), task.pid)
    packets = host.packets.drop(act.command.job_id)
    if packets and task is not None and (attachment := read_attachment(act.facts.get("network"))) is not None:
        deliver(attachment, packets)
    host.guards.release(act.command.job_id)


def _criu_holds(host: Host, act: Act, task: Task) -> MigratorError | None:
    """Say that the CRIU of a worker that died is still at work: it leaves the task as it found it, frozen."""
    if act.command.action is not StepAction.UNDO or not criu_works(host, act):
        return None
    return ResourceBusy(f"CRIU is at work on task {task.container_id}", code="criu_at_work")


def _pauses_later(host: Host, act: Act) -> bool:
    container = host.runtime(act.request.namespace).containers.get(str(act.request.container))
    return choose_way(host, act, container).runtime is not None


def _look(host: Host, act: Act) -> tuple[ProcessState, int | None]:
    """How the task stands, and when its first process began; one that is gone is as good as stopped."""
    try:
        task = host.runtime(act.request.namespace).task(str(act.request.container))
        return task.status().state, started_ticks(task.pid)
    except NotFound:
        return ProcessState.STOPPED, None


def _check_same(task: Task, act: Act) -> None:
    """Make sure that this is the program that was inspected.

    Raises:
        PreconditionFailed: `task_restarted`.
    """
    started = started_ticks(task.pid)
    if started != act.facts.get("source_started", started):
        raise PreconditionFailed(
            f"container '{task.container_id}' was started anew since it was looked at",
            code="task_restarted",
            remedy="try again",
        )


def _cut_off(host: Host, act: Act, task: Task) -> None:
    """Cut the container off while it still runs, so that it accepts who waits, and nobody comes after them.

    Where nothing can be cut off (no interface, or its host's) a moment is awaited in which nobody waits.

    Raises:
        PreconditionFailed: `connections_waiting`, it does not accept them.
    """
    attachment = read_attachment(act.facts.get("network"))
    if task.status().state is not ProcessState.RUNNING:
        return
    if attachment is not None:
        host.packets.begin(act.command.job_id, attachment)
        cut_off(attachment)
    pids = [process.pid for process in task.pids()] if shares_network(task) else None
    waiting = await_accepted(Path(f"/proc/{task.pid}"), ACCEPTING_S, pids)
    if waiting:
        raise PreconditionFailed(
            f"container '{task.container_id}' does not accept the connections that wait at {waiting[0].local}",
            code="connections_waiting",
            remedy="try again when it does; CRIU cannot carry them over",
        )


def shares_network(task: Task) -> bool:
    """Whether a task lives in this host's network; one that is gone does not."""
    with suppress(OSError):
        return OWN_NETWORK.samefile(f"/proc/{task.pid}/ns/net")
    return False


def _unlock_network(task: Task) -> None:
    """Open the network of a task again: a CRIU that was killed while it dumped leaves it locked.

    In a network that is the host's own the lock may be somebody else's. What does not open is told by housekeeping.
    """
    network = Path(f"/proc/{task.pid}/ns/net")
    with suppress(OSError, MigratorError):
        lock = None if os.path.samestat(network.stat(), OWN_NETWORK.stat()) else find_lock(network)
        if lock is not None:
            remove_lock(lock)
