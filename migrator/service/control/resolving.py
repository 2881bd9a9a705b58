"""What an operator may decide about a job that could not go on by itself."""

from __future__ import annotations

from dataclasses import replace

from migrator.errors import PreconditionFailed
from migrator.models.phase import JobKind, Phase
from migrator.models.values import Job, Keep, Resolution, Step, StepStatus

UNTOUCHED = (StepStatus.PENDING, StepStatus.UNDONE)


def resolve(job: Job, resolution: Resolution) -> Job:
    """The job after an operator decided; from there it goes on by itself, back or forward.

    Raises:
        PreconditionFailed: `job_goes_on`, it needs no operator; `source_gone` or `target_gone`, that copy cannot be
            kept any more; `no_such_copy`, a job of this kind never has it.
    """
    if job.phase is not Phase.NEEDS_OPERATOR:
        raise PreconditionFailed(
            f"job '{job.id}' is {job.phase.value} and needs no operator",
            code="job_goes_on",
            remedy=f"see `migrator jobs show {job.id}`",
        )
    after = _keep_source(job) if resolution.keep is Keep.SOURCE else _keep_target(job)
    resolutions = (*job.resolutions, resolution)
    return replace(after, finished_at=None, updated_at=resolution.at, resolutions=resolutions, cancel_requested=False)


def _keep_source(job: Job) -> Job:
    """Undo whatever is left to undo."""
    if job.request.kind is JobKind.RESTORE:
        raise _no_such_copy(job, Keep.SOURCE, Keep.TARGET)
    remove = _step(job, "remove") or _step(job, "remove-displaced")
    if remove is not None and remove.status not in UNTOUCHED:
        raise PreconditionFailed(
            f"the source of job '{job.id}' may be removed already (step {remove.name} is {remove.status.value})",
            code="source_gone",
            host=job.request.source_host,
            remedy=f"keep the other copy: migrator jobs resolve {job.id} --keep target",
        )
    steps = tuple(_due_again(step, StepStatus.UNDOING, StepStatus.FAILED) for step in job.steps)
    return replace(job, phase=Phase.ROLLING_BACK, steps=steps)


def _keep_target(job: Job) -> Job:
    """Go forward from the first step that is not done; the operator's word stands for the proof."""
    if job.request.kind in (JobKind.CHECKPOINT, JobKind.BACKUP):
        raise _no_such_copy(job, Keep.TARGET, Keep.SOURCE)
    restore = _step(job, "restore")
    status = restore.status if restore else StepStatus.PENDING
    if status is not StepStatus.DONE:
        raise PreconditionFailed(
            f"job '{job.id}' has no whole copy on its target (step restore is {status.value})",
            code="target_gone",
            host=job.request.target_host,
            remedy=f"keep the other copy: migrator jobs resolve {job.id} --keep source",
        )
    steps = tuple(_accepted(_due_again(step, StepStatus.FAILED, StepStatus.PENDING)) for step in job.steps)
    phase = Phase.REMOVING if job.request.kind in (JobKind.MIGRATION, JobKind.REWIND) else Phase.FINISHING
    return replace(job, phase=phase, failure=None, steps=steps)


def _due_again(step: Step, before: StepStatus, after: StepStatus) -> Step:
    return replace(step, status=after, failure=None, finished_at=None) if step.status is before else step


def _accepted(step: Step) -> Step:
    proves = step.name == "prove" and step.status is StepStatus.PENDING
    return replace(step, status=StepStatus.DONE) if proves else step


def _step(job: Job, name: str) -> Step | None:
    return next((step for step in job.steps if step.name == name), None)


def _no_such_copy(job: Job, asked: Keep, other: Keep) -> PreconditionFailed:
    return PreconditionFailed(
        f"a {job.request.kind.value} has no {asked.value} to keep",
        code="no_such_copy",
        remedy=f"migrator jobs resolve {job.id} --keep {other.value}",
    )
