"""See `steps.dump`."""

from __future__ import annotations

from migrator.errors import (
    InternalError,
)
from migrator.models.phase import JobKind
from migrator.models.roles import Role
from migrator.service.host import Act
from migrator.service.steps.chunked import travels_chunked
from migrator.simulator import programs
from migrator.simulator.machine import ContainerRecord, Machine
from migrator.simulator.steps.freeze import check_paused, pause, resume
from migrator.simulator.steps.release import let_go
from migrator.simulator.steps.step import DUMP_S, Acts, Here, SimulatedStep


class Dump(SimulatedStep):
    """See `steps.dump`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Memory, record and changed files."""
        machine, name, job = here.machine, str(act.request.container), act.command.job_id
        yield "take the lease"
        machine.take_lease(act)
        record = machine.container(name)
        yield "remove former images"
        machine.remove_memory_images(act)
        yield from pause(here, act)
        yield "dump the memory"
        machine.need_disk()
        machine.begin_dump(act, name, DUMP_S)
        yield "memory is dumped", DUMP_S + 0.01
        memory = machine.memory_images.get(job)
        if memory is None:
            raise InternalError("the images are gone")
        parts = [] if travels_chunked(act) else [programs.part(Role.MEMORY, memory)]
        texts = {Role.CONTAINER: programs.record_bytes(name), Role.RW_DIFF: files_of(machine, record).encode()}
        for role, data in texts.items():
            part = programs.part(role, data)
            yield f"begin the {role.value}"
            machine.begin_ingest(act, part.digest)
            yield f"keep the {role.value}"
            machine.finish_ingest(act, part.digest, data)
            parts.append(part)
        act.check_aborted()
        here.guards.check(job)
        check_paused(here, act)
        if act.request.kind is JobKind.BACKUP:
            yield from resume(here, act)
        return {"parts": [part.to_oci() for part in parts], "stdio": {}}

    def undo(self, here: Here, act: Act) -> Acts:
        """Give up the lease and the images."""
        yield from let_go(here, act)
        return {}


def files_of(machine: Machine, record: ContainerRecord) -> str:
    """What a container has changed."""
    return machine.snapshots[record.snapshot_key].files
