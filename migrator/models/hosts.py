"""Hosts as last heard of, and the containers they last saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from migrator.errors import NotFound
from migrator.models.tables import ContainerRow, HearingRow, HostRow
from migrator.models.values import ContainerView, Host
from migrator.models.writes import insert_or_replace, write

CONTROL = "control"
"""The queue by which hosts speak."""
Hosts = list[Host]
Views = list[ContainerView]


class HostRepository:
    """The hosts and their containers of one transaction."""

    def __init__(self, session: Session):
        self._session = session

    def record(self, host: Host) -> None:
        """Note that a host was heard of; the last word wins, whatever its clock says."""
        insert_or_replace(self._session, HostRow, asdict(host), key="name")

    def get(self, name: str) -> Host:
        """Return a host.

        Raises:
            NotFound: `host_not_found`.
        """
        return _host(self._row(name))

    def list(self) -> Hosts:
        """List all hosts by name."""
        query = select(HostRow).order_by(HostRow.name).execution_options(populate_existing=True)
        return [_host(row) for row in self._session.scalars(query)]

    def forget(self, name: str) -> None:
        """Drop a host and what it saw; one that is not there is fine."""
        write(self._session, delete(HostRow).where(HostRow.name == name))

    def note_hearing(self, heard_until: datetime) -> None:
        """Note up to when everybody who spoke was heard; the last word wins, whatever its clock says."""
        insert_or_replace(self._session, HearingRow, {"queue": CONTROL, "heard_until": heard_until}, key="queue")

    def heard_until(self) -> datetime | None:
        """Return up to when everybody who spoke was heard; None if no controller has ever said so."""
        return self._session.scalar(select(HearingRow.heard_until).where(HearingRow.queue == CONTROL))

    def replace_containers(self, host: str, views: Sequence[ContainerView], seen_at: datetime) -> None:
        """Put what a host sees now in the place of what it saw before.

        Raises:
            NotFound: `host_not_found`, it was never recorded or is forgotten.
        """
        # Touching the host's row first makes two reports of one host wait for each other.
        touch = update(HostRow).where(HostRow.name == host).values(containers_seen_at=seen_at)
        if not write(self._session, touch):
            raise unknown_host(host)
        write(self._session, delete(ContainerRow).where(ContainerRow.host == host))
        if views:
            self._session.execute(insert(ContainerRow), [asdict(view) | {"host": host} for view in views])

    def containers(self, host: str | None) -> Views:
        """List what one host or all hosts last saw, by host, namespace and name."""
        query = select(ContainerRow).order_by(ContainerRow.host, ContainerRow.namespace, ContainerRow.name)
        if host is not None:
            query = query.where(ContainerRow.host == host)
        return [_view(row) for row in self._session.scalars(query.execution_options(populate_existing=True))]

    def containers_seen_at(self, host: str) -> datetime | None:
        """Return when a host last said what it sees; None if it never did or is unknown."""
        return self._session.scalar(select(HostRow.containers_seen_at).where(HostRow.name == host))

    def _row(self, name: str) -> HostRow:
        query = select(HostRow).where(HostRow.name == name).execution_options(populate_existing=True)
        row = self._session.scalars(query).one_or_none()
        if row is None:
            raise unknown_host(name)
        return row


def unknown_host(name: str) -> NotFound:
    """Say that a host was never heard of."""
    return NotFound(f"host '{name}' is unknown", code="host_not_found", remedy="see `migrator hosts list`")


def _host(row: HostRow) -> Host:
    return Host(name=row.name, seen_at=row.seen_at, started_at=row.started_at, facts=row.facts)


def _view(row: ContainerRow) -> ContainerView:
    return ContainerView(
        host=row.host,
        namespace=row.namespace,
        name=row.name,
        status=row.status,
        image=row.image,
        pid=row.pid,
        memory_bytes=row.memory_bytes,
        labels=row.labels,
    )
