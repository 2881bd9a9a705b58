"""The API's messages as plain JSON types, with the names that people use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from migrator.cli.retention_plain import retention_data
from migrator.gen.migrator.v1 import drains_pb2 as drains
from migrator.gen.migrator.v1 import migrator_pb2 as pb
from migrator.gen.migrator.v1 import reports_pb2

FAILURE_FIELDS = ("kind", "code", "message", "host", "remedy")
MEASURES = tuple(field.name for field in pb.Measures.DESCRIPTOR.fields)


def job_data(job: pb.Job) -> dict[str, Any]:
    """A job."""
    return {
        "id": job.id,
        "kind": pb.JobKind.Name(job.kind).removeprefix("JOB_KIND_").lower(),
        "state": pb.JobState.Name(job.state).removeprefix("JOB_STATE_").lower(),
        "phase": job.phase,
        "source": job.source or None,
        "container": job.container or None,
        "target": job.target or None,
        "namespace": job.namespace,
        "checkpoint_id": job.checkpoint_id or None,
        "rewinds_to": job.rewinds_to or None,
        "new_name": job.new_name or None,
        "created_at": _time(job, "created_at"),
        "updated_at": _time(job, "updated_at"),
        "finished_at": _time(job, "finished_at"),
        "cancel_requested": job.cancel_requested,
        "failure": failure_data(job.failure) if job.HasField("failure") else None,
        "measures": {name: _optional(job.measures, name) for name in MEASURES},
        "steps": [_step_data(step) for step in job.steps],
        "resolutions": [_resolution_data(resolution) for resolution in job.resolutions],
        "findings": [finding_data(finding) for finding in job.findings],
        "forecast": _forecast_data(job.forecast) if job.HasField("forecast") else None,
        "dumped": job.dumped or None,
        "restored": job.restored or None,
        "why_eager": job.why_eager or None,
        "hooks": _hooks_data(job.hooks) if job.HasField("hooks") else None,
        **retention_data(job),
        "schedule": job.schedule or None,
        "drain": _drain_data(job.drain) if job.HasField("drain") else None,
    }


def _drain_data(drain: drains.Drain) -> dict[str, Any]:
    """A drain or a return."""
    options = drain.options
    return {
        "targets": list(options.targets),
        "selector": options.selector or None,
        "namespaces": list(options.namespaces),
        "parallel": options.parallel,
        "dry_run": options.dry_run,
        "plan_id": options.plan_id or None,
        "return_after_s": _optional(options, "return_after_s"),
        "skip_refused": options.skip_refused,
        "containers": [_passage_data(passage) for passage in drain.passages],
    }


def _passage_data(passage: drains.Passage) -> dict[str, Any]:
    names = ("namespace", "container", "source", "target", "status", "job_id", "phase", "memory_bytes", "disk_bytes")
    reason = {name: getattr(passage, name) or None for name in ("code", "message", "remedy")}
    return {
        **{name: getattr(passage, name) if "bytes" in name else getattr(passage, name) or None for name in names},
        "reason": reason if passage.code else None,
        "refusals": [{"host": item.host, "code": item.code, "message": item.message} for item in passage.refusals],
    }


def _hooks_data(hooks: pb.Hooks) -> dict[str, Any]:
    names = ("before", "after", "timeout_s", "on_failure")
    return {name: getattr(hooks, name) or None for name in names}


def finding_data(finding: pb.PreflightFinding) -> dict[str, Any]:
    """What one check of preflight saw."""
    return {name: getattr(finding, name) or None for name in ("host", "check", "grade", "message", "code", "remedy")}


def _forecast_data(forecast: pb.Forecast) -> dict[str, Any]:
    names = ("checkpoint_bytes", "image_upload_bytes", "image_download_bytes", "freeze_ms", "basis", "mode", "why")
    measured = ("limit_ms", "change_bytes_s", "store_bytes_s")
    steps = [{"name": step.name, "host": step.host or None, "phase": step.phase} for step in forecast.steps]
    known = {name: getattr(forecast, name) for name in names}
    return {"steps": steps, **known, **{name: _optional(forecast, name) for name in measured}}


def _resolution_data(resolution: pb.Resolution) -> dict[str, Any]:
    return {
        "at": _time(resolution, "at"),
        "keep": pb.Keep.Name(resolution.keep).removeprefix("KEEP_").lower(),
        "actor": resolution.actor or None,
        "reason": resolution.reason or None,
    }


def failure_data(failure: pb.Failure) -> dict[str, Any]:
    """A failure."""
    return {name: getattr(failure, name) or None for name in FAILURE_FIELDS}


def host_data(host: pb.Host) -> dict[str, Any]:
    """A host."""
    return {
        "name": host.name,
        "alive": host.alive,
        "seen_at": _time(host, "seen_at"),
        "cordon": _cordon_data(host.cordon) if host.HasField("cordon") else None,
        **dict(sorted(host.facts.items())),
    }


def _cordon_data(cordon: drains.Cordon) -> dict[str, Any]:
    return {
        "since": _time(cordon, "since"),
        "actor": cordon.actor or None,
        "reason": cordon.reason or None,
        "drain_id": cordon.drain_id or None,
        "return_at": _time(cordon, "return_at"),
    }


def container_data(container: pb.Container) -> dict[str, Any]:
    """A container."""
    names = ("host", "namespace", "name", "status", "image", "pid", "memory_bytes")
    return {**{name: getattr(container, name) for name in names}, "labels": dict(container.labels)}


def examination_data(host: pb.HostExamination) -> dict[str, Any]:
    """What a host found when it looked at itself."""
    return {
        "host": host.host,
        "checks": [
            {"name": c.name, "level": c.level, "value": c.value, "remedy": c.remedy or None} for c in host.checks
        ],
        "findings": [_finding_data(finding) for finding in host.findings],
        "failure": failure_data(host.failure) if host.HasField("failure") else None,
    }


def checkpoint_data(checkpoint: pb.Checkpoint) -> dict[str, Any]:
    """A checkpoint."""
    origin = ("id", "workload_id", "job_id", "host", "namespace", "container", "image", "index_digest")
    names = (*origin, "size_bytes", "backup", "stored_bytes")
    return {
        **{name: getattr(checkpoint, name) for name in names},
        "created_at": _time(checkpoint, "created_at"),
        "proven_at": _time(checkpoint, "proven_at"),
        "restore_s": _optional(checkpoint, "restore_s"),
        "drilled_at": _time(checkpoint, "drilled_at"),
        "drill_failure": checkpoint.drill_failure or None,
        "pinned_at": _time(checkpoint, "pinned_at"),
        "pin_reason": checkpoint.pin_reason or None,
        "verified_at": _time(checkpoint, "verified_at"),
        "damage": checkpoint.damage or None,
        "schedule": checkpoint.schedule or None,
    }


def report_data(report: reports_pb2.WorkloadReport) -> dict[str, Any]:
    """How well a workload is protected."""
    now = datetime.now(UTC)
    proven_at = report.proven_at.ToDatetime(UTC) if report.HasField("proven_at") else None
    return {
        "host": report.host,
        "namespace": report.namespace,
        "container": report.container,
        "workload_id": report.workload_id,
        "checkpoints": report.checkpoints,
        "newest_checkpoint_id": report.newest_checkpoint_id or None,
        "newest_at": _time(report, "newest_at"),
        "recovery_point_age_s": _optional(report, "recovery_point_age_s"),
        "proven_checkpoint_id": report.proven_checkpoint_id or None,
        "proven_at": _time(report, "proven_at"),
        "proven_age_s": round((now - proven_at).total_seconds(), 3) if proven_at else None,
        "recovery_time_s": _optional(report, "recovery_time_s"),
        "drill_failure": report.drill_failure or None,
        "drilled_at": _time(report, "drilled_at"),
    }


def detail_data(detail: pb.GetCheckpointResponse) -> dict[str, Any]:
    """A checkpoint with its parts and facts."""
    names = ("role", "media_type", "digest", "size_bytes")
    parts = [{name: getattr(part, name) for name in names} for part in detail.parts]
    return {**checkpoint_data(detail.checkpoint), "parts": parts, "facts": dict(sorted(detail.facts.items()))}


def _finding_data(finding: pb.Finding) -> dict[str, Any]:
    return {
        "kind": finding.kind,
        "namespace": finding.namespace or None,
        "name": finding.name,
        "job_id": finding.job_id or None,
        "since": _time(finding, "since"),
        "fate": finding.fate,
        "reason": finding.reason,
    }


def _step_data(step: pb.Step) -> dict[str, Any]:
    return {
        "name": step.name,
        "host": step.host or None,
        "phase": step.phase,
        "status": step.status,
        "attempt": step.attempt,
        "started_at": _time(step, "started_at"),
        "finished_at": _time(step, "finished_at"),
        "duration_ms": _optional(step, "duration_ms"),
        "progress_bytes": step.progress_bytes,
        "total_bytes": step.total_bytes,
        "failure": failure_data(step.failure) if step.HasField("failure") else None,
    }


def moment(message: Any, name: str) -> str | None:
    """A moment of a message, None if it is not set."""
    return _time(message, name)


def _optional(message: Any, name: str) -> Any:
    if not message.HasField(name):
        return None
    value = getattr(message, name)
    return round(value, 3) if isinstance(value, float) else value


def _time(message: Any, name: str) -> str | None:
    if not message.HasField(name):
        return None
    stamp: Timestamp = getattr(message, name)
    return stamp.ToDatetime().isoformat(timespec="milliseconds") + "Z"
