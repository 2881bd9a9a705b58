"""The three services: read the message, ask the control plane, write the message."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from migrator.api.faults import told_to
from migrator.api.messages import (
    KINDS,
    checkpoint_message,
    choice_from,
    container_message,
    detail_message,
    examination_message,
    failure_message,
    host_message,
    job_message,
    keep_from,
    request_from,
    states_from,
)
from migrator.errors import InvalidRequest, ResourceExhausted
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.gen.migrator.v1 import migrator_pb2_grpc as services
from migrator.models.values import Job
from migrator.service.control_plane import ControlPlane

WATCH_S = 0.1
LIST_LIMIT = 1000
DEFAULT_LIMIT = 100


class Streams:
    """Counts long answers, so that they cannot take every thread.

    Args:
        limit: How many may run at once.
    """

    def __init__(self, limit: int):
        self._free = threading.Semaphore(limit)

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            ResourceExhausted: `too_many_streams`.
        """
        if not self._free.acquire(blocking=False):
            raise ResourceExhausted(
                "too many watches and exports at once", code="too_many_streams", remedy="try again later"
            )
        try:
            yield
        finally:
            self._free.release()


class JobServicer(services.JobServiceServicer):
    """Jobs."""

    def __init__(self, plane: ControlPlane, streams: Streams):
        self._plane = plane
        self._streams = streams

    def CreateJob(self, request: pb.CreateJobRequest, context: grpc.ServicerContext) -> pb.CreateJobResponse:  # noqa: N802
        """See the proto."""
        with told_to(context):
            wanted = request_from(request)
            if wanted is None:
                raise InvalidRequest(
                    "a job needs a kind",
                    code="incomplete_request",
                    remedy=f"say one of {', '.join(kind.value for kind in KINDS)}",
                )
            job = self._plane.create_job(wanted, request.idempotency_key or None, choice_from(request))
            return pb.CreateJobResponse(job=self._write(job))
        raise AssertionError

    def GetJob(self, request: pb.GetJobRequest, context: grpc.ServicerContext) -> pb.GetJobResponse:  # noqa: N802
        """See the proto."""
        with told_to(context):
            return pb.GetJobResponse(job=self._write(self._plane.get_job(request.id)))
        raise AssertionError

    def ListJobs(self, request: pb.ListJobsRequest, context: grpc.ServicerContext) -> pb.ListJobsResponse:  # noqa: N802
        """See the proto."""
        with told_to(context):
            if request.limit < 0:
                raise InvalidRequest(
                    f"{request.limit} is no limit", code="bad_limit", remedy=f"give 1 to {LIST_LIMIT}, or none"
                )
            limit = min(request.limit or DEFAULT_LIMIT, LIST_LIMIT)
            jobs = self._plane.list_jobs(states=states_from(request.states), host=request.host or None, limit=limit)
            return pb.ListJobsResponse(jobs=[self._write(job) for job in jobs])
        raise AssertionError

    def WatchJob(self, request: pb.WatchJobRequest, context: grpc.ServicerContext) -> Iterator[pb.WatchJobResponse]:  # noqa: N802
        """See the proto."""
        with told_to(context), self._streams.one_more():
            seen: Job | None = None
            while context.is_active():
                job = self._plane.get_job(request.id)
                if job != seen:
                    yield pb.WatchJobResponse(job=self._write(job))
                if job.phase.terminal:
                    return
                seen = job
                time.sleep(WATCH_S)

    def CancelJob(self, request: pb.CancelJobRequest, context: grpc.ServicerContext) -> pb.CancelJobResponse:  # noqa: N802
        """See the proto."""
        with told_to(context):
            return pb.CancelJobResponse(job=self._write(self._plane.cancel_job(request.id)))
        raise AssertionError

    def ResolveJob(self, request: pb.ResolveJobRequest, context: grpc.ServicerContext) -> pb.ResolveJobResponse:  # noqa: N802
        """See the proto."""
        with told_to(context):
            keep = keep_from(request.keep)
            job = self._plane.resolve_job(request.id, keep, request.actor, request.reason)
            return pb.ResolveJobResponse(job=self._write(job))
        raise AssertionError

    def _write(self, job: Job) -> pb.Job:
        return job_message(job, self._plane.measure(job))


