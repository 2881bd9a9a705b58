"""The service that looks into checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import grpc

from migrator.api.faults import told_to
from migrator.api.servicers import Streams
from migrator.errors import Cancelled
from migrator.gen.migrator.v1 import inspection_pb2 as pb
from migrator.gen.migrator.v1 import inspection_pb2_grpc as services
from migrator.models.comparison import Comparison, MemoryChange
from migrator.models.contents import ChangedFile, Contents, MemoryRange, MountPoint, OpenFile, Process
from migrator.models.usage import CheckpointUsage, Usage
from migrator.service.looking import Looker


class InspectionServicer(services.InspectionServiceServicer):
    """What is inside of checkpoints.

    Args:
        looker: Answers.
        streams: Counts long answers.
    """

    def __init__(self, looker: Looker, streams: Streams):
        self._looker = looker
        self._streams = streams

    def InspectCheckpoint(  # noqa: N802
        self, request: pb.InspectCheckpointRequest, context: grpc.ServicerContext
    ) -> pb.InspectCheckpointResponse:
        """See the proto."""
        with told_to(context), self._streams.one_more():
            found = self._looker.inspect(request.id, with_memory=request.with_memory, check=_while_wanted(context))
            return contents_message(found)
        raise AssertionError

    def CompareCheckpoints(  # noqa: N802
        self, request: pb.CompareCheckpointsRequest, context: grpc.ServicerContext
    ) -> pb.CompareCheckpointsResponse:
        """See the proto."""
        with told_to(context), self._streams.one_more():
            check, with_pages = _while_wanted(context), not request.skip_pages
            found = self._looker.compare(request.before, request.after, with_pages=with_pages, check=check)
            return _comparison_message(found)
        raise AssertionError

    def MeasureUsage(  # noqa: N802
        self, request: pb.MeasureUsageRequest, context: grpc.ServicerContext
    ) -> pb.MeasureUsageResponse:
        """See the proto."""
        with told_to(context), self._streams.one_more():
            return _usage_message(self._looker.measure(request.name, _while_wanted(context)))
        raise AssertionError


def _while_wanted(context: grpc.ServicerContext) -> Callable[[], None]:
    def check() -> None:
        if not context.is_active():
            raise Cancelled("nobody waits for the answer any more")

    return check


def contents_message(contents: Contents) -> pb.InspectCheckpointResponse:
    """Write what a checkpoint holds."""
    return pb.InspectCheckpointResponse(
        processes=[_process_message(process) for process in contents.processes],
        mounts=_mount_messages(contents.mounts),
        files=[_file_message(file) for file in contents.files],
        limits=contents.limits,
        memory_bytes=contents.memory_bytes,
        shared_bytes=contents.shared_bytes,
    )


def _process_message(process: Process) -> pb.Process:
    return pb.Process(
        pid=process.pid,
        parent=process.parent,
        group=process.group,
        session=process.session,
        name=process.name,
        state=process.state.value,
        program=process.program,
        uid=process.uid,
        gid=process.gid,
        threads=[pb.Thread(id=thread.id, name=thread.name) for thread in process.threads],
        stored_bytes=process.stored_bytes,
        files=[_open_file_message(file) for file in process.files],
        memory=[_range_message(item) for item in process.memory],
        limits=process.limits,
    )


def _open_file_message(file: OpenFile) -> pb.OpenFile:
    return pb.OpenFile(descriptor=file.descriptor, kind=file.kind, name=file.name, state=file.state)


def _range_message(item: MemoryRange) -> pb.MemoryRange:
    return pb.MemoryRange(
        start=item.start,
        end=item.end,
        kind=item.kind,
        access=item.access,
        name=item.name,
        stored_bytes=item.stored_bytes,
    )


def _mount_messages(mounts: Iterable[MountPoint]) -> list[pb.MountPoint]:
    return [
        pb.MountPoint(
            destination=mount.destination,
            filesystem=mount.filesystem,
            source=mount.source,
            read_only=mount.read_only,
            from_outside=mount.from_outside,
        )
        for mount in mounts
    ]


def _file_message(file: ChangedFile) -> pb.ChangedFile:
    return pb.ChangedFile(
        path=file.path,
        change=file.change.value,
        kind=file.kind,
        size_bytes=file.size_bytes,
        mode=file.mode,
        modified_s=file.modified_s,
        target=file.target,
    )


def _comparison_message(found: Comparison) -> pb.CompareCheckpointsResponse:
    return pb.CompareCheckpointsResponse(
        same_workload=found.same_workload,
        started=[_process_message(process) for process in found.started],
        ended=[_process_message(process) for process in found.ended],
        processes=[
            pb.ProcessChange(pid=item.pid, name=item.name, what=item.what, before=item.before, after=item.after)
            for item in found.processes
        ],
        sockets=[
            pb.SocketChange(kind=item.kind, name=item.name, state=item.state, before=item.before, after=item.after)
            for item in found.sockets
        ],
        mounted=_mount_messages(found.mounted),
        unmounted=_mount_messages(found.unmounted),
        files=[
            pb.FileDifference(
                path=item.path,
                before=_file_message(item.before) if item.before else None,
                after=_file_message(item.after) if item.after else None,
            )
            for item in found.files
        ],
        limits=[pb.LimitChange(name=item.name, before=item.before, after=item.after) for item in found.limits],
        memory=[_memory_message(item) for item in found.memory],
    )


def _memory_message(change: MemoryChange) -> pb.MemoryChange:
    return pb.MemoryChange(
        pid=change.pid,
        name=change.name,
        before_bytes=change.before_bytes,
        after_bytes=change.after_bytes,
        changed_bytes=change.changed_bytes,
        added_bytes=change.added_bytes,
        removed_bytes=change.removed_bytes,
    )


def _usage_message(usage: Usage) -> pb.MeasureUsageResponse:
    return pb.MeasureUsageResponse(
        checkpoints=[_checkpoint_usage_message(item) for item in usage.checkpoints], size_bytes=usage.size_bytes
    )


def _checkpoint_usage_message(usage: CheckpointUsage) -> pb.CheckpointUsage:
    parts = [pb.PartUsage(role=part.role, size_bytes=part.size_bytes, own_bytes=part.own_bytes) for part in usage.parts]
    message = pb.CheckpointUsage(
        id=usage.id,
        workload_id=usage.workload_id,
        container=usage.container,
        parts=parts,
        size_bytes=usage.size_bytes,
        own_bytes=usage.own_bytes,
    )
    message.created_at.FromDatetime(usage.created_at)
    return message
