"""See `steps.drill`."""

from __future__ import annotations

from migrator.errors import (
    WorkloadFailed,
)
from migrator.service.host import Act
from migrator.simulator.machine import TaskState
from migrator.simulator.steps.fetch import Fetch
from migrator.simulator.steps.image import Prepare
from migrator.simulator.steps.naming import restored_name
from migrator.simulator.steps.restore import Restore
from migrator.simulator.steps.step import Acts, Here, SimulatedStep


class TryProbe(SimulatedStep):
    """See `steps.drill`."""

    def run(self, here: Here, act: Act) -> Acts:
        """See it run for a while."""
        for _ in range(3):
            yield "look whether it is well", 0.5
            act.check_aborted()
            name = restored_name(act)
            if name not in here.machine.tasks or here.machine.status(name) is not TaskState.RUNNING:
                raise WorkloadFailed("the restored program ended", code="drill_ended")
        return {"probe_s": 1.5}


class Discard(SimulatedStep):
    """See `steps.drill`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Take back the restore, newest first."""
        for step in (Restore(), Fetch(), Prepare()):
            yield from step.undo(here, act)
        return {}
