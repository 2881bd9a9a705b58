"""The controller's part: it says which of the things that a host came across nobody needs any more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

from migrator.errors import NotFound
from migrator.models.housekeeping import Clearance, Question
from migrator.models.phase import Phase
from migrator.models.session import Database, Transaction
from migrator.models.values import Facts, Job
from migrator.service.control.rounds import utc_now

SETTLED = timedelta(seconds=40)
"""A command is not performed later than 30 s after it was sent; a job that ended longer ago touches nothing more."""
ENDED = (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)
"""A job that waits for an operator is not among them: it may still be sent either way."""


class Answers(Protocol):
    """The way back to the host that asked."""

    def send_clearance(self, host: str, token: str, clearance: Clearance, *, sweep: bool) -> None:
        """Hand the answer to a host.

        Raises:
            Unavailable: `broker_unavailable`.
        """


class Referee:
    """Answers hosts out of the database.

    Args:
        database: Where jobs and workloads live.
        answers: The way to the hosts.
        now: The clock.
    """

    def __init__(self, database: Database, answers: Answers, *, now: Callable[[], datetime] = utc_now):
        self._database = database
        self._answers = answers
        self._now = now

    def judge(self, host: str, token: str, question: Question, *, sweep: bool) -> None:
        """Answer a host's question; it then looks again and, if `sweep`, removes what the answer covers."""
        with self._database.transaction(write=False) as tx:
            clearance = give_clearance(tx, host, question, self._now())
        self._answers.send_clearance(host, token, clearance, sweep=sweep)

    def record(self, host: str, token: str, report: Facts) -> None:
        """Note what a host found, for the one who asked."""
        with self._database.transaction() as tx:
            tx.examinations.record(token, host, report, self._now())


def give_clearance(tx: Transaction, host: str, question: Question, now: datetime) -> Clearance:
    """Say what is over, gone and owned, all as of one moment."""
    jobs = [job for job_id in question.jobs if (job := _find_job(tx, job_id))]
    over = {job.id: job.phase.value for job in jobs if is_over(job, now)}
    owned = [name for name in question.containers if _owner_of(tx, host, name)]
    return Clearance(
        over=over,
        under_way=tuple(job.id for job in jobs if job.id not in over),
        gone=tuple(workload for workload in question.workloads if _is_gone(tx, workload)),
        owned=tuple(owned),
        held=tuple(name for name in owned if tx.jobs.active_for_workload(str(_owner_of(tx, host, name)))),
    )


def is_over(job: Job, now: datetime) -> bool:
    """Whether a job has ended and none of its commands can be performed any more."""
    return job.phase in ENDED and job.finished_at is not None and now - job.finished_at >= SETTLED


def _find_job(tx: Transaction, job_id: str) -> Job | None:
    """A job that this database does not know may be another control plane's: nothing is said about it."""
    try:
        return tx.jobs.get(job_id)
    except NotFound:
        return None


def _is_gone(tx: Transaction, workload_id: str) -> bool:
    try:
        tx.workloads.get(workload_id)
    except NotFound:
        return tx.jobs.active_for_workload(workload_id) is None
    return False


def _owner_of(tx: Transaction, host: str, name: str) -> str | None:
    """The workload that a host owns under `namespace/name`."""
    namespace, _, container = name.partition("/")
    workload = tx.workloads.find(host, namespace, container)
    return workload.id if workload else None
