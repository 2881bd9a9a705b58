"""A job as it is written down first."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from migrator.models.phase import JobKind, Phase
from migrator.models.values import Job, JobRequest
from migrator.service.identifiers import new_id
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


def new_job(request: JobRequest, now: datetime, idempotency_key: str | None) -> Job:
    """Lay out a new job."""
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
        workload_id=new_id(own) if request.kind in (JobKind.RESTORE, JobKind.DRILL) else None,
        checkpoint_id=sealed or request.checkpoint_id,
        steps=steps_for(request),
    )
