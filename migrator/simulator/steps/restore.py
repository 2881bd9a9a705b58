"""See `steps.restore` and `steps.lazy`."""

from __future__ import annotations

from dataclasses import replace

from migrator.errors import (
    AlreadyExists,
    InternalError,
    NotFound,
    PreconditionFailed,
)
from migrator.models.roles import Role
from migrator.models.values import Mode
from migrator.service.host import Act
from migrator.service.steps.lazy import LAZY, RESTORED, lost
from migrator.simulator.machine import ContainerRecord, TaskState
from migrator.simulator.steps.fetch import sealed_index
from migrator.simulator.steps.naming import restored_key, restored_name
from migrator.simulator.steps.step import SEEN, START_S, Acts, Here, SimulatedStep


class Restore(SimulatedStep):
    """See `steps.restore`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Create container and task, start it."""
        yield "look whether it runs already"
        if self.observe(here, act) == "done":
            return {"pid": 1}
        index = sealed_index(here, act)
        if index.part(Role.CONTAINER).digest not in here.machine.content:
            raise NotFound("the container's record is gone", code="content_not_found")
        yield from bring_to_life(here, act, restored_key(act))
        if act.request.mode is Mode.LAZY:
            return {"pid": 1, RESTORED: LAZY}
        return {"pid": 1}

    def undo(self, here: Here, act: Act) -> Acts:
        """Remove what this job made."""
        machine, name = here.machine, restored_name(act)
        yield "look"
        record = machine.containers.get(name)
        if record is None or record.job != act.command.job_id:
            return {}
        yield "end the task"
        machine.end_task(act, name)
        machine.coming.pop(act.command.job_id, None)
        yield from delete_container(here, act, name)
        yield "remove the memory images"
        machine.remove_memory_images(act)
        return {}

    def observe(self, here: Here, act: Act) -> str:
        """Tell whether this job's container runs here."""
        record = here.machine.containers.get(restored_name(act))
        if record is None or record.job != act.command.job_id or record.name not in here.machine.tasks:
            return "absent"
        return SEEN.get(here.machine.status(record.name), "unknown")


class Prove(SimulatedStep):
    """See `steps.restore`."""

    def run(self, here: Here, act: Act) -> Acts:
        """See it running."""
        yield "look"
        state = here.machine.status(restored_name(act))
        if state is not TaskState.RUNNING:
            raise PreconditionFailed(f"container was restored but is {state.value}", code="ended_after_restore")
        here.machine.world.rules.proved(act)
        return {"processes": 1}


class Fill(SimulatedStep):
    """See `steps.lazy`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Wait until all of the memory has come."""
        machine, job, name = here.machine, act.command.job_id, restored_name(act)
        for _ in range(3):
            yield "see how much is there", 0.2
            if job in machine.coming and name not in machine.tasks:
                del machine.coming[job]
                raise lost(act)  # it has ended, however: as who cannot have its pages is ended
        if job not in machine.coming and act.request.mode is Mode.LAZY and name not in machine.tasks:
            raise lost(act)
        yield "all is there"
        machine.coming.pop(job, None)
        return {}


def bring_to_life(here: Here, act: Act, key: str) -> Acts:
    """Create container and task from this job's images, start it."""
    machine, name, job = here.machine, restored_name(act), act.command.job_id
    yield "create the container"
    known = machine.containers.get(name)
    if known is not None and known.job != job:
        raise AlreadyExists(f"container {name} exists", code="container_exists")
    created_at = known.created_at if known else machine.world.new_moment()
    hooked = ContainerRecord(name, key, created_at, job, hooked=True)
    machine.put_container(act, hooked)
    yield "end what a former attempt left"
    machine.end_task(act, name)
    yield "create the task"
    machine.create_task(act, name)
    yield "give the record its own spec"
    machine.put_container(act, replace(hooked, hooked=False))
    yield "start"
    if act.request.mode is Mode.LAZY:
        machine.coming[job] = name
    machine.start(name, START_S)
    yield "start is under way", 0.05
    yield "it runs", START_S
    if machine.status(name) is not TaskState.RUNNING:
        raise InternalError("it did not start")
    return {}


def delete_container(here: Here, act: Act, name: str) -> Acts:
    """Snapshot first, then the record, which tells where the snapshot is."""
    yield "remove its snapshot"
    record = here.machine.containers.get(name)
    if record is None:
        return {}
    others = [one for one in here.machine.containers.values() if one.name != name]
    if not any(one.snapshot_key == record.snapshot_key for one in others):
        here.machine.remove_snapshot(act, record.snapshot_key)
    yield "delete its record"
    here.machine.delete_container(act, name)
    return {}
