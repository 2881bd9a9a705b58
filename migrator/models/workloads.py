"""Workloads: who owns a container identity, and under which epoch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from migrator.errors import AlreadyExists, NotFound, PreconditionFailed, ResourceBusy
from migrator.models.tables import WorkloadRow
from migrator.models.values import Workload
from migrator.models.writes import insert_unless_taken, write


class WorkloadRepository:
    """The workloads of one transaction."""

    def __init__(self, session: Session):
        self._session = session

    def get(self, workload_id: str) -> Workload:
        """Return a workload.

        Raises:
            NotFound: `workload_not_found`.
        """
        row = self._first(WorkloadRow.id == workload_id)
        if row is None:
            raise unknown_workload(workload_id)
        return row

    def find(self, host: str, namespace: str, container: str) -> Workload | None:
        """Return the workload that the host owns under this name."""
        return self._first(
            WorkloadRow.owner_host == host, WorkloadRow.namespace == namespace, WorkloadRow.container == container
        )

    def named(self, namespace: str, container: str) -> list[Workload]:
        """List the workloads that have this name, on whichever host."""
        query = select(WorkloadRow).where(WorkloadRow.namespace == namespace, WorkloadRow.container == container)
        rows = self._session.scalars(query.order_by(WorkloadRow.owner_host).execution_options(populate_existing=True))
        return [_from_row(row) for row in rows]

    def add(self, workload: Workload) -> None:
        """Register a workload.

        Raises:
            AlreadyExists: `workload_exists`, the id is taken.
            ResourceBusy: `workload_busy`, somebody else registers this container right now.
        """
        if insert_unless_taken(self._session, WorkloadRow, asdict(workload)):
            return
        if self._first(WorkloadRow.id == workload.id) is not None:
            raise workload_exists(workload)
        raise name_taken(workload)

    def commit(self, workload_id: str, *, epoch: int, owner_host: str, next_epoch: int | None = None) -> Workload:
        """Move the ownership: one compare-and-set on the epoch, which it raises.

        Args:
            workload_id: What moves.
            epoch: The epoch that the caller believes to be the workload's.
            owner_host: Who owns it from now on.
            next_epoch: What it is raised to; one higher if not given.

        Raises:
            PreconditionFailed: `commit_lost`, the epoch is another one by now; `owner_taken`, the new owner has another
                workload of that name.
            NotFound: `workload_not_found`.
        """
        change = (
            update(WorkloadRow)
            .where(WorkloadRow.id == workload_id, WorkloadRow.epoch == epoch)
            .values(owner_host=owner_host, epoch=next_epoch or epoch + 1)
        )
        try:
            moved = write(self._session, change)
        except IntegrityError as error:
            raise owner_taken(workload_id, owner_host) from error
        current = self.get(workload_id)
        if not moved:
            raise commit_lost(current, epoch)
        return current

    def remove(self, workload_id: str) -> None:
        """Forget a workload; one that is not there is fine."""
        write(self._session, delete(WorkloadRow).where(WorkloadRow.id == workload_id))

    def _first(self, *conditions: Any) -> Workload | None:
        query = select(WorkloadRow).where(*conditions).execution_options(populate_existing=True)
        row = self._session.scalars(query).one_or_none()
        return None if row is None else _from_row(row)


def _from_row(row: WorkloadRow) -> Workload:
    return Workload(row.id, row.namespace, row.container, row.owner_host, row.epoch)


def unknown_workload(workload_id: str) -> NotFound:
    """Say that there is no such workload."""
    return NotFound(
        f"workload '{workload_id}' does not exist",
        code="workload_not_found",
        remedy="see `migrator containers list` for what runs where",
    )


def workload_exists(workload: Workload) -> AlreadyExists:
    """Say that a workload's id is taken."""
    return AlreadyExists(f"workload '{workload.id}' exists already", code="workload_exists")


def name_taken(workload: Workload) -> ResourceBusy:
    """Say that this container is another workload by now."""
    return ResourceBusy(
        f"container '{workload.container}' in namespace '{workload.namespace}' is registered as another workload",
        code="workload_busy",
        host=workload.owner_host,
        remedy="see `migrator jobs list` for the job that works on it, and try again after its end",
    )


def commit_lost(current: Workload, epoch: int) -> PreconditionFailed:
    """Say that somebody else decided."""
    return PreconditionFailed(
        f"somebody else decided about workload '{current.id}': "
        f"it is at epoch {current.epoch} under host '{current.owner_host}', not at {epoch}",
        code="commit_lost",
        remedy="see `migrator jobs list` for the job that moved it",
    )


def owner_taken(workload_id: str, owner_host: str) -> PreconditionFailed:
    """Say that the new owner has another workload of that name."""
    return PreconditionFailed(
        f"workload '{workload_id}' cannot move: another workload has its name there",
        code="owner_taken",
        host=owner_host,
        remedy="remove the container of that name from the target, then try again",
    )
