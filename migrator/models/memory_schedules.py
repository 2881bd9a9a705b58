"""Schedules of the database in memory; see `memory`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from migrator.models.schedule_values import OPEN_RUNS, Run, RunState, Schedule
from migrator.models.schedules import (
    KEPT_RUNS,
    Names,
    Runs,
    ScheduleRepository,
    Schedules,
    schedule_changed,
    schedule_exists,
)

if TYPE_CHECKING:
    from migrator.models.memory import Rows

SCHEDULES, RUNS = "schedules", "schedule_runs"


class MemorySchedules(ScheduleRepository):
    """See `ScheduleRepository`."""

    def __init__(self, rows: Rows, gone: object):
        self._rows = rows
        self._gone = gone

    def add(self, schedule: Schedule) -> Schedule:
        """See `ScheduleRepository.add`."""
        schedule = replace(schedule, version=1)
        self._rows.lock((SCHEDULES, schedule.id), (SCHEDULES, "name", schedule.name))
        if self._rows.get(SCHEDULES, schedule.id) or self._named(schedule.name):
            raise schedule_exists(schedule)
        self._rows.put(SCHEDULES, schedule.id, schedule)
        return schedule

    def find(self, name: str) -> Schedule | None:
        """See `ScheduleRepository.find`."""
        found: Schedule | None = self._rows.get(SCHEDULES, name)
        return self._named(name) or found

    def list(self) -> Schedules:
        """See `ScheduleRepository.list`."""
        return sorted(self._schedules().values(), key=lambda schedule: schedule.name)

    def wanting(self, now: datetime) -> Names:
        """See `ScheduleRepository.wanting`."""
        due = {s.id for s in self._schedules().values() if s.look_at and s.look_at <= now and s.pause is None}
        return sorted(due | {run.schedule_id for run in self._runs().values() if run.state in OPEN_RUNS})

    def save(self, before: Schedule, after: Schedule) -> Schedule:
        """See `ScheduleRepository.save`."""
        self._rows.lock((SCHEDULES, before.id))
        current: Schedule | None = self._rows.get(SCHEDULES, before.id)
        if current is None or current.version != before.version:
            raise schedule_changed(before)
        if after.name != before.name:
            self._rows.lock((SCHEDULES, "name", after.name))
            if self._named(after.name):
                raise schedule_exists(after)
        after = replace(after, version=before.version + 1)
        self._rows.put(SCHEDULES, after.id, after)
        return after

    def remove(self, schedule_id: str) -> None:
        """See `ScheduleRepository.remove`."""
        self._rows.lock((SCHEDULES, schedule_id))
        self._rows.put(SCHEDULES, schedule_id, self._gone)
        for run in self._of(schedule_id):
            self._rows.put(RUNS, run.id, self._gone)

    def add_run(self, run: Run) -> bool:
        """See `ScheduleRepository.add_run`."""
        key = (run.schedule_id, run.fire_time)
        self._rows.lock((RUNS, run.id), (RUNS, *key))
        taken = run.state is not RunState.SKIPPED and key in {
            (other.schedule_id, other.fire_time) for other in self._runs().values() if other.state != RunState.SKIPPED
        }
        if taken or self._rows.get(RUNS, run.id) is not None:
            return False
        self._rows.put(RUNS, run.id, run)
        return True

    def save_run(self, run: Run) -> None:
        """See `ScheduleRepository.save_run`."""
        self._rows.lock((RUNS, run.id))
        self._rows.put(RUNS, run.id, run)

    def open_runs(self, schedule_id: str) -> Runs:
        """See `ScheduleRepository.open_runs`."""
        return sorted((run for run in self._of(schedule_id) if run.state in OPEN_RUNS), key=_age)

    def runs(self, schedule_id: str, limit: int = 100) -> Runs:
        """See `ScheduleRepository.runs`."""
        return sorted(self._of(schedule_id), key=_age, reverse=True)[:limit]

    def last_run(self, schedule_id: str) -> Run | None:
        """See `ScheduleRepository.last_run`."""
        ran = [run for run in self._of(schedule_id) if run.state is not RunState.SKIPPED]
        return max(ran, key=_age, default=None)

    def find_run(self, run_id: str) -> Run | None:
        """See `ScheduleRepository.find_run`."""
        found: Run | None = self._rows.get(RUNS, run_id)
        return found

    def ran_at(self, schedule_id: str, first: datetime, last: datetime) -> set[datetime]:
        """See `ScheduleRepository.ran_at`."""
        ran = [run.fire_time for run in self._of(schedule_id) if run.state != RunState.SKIPPED]
        return {moment for moment in ran if first <= moment <= last}

    def prune_runs(self, schedule_id: str, kept: int = KEPT_RUNS) -> None:
        """See `ScheduleRepository.prune_runs`."""
        old = self.runs(schedule_id, limit=len(self._runs()))[kept:]
        for run in old:
            if run.state not in OPEN_RUNS:
                self._rows.put(RUNS, run.id, self._gone)

    def _named(self, name: str) -> Schedule | None:
        return next((schedule for schedule in self._schedules().values() if schedule.name == name), None)

    def _schedules(self) -> Mapping[str, Schedule]:
        return self._rows.table(SCHEDULES)

    def _runs(self) -> Mapping[str, Run]:
        return self._rows.table(RUNS)

    def _of(self, schedule_id: str) -> Runs:
        return [run for run in self._runs().values() if run.schedule_id == schedule_id]


def _age(run: Run) -> tuple[datetime, Any]:
    return run.fire_time, run.id
