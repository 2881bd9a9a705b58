"""The naive model: go through every minute of UTC, look at the clock on the wall, and ask whether the expression names it."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))


def read_field(text: str, first: int, last: int) -> set[int]:
    found: set[int] = set()
    for term in text.split(","):
        span, _, step = term.partition("/")
        low, _, high = span.partition("-")
        ends = (first, last) if span == "*" else (int(low), int(high or (last if step else low)))
        found |= set(range(ends[0], ends[1] + 1, int(step or 1)))
    return found


class Naive:
    """An expression of numbers, ranges, lists and steps."""

    def __init__(self, expression: str):
        self.fields = expression.split()
        self.sets = [read_field(text, *ends) for text, ends in zip(self.fields, RANGES, strict=True)]
        self.either = not (self.fields[2].startswith("*") or self.fields[4].startswith("*"))
        self.every_hour = self.sets[1] == set(range(24))

    def names_day(self, day: date) -> bool:
        weekday = day.isoweekday()
        of_week = weekday in self.sets[4] or weekday % 7 in self.sets[4]
        of_month = day.day in self.sets[2]
        return day.month in self.sets[3] and (of_week or of_month if self.either else of_week and of_month)

    def names(self, wall: datetime) -> bool:
        return wall.minute in self.sets[0] and wall.hour in self.sets[1] and self.names_day(wall.date())

    def walk(self, first: datetime, last: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        """Every fire time after `first`, up to `last`."""
        moment = first.replace(second=0, microsecond=0)
        before = moment.astimezone(zone).replace(tzinfo=None)
        while moment < last:
            moment += MINUTE
            here = moment.astimezone(zone)
            wall = here.replace(tzinfo=None, fold=0)
            if self._fires(before, wall, second_time=here.fold == 1):
                yield moment
            before = wall

    def _fires(self, before: datetime, wall: datetime, *, second_time: bool) -> bool:
        if self.every_hour:
            return self.names(wall)
        jumped = (wall - before) // MINUTE - 1
        left_out = any(self.names(before + MINUTE * number) for number in range(1, jumped + 1))
        return left_out or (self.names(wall) and not second_time)


def days_in(year: int, month: int) -> int:
    return calendar.monthrange(year, month)[1]


def utc(*numbers: int) -> datetime:
    return datetime(*numbers, tzinfo=UTC)  # type: ignore[misc,arg-type]
