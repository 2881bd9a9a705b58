"""Schedules and their runs: every change is a compare-and-set on the schedule, so that of two controllers one wins."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import delete, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from migrator.errors import AlreadyExists, NotFound, ResourceBusy
from migrator.models.schedule_rows import run_columns, run_from_row, schedule_columns, schedule_from_row
from migrator.models.schedule_values import Run, Schedule
from migrator.models.tables import RUN_NOT_SKIPPED, RUN_OPEN, RunRow, ScheduleRow
from migrator.models.writes import insert_unless_taken, write

Schedules = list[Schedule]
Runs = list[Run]
Names = list[str]
KEPT_RUNS = 1000
"""Ended runs of a schedule that are kept."""


class ScheduleRepository:
    """The schedules of one transaction.

    Write to a schedule (`save`) before you write to its runs: whoever loses there has changed nothing yet.
    """

    def __init__(self, session: Session):
        self._session = session

    def add(self, schedule: Schedule) -> Schedule:
        """Write a new schedule, as version 1.

        Raises:
            AlreadyExists: `schedule_exists`, the name is taken.
        """
        schedule = replace(schedule, version=1)
        if not insert_unless_taken(self._session, ScheduleRow, schedule_columns(schedule)):
            raise schedule_exists(schedule)
        return schedule

    def find(self, name: str) -> Schedule | None:
        """Return a schedule by its name or id."""
        query = select(ScheduleRow).where(or_(ScheduleRow.name == name, ScheduleRow.id == name))
        rows = self._session.scalars(query.execution_options(populate_existing=True)).all()
        named = sorted(rows, key=lambda row: row.name != name)
        return schedule_from_row(named[0]) if named else None

    def get(self, name: str) -> Schedule:
        """Return a schedule by its name or id.

        Raises:
            NotFound: `schedule_not_found`.
        """
        found = self.find(name)
        if found is None:
            raise unknown_schedule(name)
        return found

    def list(self) -> Schedules:
        """List all by name."""
        rows = self._session.scalars(select(ScheduleRow).order_by(ScheduleRow.name))
        return [schedule_from_row(row) for row in rows]

    def wanting(self, now: datetime) -> Names:
        """List the ids of schedules that are due by now or have a run that has not ended."""
        due = select(ScheduleRow.id).where(ScheduleRow.look_at <= now, ScheduleRow.pause.is_(None))
        busy = select(RunRow.schedule_id).where(RUN_OPEN)
        return sorted({*self._session.scalars(due), *self._session.scalars(busy)})

    def save(self, before: Schedule, after: Schedule) -> Schedule:
        """Write a schedule if nobody else wrote to it or to its runs since `before` was read.

        Raises:
            ResourceBusy: `schedule_changed`, somebody else was faster.
            AlreadyExists: `schedule_exists`, the new name is taken.
        """
        after = replace(after, version=before.version + 1)
        here = (ScheduleRow.id == before.id, ScheduleRow.version == before.version)
        try:
            with self._session.begin_nested():
                saved = write(self._session, update(ScheduleRow).where(*here).values(schedule_columns(after)))
        except IntegrityError as error:
            raise schedule_exists(after) from error
        if not saved:
            raise schedule_changed(before)
        return after

    def remove(self, schedule_id: str) -> None:
        """Forget a schedule and its runs; one that is not there is fine."""
        write(self._session, delete(ScheduleRow).where(ScheduleRow.id == schedule_id))

    def add_run(self, run: Run) -> bool:
        """Write down a run; False if one of that fire time has been written down already."""
        return insert_unless_taken(self._session, RunRow, run_columns(run))

    def save_run(self, run: Run) -> None:
        """Write a run as it is now."""
        write(self._session, update(RunRow).where(RunRow.id == run.id).values(run_columns(run)))

    def open_runs(self, schedule_id: str) -> Runs:
        """List the runs that have not ended, oldest first."""
        query = select(RunRow).where(RunRow.schedule_id == schedule_id, RUN_OPEN).order_by(RunRow.fire_time)
        return [run_from_row(row) for row in self._session.scalars(query.execution_options(populate_existing=True))]

    def runs(self, schedule_id: str, limit: int = 100) -> Runs:
        """List the history, newest first."""
        query = select(RunRow).where(RunRow.schedule_id == schedule_id)
        query = query.order_by(RunRow.fire_time.desc(), RunRow.id.desc()).limit(limit)
        return [run_from_row(row) for row in self._session.scalars(query.execution_options(populate_existing=True))]

    def last_run(self, schedule_id: str) -> Run | None:
        """Return the newest run that was not skipped."""
        query = select(RunRow).where(RunRow.schedule_id == schedule_id, RUN_NOT_SKIPPED)
        query = query.order_by(RunRow.fire_time.desc()).limit(1)
        row = self._session.scalars(query.execution_options(populate_existing=True)).first()
        return run_from_row(row) if row else None

    def find_run(self, run_id: str) -> Run | None:
        """Return a run."""
        row = self._session.get(RunRow, run_id, populate_existing=True)
        return run_from_row(row) if row else None

    def ran_at(self, schedule_id: str, first: datetime, last: datetime) -> set[datetime]:
        """List the fire times from `first` to `last` that have run, run or wait."""
        query = select(RunRow.fire_time).where(
            RunRow.schedule_id == schedule_id, RunRow.state != "skipped", RunRow.fire_time.between(first, last)
        )
        return set(self._session.scalars(query))

    def prune_runs(self, schedule_id: str, kept: int = KEPT_RUNS) -> None:
        """Forget the oldest ended runs beyond so many."""
        mine = select(RunRow.fire_time).where(RunRow.schedule_id == schedule_id).order_by(RunRow.fire_time.desc())
        oldest = self._session.scalar(mine.offset(kept).limit(1))
        if oldest is not None:
            old = (RunRow.schedule_id == schedule_id, RunRow.fire_time <= oldest)
            write(self._session, delete(RunRow).where(*old, ~RUN_OPEN))


def unknown_schedule(name: str) -> NotFound:
    """Say that there is no such schedule."""
    return NotFound(
        f"schedule '{name}' does not exist", code="schedule_not_found", remedy="see `migrator schedules list`"
    )


def schedule_exists(schedule: Schedule) -> AlreadyExists:
    """Say that a name is taken."""
    return AlreadyExists(
        f"schedule '{schedule.name}' exists already",
        code="schedule_exists",
        remedy=f"use another name, or change it: migrator schedules update {schedule.name}",
    )


def schedule_changed(before: Schedule) -> ResourceBusy:
    """Say that somebody else was faster."""
    return ResourceBusy(
        f"schedule '{before.name}' was changed by somebody else just now",
        code="schedule_changed",
        remedy="look at it again, then try again",
    )
