"""A job as it is written down first."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from migrator.models.phase import JobKind, Phase
from migrator.models.values import Job, JobRequest
from migrator.service.identifiers import new_generation, new_id
from migrator.service.plans import steps_for

KIND_PREFIX = {
    JobKind.MIGRATION: "mig",
    JobKind.CHECKPOINT: "chk",
    JobKind.RESTORE: "res",
    JobKind.PREFLIGHT: "pre",
    JobKind.REWIND: "rwd",
    JobKind.DRILL: "drl",
    JobKind.BACKUP: "bak",
    JobKind.PRUNE: "prn",
    JobKind.VERIFICATION: "ver",
    JobKind.FORGET: "fgt",
    JobKind.DRAIN: "drn",
    JobKind.RETURN: "ret",
}
SEALS = (JobKind.MIGRATION, JobKind.CHECKPOINT, JobKind.BACKUP, JobKind.REWIND)
"""Kinds of jobs that make a checkpoint."""


def new_job(request: JobRequest, now: datetime, idempotency_key: str | None, origin: str | None = None) -> Job:
    """Lay out a new job.

    Args:
        request: What is asked for.
        now: The clock.
        idempotency_key: Of the request.
        origin: The workload that a restore goes on with, under its own name.
    """
    job_id, own = new_id(KIND_PREFIX[request.kind]), request.new_name or "restored"
    if request.kind is JobKind.DRILL:
        request, own = replace(request, new_name=f"drill-{job_id}"), "drill"
    if request.kind is JobKind.REWIND:
        request = replace(request, target_host=request.source_host)
    sealed = new_id("ck") if request.kind in SEALS else None
    return Job(
        id=job_id,
        request=request,
        phase=Phase.ACCEPTED,
        version=1,
        created_at=now,
        updated_at=now,
        idempotency_key=idempotency_key,
        workload_id=_new_workload(own, origin) if request.kind in (JobKind.RESTORE, JobKind.DRILL) else None,
        checkpoint_id=sealed or request.checkpoint_id,
        steps=steps_for(request),
    )


def _new_workload(name: str, origin: str | None) -> str:
    return new_id(name) if origin is None else new_generation(origin)
