"""See `steps.fetch` and `steps.read_back`."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from migrator.errors import (
    IntegrityError,
    NotFound,
)
from migrator.models.roles import Role
from migrator.service.host import Act
from migrator.simulator.steps.image import drop_snapshot, fetch_blob
from migrator.simulator.steps.naming import restored_key
from migrator.simulator.steps.step import Acts, Here, SimulatedStep
from migrator.storage.oci import CheckpointIndex


class ReadBack(SimulatedStep):
    """See `steps.read_back`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Verify every part."""
        yield "read the index"
        index = sealed_index(here, act)
        for role in (Role.MEMORY, Role.CONTAINER, Role.RW_DIFF):
            yield f"read the {role.value} back"
            part = index.part(role)
            deque(here.checkpoints.read_part(part), maxlen=0)
            act.check_aborted()
        return {}


class Fetch(SimulatedStep):
    """See `steps.fetch`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Verify and import."""
        machine, job = here.machine, act.command.job_id
        if machine.memory_images.get(job) is not None:
            return {"downloaded_bytes": len(machine.memory_images[job] or b"")}
        yield "take the lease"
        machine.take_lease(act)
        yield "read the index"
        index = sealed_index(here, act)
        for role in (Role.CONTAINER, Role.RW_DIFF):
            yield from fetch_blob(here, act, index.part(role))
            act.check_aborted()
        yield "apply the changed files"
        snapshot = machine.snapshots.get(restored_key(act))
        if snapshot is None:
            raise NotFound(f"snapshot {restored_key(act)} does not exist", code="snapshot_not_found")
        files = machine.content[index.part(Role.RW_DIFF).digest].decode()
        machine.put_snapshot(act, restored_key(act), replace(snapshot, files=files))
        yield "unpack the memory"
        memory = index.part(Role.MEMORY)
        machine.remove_memory_images(act)
        data = b"".join(here.checkpoints.read_part(memory))
        machine.need_disk()
        machine.world.rules.effect(machine, act, "memory images")
        machine.memory_images[job] = data
        return {"downloaded_bytes": len(data)}

    def undo(self, here: Here, act: Act) -> Acts:
        """Drop memory and files."""
        yield "remove the memory images"
        here.machine.remove_memory_images(act)
        yield "drop the snapshot"
        drop_snapshot(here, act)
        return {}


def sealed_index(here: Here, act: Act) -> CheckpointIndex:
    """Read the index and hold it against the digest that was sealed."""
    index = here.checkpoints.read_index(str(act.facts["checkpoint_workload"]), str(act.command.checkpoint_id))
    if index.digest != act.facts["index_digest"]:
        raise IntegrityError("the index is not the one that was sealed", code="index_changed")
    return index
