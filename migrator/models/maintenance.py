"""Maintenance of hosts: which take no new containers, and what was moved off them."""

from __future__ import annotations

from dataclasses import asdict

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from migrator.models.drains import Cordon, Displacement
from migrator.models.tables import CordonRow, DisplacementRow
from migrator.models.writes import insert_or_replace, write

Cordons = list[Cordon]
Displacements = list[Displacement]


class CordonRepository:
    """The cordons of one transaction, one a host."""

    def __init__(self, session: Session):
        self._session = session

    def put(self, cordon: Cordon) -> None:
        """Note that a host takes no new containers, in the place of what was noted before."""
        insert_or_replace(self._session, CordonRow, asdict(cordon), key="host")

    def find(self, host: str) -> Cordon | None:
        """Return a host's cordon; None if it takes containers."""
        query = select(CordonRow).where(CordonRow.host == host).execution_options(populate_existing=True)
        row = self._session.scalars(query).one_or_none()
        return None if row is None else _cordon(row)

    def list(self) -> Cordons:
        """List all, by host."""
        query = select(CordonRow).order_by(CordonRow.host).execution_options(populate_existing=True)
        return [_cordon(row) for row in self._session.scalars(query)]

    def lift(self, host: str) -> None:
        """Let a host take containers again; one that does is fine."""
        write(self._session, delete(CordonRow).where(CordonRow.host == host))


class DisplacementRepository:
    """What drains have moved, as one transaction sees it."""

    def __init__(self, session: Session):
        self._session = session

    def put(self, displacement: Displacement) -> None:
        """Note where a workload was put; once more says where it is by now."""
        self.remove(displacement.home, displacement.workload_id)
        self._session.add(DisplacementRow(**asdict(displacement)))
        self._session.flush()

    def list(self, home: str) -> Displacements:
        """List what was moved off a host, by namespace and name."""
        query = select(DisplacementRow).where(DisplacementRow.home == home)
        query = query.order_by(DisplacementRow.namespace, DisplacementRow.container, DisplacementRow.workload_id)
        rows = self._session.scalars(query.execution_options(populate_existing=True))
        return [_displacement(row) for row in rows]

    def remove(self, home: str, workload_id: str) -> None:
        """Forget that a workload was moved; one that was not is fine."""
        here = (DisplacementRow.home == home, DisplacementRow.workload_id == workload_id)
        write(self._session, delete(DisplacementRow).where(*here))

    def forget(self, home: str) -> None:
        """Forget all that was moved off a host."""
        write(self._session, delete(DisplacementRow).where(DisplacementRow.home == home))


def _cordon(row: CordonRow) -> Cordon:
    return Cordon(
        host=row.host,
        since=row.since,
        actor=row.actor,
        reason=row.reason,
        drain_id=row.drain_id,
        return_at=row.return_at,
    )


def _displacement(row: DisplacementRow) -> Displacement:
    return Displacement(
        home=row.home,
        workload_id=row.workload_id,
        namespace=row.namespace,
        container=row.container,
        host=row.host,
        drain_id=row.drain_id,
        moved_at=row.moved_at,
    )
