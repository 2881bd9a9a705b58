"""The controller's tick: settle what is due, begin what waits, tell how runs ended.

One transaction a schedule. It first moves the schedule on by compare-and-set, and in the same transaction writes the
runs and their jobs: a controller that dies before the commit has done nothing, one that dies after it has left jobs
that any controller looks after. Of several controllers one wins the compare-and-set. Should that ever fail, a unique
key refuses the second run of a fire time, and the jobs' idempotency keys the second job.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from migrator.errors import MigratorError, NotFound, ResourceBusy
from migrator.models.schedule_values import Overlap, Pause, Run, RunState, Schedule
from migrator.models.session import Database, Transaction
from migrator.models.values import Job
from migrator.service.control.hearing import Hearing
from migrator.service.control.rounds import utc_now
from migrator.service.schedules.overlaps import Admission, admit
from migrator.service.schedules.runs import Accept, begin, conclude, new_run, skipped_run, thin_out
from migrator.service.schedules.settling import Settled, settle
from migrator.service.schedules.targets import find_places
from migrator.service.schedules.timetable import timetable_of

log = structlog.get_logger()
MYSELF = "migrator"
WAITS = "waits for the end of the last run"
WARM_UP_S = 3.0
"""So long after its start a controller waits for the first heartbeats before it takes a host for silent."""


@dataclass
class _After:
    """What is to be done once the transaction is written."""

    advance: list[str] = field(default_factory=list)
    cancel: list[str] = field(default_factory=list)


class Scheduler:
    """Fires schedules.

    Args:
        database: Where they live.
        accept: Writes a job down.
        cancel: Asks for a job to be taken back; may refuse.
        advance: Lets a job begin; what it misses, the controller's own tick does.
        host_silent_s: A host without a heartbeat for this long counts as without a live worker.
        now: The clock.
    """

    def __init__(
        self,
        database: Database,
        accept: Accept,
        cancel: Callable[[str], object],
        advance: Callable[[str], object],
        *,
        host_silent_s: float,
        now: Callable[[], datetime] = utc_now,
    ):
        self._database = database
        self._accept = accept
        self._cancel = cancel
        self._advance = advance
        self._silence = timedelta(seconds=host_silent_s)
        self._now = now
        self._began = now()

    def tick(self) -> None:
        """Look after every schedule that is due or busy."""
        with self._database.transaction(write=False) as tx:
            wanting = tx.schedules.wanting(self._now())
        for schedule_id in wanting:
            try:
                self._serve(schedule_id)
            except (NotFound, ResourceBusy) as error:  # removed, or another controller did it
                log.debug("schedule left to others", schedule=schedule_id, error=str(error))
            except MigratorError as error:
                log.warning("cannot look after schedule now", schedule=schedule_id, error=str(error))
            except Exception:  # one bad row must not keep the others waiting
                log.exception("looking after a schedule crashed", schedule=schedule_id)

    def _serve(self, schedule_id: str) -> None:
        with self._database.transaction(write=False) as tx:
            if not self._has_work(tx, schedule_id):
                return
        with self._database.transaction() as tx:
            after = self._move(tx, tx.schedules.get(schedule_id))
        for job_id in after.cancel:
            self._try(self._cancel, job_id)
        for job_id in after.advance:
            self._try(self._advance, job_id)

    def _has_work(self, tx: Transaction, schedule_id: str) -> bool:
        """Whether anything would change: reading is cheap, and while a run goes on there is nothing to write."""
        now, schedule = self._now(), tx.schedules.get(schedule_id)
        if schedule.pause is None and schedule.look_at is not None and schedule.look_at <= now:
            return True
        runs = tx.schedules.open_runs(schedule_id)
        running = [run for run in runs if run.state is RunState.RUNNING]
        if len(running) < len(runs) and (not running or schedule.spec.overlap is Overlap.CANCEL):
            return True
        return any(conclude(run, _jobs(tx, run), now) for run in running)

    def _move(self, tx: Transaction, schedule: Schedule) -> _After:
        now, runs = self._now(), tx.schedules.open_runs(schedule.id)
        ended = {run.id: end for run in _running(runs) if (end := conclude(run, _jobs(tx, run), now))}
        moved = _count(schedule, list(ended.values()), now)
        left = [run for run in runs if run.id not in ended]
        settled = self._settle(tx, moved, now)
        moved = replace(moved, cursor=settled.cursor, look_at=settled.look_at)
        moved = tx.schedules.save(schedule, moved)  # from here on nobody else has read what we have
        for run in ended.values():
            tx.schedules.save_run(run)
            log.info("scheduled run ended", schedule=schedule.name, run=run.id, state=run.state.value)
        made = [job for run in ended.values() for job in _jobs(tx, run).values()]
        after = _After(advance=[job.id for job in thin_out(tx, self._accept, moved, made)])
        left = self._begin_waiting(tx, moved, left, after, now)
        self._write(tx, moved, settled, admit(moved.spec.overlap, settled.fires, left), after, now)
        return after

    def _settle(self, tx: Transaction, schedule: Schedule, now: datetime) -> Settled:
        still = Settled(schedule.cursor, schedule.look_at)
        if schedule.pause is not None or schedule.look_at is None or schedule.look_at > now:
            return still
        settled = settle(schedule, timetable_of(schedule), now)
        return still if settled.fires and self._must_wait_for_hosts(tx, schedule, now) else settled

    def _must_wait_for_hosts(self, tx: Transaction, schedule: Schedule, now: datetime) -> bool:
        """Whether a host only seems silent because we have just begun to listen."""
        if now - self._began > self._silence + timedelta(seconds=WARM_UP_S):
            return False
        hosts, hearing = {host.name: host for host in tx.hosts.list()}, Hearing.read(tx, now, self._silence)
        needed = {place.host for place in find_places(tx, schedule.spec)} | {schedule.spec.job.target_host}
        return any(name in hosts and not hearing.hears(hosts[name]) for name in needed if name)

    def _begin_waiting(
        self, tx: Transaction, schedule: Schedule, runs: list[Run], after: _After, now: datetime
    ) -> list[Run]:
        """Begin the oldest run that waits, if nothing else of this schedule runs; return the runs as they are then."""
        first = next((run for run in runs if run.state is RunState.WAITING), None)
        running = _running(runs)
        if first is None or timetable_of(schedule).blacked_out(now) or self._must_wait_for_hosts(tx, schedule, now):
            return runs
        if running:
            if schedule.spec.overlap is Overlap.CANCEL:
                after.cancel += [job_id for run in running for job_id in run.jobs]
            return runs
        begun = self._begin(tx, schedule, first, after, now)
        return [begun if run.id == begun.id else run for run in runs]

    def _begin(self, tx: Transaction, schedule: Schedule, run: Run, after: _After, now: datetime) -> Run:
        begun = begin(tx, self._accept, schedule, run, now)
        tx.schedules.save_run(begun)
        after.advance += begun.jobs
        log.info("schedule fired", schedule=schedule.name, run=run.id, fire_time=run.fire_time.isoformat())
        return begun

    def _write(
        self,
        tx: Transaction,
        schedule: Schedule,
        settled: Settled,
        admission: Admission,
        after: _After,
        now: datetime,
    ) -> None:
        for skip in (*settled.skips, *admission.skips):
            tx.schedules.add_run(skipped_run(schedule, skip, now))
            log.info("schedule skipped", schedule=schedule.name, count=skip.count, reason=skip.reason)
        for fire in admission.wait:
            tx.schedules.add_run(replace(new_run(schedule, fire), reason=WAITS))
        for fire in admission.begin:
            run = new_run(schedule, fire)
            if tx.schedules.add_run(run):  # or it has run already, by a backfill
                self._begin(tx, schedule, run, after, now)
        if settled.fires or settled.skips:
            tx.schedules.prune_runs(schedule.id)

    def _try(self, act: Callable[[str], object], job_id: str) -> None:
        try:
            act(job_id)
        except MigratorError as error:
            log.debug("left to the next tick", job=job_id, error=str(error))


def _running(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.state is RunState.RUNNING]


def _jobs(tx: Transaction, run: Run) -> dict[str, Job]:
    found = {}
    for job_id in run.jobs:
        try:
            found[job_id] = tx.jobs.get(job_id)
        except NotFound:
            continue
    return found


def _count(schedule: Schedule, ended: list[Run], now: datetime) -> Schedule:
    """Count failures in a row, and pause when there are too many."""
    failures, last = schedule.failures, ""
    for run in sorted(ended, key=lambda run: run.fire_time):
        if run.state in (RunState.FAILED, RunState.PARTIAL):
            failures, last = failures + 1, run.reason
        elif run.state is RunState.SUCCEEDED:
            failures = 0
    limit, pause = schedule.spec.pause_after, schedule.pause
    if limit and failures >= limit and pause is None:
        pause = Pause(now, MYSELF, f"{failures} runs in a row did not succeed; the last: {last}")
        log.warning("schedule paused", schedule=schedule.name, reason=pause.reason)
    return replace(schedule, failures=failures, pause=pause)
