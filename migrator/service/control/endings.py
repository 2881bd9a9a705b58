"""What follows from the end of a job, in the transaction that ends it."""

from __future__ import annotations

from dataclasses import replace

from migrator.errors import KINDS, IntegrityError, WorkloadFailed
from migrator.models.hooks import AFTER_FAILED
from migrator.models.phase import JobKind, Phase
from migrator.models.session import Transaction
from migrator.models.values import Job
from migrator.service.catalogue import keep_last_copy

VERDICTS = (WorkloadFailed, IntegrityError)
"""What says something about the checkpoint: its bytes, CRIU, the program, the probe."""


def conclude(tx: Transaction, job: Job) -> Job:
    """The job as it has ended, with all that somebody must know of its end."""
    _note_failed_drill(tx, job)
    return _tell_of_hook(keep_last_copy(tx, job))


def _note_failed_drill(tx: Transaction, job: Job) -> None:
    """Mark a checkpoint that could not be restored, or whose program was not well.

    A drill that never came to a restore, for lack of room or of a host that answers, says nothing about its checkpoint.
    """
    failure = job.failure or {}
    if job.request.kind is not JobKind.DRILL or job.phase is not Phase.FAILED:
        return
    if KINDS.get(str(failure.get("kind"))) in VERDICTS or failure.get("code") == "ended_after_restore":
        reason = str(failure.get("message"))
        tx.checkpoints.record_drill(str(job.request.checkpoint_id), job.updated_at, failure=reason)


def _tell_of_hook(job: Job) -> Job:
    """A program that was made ready for a freeze and could not be told that it is over needs somebody's hand."""
    fault = job.facts.get(AFTER_FAILED)
    if not fault or job.failure is None:
        return job
    told = {
        "message": f"{job.failure['message']}; and the hook after the freeze {fault}",
        "remedy": f"see to container '{job.request.container}' first: it may hold what the hook before locked",
    }
    return replace(job, failure={**job.failure, **told})
