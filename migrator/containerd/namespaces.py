"""Namespaces of one daemon."""

from __future__ import annotations

from dataclasses import dataclass, field

from google.protobuf.field_mask_pb2 import FieldMask

from migrator.containerd.channel import Caller
from migrator.containerd.values import Labels
from migrator.errors import NotFound
from migrator.gen.containerd.services.namespaces.v1 import namespace_pb2 as pb
from migrator.gen.containerd.services.namespaces.v1.namespace_pb2_grpc import NamespacesStub


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace and its labels."""

    name: str
    labels: Labels = field(default_factory=dict)


class Namespaces:
    """All namespaces of the daemon, whichever the client works in. Codes such as `namespace_not_found`."""

    def __init__(self, caller: Caller):
        self._caller = caller

    def get(self, name: str) -> Namespace:
        """Return one namespace.

        Raises:
            NotFound: `namespace_not_found`.
        """
        for found in self.list():  # the daemon's own Get answers for namespaces that are not there, too
            if found.name == name:
                return found
        raise NotFound(f"there is no namespace {name}", code="namespace_not_found")

    def list(self) -> list[Namespace]:
        """Return all namespaces."""
        subject = self._caller.subject("list", "namespace")
        answer = self._caller.unary(self._stub.List, pb.ListNamespacesRequest(), subject)
        return [Namespace(found.name, dict(found.labels)) for found in answer.namespaces]

    def create(self, name: str, labels: Labels | None = None) -> Namespace:
        """Make a namespace.

        Raises:
            AlreadyExists: `namespace_already_exists`.
        """
        request = pb.CreateNamespaceRequest(namespace=pb.Namespace(name=name, labels=labels or {}))
        subject = self._caller.subject("create", "namespace", name, changes=True)
        answer = self._caller.unary(self._stub.Create, request, subject).namespace
        return Namespace(answer.name, dict(answer.labels))

    def update(self, name: str, labels: Labels) -> Namespace:
        """Set these labels and leave the others; an empty value removes one."""
        mask = FieldMask(paths=[f"labels.{label}" for label in labels])
        request = pb.UpdateNamespaceRequest(namespace=pb.Namespace(name=name, labels=labels), update_mask=mask)
        subject = self._caller.subject("label", "namespace", name, changes=True)
        self._caller.unary(self._stub.Update, request, subject)
        return self.get(name)  # the daemon's answer is empty

    def delete(self, name: str) -> None:
        """Delete an empty namespace.

        Raises:
            NotFound: `namespace_not_found`.
            PreconditionFailed: `namespace_precondition_failed`: something is in it.
        """
        subject = self._caller.subject("delete", "namespace", name, changes=True)
        self._caller.unary(self._stub.Delete, pb.DeleteNamespaceRequest(name=name), subject)

    @property
    def _stub(self) -> NamespacesStub:
        return self._caller.stub(NamespacesStub)
