"""See `steps.freeze`."""

from __future__ import annotations

from collections.abc import Generator

from migrator.errors import (
    PreconditionFailed,
    ResourceBusy,
)
from migrator.service.catalogue import SOURCE_GONE
from migrator.service.host import Act
from migrator.service.steps.dump_way import PAGELESS_KINDS
from migrator.service.steps.freeze import PAUSES_LATER
from migrator.simulator.machine import TaskState
from migrator.simulator.steps.step import GUARD_STARTS_S, Acts, Here, SimulatedStep


class Freeze(SimulatedStep):
    """See `steps.freeze`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Arm the guard, pause."""
        machine, name, job = here.machine, str(act.request.container), act.command.job_id
        if machine.status(name) is TaskState.FROZEN and here.guards.state(job) is None:
            raise PreconditionFailed(f"container {name} was paused by somebody else", code="task_paused")
        yield "arm the guard"
        here.guards.arm(job, act.request.namespace, name)
        yield "the guard watches", GUARD_STARTS_S
        act.check_aborted()
        if act.request.kind in PAGELESS_KINDS:
            return {PAUSES_LATER: True}
        yield from pause(here, act)
        return {"pause_s": 0.01}

    def undo(self, here: Here, act: Act) -> Acts:
        """Let it run again, take the verdict back."""
        yield from resume(here, act)
        yield "forget the verdict"
        here.verdicts.forget(act.command.job_id)
        yield "look whether it lives"
        task = here.machine.tasks.get(str(act.request.container))
        return {SOURCE_GONE: task is None or task.number != act.facts["source_started"]}


class Thaw(SimulatedStep):
    """See `steps.freeze`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Let it run again."""
        yield from resume(here, act)
        return {}


class Promise(SimulatedStep):
    """See `steps.freeze`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Promise."""
        yield "promise"
        here.guards.promise(act.command.job_id)
        yield "see it paused"
        check_paused(here, act)
        return {}


def pause(here: Here, act: Act) -> Generator[str | tuple[str, float], None, None]:
    """Freeze the task, under the eyes of the guard."""
    machine, name = here.machine, str(act.request.container)
    yield "pause"
    with here.guards.holding(act.command.job_id):
        if machine.status(name) is TaskState.RUNNING:
            machine.pause(act, name)
    yield "see it paused"
    if machine.status(name) is not TaskState.FROZEN:
        raise PreconditionFailed(f"container {name} did not freeze", code="task_not_running")


def resume(here: Here, act: Act) -> Acts:
    """Let the task run if this job froze it; send the guard away once it was seen running."""
    if here.guards.state(act.command.job_id) is None:
        return {}
    yield "thaw"
    failure = here.machine.try_to_thaw(str(act.request.container))
    if failure is not None:
        raise ResourceBusy(f"it does not resume yet: {failure}", code="task_left_frozen")
    yield "send the guard away"
    here.guards.release(act.command.job_id)
    return {}


def check_paused(here: Here, act: Act) -> None:
    """Make sure that the task is paused."""
    state = here.machine.status(str(act.request.container))
    if state is not TaskState.FROZEN:
        raise PreconditionFailed(f"the container is {state.value}", code="guard_resumed")
