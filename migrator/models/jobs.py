"""Jobs and their steps: every write is a compare-and-set, so that of two writers one wins."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, bindparam, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from migrator.errors import AlreadyExists, InternalError, NotFound, PreconditionFailed, ResourceBusy
from migrator.models.job_rows import job_columns, job_from_row, step_columns
from migrator.models.phase import JobKind, Phase, may_follow
from migrator.models.tables import HOLDS_WORKLOAD, UNFINISHED, JobRow, StepRow
from migrator.models.values import Job, Step, StepStatus
from migrator.models.writes import insert_unless_taken, write

Jobs = list[Job]
_JOBS = JobRow.metadata.tables[JobRow.__tablename__]
_STEPS = StepRow.metadata.tables[StepRow.__tablename__]
IDS_AT_ONCE = 500
"""In one statement."""
ALL_PHASES = frozenset(Phase)


class JobRepository:
    """The jobs of one transaction."""

    def __init__(self, session: Session):
        self._session = session

    def add(self, job: Job) -> Job:
        """Write a new job and its steps, as version 1.

        Returns:
            The job; or the one that has the same idempotency key already, if it asks for the same.

        Raises:
            AlreadyExists: `idempotency_key_reused`, the key belongs to another request; `job_exists`, the id is taken.
            ResourceBusy: `workload_busy`, another unfinished job works on its workload; `drain_under_way` or
                `restore_under_way`, see `Job.alone_with`.
        """
        job = replace(job, version=1)
        if not insert_unless_taken(self._session, JobRow, job_columns(job)):
            return self._known(job)
        if job.steps:
            self._session.execute(insert(StepRow), [step_columns(job.id, step) for step in job.steps])
        return job

    def get(self, job_id: str) -> Job:
        """Return a job and its steps, all as of one moment.

        Raises:
            NotFound: `job_not_found`.
        """
        job = self._find(job_id)
        if job is None:
            raise NotFound(f"job '{job_id}' does not exist", code="job_not_found", remedy="see `migrator jobs list`")
        return job

    def find_by_key(self, key: str) -> Job | None:
        """Return the job that was created with this idempotency key."""
        return self._one(JobRow.idempotency_key == key)

    def active_for_workload(self, workload_id: str) -> Job | None:
        """Return the job that holds a workload; one that waits for an operator still does."""
        return self._one(JobRow.workload_id == workload_id, HOLDS_WORKLOAD)

    def alone_with(self, what: str) -> Job | None:
        """Return the unfinished job that nobody else may join; see `Job.alone_with`."""
        return self._one(JobRow.alone_with == what, UNFINISHED)

    def list(self, *, phases: frozenset[Phase] = ALL_PHASES, host: str | None = None, limit: int = 100) -> Jobs:
        """List jobs, newest first.

        Args:
            phases: Only jobs in one of these; the empty set selects none.
            host: Only jobs that have it as source or target.
            limit: At most so many.
        """
        query = select(*_JOBS.c).order_by(JobRow.created_at.desc(), JobRow.id.desc()).limit(limit)
        if phases != ALL_PHASES:
            query = query.where(JobRow.phase.in_(sorted(phases)))
        if host is not None:
            query = query.where(or_(JobRow.source_host == host, JobRow.target_host == host))
        return self._many(query)

    def count(self, phases: frozenset[Phase], host: str, but: str) -> int:
        """Count the unfinished jobs in some phases that have a host as source or target, all but one."""
        of_host = or_(JobRow.source_host == host, JobRow.target_host == host)
        among = JobRow.phase.in_(sorted(phases))
        query = select(func.count()).select_from(JobRow).where(UNFINISHED, of_host, among, JobRow.id != but)
        return self._session.scalars(query).one()

    def unfinished(self) -> Jobs:
        """List the jobs that still have something to do by themselves, oldest first."""
        return self._many(select(*_JOBS.c).where(UNFINISHED).order_by(JobRow.created_at, JobRow.id))

    def save(self, before: Job, after: Job) -> Job:
        """Write what changed between two versions of a job, if nobody else wrote it since `before` was read.

        Progress that a host reported meanwhile stays, unless `after` changes it or begins another attempt.

        Returns:
            `after` with the version it has now.

        Raises:
            ResourceBusy: `job_changed`, somebody else was faster; `workload_busy`, another job holds its workload;
                `drain_under_way` or `restore_under_way`, see `Job.alone_with`.
            NotFound: `job_not_found`.
            InternalError: `bad_transition` or `bad_change`, a change that no job may go through.
        """
        check_change(before, after)
        after = replace(after, version=before.version + 1)
        self._swap(before, _changed(job_columns(before), job_columns(after)))
        self._save_steps(before, after)
        added = after.steps[len(before.steps) :]
        if added:
            self._session.execute(insert(StepRow), [step_columns(before.id, step) for step in added])
        return after

    def request_cancel(self, job_id: str, now: datetime) -> Job:
        """Note that somebody wants the job taken back; once noted, asking again changes nothing.

        Raises:
            NotFound: `job_not_found`.
            PreconditionFailed: `job_finished`.
        """
        flag = (
            update(JobRow)
            .where(JobRow.id == job_id, UNFINISHED, JobRow.cancel_requested.is_(False))
            .values(cancel_requested=True, version=JobRow.version + 1, updated_at=now)
        )
        flagged = write(self._session, flag)
        job = self.get(job_id)
        if not flagged and job.phase.terminal:
            raise job_ended(job)
        return job

    def record_progress(self, job_id: str, position: int, attempt: int, progress_bytes: int, total_bytes: int) -> None:
        """Note how far a step is, if that attempt is still under way and was not further already.

        Raises nothing when it is not: reports arrive late and twice. Does not raise the job's version.
        """
        note = (
            update(StepRow)
            .where(
                StepRow.job_id == job_id,
                StepRow.position == position,
                StepRow.attempt == attempt,
                StepRow.status == StepStatus.STARTED.value,
                StepRow.progress_bytes <= progress_bytes,
            )
            .values(progress_bytes=progress_bytes, total_bytes=total_bytes)
        )
        write(self._session, note)

    def _known(self, job: Job) -> Job:
        """Find out why a job could not be inserted."""
        twin = self.find_by_key(job.idempotency_key) if job.idempotency_key is not None else None
        if twin is not None and twin.request == job.request:
            return twin
        if twin is not None:
            raise AlreadyExists(
                f"idempotency key '{job.idempotency_key}' belongs to job '{twin.id}', which asks for something else",
                code="idempotency_key_reused",
                remedy="use a new key for a new request",
            )
        if self._find(job.id) is not None:
            raise AlreadyExists(f"job '{job.id}' exists already", code="job_exists")
        raise self._busy(job)

    def _busy(self, job: Job) -> ResourceBusy:
        """Say which job it would work beside."""
        rival = self.alone_with(job.alone_with) if job.alone_with is not None else None
        if rival is not None and rival.id != job.id:
            return _under_way(rival)
        holder = self.active_for_workload(str(job.workload_id))
        name = f"job '{holder.id}'" if holder is not None else "another job"
        return ResourceBusy(
            f"{name} works on workload '{job.workload_id}' already",
            code="workload_busy",
            remedy=f"wait for its end or cancel it: migrator jobs cancel {holder.id if holder else 'JOB'}",
        )

    def _swap(self, before: Job, changes: dict[str, Any]) -> None:
        """Write a job's own columns if it still has the version of `before`."""
        swap = update(JobRow).where(JobRow.id == before.id, JobRow.version == before.version).values(changes)
        # Only taking a workload, or going on after an operator's word, can meet a rival; the savepoint keeps the
        # transaction usable for naming it.
        may_meet = "workload_id" in changes or before.phase is Phase.NEEDS_OPERATOR
        try:
            with self._session.begin_nested() if may_meet else nullcontext():
                swapped = write(self._session, swap)
        except IntegrityError as error:
            raise self._busy(replace(before, workload_id=changes.get("workload_id", before.workload_id))) from error
        if not swapped:
            raise job_changed(before, self.get(before.id))

    def _save_steps(self, before: Job, after: Job) -> None:
        """Write the columns that changed, with one statement for all steps in which the same ones did."""
        batches: dict[frozenset[str], list[dict[str, Any]]] = {}
        for old, new in zip(before.steps, after.steps, strict=False):
            changes = _changed_step(old, new)
            if changes:
                batches.setdefault(frozenset(changes), []).append(changes | {"at_position": old.position})
        here = update(_STEPS).where(_STEPS.c.job_id == before.id, _STEPS.c.position == bindparam("at_position"))
        for rows in batches.values():
            self._session.execute(here, rows)

    def _find(self, job_id: str) -> Job | None:
        return self._one(JobRow.id == job_id)

    def _one(self, *conditions: ColumnElement[bool]) -> Job | None:
        return next(iter(self._many(select(*_JOBS.c).where(*conditions))), None)

    def _many(self, query: Select[Any]) -> Jobs:
        """Read jobs, then their steps, past the mapper, which takes three times as long.

        Where others may write in between, steps may be newer than their job. A change that follows from that is not
        written: the job's version is another one by then.
        """
        rows = self._session.execute(query).all()
        steps: dict[str, list[Row[Any]]] = {row.id: [] for row in rows}
        ids = iter(steps)
        while some := [*islice(ids, IDS_AT_ONCE)]:
            wanted = select(*_STEPS.c).where(_STEPS.c.job_id.in_(some)).order_by(_STEPS.c.job_id, _STEPS.c.position)
            for step in self._session.execute(wanted):
                steps[step.job_id].append(step)
        return [job_from_row(row, steps[row.id]) for row in rows]


