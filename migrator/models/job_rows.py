"""Jobs and steps as columns, and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from migrator.errors import InternalError
from migrator.models.drains import DrainOptions
from migrator.models.hooks import read_hooks
from migrator.models.phase import JobKind, Phase
from migrator.models.retention import forget_from, prune_from, verify_from
from migrator.models.values import (
    Job,
    JobRequest,
    Keep,
    Mode,
    NetworkPolicy,
    Probe,
    Resolution,
    Step,
    StepStatus,
    StorePath,
    TcpPolicy,
)
from migrator.models.volumes import VolumePolicy

_REQUEST_FIELDS = frozenset(field.name for field in fields(JobRequest))


def job_columns(job: Job) -> dict[str, Any]:
    """Spell a job, without its steps, as values for the table `jobs`."""
    return {
        "id": job.id,
        "version": job.version,
        "phase": job.phase.value,
        "request": asdict(job.request),
        "source_host": job.request.source_host,
        "target_host": job.request.target_host,
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "finished_at": job.finished_at,
        "idempotency_key": job.idempotency_key,
        "workload_id": job.workload_id,
        "epoch": job.epoch,
        "checkpoint_id": job.checkpoint_id,
        "cancel_requested": job.cancel_requested,
        "failure": job.failure,
        "alone_with": job.alone_with,
        "resolutions": [asdict(resolution) | {"at": resolution.at.isoformat()} for resolution in job.resolutions],
    }


def step_columns(job_id: str, step: Step) -> dict[str, Any]:
    """Spell a step as values for the table `steps`."""
    return {
        "job_id": job_id,
        "position": step.position,
        "name": step.name,
        "host": step.host,
        "phase": step.phase.value,
        "status": step.status.value,
        "attempt": step.attempt,
        "started_at": step.started_at,
        "finished_at": step.finished_at,
        "dispatched_at": step.dispatched_at,
        "duration_s": step.duration_s,
        "progress_bytes": step.progress_bytes,
        "total_bytes": step.total_bytes,
        "facts": step.facts,
        "failure": step.failure,
    }


def job_from_row(row: Row[Any], steps: Iterable[Row[Any]]) -> Job:
    """Read a job and its steps back, from all columns of both tables."""
    return Job(
        id=row.id,
        request=read_request(row.request, f"job '{row.id}'"),
        phase=Phase(row.phase),
        version=row.version,
        created_at=row.created_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
        idempotency_key=row.idempotency_key,
        workload_id=row.workload_id,
        epoch=row.epoch,
        checkpoint_id=row.checkpoint_id,
        cancel_requested=row.cancel_requested,
        failure=row.failure,
        resolutions=tuple(_resolution(told) for told in row.resolutions),
        steps=tuple(_step(step) for step in steps),
    )


def read_request(told: dict[str, Any], whose: str) -> JobRequest:
    """Read what somebody asked for from JSON.

    Raises:
        InternalError: `request_newer`.
    """
    unknown = told.keys() - _REQUEST_FIELDS
    if unknown:  # to leave them out could turn the request into another one
        raise InternalError(
            f"{whose} asks for what this version of migrator does not know: {', '.join(sorted(unknown))}",
            code="request_newer",
            remedy="run the version of migrator that accepted the job, or a later one",
        )
    words = {
        "kind": JobKind(told["kind"]),
        "volumes": {name: VolumePolicy(word) for name, word in told.get("volumes", {}).items()},
        "tcp": TcpPolicy(told.get("tcp", TcpPolicy.KEEP)),
        "hooks": read_hooks(told.get("hooks")),
        "path": StorePath(told.get("path", StorePath.CHUNKS)),
        "mode": Mode(told.get("mode", Mode.AUTO)),
        "network": NetworkPolicy(told.get("network", NetworkPolicy.KEEP)),
        "probe": Probe(**told.get("probe", {})),
        "forget": forget_from(told.get("forget")),
        "prune": prune_from(told.get("prune")),
        "verify": verify_from(told.get("verify")),
        "drain": DrainOptions.from_facts(told["drain"]) if told.get("drain") else None,
    }
    return JobRequest(**(told | words))


def _resolution(told: dict[str, Any]) -> Resolution:
    return Resolution(**(told | {"at": datetime.fromisoformat(told["at"]), "keep": Keep(told["keep"])}))


def _step(row: Row[Any]) -> Step:
    return Step(
        position=row.position,
        name=row.name,
        host=row.host,
        phase=Phase(row.phase),
        status=StepStatus(row.status),
        attempt=row.attempt,
        started_at=row.started_at,
        finished_at=row.finished_at,
        dispatched_at=row.dispatched_at,
        duration_s=row.duration_s,
        progress_bytes=row.progress_bytes,
        total_bytes=row.total_bytes,
        facts=row.facts,
        failure=row.failure,
    )
