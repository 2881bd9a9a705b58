"""The service of reports: read the message, ask the control plane, write the message."""

from __future__ import annotations

import grpc

from migrator.api.faults import told_to
from migrator.api.moments import stamp
from migrator.gen.migrator.v1 import reports_pb2 as pb
from migrator.gen.migrator.v1 import reports_pb2_grpc as services
from migrator.service.control_plane import ControlPlane
from migrator.service.reports import WorkloadReport


class ReportServicer(services.ReportServiceServicer):
    """Reports."""

    def __init__(self, plane: ControlPlane):
        self._plane = plane

    def ReportWorkloads(  # noqa: N802
        self, request: pb.ReportWorkloadsRequest, context: grpc.ServicerContext
    ) -> pb.ReportWorkloadsResponse:
        """See the proto."""
        with told_to(context):
            reports = self._plane.report_workloads(request.workload, request.namespace or "default")
            return pb.ReportWorkloadsResponse(workloads=[report_message(report) for report in reports])
        raise AssertionError


def report_message(report: WorkloadReport) -> pb.WorkloadReport:
    """Write what is known of one workload."""
    newest, proven, failed = report.newest, report.proven, report.failed
    return pb.WorkloadReport(
        host=report.host,
        namespace=report.namespace,
        container=report.container,
        workload_id=report.workload_id,
        checkpoints=report.checkpoints,
        newest_checkpoint_id=newest.id if newest else "",
        newest_at=stamp(newest.created_at if newest else None),
        recovery_point_age_s=report.age_s,
        proven_checkpoint_id=proven.id if proven else "",
        proven_at=stamp(proven.proven_at if proven else None),
        recovery_time_s=proven.restore_s if proven else None,
        drill_failure=(failed.drill_failure or "") if failed else "",
        drilled_at=stamp(failed.drilled_at if failed else None),
    )
