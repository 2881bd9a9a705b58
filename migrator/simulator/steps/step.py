"""What a step on a fake host is: a generator of effects."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

from migrator.models.values import Facts
from migrator.service.guards import Guards
from migrator.service.host import Act
from migrator.simulator.machine import Machine, TaskState
from migrator.storage.checkpoints import CheckpointStore
from migrator.storage.verdicts import Verdicts

Acts = Generator[str | tuple[str, float], None, Facts]
DUMP_S = 0.4
START_S = 0.3
GUARD_STARTS_S = 0.2
SEEN = {TaskState.RUNNING: "done", TaskState.CREATED: "absent"}


@dataclass(frozen=True, slots=True)
class Here:
    """What a step finds on its host."""

    machine: Machine
    guards: Guards
    checkpoints: CheckpointStore
    verdicts: Verdicts


class SimulatedStep:
    """One act; see `service.host.HostStep`."""

    def run(self, here: Here, act: Act) -> Acts:
        """Perform it."""
        raise NotImplementedError

    def undo(self, here: Here, act: Act) -> Acts:
        """Take it back."""
        del here, act
        yield from ()
        return {}

    def observe(self, here: Here, act: Act) -> str:
        """Say what is true."""
        del here, act
        return "unknown"
