"""What follows from the end of a job, in the transaction that ends it."""

from __future__ import annotations

from dataclasses import replace

from migrator.models.hooks import AFTER_FAILED
from migrator.models.session import Transaction
from migrator.models.values import Job
from migrator.service.catalogue import keep_last_copy


def conclude(tx: Transaction, job: Job) -> Job:
    """The job as it has ended, with all that somebody must know of its end."""
    return _tell_of_hook(keep_last_copy(tx, job))


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
