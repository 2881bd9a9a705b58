"""What the API may do with schedules. Every change is one transaction; the controller's tick does the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import TypeVar

from migrator.errors import InvalidRequest, NotFound, PreconditionFailed, ResourceBusy
from migrator.models.phase import JobKind
from migrator.models.schedule_values import Cause, Overlap, Pause, Run, RunState, Schedule, ScheduleSpec
from migrator.models.session import Database, Transaction
from migrator.models.values import Workload
from migrator.models.workloads import unknown_workload
from migrator.service.control.rounds import utc_now
from migrator.service.control_plane import ControlPlane
from migrator.service.identifiers import new_id
from migrator.service.requests import KEY_LIMIT, check_request
from migrator.service.schedules.checks import check_name, check_spec
from migrator.service.schedules.kinds import Scope, scope_of
from migrator.service.schedules.runs import NOTHING_MATCHES, begin, new_run, skipped_run
from migrator.service.schedules.scheduler import WAITS
from migrator.service.schedules.settling import Skip
from migrator.service.schedules.targets import Place, find_places, name_target, request_for
from migrator.service.schedules.timetable import INSTANT, Fire, Timetable, timetable_of

T = TypeVar("T")
Schedules = list[Schedule]
Runs = list[Run]
TRIES = 20
"""How often a change is applied anew to a schedule that the controller moves at the same moment."""
MOST_PREVIEWED = 1000
MOST_FILLED = 1000
MOST_RUNS = 1000
PAUSED = "paused"


@dataclass(frozen=True, slots=True)
class Preview:
    """A fire time to come."""

    fire: Fire
    blackout: str | None
    """The window that will leave it out."""


Previews = list[Preview]


class ScheduleDesk:
    """The face of schedules towards the API.

    Args:
        database: Where they live.
        plane: Writes jobs down and asks hosts.
        now: The clock.
    """

    def __init__(self, database: Database, plane: ControlPlane, *, now: Callable[[], datetime] = utc_now):
        self._database = database
        self._plane = plane
        self._now = now

    def create(self, name: str, spec: ScheduleSpec) -> Schedule:
        """Write a schedule down.

        Raises:
            InvalidRequest: See `checks`.
            NotFound: `host_not_found`, `container_not_found`, `workload_not_found` or `nothing_matches`.
            AlreadyExists: `schedule_exists`.
        """
        check_name(name)
        draft = self._draft(name, spec)
        self._check_target(draft)
        with self._database.transaction() as tx:
            return tx.schedules.add(replace(draft, spec=_follow(tx, draft.spec)))

    def get(self, name: str) -> Schedule:
        """Return a schedule by name or id.

        Raises:
            NotFound: `schedule_not_found`.
        """
        with self._database.transaction(write=False) as tx:
            return tx.schedules.get(name)

    def list(self) -> Schedules:
        """List all by name."""
        with self._database.transaction(write=False) as tx:
            return tx.schedules.list()

    def runs(self, name: str, limit: int) -> Runs:
        """List what became of its fire times, newest first.

        Raises:
            NotFound: `schedule_not_found`.
            InvalidRequest: `bad_limit`.
        """
        if not 0 <= limit <= MOST_RUNS:
            raise InvalidRequest(f"{limit} is no limit", code="bad_limit", remedy=f"give 1 to {MOST_RUNS}")
        with self._database.transaction(write=False) as tx:
            return tx.schedules.runs(tx.schedules.get(name).id, limit or 100)

    def last_run(self, schedule: Schedule) -> Run | None:
        """Return its newest run that was not skipped."""
        with self._database.transaction(write=False) as tx:
            return tx.schedules.last_run(schedule.id)

    def host_of(self, schedule: Schedule) -> str | None:
        """Say where its container is now, if it is about one."""
        if schedule.spec.target.container is None and schedule.spec.target.workload_id is None:
            return None
        with self._database.transaction(write=False) as tx:
            return next((place.host for place in find_places(tx, schedule.spec)), None)

    def update(self, name: str, spec: ScheduleSpec, seen: datetime | None) -> Schedule:
        """Put another specification in the place of the one that was seen then; fire times before now are settled.

        Raises:
            ResourceBusy: `schedule_changed`, it has another specification by now.
            InvalidRequest: See `checks`.
            NotFound: See `create`.
        """
        before = self.get(name)
        draft = self._draft(before.name, _still_followed(before.spec, spec), before)
        self._check_target(draft)

        def change(tx: Transaction, current: Schedule) -> Schedule:
            if seen is not None and current.updated_at != seen:
                raise _changed(current)
            cursor = max(current.cursor, draft.cursor)
            after = replace(draft, cursor=cursor, pause=current.pause, failures=current.failures)
            return replace(after, spec=_follow(tx, draft.spec))

        return self._change(name, change)

    def pause(self, name: str, actor: str, reason: str) -> Schedule:
        """Stop firing; what waits is left out, what runs goes on.

        Raises:
            NotFound: `schedule_not_found`.
        """
        now = self._now()

        def change(tx: Transaction, current: Schedule) -> Schedule:
            del tx
            return current if current.pause else replace(current, updated_at=now, pause=Pause(now, actor, reason))

        def leave_out(tx: Transaction, current: Schedule) -> None:
            for run in tx.schedules.open_runs(current.id):
                if run.state is RunState.WAITING:
                    tx.schedules.save_run(run.skip(PAUSED, now))

        return self._change(name, change, leave_out)

    def resume(self, name: str) -> Schedule:
        """Fire again, from the next fire time on: what was missed meanwhile is told, not run.

        Raises:
            NotFound: `schedule_not_found`.
        """
        now = self._now()
        missed: list[Skip] = []

        def change(tx: Transaction, current: Schedule) -> Schedule:
            del tx
            if current.pause is None:
                return current
            missed[:] = _missed(current, now)
            return replace(self._moved(current, now), pause=None, failures=0)

        def tell(tx: Transaction, current: Schedule) -> None:
            for skip in missed:
                tx.schedules.add_run(skipped_run(current, skip, now))

        return self._change(name, change, tell)

    def trigger(self, name: str, overlap: Overlap | None, key: str | None) -> Run:
        """Run it now, paused or not; the same key gives the same run.

        Raises:
            NotFound: `schedule_not_found`.
            PreconditionFailed: `run_underway`, its last run still goes on and its policy says skip.
        """
        if key is not None and (len(key) > KEY_LIMIT or not key.isprintable()):
            raise InvalidRequest(
                f"an idempotency key of {len(key)} signs cannot be kept",
                code="bad_idempotency_key",
                remedy=f"use up to {KEY_LIMIT} printable signs",
            )
        run, new = self._retried(lambda tx: self._trigger(tx, name, overlap, key))
        for job_id in run.jobs if new else ():
            self._plane.announce(job_id)
        return run

    def backfill(self, name: str, first: datetime, last: datetime) -> Runs:
        """Run the fire times of the past that have not run: one after the other, or at once if they may overlap.

        Raises:
            InvalidRequest: `bad_range`, it is empty, lies in the future, or has too many fire times.
            NotFound: `schedule_not_found`.
        """
        runs = self._retried(lambda tx: self._backfill(tx, name, first, last))
        for job_id in (job_id for run in runs for job_id in run.jobs):
            self._plane.announce(job_id)
        return runs

    def preview(self, schedule: Schedule, after: datetime | None, count: int) -> Previews:
        """Say when it will fire.

        Raises:
            InvalidRequest: `bad_limit`.
        """
        if not 0 <= count <= MOST_PREVIEWED:
            raise InvalidRequest(f"{count} is no number", code="bad_limit", remedy=f"give 1 to {MOST_PREVIEWED}")
        table = timetable_of(schedule)
        fires = islice(table.after(after or max(self._now(), schedule.cursor)), count or 10)
        return [Preview(fire, table.blacked_out(fire.due)) for fire in fires]

    def preview_spec(self, spec: ScheduleSpec, count: int) -> Previews:
        """Say when a schedule would fire that does not exist yet; refuses what `create` would refuse."""
        draft = self._draft("preview", spec)
        self._check_target(draft)
        return self.preview(draft, None, count)

    def delete(self, name: str) -> Schedule:
        """Forget a schedule and its history; its jobs go on.

        Raises:
            NotFound: `schedule_not_found`.
        """
        with self._database.transaction() as tx:
            schedule = tx.schedules.get(name)
            tx.schedules.remove(schedule.id)
            return schedule

    def _draft(self, name: str, spec: ScheduleSpec, before: Schedule | None = None) -> Schedule:
        """The schedule as it would be written."""
        now = self._now()
        anchor = before.anchor if before and before.spec.trigger == spec.trigger else now.replace(microsecond=0)
        schedule_id = before.id if before else new_id("sch")
        check_spec(spec, now, lambda: Timetable(schedule_id, spec, anchor))
        created_at = before.created_at if before else now
        return self._moved(Schedule(schedule_id, name, 1, spec, created_at, now, anchor, now, None), now)

    @staticmethod
    def _moved(schedule: Schedule, now: datetime) -> Schedule:
        """The schedule from now on: what lies behind is settled."""
        following = timetable_of(schedule).next_after(now)
        return replace(schedule, cursor=now, updated_at=now, look_at=following.due if following else None)

    def _check_target(self, draft: Schedule) -> None:
        """See that what it is about is there, and that a job about it would be accepted."""
        spec, scope = draft.spec, scope_of(draft.spec.job.kind)
        named = (spec.job.target_host, *(spec.job.drain.targets if spec.job.drain else ()))
        with self._database.transaction(write=False) as tx:
            for host in (*named, spec.target.host if scope is Scope.HOST else None):
                if host is not None:
                    tx.hosts.get(host)
        if spec.target.selector or (spec.target.host is not None and scope is not Scope.HOST):
            self._look(spec)
        with self._database.transaction(write=False) as tx:
            places = find_places(tx, spec)
            if scope is Scope.CONTAINERS:
                _check_container(tx, spec)
            if not places and not spec.allow_empty:
                raise _nothing(spec)
            for place in places:
                self._check_place(tx, draft, place)

    def _look(self, spec: ScheduleSpec) -> None:
        """Let the hosts look now. What a drill proves may be all that is left of a host."""
        try:
            self._plane.list_containers(spec.target.host)
        except NotFound:
            if spec.target.container is None or spec.job.kind is not JobKind.DRILL:
                raise

    def _check_place(self, tx: Transaction, draft: Schedule, place: Place) -> None:
        try:
            request = request_for(tx, draft, place, self._now())
        except NotFound:
            if draft.spec.allow_empty:
                return
            raise
        check_request(request, None)

    def _trigger(self, tx: Transaction, name: str, overlap: Overlap | None, key: str | None) -> tuple[Run, bool]:
        schedule, now = tx.schedules.get(name), self._now()
        run = new_run(schedule, Fire(now, now), Cause.TRIGGER)
        if key is not None:
            run = replace(run, id=f"run-{hashlib.sha256(f'{schedule.id} {key}'.encode()).hexdigest()[:20]}")
        if known := tx.schedules.find_run(run.id):
            return known, False
        policy, busy = overlap or schedule.spec.overlap, tx.schedules.open_runs(schedule.id)
        if busy and policy is Overlap.SKIP:
            raise _underway(schedule)
        tx.schedules.save(schedule, schedule)
        waits = bool(busy) and policy is not Overlap.ALLOW
        run = _write_new(tx, replace(run, reason=WAITS if waits else ""))
        if waits:
            return run, True
        run = begin(tx, self._plane.accept_job, schedule, run, now)
        tx.schedules.save_run(run)
        return run, True

    def _backfill(self, tx: Transaction, name: str, first: datetime, last: datetime) -> Runs:
        schedule, now = tx.schedules.get(name), self._now()
        if not first < last <= now:
            raise InvalidRequest(
                f"from {first.isoformat()} to {last.isoformat()} is no range of the past",
                code="bad_range",
                remedy="give a begin, and an end that is later and not in the future",
            )
        fires = _fires_between(schedule, first, last)
        ran = tx.schedules.ran_at(schedule.id, first, last)
        tx.schedules.save(schedule, schedule)
        runs = [new_run(schedule, fire, Cause.BACKFILL) for fire in fires if fire.time not in ran]
        return [self._fill(tx, schedule, run, now) for run in runs]

    def _fill(self, tx: Transaction, schedule: Schedule, run: Run, now: datetime) -> Run:
        run = replace(run, reason="waits for its turn")
        tx.schedules.add_run(run)
        if schedule.spec.overlap is Overlap.ALLOW:
            run = begin(tx, self._plane.accept_job, schedule, run, now)
            tx.schedules.save_run(run)
        return run

    def _change(
        self,
        name: str,
        change: Callable[[Transaction, Schedule], Schedule],
        then: Callable[[Transaction, Schedule], None] | None = None,
    ) -> Schedule:
        """Apply a change to a schedule as it is now, whatever the controller does with it at the same moment."""

        def act(tx: Transaction) -> Schedule:
            current = tx.schedules.get(name)
            changed = change(tx, current)
            if changed is current:
                return current
            saved = tx.schedules.save(current, changed)
            if then is not None:
                then(tx, saved)
            return saved

        return self._retried(act)

    def _retried(self, act: Callable[[Transaction], T]) -> T:
        for tries in range(TRIES):
            try:
                with self._database.transaction() as tx:
                    return act(tx)
            except ResourceBusy as error:
                if error.code != "schedule_changed" or tries == TRIES - 1:
                    raise
        raise AssertionError


def _write_new(tx: Transaction, run: Run) -> Run:
    """Write down a run; where one stands at the same moment, the next moment will do."""
    while not tx.schedules.add_run(run):
        moment = run.fire_time + INSTANT
        run = replace(run, fire_time=moment, due_at=moment)
    return run


def _follow(tx: Transaction, spec: ScheduleSpec) -> ScheduleSpec:
    """Register the container as a workload, so that it is found again wherever it moves."""
    target = spec.target
    if target.host is None or target.container is None or target.workload_id is not None:
        return spec
    known = tx.workloads.find(target.host, spec.job.namespace, target.container)
    if known is None and spec.job.kind is JobKind.DRILL:  # of what is there no more
        return spec
    if known is None:
        known = Workload(new_id(target.container), spec.job.namespace, target.container, target.host, 1)
        tx.workloads.add(known)
    return replace(spec, target=replace(target, workload_id=known.id))


def _still_followed(before: ScheduleSpec, after: ScheduleSpec) -> ScheduleSpec:
    """A container that is named as before is the one that was followed, wherever it is now."""
    target, same_namespace = before.target, before.job.namespace == after.job.namespace
    named = target.container is not None and replace(target, workload_id=None) == after.target
    return replace(after, target=target) if named and same_namespace else after


def _check_container(tx: Transaction, spec: ScheduleSpec) -> None:
    target = spec.target
    if (target.container is None and target.workload_id is None) or spec.allow_empty:
        return
    for place in find_places(tx, spec):
        if place.host is None:
            raise unknown_workload(str(place.workload_id))
        seen = [view for view in tx.hosts.containers(place.host) if view.namespace == place.namespace]
        if place.container not in {view.name for view in seen}:
            raise NotFound(
                f"container '{place.container}' does not exist in namespace '{place.namespace}'",
                code="container_not_found",
                host=place.host,
                remedy="see `migrator containers list`; if it will come later, say --allow-empty",
            )


def _missed(schedule: Schedule, now: datetime) -> list[Skip]:
    """What a pause has left out."""
    table = timetable_of(schedule)
    first = table.next_after(schedule.cursor)
    count = table.count(schedule.cursor, now, 100_000)
    return [Skip(PAUSED, first, now, count)] if first and count else []


def _fires_between(schedule: Schedule, first: datetime, last: datetime) -> list[Fire]:
    fires: list[Fire] = []
    for fire in timetable_of(schedule).after(first):
        if fire.time > last:
            return fires
        if len(fires) == MOST_FILLED:
            break
        fires.append(fire)
    else:
        return fires
    raise InvalidRequest(
        f"the range has more than {MOST_FILLED} fire times", code="bad_range", remedy="give a shorter one"
    )


def _nothing(spec: ScheduleSpec) -> NotFound:
    return NotFound(
        f"nothing that runs matches {name_target(spec.target)} in namespace '{spec.job.namespace}'",
        code=NOTHING_MATCHES,
        remedy="see `migrator containers list`; if something will come later, say --allow-empty",
    )


def _underway(schedule: Schedule) -> PreconditionFailed:
    return PreconditionFailed(
        f"the last run of schedule '{schedule.name}' still goes on",
        code="run_underway",
        remedy=f"wait for its end (migrator schedules show {schedule.name}), or say --overlap allow or buffer",
    )


def _changed(current: Schedule) -> ResourceBusy:
    return ResourceBusy(
        f"somebody else has changed schedule '{current.name}' meanwhile",
        code="schedule_changed",
        remedy="look at it again, then try again",
    )
