"""See `steps.hooks`."""

from __future__ import annotations

from migrator.models.hooks import RAN_BEFORE
from migrator.service.host import Act
from migrator.simulator.machine import TaskState
from migrator.simulator.steps.naming import restored_name
from migrator.simulator.steps.step import Acts, Here, SimulatedStep


class BeforeHook(SimulatedStep):
    """See `steps.hooks`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Note it, run it."""
        machine, name = here.machine, str(act.request.container)
        yield "note the hook"
        machine.note_hook(act)
        yield "begin the hook before"
        if machine.status(name) is TaskState.RUNNING:
            machine.lock(act, name)
        yield "end of the hook before", 0.1
        act.check_aborted()
        return {RAN_BEFORE: True}

    def undo(self, here: Here, act: Act) -> Acts:
        """Run the other one if it is owed."""
        machine, name = here.machine, str(act.request.container)
        yield "look whether one is owed"
        if act.command.job_id not in machine.hook_notes:
            return {}
        yield "run the hook after"
        if name in machine.tasks and machine.status(name) is TaskState.RUNNING:
            machine.unlock(act, name)
        yield "forget the note"
        machine.forget_hook(act)
        return {}


class AfterHook(SimulatedStep):
    """See `steps.hooks`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Run it where the program runs."""
        yield "run the hook after"
        name, owed = restored_name(act), act.facts.get(RAN_BEFORE)
        if owed and name in here.machine.tasks and here.machine.status(name) is TaskState.RUNNING:
            here.machine.unlock(act, name)
        yield "forget the note"
        here.machine.forget_hook(act)
        return {}
