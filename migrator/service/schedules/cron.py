"""Cron expressions with a time zone. cronsim knows the calendar; what clocks do to it is decided here.

An expression that runs in every hour of the day goes by elapsed time: a day of 25 hours has one more hour of runs, one
of 23 hours one less. Any other names times of the day. A time that occurs twice fires once, the first time; a time that
the clock jumps over fires at the end of the jump, together with all that the same jump left out. (cronsim's own way
takes `*/30 2` for elapsed time, and loses times where clocks move by half an hour.)
"""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from migrator.errors import InvalidRequest
from migrator.service.schedules.zones import SECOND, change_between, moment_of, offset_at, wall_at

NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS = 5
EXPRESSION_LIMIT = 200
HOURS = frozenset(range(24))
NEAR = timedelta(days=2)
"""So near to a moment its clock is put at most once, and by less."""
SOME_DAY = datetime(2024, 1, 1)


class Cron:
    """One expression.

    Args:
        expression: Minute, hour, day of the month, month, day of the week; or one of `NAMES`.

    Raises:
        InvalidRequest: `bad_cron`, it is malformed or can never be.
    """

    def __init__(self, expression: str):
        if len(expression) > EXPRESSION_LIMIT:
            raise _bad(expression, f"it has more than {EXPRESSION_LIMIT} signs")
        fields = NAMES.get(expression.strip().lower(), expression)
        if len(fields.split()) != FIELDS:
            raise _bad(expression, f"it has {len(fields.split())} fields, not {FIELDS}")
        try:
            self._calendar = CronSim(fields, SOME_DAY)
        except (CronSimError, ValueError, AssertionError, TypeError) as error:
            raise _bad(expression, _reason(fields, error)) from error
        if self._next_wall(SOME_DAY) is None:
            raise _bad(expression, "no such day exists")
        self._every_hour = self._calendar.hours >= HOURS

    def next_after(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """Return the first fire time after a moment; None if there is none for fifty years."""
        moment = moment.replace(microsecond=0)
        try:
            return self._next_elapsed(moment, zone) if self._every_hour else self._next_named(moment, zone)
        except OverflowError:  # the end of the calendar
            return None

    def _next_named(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        wall = self._next_wall(wall_at(moment, zone))
        while wall is not None:
            found = moment_of(wall, zone)
            if found > moment:
                return found
            wall = self._next_wall(wall)  # it was when the clock showed this for the first time
        return None

    def _next_elapsed(self, moment: datetime, zone: ZoneInfo) -> datetime | None:
        """Go from one change of the clock to the next; between them the calendar is all there is."""
        while True:
            wall = self._next_wall(wall_at(moment, zone))
            if wall is None:
                return None
            found = wall.replace(tzinfo=UTC) - offset_at(moment, zone)
            change = change_between(moment, min(found, moment + NEAR), zone)
            if change is None and found - moment <= NEAR:
                return found
            moment = change or found - NEAR
            if change is not None and self._matches(wall_at(change, zone)):
                return change

    def _next_wall(self, wall: datetime) -> datetime | None:
        calendar = copy(self._calendar)
        calendar.dt = wall
        return next(calendar, None)

    def _matches(self, wall: datetime) -> bool:
        return self._next_wall(wall - SECOND) == wall


def _reason(fields: str, error: Exception) -> str:
    words = str(error)
    if words == "Bad day-of-month" and fields.split()[2].isdigit() and 1 <= int(fields.split()[2]) <= 31:
        return f"no month that it names has a day {fields.split()[2]}"
    return words[:1].lower() + words[1:] if isinstance(error, CronSimError) else "it makes no sense"


def _bad(expression: str, reason: str) -> InvalidRequest:
    return InvalidRequest(
        f"cron expression {expression[:100]!r} is of no use: {reason}",
        code="bad_cron",
        remedy="write minute, hour, day of month, month, day of week, such as '30 2 * * *', or @hourly, @daily, …",
    )
