"""What the end of a container's preflight or migration means for its way."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from migrator.errors import AlreadyExists, InternalError, MigratorError, ResourceExhausted, TransientError
from migrator.models.drains import Passage, PassageStatus
from migrator.models.phase import JobKind, Phase
from migrator.models.preflight import Grade, HostFinding
from migrator.models.values import Facts, Job
from migrator.service.preflight.report import preflight_of
from migrator.service.room import LAYERS

PATIENCE = 3
"""How often a container is sent on its way again after a passing failure that its target has nothing to do with."""
GONE = ("container_not_found", "namespace_not_found")
IDLE = "task_not_running"
ELSEWHERE = (AlreadyExists.__name__, ResourceExhausted.__name__)
"""Kinds of failures that another target may not have."""


def judge(passage: Passage, job: Job) -> Passage:
    """The way after the job that looked after it has ended."""
    passage = replace(passage, phase=job.phase.value)
    if job.request.kind is JobKind.PREFLIGHT and job.phase is Phase.SUCCEEDED:
        return _preflighted(passage, job)
    if job.phase is Phase.SUCCEEDED:
        return replace(passage, status=PassageStatus.MOVED, workload_id=job.workload_id, reason=None)
    failure = job.failure or InternalError(f"job {job.id} ended {job.phase.value}").to_dict()
    if failure.get("code") in (*GONE, IDLE) and job.phase is Phase.FAILED:
        return skip(passage, failure)
    if job.phase is Phase.FAILED and (again := _again(passage, job, failure)):
        return again
    if job.phase is Phase.NEEDS_OPERATOR:
        failure = failure | {"remedy": f"look at its job first: migrator jobs show {job.id}"}
    return replace(passage, status=PassageStatus.FAILED, reason=failure)


def refuse(passage: Passage, error: MigratorError) -> Passage:
    """It cannot move: it stays, and nothing was touched."""
    return replace(passage, status=PassageStatus.REFUSED, target=None, reason=error.to_dict())


def skip(passage: Passage, reason: Facts) -> Passage:
    """There is nothing to move."""
    return replace(passage, status=PassageStatus.SKIPPED, target=None, reason=reason)


def turn_away(passage: Passage, host: str, failure: Facts) -> Passage:
    """One host cannot take it: another one may."""
    refusals = {**passage.refusals, host: failure}
    return replace(passage, status=PassageStatus.WAITING, target=None, refusals=refusals)


def _preflighted(passage: Passage, job: Job) -> Passage:
    found = preflight_of(job).findings
    at_source = _first_failure(found, passage.source)
    if at_source is not None:
        gone = at_source["code"] in (*GONE, IDLE)
        return skip(passage, at_source) if gone else refuse(passage, MigratorError.from_dict(at_source))
    at_target = _first_failure(found, str(passage.target))
    if at_target is not None:
        return turn_away(passage, str(passage.target), at_target)
    facts = job.facts
    memory_bytes, volume_bytes = int(facts.get("memory_bytes", 0)), int(facts.get("volume_bytes", 0))
    changed_bytes = max(int(facts.get("estimate_bytes", 0)) - memory_bytes - volume_bytes, 0)
    image_bytes = int(facts.get("image_download_bytes", 0))
    return replace(
        passage,
        status=PassageStatus.PLACED,
        phase="",
        memory_bytes=memory_bytes or passage.memory_bytes,
        disk_bytes=int((changed_bytes + image_bytes) * LAYERS) + volume_bytes,
    )


def _first_failure(found: Iterable[HostFinding], host: str) -> Facts | None:
    for item in found:
        if item.host == host and item.finding.grade is Grade.FAIL:
            return item.finding.to_facts() | {"host": host}
    return None


def _again(passage: Passage, job: Job, failure: Facts) -> Passage | None:
    """On to another target if this one is the cause, or once more if the failure may pass; None if it is final."""
    error = MigratorError.from_dict(failure)
    target = str(passage.target)
    if error.host == target or failure.get("kind") in ELSEWHERE:
        return turn_away(passage, target, failure)
    if isinstance(error, TransientError) and passage.failures < PATIENCE:
        before = PassageStatus.PLACED if job.request.kind is JobKind.MIGRATION else PassageStatus.WAITING
        return replace(passage, status=before, failures=passage.failures + 1)
    return None