class HostServicer(services.HostServiceServicer):
    """Hosts and containers."""

    def __init__(self, plane: ControlPlane):
        self._plane = plane

    def ListHosts(self, request: pb.ListHostsRequest, context: grpc.ServicerContext) -> pb.ListHostsResponse:  # noqa: N802
        """See the proto."""
        del request
        with told_to(context):
            return pb.ListHostsResponse(hosts=[host_message(view) for view in self._plane.list_hosts()])
        raise AssertionError

    def ListContainers(  # noqa: N802
        self, request: pb.ListContainersRequest, context: grpc.ServicerContext
    ) -> pb.ListContainersResponse:
        """See the proto."""
        with told_to(context):
            listing = self._plane.list_containers(request.host or None)
            return pb.ListContainersResponse(
                containers=[container_message(view) for view in listing.containers],
                failures=[message for failure in listing.failures if (message := failure_message(failure))],
            )
        raise AssertionError

    def ExamineHosts(  # noqa: N802
        self, request: pb.ExamineHostsRequest, context: grpc.ServicerContext
    ) -> pb.ExamineHostsResponse:
        """See the proto."""
        with told_to(context):
            hosts = self._plane.examine_hosts(request.host or None, fix=request.fix)
            return pb.ExamineHostsResponse(hosts=[examination_message(host) for host in hosts])
        raise AssertionError

    def RemoveHost(self, request: pb.RemoveHostRequest, context: grpc.ServicerContext) -> pb.RemoveHostResponse:  # noqa: N802
        """See the proto."""
        with told_to(context):
            jobs = self._plane.remove_host(request.host, request.actor)
            return pb.RemoveHostResponse(jobs=[job.id for job in jobs])
        raise AssertionError

    def CordonHost(self, request: pb.CordonHostRequest, context: grpc.ServicerContext) -> pb.CordonHostResponse:  # noqa: N802
        """See the proto."""
        with told_to(context):
            view = self._plane.cordon_host(request.host, request.actor, request.reason)
            return pb.CordonHostResponse(host=host_message(view))
        raise AssertionError

    def UncordonHost(self, request: pb.UncordonHostRequest, context: grpc.ServicerContext) -> pb.UncordonHostResponse:  # noqa: N802
        """See the proto."""
        with told_to(context):
            return pb.UncordonHostResponse(host=host_message(self._plane.uncordon_host(request.host, request.actor)))
        raise AssertionError


class CheckpointServicer(services.CheckpointServiceServicer):
    """The catalogue."""

    def __init__(self, plane: ControlPlane, streams: Streams):
        self._plane = plane
        self._streams = streams

    def ListCheckpoints(  # noqa: N802
        self, request: pb.ListCheckpointsRequest, context: grpc.ServicerContext
    ) -> pb.ListCheckpointsResponse:
        """See the proto."""
        del request
        with told_to(context):
            return pb.ListCheckpointsResponse(
                checkpoints=[checkpoint_message(item) for item in self._plane.list_checkpoints()]
            )
        raise AssertionError

    def GetCheckpoint(  # noqa: N802
        self, request: pb.GetCheckpointRequest, context: grpc.ServicerContext
    ) -> pb.GetCheckpointResponse:
        """See the proto."""
        with told_to(context):
            return detail_message(self._plane.get_checkpoint(request.id))
        raise AssertionError

    def ExportCheckpoint(  # noqa: N802
        self, request: pb.ExportCheckpointRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportCheckpointResponse]:
        """See the proto."""
        with told_to(context), self._streams.one_more():
            for chunk in self._plane.export_checkpoint(request.id):
                if not context.is_active():
                    return
                yield pb.ExportCheckpointResponse(chunk=chunk)
