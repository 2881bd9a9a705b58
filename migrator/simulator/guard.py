"""The real pause guard over a fake host: records in a dictionary, processes that are objects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from migrator.containerd import ContainerdClient
from migrator.service.guards import GuardFile, GuardRecord, Guards
from migrator.service.pause_guard import PauseGuard
from migrator.simulator.actor import Actor
from migrator.simulator.faults import Place

if TYPE_CHECKING:
    from migrator.simulator.machine import Machine

BUDGET_S = 30.0
PATIENCE_S = 3.0
LOOK_S = 0.25
NOWHERE = Path("guards")


class SimulatedGuardFile(GuardFile):
    """A record below a fake host's `/run`. Nothing else happens while it is locked."""

    def __init__(self, machine: Machine, job_id: str):
        super().__init__(NOWHERE)
        self.machine = machine
        self.job_id = job_id

    @contextmanager
    def locked(self) -> Iterator[GuardRecord | None]:
        """See `GuardFile.locked`."""
        yield self.machine.guards.get(self.job_id)

    def read(self) -> GuardRecord | None:
        """See `GuardFile.read`."""
        return self.machine.guards.get(self.job_id)

    def write(self, record: GuardRecord) -> None:
        """See `GuardFile.write`."""
        self.machine.guards[self.job_id] = record

    def remove(self) -> None:
        """See `GuardFile.remove`."""
        self.machine.guards.pop(self.job_id, None)

    def remove_lock(self) -> None:
        """See `GuardFile.remove_lock`."""


class SimulatedGuards(Guards):
    """The guards of a fake host."""

    def __init__(self, machine: Machine):
        super().__init__(NOWHERE, NOWHERE, budget_s=BUDGET_S, patience_s=PATIENCE_S)
        self._machine = machine

    def _file(self, job_id: str) -> GuardFile:
        return SimulatedGuardFile(self._machine, job_id)

    def _worker(self) -> tuple[int, int]:
        worker = self._machine.worker
        return (worker.pid, worker.pid) if worker is not None else (0, 0)

    def _alive(self, pid: int) -> bool:
        return pid in self._machine.guard_processes

    def _spawn(self, file: GuardFile) -> None:
        self._machine.world.point(Place.ACT, f"{self._machine.name} guard starts")
        SimulatedGuard(self._machine, cast(SimulatedGuardFile, file)).begin()

    def _await_exit(self, pid: int) -> None:
        self._machine.world.point(Place.ACT, f"{self._machine.name} guard is told to go")
        guard = self._machine.guard_processes.pop(pid, None)
        if guard is not None:
            guard.alive = False


class SimulatedGuard(PauseGuard, Actor):
    """One guard process."""

    def __init__(self, machine: Machine, file: SimulatedGuardFile):
        Actor.__init__(self, machine.name)
        PauseGuard.__init__(
            self, file, cast(ContainerdClient, None), machine.world.verdicts.lets_run, lambda: machine.world.loop.now_s
        )
        self._machine = machine
        self._pid = machine.world.new_pid()

    def begin(self) -> None:
        """Say that we watch, then look again and again; see `pause_guard.main`."""
        with self._file.locked() as record:
            if record is None:
                return
            self._file.write(replace(record, guard_pid=self._pid))
        self._machine.guard_processes[self._pid] = self
        self._again()

    def _again(self) -> None:
        self._machine.world.loop.after(LOOK_S, lambda: self._machine.world.run_as(self, self._look_again))

    def _look_again(self) -> None:
        if self.look():
            self._again()
        else:
            self._machine.guard_processes.pop(self._pid, None)

    def _started(self, pid: int) -> int | None:
        worker = self._machine.worker
        return pid if worker is not None and worker.pid == pid else None

    def _resume(self, record: GuardRecord) -> bool:
        return self._machine.try_to_thaw(record.container) is None
