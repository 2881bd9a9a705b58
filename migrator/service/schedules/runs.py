"""Begin a run and tell how it ended."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime

import structlog

from migrator.errors import MigratorError, NotFound
from migrator.models.phase import JobKind, Phase
from migrator.models.retention import ForgetRequest, RetentionPolicy
from migrator.models.schedule_values import Act, Cause, Run, RunState, Schedule
from migrator.models.session import Transaction
from migrator.models.values import Job, JobRequest
from migrator.service.identifiers import new_id
from migrator.service.schedules.settling import Skip
from migrator.service.schedules.targets import (
    Place,
    find_places,
    is_there_already,
    name_target,
    request_for,
)
from migrator.service.schedules.timetable import Fire

log = structlog.get_logger()
Accept = Callable[[Transaction, JobRequest, str | None], Job]
"""Writes a job down in somebody's transaction; see `ControlPlane.accept_job`."""
NOTHING_MATCHES = "nothing_matches"


def new_run(schedule: Schedule, fire: Fire, cause: Cause = Cause.SCHEDULE) -> Run:
    """A fire time that has yet to run."""
    return Run(new_id("run"), schedule.id, fire.time, fire.due, RunState.WAITING, cause)


def skipped_run(schedule: Schedule, skip: Skip, now: datetime) -> Run:
    """Fire times that are left out."""
    run = new_run(schedule, skip.first).skip(skip.reason, now)
    return replace(run, count=skip.count, until=skip.last if skip.count > 1 else None)


def begin(tx: Transaction, accept: Accept, schedule: Schedule, run: Run, now: datetime) -> Run:
    """Write down a job for each place; what stands in the way of one is noted and keeps no other."""
    places = find_places(tx, schedule.spec)
    acts = tuple(_act(tx, accept, schedule, run, place, now) for place in places) or (_nothing(schedule),)
    return replace(run, state=RunState.RUNNING, reason="", started_at=now, acts=acts)


def conclude(run: Run, jobs: Mapping[str, Job], now: datetime) -> Run | None:
    """The run after the end of all its jobs; None while one goes on.

    A job that waits for an operator counts as failed: it may wait for days.
    """
    if any(job_id in jobs and not jobs[job_id].phase.terminal for job_id in run.jobs):
        return None
    acts = tuple(_ended(act, jobs) for act in run.acts)
    good = [act for act in acts if act.job_id and act.failure is None]
    bad = [act for act in acts if act.failure is not None]
    if bad:
        state, reason = (RunState.PARTIAL if good else RunState.FAILED), str((bad[0].failure or {}).get("message", ""))
    elif good:
        state, reason = RunState.SUCCEEDED, ""
    else:
        state, reason = RunState.SKIPPED, acts[0].note if acts else ""
    return replace(run, state=state, reason=reason, finished_at=now, acts=acts)


def thin_out(tx: Transaction, accept: Accept, schedule: Schedule, jobs: Iterable[Job]) -> list[Job]:
    """After backups that went well, ask for those of their containers to be forgotten that no rule keeps.

    Where that is refused, as when somebody has removed them all meanwhile, the next backup brings another try.
    """
    found: list[Job] = []
    for job in jobs:
        if schedule.spec.keep is None or job.phase is not Phase.SUCCEEDED or job.workload_id is None:
            continue
        try:
            found.append(accept(tx, _forget(schedule, job, schedule.spec.keep), f"{schedule.id} after {job.id}"))
        except MigratorError as error:
            log.warning("backups not thinned out", schedule=schedule.name, after=job.id, error=str(error))
    return found


def _forget(schedule: Schedule, job: Job, keep: RetentionPolicy) -> JobRequest:
    forget = ForgetRequest(workload_id=job.workload_id, policy=keep)
    return JobRequest(JobKind.FORGET, job.request.namespace, forget=forget, schedule=schedule.name)


def _act(tx: Transaction, accept: Accept, schedule: Schedule, run: Run, place: Place, now: datetime) -> Act:
    act = Act(place.host, place.namespace, place.container)
    if is_there_already(schedule.spec, place):
        return replace(act, note=f"it is on host '{place.host}' already")
    try:
        job = accept(tx, request_for(tx, schedule, place, now), _key(schedule, run, place))
    except MigratorError as error:
        return replace(act, failure=error.to_dict())
    return replace(act, job_id=job.id)


def _key(schedule: Schedule, run: Run, place: Place) -> str:
    """The same for each controller that fires this, so that the second one finds the first one's job."""
    sign = hashlib.sha256(f"{place.namespace}\n{place.host}\n{place.container}".encode()).hexdigest()[:16]
    return f"{schedule.id} {run.fire_time.isoformat()} {sign}"


def _nothing(schedule: Schedule) -> Act:
    act = Act(schedule.spec.target.host, schedule.spec.job.namespace, None)
    if schedule.spec.allow_empty:
        return replace(act, note="nothing matches")
    failure = NotFound(
        f"nothing that runs matches {name_target(schedule.spec.target)} in namespace '{schedule.spec.job.namespace}'",
        code=NOTHING_MATCHES,
        remedy="see `migrator containers list`; if that is fine, say --allow-empty",
    )
    return replace(act, failure=failure.to_dict())


def _ended(act: Act, jobs: Mapping[str, Job]) -> Act:
    if act.job_id is None:
        return act
    job = jobs.get(act.job_id)
    if job is not None and job.phase is Phase.SUCCEEDED:
        return act
    state = job.phase.value if job is not None else "gone"
    told = job.failure if job is not None and job.failure else {"kind": "InternalError", "code": "job_not_succeeded"}
    return replace(act, failure={"message": f"job {act.job_id} is {state}"} | told)
