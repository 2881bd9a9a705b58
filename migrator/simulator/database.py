"""The database in memory, with points around every write of a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from migrator.models.memory import MemoryDatabase, MemoryJobs, MemoryTransaction, MemoryWorkloads, Rows
from migrator.models.session import Transaction
from migrator.models.values import Job, Workload
from migrator.simulator.faults import Place

if TYPE_CHECKING:
    from migrator.simulator.world import World


class SimulatedDatabase(MemoryDatabase):
    """Others may write between the reading of a job and its saving, as they may in PostgreSQL."""

    def __init__(self, world: World):
        super().__init__(busy_timeout_s=0)
        self._world = world

    @contextmanager
    def transaction(self, *, write: bool = True) -> Iterator[Transaction]:
        """See `Database.transaction`."""
        rows = Rows(self, write=write)
        jobs = SimulatedJobs(rows, self._world)
        tx = MemoryTransaction(rows)
        tx.jobs = jobs
        tx.workloads = SimulatedWorkloads(rows, self._world)
        try:
            yield tx
            rows.commit()
        finally:
            rows.release()
        if jobs.saved:
            self._world.tell("saved", jobs.saved)
            self._world.rules.check()
            self._world.point(Place.SAVED, f"saved {jobs.saved}", waits=True)


class SimulatedWorkloads(MemoryWorkloads):
    """The workloads of one transaction."""

    def __init__(self, rows: Rows, world: World):
        super().__init__(rows)
        self._world = world

    def commit(self, workload_id: str, *, epoch: int, owner_host: str, next_epoch: int | None = None) -> Workload:
        """See `WorkloadRepository.commit`."""
        self._world.point(Place.SAVE, f"commit to {owner_host}", waits=True)
        return super().commit(workload_id, epoch=epoch, owner_host=owner_host, next_epoch=next_epoch)


class SimulatedJobs(MemoryJobs):
    """The jobs of one transaction."""

    def __init__(self, rows: Rows, world: World):
        super().__init__(rows)
        self._world = world
        self.saved = ""

    def save(self, before: Job, after: Job) -> Job:
        """See `JobRepository.save`."""
        self._world.point(Place.SAVE, f"save {after.id} {after.phase.value}", waits=True)
        saved = super().save(before, after)
        self.saved = f"{saved.id} {saved.phase.value}"
        return saved