def _under_way(rival: Job) -> ResourceBusy:
    request, remedy = rival.request, f"follow it: migrator jobs watch {rival.id}"
    if request.kind is JobKind.RESTORE:
        host, code = request.target_host, "restore_under_way"
        what = f"job '{rival.id}' restores it under its own name on host '{host}'"
    else:
        host, code = request.source_host or request.target_host, "drain_under_way"
        what = f"job '{rival.id}' ({request.kind}) is under way for host '{host}'"
    return ResourceBusy(what, code=code, host=host, remedy=remedy)


def job_changed(before: Job, current: Job) -> ResourceBusy:
    """Say that somebody else was faster."""
    return ResourceBusy(
        f"job '{before.id}' was changed by somebody else (version {current.version}, not {before.version})",
        code="job_changed",
        remedy="read it again",
    )


def job_ended(job: Job) -> PreconditionFailed:
    """Say that it is too late to cancel a job."""
    return PreconditionFailed(
        f"job '{job.id}' has ended already ({job.phase.value}) and cannot be cancelled",
        code="job_finished",
        remedy=f"see `migrator jobs show {job.id}`",
    )


def _changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if value != before[name]}


def _changed_step(old: Step, new: Step) -> dict[str, Any]:
    if old == new:
        return {}
    changes = _changed(step_columns("", old), step_columns("", new))
    if "attempt" in changes:  # what the attempt before reported is of no more use
        changes |= {"progress_bytes": new.progress_bytes, "total_bytes": new.total_bytes}
    return changes


def check_change(before: Job, after: Job) -> None:
    """Refuse what no job may go through: a bug of the caller.

    Raises:
        InternalError: `bad_transition` or `bad_change`.
    """
    if before.phase is not after.phase and not may_follow(before.phase, after.phase):
        raise InternalError(
            f"job '{before.id}' cannot go from phase {before.phase.value} to {after.phase.value}", code="bad_transition"
        )
    fixed = ("id", "request", "created_at", "idempotency_key")
    changed = [name for name in fixed if getattr(before, name) != getattr(after, name)]
    order = [step.position for step in before.steps]
    if changed or [step.position for step in after.steps][: len(order)] != order:
        what = ", ".join(changed) or "the order of its steps or drop one"
        raise InternalError(f"job '{before.id}' cannot change {what}", code="bad_change")
