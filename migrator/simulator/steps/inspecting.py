"""See `steps.inspect_source` and `steps.inspect_target`."""

from __future__ import annotations

from migrator.errors import (
    AlreadyExists,
    PreconditionFailed,
)
from migrator.models.phase import JobKind
from migrator.service.host import Act
from migrator.simulator import programs
from migrator.simulator.machine import TaskState
from migrator.simulator.steps.naming import restored_key, restored_name
from migrator.simulator.steps.step import Acts, Here, SimulatedStep


class InspectSource(SimulatedStep):
    """See `steps.inspect_source`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Look."""
        yield "look"
        record = here.machine.container(str(act.request.container))
        state = here.machine.status(record.name)
        if state is not TaskState.RUNNING:
            raise PreconditionFailed(f"container {record.name} is {state.value}", code="task_not_running")
        here.checkpoints.objects.probe()
        return {
            "image": {"name": programs.IMAGE_NAME, "manifest": programs.MANIFEST.to_oci()},
            "snapshot": {"snapshotter": programs.SNAPSHOTTER, "key": record.snapshot_key, "parent": "base"},
            "estimate_bytes": 1 << 20,
            "memory_bytes": 1 << 20,
            "source_created_at": record.created_at,
            "source_started": here.machine.task(record.name).number,
        }


class InspectTarget(SimulatedStep):
    """See `steps.inspect_target`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Look."""
        yield "look"
        if act.request.kind is not JobKind.REWIND and restored_name(act) in here.machine.containers:
            raise AlreadyExists(f"container {restored_name(act)} exists", code="container_exists")
        if restored_key(act) in here.machine.snapshots:
            raise AlreadyExists(f"snapshot {restored_key(act)} exists", code="snapshot_exists")
        here.checkpoints.objects.probe()
        return {}
