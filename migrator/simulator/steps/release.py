"""See `steps.release`."""

from __future__ import annotations

from dataclasses import replace

from migrator.service.host import Act
from migrator.simulator.steps.naming import restored_name
from migrator.simulator.steps.restore import delete_container
from migrator.simulator.steps.step import Acts, Here, SimulatedStep


class Remove(SimulatedStep):
    """See `steps.release`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Remove the frozen source."""
        machine, name = here.machine, str(act.request.container)
        yield "look"
        record = machine.containers.get(name)
        if record is not None and record.created_at == act.facts["source_created_at"]:
            yield "end the task"
            machine.world.rules.source_removed(act)
            machine.end_task(act, name)
            yield from delete_container(here, act, name)
        yield "send the guard away"
        here.guards.release(act.command.job_id)
        yield from let_go(here, act)
        return {}


class ReleaseSource(SimulatedStep):
    """See `steps.release`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Let go."""
        yield from let_go(here, act)
        return {}


class ReleaseTarget(SimulatedStep):
    """See `steps.release`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Take the mark off, let go."""
        yield "take the mark off"
        record = here.machine.containers.get(restored_name(act))
        if record is not None and record.job == act.command.job_id:
            here.machine.put_container(act, replace(record, job=None))
        yield from let_go(here, act)
        return {}


def let_go(here: Here, act: Act) -> Acts:
    """Give back the lease, remove CRIU's files."""
    yield "drop the lease"
    here.machine.drop_lease(act)
    yield "remove the memory images"
    here.machine.remove_memory_images(act)
    here.machine.remove_ahead(act)
    here.machine.forget_hook(act)
    return {}
