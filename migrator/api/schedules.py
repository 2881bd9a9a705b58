"""The service of schedules: read the message, ask the desk, write the message."""

from __future__ import annotations

from datetime import UTC

import grpc

from migrator.api.faults import told_to
from migrator.api.schedule_messages import overlap_from, preview_message, run_message, schedule_message, spec_from
from migrator.gen.migrator.v1 import schedules_pb2 as pb
from migrator.gen.migrator.v1 import schedules_pb2_grpc as services
from migrator.models.schedule_values import Schedule
from migrator.service.schedules.desk import ScheduleDesk
from migrator.service.schedules.moments import read_moment
from migrator.service.schedules.zones import find_zone


class ScheduleServicer(services.ScheduleServiceServicer):
    """Schedules."""

    def __init__(self, desk: ScheduleDesk):
        self._desk = desk

    def CreateSchedule(  # noqa: N802
        self, request: pb.CreateScheduleRequest, context: grpc.ServicerContext
    ) -> pb.CreateScheduleResponse:
        """See the proto."""
        with told_to(context):
            schedule = self._desk.create(request.name, spec_from(request.spec))
            return pb.CreateScheduleResponse(schedule=self._write(schedule))
        raise AssertionError

    def GetSchedule(self, request: pb.GetScheduleRequest, context: grpc.ServicerContext) -> pb.GetScheduleResponse:  # noqa: N802
        """See the proto."""
        with told_to(context):
            return pb.GetScheduleResponse(schedule=self._write(self._desk.get(request.name)))
        raise AssertionError

    def ListSchedules(  # noqa: N802
        self, request: pb.ListSchedulesRequest, context: grpc.ServicerContext
    ) -> pb.ListSchedulesResponse:
        """See the proto."""
        del request
        with told_to(context):
            return pb.ListSchedulesResponse(schedules=[self._write(schedule) for schedule in self._desk.list()])
        raise AssertionError

    def UpdateSchedule(  # noqa: N802
        self, request: pb.UpdateScheduleRequest, context: grpc.ServicerContext
    ) -> pb.UpdateScheduleResponse:
        """See the proto."""
        with told_to(context):
            seen = request.seen.ToDatetime(tzinfo=UTC) if request.HasField("seen") else None
            schedule = self._desk.update(request.name, spec_from(request.spec), seen)
            return pb.UpdateScheduleResponse(schedule=self._write(schedule))
        raise AssertionError

    def PauseSchedule(  # noqa: N802
        self, request: pb.PauseScheduleRequest, context: grpc.ServicerContext
    ) -> pb.PauseScheduleResponse:
        """See the proto."""
        with told_to(context):
            schedule = self._desk.pause(request.name, request.actor, request.reason)
            return pb.PauseScheduleResponse(schedule=self._write(schedule))
        raise AssertionError

    def ResumeSchedule(  # noqa: N802
        self, request: pb.ResumeScheduleRequest, context: grpc.ServicerContext
    ) -> pb.ResumeScheduleResponse:
        """See the proto."""
        with told_to(context):
            return pb.ResumeScheduleResponse(schedule=self._write(self._desk.resume(request.name)))
        raise AssertionError

    def TriggerSchedule(  # noqa: N802
        self, request: pb.TriggerScheduleRequest, context: grpc.ServicerContext
    ) -> pb.TriggerScheduleResponse:
        """See the proto."""
        with told_to(context):
            overlap = overlap_from(request.overlap)
            run = self._desk.trigger(request.name, overlap, request.idempotency_key or None)
            return pb.TriggerScheduleResponse(run=run_message(run))
        raise AssertionError

    def BackfillSchedule(  # noqa: N802
        self, request: pb.BackfillScheduleRequest, context: grpc.ServicerContext
    ) -> pb.BackfillScheduleResponse:
        """See the proto."""
        with told_to(context):
            zone = find_zone(self._desk.get(request.name).spec.time_zone)
            first, last = read_moment(request.first, zone), read_moment(request.last, zone)
            runs = self._desk.backfill(request.name, first, last)
            return pb.BackfillScheduleResponse(runs=[run_message(run) for run in runs])
        raise AssertionError

    def PreviewSchedule(  # noqa: N802
        self, request: pb.PreviewScheduleRequest, context: grpc.ServicerContext
    ) -> pb.PreviewScheduleResponse:
        """See the proto."""
        with told_to(context):
            if request.name:
                schedule = self._desk.get(request.name)
                zone = schedule.spec.time_zone
                after = read_moment(request.after, find_zone(zone)) if request.after else None
                found = self._desk.preview(schedule, after, request.count)
            else:
                spec = spec_from(request.spec)
                zone, found = spec.time_zone, self._desk.preview_spec(spec, request.count)
            return pb.PreviewScheduleResponse(runs=[preview_message(preview, zone) for preview in found])
        raise AssertionError

    def DeleteSchedule(  # noqa: N802
        self, request: pb.DeleteScheduleRequest, context: grpc.ServicerContext
    ) -> pb.DeleteScheduleResponse:
        """See the proto."""
        with told_to(context):
            self._desk.delete(request.name)
            return pb.DeleteScheduleResponse()
        raise AssertionError

    def ListRuns(self, request: pb.ListRunsRequest, context: grpc.ServicerContext) -> pb.ListRunsResponse:  # noqa: N802
        """See the proto."""
        with told_to(context):
            runs = self._desk.runs(request.name, request.limit)
            return pb.ListRunsResponse(runs=[run_message(run) for run in runs])
        raise AssertionError

    def _write(self, schedule: Schedule) -> pb.Schedule:
        return schedule_message(schedule, self._desk.last_run(schedule), self._desk.host_of(schedule))
