"""A container's task: everything containerd's Go client does with one, and its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any as Json

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from migrator.containerd import checkpoint as checkpoints
from migrator.containerd.checkpoint import Checkpoint, CheckpointOptions
from migrator.containerd.io import ProcessIO, null_io
from migrator.containerd.mediatypes import PROCESS_URL, RESOURCES_URL
from migrator.containerd.metrics import TaskMetrics
from migrator.containerd.parts import with_role
from migrator.containerd.process import Process, ProcessState, Status
from migrator.containerd.values import descriptor_from_wire, pack_json
from migrator.containerd.vfork import settle
from migrator.errors import InvalidRequest, Unavailable
from migrator.gen.containerd.runc.v1 import options_pb2
from migrator.gen.containerd.services.tasks.v1 import tasks_pb2 as pb
from migrator.models.descriptors import Descriptor


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """A process inside a task; `exec_id` tells one that Exec added."""

    pid: int
    exec_id: str = ""


class Task(Process):
    """The running processes of one container. Get one from `ContainerdClient.task` or `create_task`."""

    kind = "task"

    def pause(self, *, timeout_s: float | None = None, settled: bool = True) -> None:
        """Freeze every process of the task.

        Args:
            timeout_s: Deadline of each call.
            settled: Freeze it so that it can be dumped; see `vfork.settle`. The task may run on for moments until then.

        Raises:
            OutcomeUnknown: No answer came: it may be frozen.
            ResourceBusy: `task_in_vfork`: it cannot be frozen so; it runs.
        """
        request = pb.PauseTaskRequest(container_id=self.container_id)
        self._caller.unary(self._stub.Pause, request, self._subject("pause", changes=True), timeout_s=timeout_s)
        if settled:
            settle(self, timeout_s)

    def resume(self, *, timeout_s: float | None = None) -> None:
        """Let a frozen task go on."""
        request = pb.ResumeTaskRequest(container_id=self.container_id)
        self._caller.unary(self._stub.Resume, request, self._subject("resume", changes=True), timeout_s=timeout_s)

    def exec(self, exec_id: str, process_spec: Mapping[str, Json], io: ProcessIO | None = None) -> Process:
        """Add a process; `start` it afterwards.

        Args:
            exec_id: Its name within the task.
            process_spec: `process` of the OCI runtime spec: at least `args` and `cwd`.
            io: Where its input and output go; nowhere when omitted.

        Raises:
            InvalidRequest: `process_invalid`: the exec id is empty, or the spec cannot be read.
            AlreadyExists: `process_already_exists`.
        """
        if not exec_id:
            raise InvalidRequest("a process needs an exec id", code="process_invalid", remedy="give one")
        io = io or null_io()
        process = Process(self._client, self.container_id, exec_id, io=io)
        request = pb.ExecProcessRequest(
            container_id=self.container_id,
            exec_id=exec_id,
            stdin=io.stdio.stdin,
            stdout=io.stdio.stdout,
            stderr=io.stdio.stderr,
            terminal=io.stdio.terminal,
        )
        try:
            request.spec.CopyFrom(pack_json({"terminal": io.stdio.terminal, **process_spec}, PROCESS_URL))
            self._caller.unary(self._stub.Exec, request, process._subject("add", changes=True, runs=True))
        except BaseException:
            process._drop_io()
            raise
        return process

    def load_process(self, exec_id: str, io: ProcessIO | None = None) -> Process:
        """Return a process added earlier; the task itself when asked by the container's id and without `io`.

        Raises:
            NotFound: `process_not_found`.
        """
        if exec_id == self.container_id and io is None:
            return self
        process = Process(self._client, self.container_id, exec_id, io=io)
        process.pid = process._get(None).pid
        return process

    def pids(self) -> list[ProcessInfo]:
        """Return the processes inside the task, with their pids on the host."""
        request = pb.ListPidsRequest(container_id=self.container_id)
        answer = self._caller.unary(self._stub.ListPids, request, self._subject("list the processes of"))
        return [ProcessInfo(found.pid, _exec_id(found.info)) for found in answer.processes]

    def update(self, resources: Mapping[str, Json] | None = None, annotations: Mapping[str, str] | None = None) -> None:
        """Change limits of a running task.

        Args:
            resources: `linux.resources` of the OCI runtime spec.
            annotations: Passed to the runtime.
        """
        packed = pack_json(dict(resources), RESOURCES_URL) if resources is not None else None
        request = pb.UpdateTaskRequest(container_id=self.container_id, resources=packed, annotations=annotations or {})
        self._caller.unary(self._stub.Update, request, self._subject("update", changes=True))

    def metrics(self) -> TaskMetrics:
        """Read the task's counters.

        Raises:
            NotFound: `task_not_found`.
            Unavailable: `no_metrics`: the runtime gave none.
        """
        request = pb.MetricsRequest(filters=[f"id=={self.container_id}"])
        answer = self._caller.unary(self._stub.Metrics, request, self._subject("measure"))
        if not answer.metrics:
            self.status()  # no task is a better answer than no metrics
            raise Unavailable(f"the runtime gave no metrics of {self._name()}", code="no_metrics")
        return TaskMetrics.from_wire(answer.metrics[0])

    def spec(self) -> dict[str, Json]:
        """The OCI runtime spec of the container's record."""
        return self._client.containers.get(self.container_id).spec_json()

    def checkpoint(
        self,
        *,
        name: str | None = None,
        parent: str | None = None,
        options: CheckpointOptions | Message | None = None,
        annotations: Mapping[str, str] | None = None,
        extra: Sequence[Descriptor] = (),
        compress_rw: bool = True,
        timeout_s: float | None = None,
    ) -> Checkpoint:
        """Dump the task and keep memory, spec, image and changed files as an image; see `checkpoint.take`."""
        wanted = checkpoints.Request(
            name, parent, options, dict(annotations or {}), tuple(extra), compress_rw, timeout_s
        )
        return checkpoints.take(self, wanted)

    def checkpoint_memory(
        self,
        options: CheckpointOptions | Message | None = None,
        *,
        parent: str | None = None,
        timeout_s: float | None = None,
    ) -> list[Descriptor]:
        """Let CRIU dump the task, whatever state it is in, and leave it there.

        Take a lease first. Nothing else is done: no pause, no diff, no index.

        Returns:
            Memory and spec, each with its role; nothing when the options name an image path.

        Raises:
            InvalidRequest: `bad_checkpoint_options`: they cannot be marshalled.
            WorkloadFailed: `task_checkpoint_failed`: CRIU or the runtime could not do it.
            OutcomeUnknown: No answer came in time; CRIU may still be at work.
        """
        packed = checkpoints.pack_options(options)
        request = pb.CheckpointTaskRequest(
            container_id=self.container_id, parent_checkpoint=parent or "", options=packed
        )
        subject = self._subject("checkpoint", changes=True, runs=True)
        timeout_s = timeout_s or self._caller.slow_timeout_s
        answer = self._caller.unary(self._stub.Checkpoint, request, subject, timeout_s=timeout_s)
        return [with_role(descriptor_from_wire(wire)) for wire in answer.descriptors]

    def _deletable(self, status: Status) -> bool:
        if status.state is ProcessState.CREATED:
            return self.pid == 0  # what was never started and has no process is as good as stopped
        return status.state in (ProcessState.STOPPED, ProcessState.UNKNOWN)

    def _delete(self, timeout_s: float | None) -> pb.DeleteResponse:
        request = pb.DeleteTaskRequest(container_id=self.container_id)
        timeout_s = timeout_s or self._caller.slow_timeout_s
        return self._caller.unary(
            self._stub.Delete, request, self._subject("delete", changes=True), timeout_s=timeout_s
        )


def _exec_id(info: Any) -> str:
    """The shim packs its details under a bare type name, without the host part that protobuf's own Unpack wants."""
    if info.type_url.rsplit("/", 1)[-1] != options_pb2.ProcessDetails.DESCRIPTOR.full_name:
        return ""
    return options_pb2.ProcessDetails.FromString(info.value).exec_id
