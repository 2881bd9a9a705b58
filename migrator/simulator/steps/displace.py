"""See `steps.displace`."""

from __future__ import annotations

from dataclasses import replace

from migrator.errors import (
    NotFound,
    PreconditionFailed,
    ResourceBusy,
)
from migrator.service.host import Act
from migrator.simulator.machine import TaskState
from migrator.simulator.steps.freeze import check_paused
from migrator.simulator.steps.release import let_go
from migrator.simulator.steps.restore import bring_to_life, delete_container
from migrator.simulator.steps.step import Acts, Here, SimulatedStep


class Displace(SimulatedStep):
    """See `steps.displace`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Set the record aside, end the task, give its name free."""
        machine, name, mark = here.machine, str(act.request.container), aside(act)
        yield "look at the images"
        if machine.memory_images.get(act.command.job_id) is None:
            raise PreconditionFailed("the images are gone", code="images_gone")
        record = machine.containers.get(name)
        if record is None and mark in machine.containers:
            return {}
        if record is None or record.created_at != act.facts["source_created_at"]:
            raise PreconditionFailed(f"container {name} is not the one that was frozen", code="container_changed")
        if record.job != mark:
            yield "see it paused"
            check_paused(here, act)
            yield "set the record aside"
            machine.put_container(act, replace(record, name=mark, job=mark))
            yield "mark the original"
            machine.put_container(act, replace(record, job=mark))
        yield "end the task"
        machine.end_task(act, name)
        yield "delete its record"
        machine.delete_container(act, name)
        return {}

    def undo(self, here: Here, act: Act) -> Acts:
        """Bring it back from its images, or at least its record."""
        machine, name, mark = here.machine, str(act.request.container), aside(act)
        yield "look"
        if mark in machine.containers:
            record = machine.containers.get(name)
            if record is None or record.job in (mark, act.command.job_id):
                yield from self._bring_back(here, act)
            yield "delete what was set aside"
            machine.delete_container(act, mark)
        yield "see what runs"
        task = machine.tasks.get(name)
        return {"source_started": task.number} if task else {}

    def _bring_back(self, here: Here, act: Act) -> Acts:
        machine, name = here.machine, str(act.request.container)
        kept = machine.containers[aside(act)]
        own = replace(kept, name=name, job=None)
        if not self._runs(here, act):
            yield "end the half ended"
            machine.end_task(act, name)
            yield "delete its record"
            machine.delete_container(act, name)
            yield from self._revive(here, act, kept.snapshot_key)
        yield "put the record back"
        known = machine.containers.get(name)
        machine.put_container(act, replace(own, created_at=known.created_at) if known else own)
        return {}

    def _revive(self, here: Here, act: Act, key: str) -> Acts:
        if here.machine.memory_images.get(act.command.job_id) is not None:
            try:
                yield from bring_to_life(here, act, key)
            except NotFound as error:
                raise ResourceBusy(f"it died on its way back: {error}", code="not_brought_back") from error
        return {}

    def _runs(self, here: Here, act: Act) -> bool:
        machine, name = here.machine, str(act.request.container)
        record = machine.containers.get(name)
        if record is None or record.job != act.command.job_id or name not in machine.tasks:
            return False
        if machine.status(name) is TaskState.UNKNOWN:
            raise ResourceBusy(f"the task of {name} is unclear", code="task_unclear")
        return machine.status(name) is TaskState.RUNNING


class RemoveDisplaced(SimulatedStep):
    """See `steps.displace`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Remove record and snapshot, send the guard away, let go."""
        yield from delete_container(here, act, aside(act))
        yield "send the guard away"
        here.guards.release(act.command.job_id)
        yield from let_go(here, act)
        return {}


def aside(act: Act) -> str:
    """What the record of a displaced original is called; also its mark."""
    return f"{act.command.job_id}-displaced"
