"""The face of the room: one daemon, one namespace, at most one lease."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

from google.protobuf.message import Message

from migrator.containerd.channel import Caller, Transport
from migrator.containerd.containers import Containers
from migrator.containerd.content import Content
from migrator.containerd.diffs import Diffs
from migrator.containerd.events import Events
from migrator.containerd.faults import Subject
from migrator.containerd.images import Images
from migrator.containerd.introspection import Introspection, Version
from migrator.containerd.io import ProcessIO, null_io
from migrator.containerd.leases import Leases
from migrator.containerd.namespaces import Namespaces
from migrator.containerd.snapshots import Snapshots
from migrator.containerd.task import Task
from migrator.containerd.values import Labels, Mount, descriptor_to_wire, pack_message
from migrator.errors import MigratorError, NotFound, WorkloadFailed
from migrator.gen.containerd.services.tasks.v1 import tasks_pb2 as pb
from migrator.gen.containerd.services.tasks.v1.tasks_pb2_grpc import TasksStub
from migrator.gen.containerd.types.task import task_pb2
from migrator.models.descriptors import Descriptor


class ContainerdClient:
    """A client of one containerd daemon.

    Cheap to make: the connection opens with the first call, and a forked child opens its own. Safe to share among
    threads. Every call has a deadline and carries the namespace.

    Args:
        socket: The daemon's unix socket.
        namespace: containerd's namespace in which all calls are made.
        timeout_s: Deadline of an ordinary call. Calls that run programs or copy layers get ten times that, transfers
            grow with their size, and many methods take their own.
    """

    def __init__(self, socket: Path | str, namespace: str = "default", *, timeout_s: float = 30.0):
        self.caller = Caller(Transport(socket), namespace, timeout_s)

    @classmethod
    def _of(cls, caller: Caller) -> Self:
        client = cls.__new__(cls)
        client.caller = caller
        return client

    @property
    def socket(self) -> str:
        """The daemon's socket."""
        return self.caller.transport.socket

    @property
    def namespace(self) -> str:
        """The namespace of all calls."""
        return self.caller.namespace

    @property
    def lease_id(self) -> str | None:
        """The lease of all calls."""
        return self.caller.lease

    def with_namespace(self, namespace: str) -> Self:
        """The same daemon and connection, another namespace, no lease."""
        return self._of(Caller(self.caller.transport, namespace, self.caller.timeout_s))

    def with_lease(self, lease_id: str) -> Self:
        """The same, with every call under that lease."""
        return self._of(self.caller.under(lease_id))

    @contextmanager
    def lease(
        self, *, lease_id: str | None = None, labels: Labels | None = None, expires_in_s: float = 3600.0
    ) -> Iterator[Self]:
        """Give a client whose every call is under a new lease, which ends with the block.

        Should this process die, the daemon drops the lease after `expires_in_s`.
        """
        lease = self.leases.create(lease_id, labels, expires_in_s)
        try:
            yield self.with_lease(lease.id)
        except BaseException:
            with suppress(MigratorError):  # the failure inside is the one to tell; the lease expires
                self.leases.delete(lease.id)
            raise
        with suppress(NotFound):
            self.leases.delete(lease.id)

    def close(self) -> None:
        """Close the connection, also for clients made by `with_namespace` and `with_lease`."""
        self.caller.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def version(self) -> Version:
        """Return the daemon's version.

        Raises:
            Unavailable: `containerd_unavailable`: nobody answers on the socket.
        """
        return self.introspection.version()

    @cached_property
    def containers(self) -> Containers:
        """Container records."""
        return Containers(self.caller)

    @cached_property
    def images(self) -> Images:
        """Names for content."""
        return Images(self.caller)

    @cached_property
    def content(self) -> Content:
        """Blobs and ingests."""
        return Content(self.caller)

    @cached_property
    def diffs(self) -> Diffs:
        """Layers to and from mounted file systems."""
        return Diffs(self.caller)

    @cached_property
    def leases(self) -> Leases:
        """Leases."""
        return Leases(self.caller)

    @cached_property
    def namespaces(self) -> Namespaces:
        """All namespaces of the daemon."""
        return Namespaces(self.caller)

    @cached_property
    def events(self) -> Events:
        """The daemon's event stream."""
        return Events(self.caller)

    @cached_property
    def introspection(self) -> Introspection:
        """Questions about the daemon itself."""
        return Introspection(self.caller)

    def snapshots(self, snapshotter: str = "overlayfs") -> Snapshots:
        """One snapshotter's snapshots."""
        return Snapshots(self.caller, snapshotter)

    def task(self, container_id: str, io: ProcessIO | None = None, *, timeout_s: float | None = None) -> Task:
        """Return a container's task.

        Args:
            container_id: Whose.
            io: What was attached to its FIFOs, if anything.
            timeout_s: Deadline.

        Raises:
            NotFound: `container_not_found`, or `task_not_found` when nothing of it runs.
        """
        task = Task(self, container_id, "", io=io)
        task.pid = task._get(timeout_s).pid
        return task

    def tasks(self) -> list[task_pb2.Process]:
        """Return the state of every task of the namespace in one call."""
        subject = self.caller.subject("list", "task")
        return list(self.caller.unary(self.caller.stub(TasksStub).List, pb.ListTasksRequest(), subject).tasks)

    def create_task(
        self,
        container_id: str,
        *,
        rootfs: Sequence[Mount] = (),
        io: ProcessIO | None = None,
        checkpoint: Descriptor | None = None,
        options: Message | None = None,
        runtime_path: str | None = None,
        timeout_s: float | None = None,
    ) -> Task:
        """Create a container's task; `start` it afterwards.

        Args:
            container_id: Whose.
            rootfs: How to mount its root file system, as `snapshots().mounts(key)` answers. Empty: the spec's own.
            io: Where input and output go; nowhere when omitted. Closed when this fails.
            checkpoint: A memory checkpoint in the content store to restore from. The daemon unpacks it to a temporary
                directory that it does not remove; options with `criu_image_path` avoid both.
            options: `containerd.runc.v1.Options` for runc.
            runtime_path: Another shim than the record's.
            timeout_s: Deadline.

        Raises:
            NotFound: `container_not_found`.
            AlreadyExists: `task_already_exists`.
            WorkloadFailed: `task_create_failed`: the runtime refused.
            OutcomeUnknown: No answer came: look at `task` before anything else.
        """
        io = io or null_io()
        try:
            request = pb.CreateTaskRequest(
                container_id=container_id,
                rootfs=[mount.to_wire() for mount in rootfs],
                stdin=io.stdio.stdin,
                stdout=io.stdio.stdout,
                stderr=io.stdio.stderr,
                terminal=io.stdio.terminal,
                checkpoint=descriptor_to_wire(checkpoint) if checkpoint else None,
                options=pack_message(options) if options is not None else None,
                runtime_path=runtime_path or "",
            )
            subject = Subject("create", "task", container_id, self.namespace, True, WorkloadFailed)
            timeout_s = timeout_s or self.caller.slow_timeout_s
            answer = self.caller.unary(self.caller.stub(TasksStub).Create, request, subject, timeout_s=timeout_s)
        except BaseException:
            io.cancel()
            io.close()
            raise
        return Task(self, container_id, "", pid=answer.pid, io=io)
