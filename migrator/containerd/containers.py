"""Container records."""

from __future__ import annotations

from google.protobuf.field_mask_pb2 import FieldMask

from migrator.containerd.channel import Caller
from migrator.containerd.values import Container
from migrator.gen.containerd.services.containers.v1 import containers_pb2 as pb
from migrator.gen.containerd.services.containers.v1.containers_pb2_grpc import ContainersStub


class Containers:
    """The container records of one namespace. Errors carry codes such as `container_not_found`."""

    def __init__(self, caller: Caller):
        self._caller = caller

    def get(self, container_id: str) -> Container:
        """Return one record.

        Raises:
            NotFound: `container_not_found`.
        """
        request = pb.GetContainerRequest(id=container_id)
        subject = self._caller.subject("read", "container", container_id)
        return Container.from_wire(self._caller.unary(self._stub.Get, request, subject).container)

    def list(self, *filters: str) -> list[Container]:
        """Return the records that match any filter, such as `id==web` or `labels."app"==web`; without one, all."""
        request = pb.ListContainersRequest(filters=filters)
        answers = self._caller.stream(self._stub.ListStream, request, self._caller.subject("list", "container"))
        return [Container.from_wire(answer.container) for answer in answers]

    def create(self, container: Container) -> Container:
        """Write a new record.

        Raises:
            AlreadyExists: `container_already_exists`.
        """
        request = pb.CreateContainerRequest(container=container.to_wire())
        subject = self._caller.subject("create", "container", container.id, changes=True)
        return Container.from_wire(self._caller.unary(self._stub.Create, request, subject).container)

    def update(self, container: Container, *field_paths: str) -> Container:
        """Change a record: the fields named, such as `labels.app`, or all that may change."""
        mask = FieldMask(paths=field_paths) if field_paths else None
        request = pb.UpdateContainerRequest(container=container.to_wire(), update_mask=mask)
        subject = self._caller.subject("update", "container", container.id, changes=True)
        return Container.from_wire(self._caller.unary(self._stub.Update, request, subject).container)

    def delete(self, container_id: str) -> None:
        """Delete a record. Delete its task first: the daemon does not look.

        Raises:
            NotFound: `container_not_found`.
        """
        subject = self._caller.subject("delete", "container", container_id, changes=True)
        self._caller.unary(self._stub.Delete, pb.DeleteContainerRequest(id=container_id), subject)

    @property
    def _stub(self) -> ContainersStub:
        return self._caller.stub(ContainersStub)
