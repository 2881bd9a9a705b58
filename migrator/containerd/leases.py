"""Leases: what they name is kept from the garbage collector."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from migrator.containerd.channel import Caller
from migrator.containerd.mediatypes import GC_EXPIRE
from migrator.containerd.values import Labels, moment
from migrator.gen.containerd.services.leases.v1 import leases_pb2 as pb
from migrator.gen.containerd.services.leases.v1.leases_pb2_grpc import LeasesStub


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease. `expires_at` is when the collector drops it without being asked."""

    id: str
    labels: Labels = field(default_factory=dict)
    created_at: datetime | None = None

    @property
    def expires_at(self) -> datetime | None:
        """When the daemon drops it by itself; None: never."""
        text = self.labels.get(GC_EXPIRE)
        return datetime.fromisoformat(text) if text else None

    @classmethod
    def from_wire(cls, wire: pb.Lease) -> Lease:
        """Read containerd's form."""
        return cls(wire.id, dict(wire.labels), moment(wire.created_at))


@dataclass(frozen=True, slots=True)
class Resource:
    """What a lease holds: `type` is `content`, `ingests` or `snapshots/NAME`."""

    id: str
    type: str


class Leases:
    """The leases of one namespace. Errors carry codes such as `lease_not_found`."""

    def __init__(self, caller: Caller):
        self._caller = caller

    def create(
        self, lease_id: str | None = None, labels: Labels | None = None, expires_in_s: float | None = None
    ) -> Lease:
        """Make a lease.

        Args:
            lease_id: Its id; made up when omitted.
            labels: Its labels.
            expires_in_s: After this time the daemon drops it by itself. Without it, it stays until deleted.

        Raises:
            AlreadyExists: `lease_already_exists`.
        """
        name = lease_id or f"migrator-{secrets.token_hex(8)}"
        wanted = dict(labels or {})
        if expires_in_s is not None:
            end = datetime.now(UTC) + timedelta(seconds=expires_in_s)
            wanted[GC_EXPIRE] = end.strftime("%Y-%m-%dT%H:%M:%SZ")
        subject = self._caller.subject("create", "lease", name, changes=True)
        answer = self._caller.unary(self._stub.Create, pb.CreateRequest(id=name, labels=wanted), subject)
        return Lease.from_wire(answer.lease)

    def delete(self, lease_id: str, *, sync: bool = False) -> None:
        """Drop a lease. With `sync` the call ends after the garbage collector has run.

        Raises:
            NotFound: `lease_not_found`.
        """
        subject = self._caller.subject("delete", "lease", lease_id, changes=True)
        timeout_s = self._caller.slow_timeout_s if sync else None
        self._caller.unary(self._stub.Delete, pb.DeleteRequest(id=lease_id, sync=sync), subject, timeout_s=timeout_s)

    def list(self, *filters: str) -> list[Lease]:
        """Return the leases that match any filter, such as `id==NAME`; without one, all."""
        subject = self._caller.subject("list", "lease")
        answer = self._caller.unary(self._stub.List, pb.ListRequest(filters=filters), subject)
        return [Lease.from_wire(lease) for lease in answer.leases]

    def add_resource(self, lease_id: str, resource: Resource) -> None:
        """Let a lease hold something that already exists."""
        request = pb.AddResourceRequest(id=lease_id, resource=pb.Resource(id=resource.id, type=resource.type))
        subject = self._caller.subject("add to", "lease", lease_id, changes=True)
        self._caller.unary(self._stub.AddResource, request, subject)

    def delete_resource(self, lease_id: str, resource: Resource) -> None:
        """Let a lease hold something no longer."""
        request = pb.DeleteResourceRequest(id=lease_id, resource=pb.Resource(id=resource.id, type=resource.type))
        subject = self._caller.subject("remove from", "lease", lease_id, changes=True)
        self._caller.unary(self._stub.DeleteResource, request, subject)

    def list_resources(self, lease_id: str) -> tuple[Resource, ...]:
        """Return what a lease holds."""
        subject = self._caller.subject("read", "lease", lease_id)
        answer = self._caller.unary(self._stub.ListResources, pb.ListResourcesRequest(id=lease_id), subject)
        return tuple(Resource(resource.id, resource.type) for resource in answer.resources)

    @property
    def _stub(self) -> LeasesStub:
        return self._caller.stub(LeasesStub)
