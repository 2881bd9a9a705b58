"""Windows in which nothing may begin, by the clock on the wall."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from migrator.errors import InvalidRequest
from migrator.service.schedules.zones import wall_at

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = timedelta(days=1)
MIDNIGHT = 24 * 60
_DAILY = re.compile(r"(?:(?P<days>[A-Za-z]{3}(?:[-,][A-Za-z]{3})*) +)?(?P<first>\d{1,2}:\d\d)-(?P<last>\d{1,2}:\d\d)")
_DATES = re.compile(r"(?P<first>\d{4}-\d\d-\d\d)(?:\.\.(?P<last>\d{4}-\d\d-\d\d))?")


class Blackout:
    """One window.

    Args:
        text: `22:00-06:00`, `Mon-Fri 08:00-18:00`, `Sat,Sun 00:00-24:00`, `2026-12-24..2026-12-26`. The begin is in the
            window and the end is not; days are those of its begin. Dates are whole days, both in the window.

    Raises:
        InvalidRequest: `bad_blackout`.
    """

    def __init__(self, text: str):
        self.text = text
        daily, dates = _DAILY.fullmatch(text.strip()), _DATES.fullmatch(text.strip())
        self._dates: tuple[date, date] | None = None
        self._days: frozenset[int] = frozenset(range(7))
        self._minutes = (0, MIDNIGHT)
        try:
            if dates:
                first = date.fromisoformat(dates["first"])
                self._dates = first, date.fromisoformat(dates["last"] or dates["first"])
            elif daily:
                self._days = _read_days(daily["days"]) if daily["days"] else self._days
                self._minutes = _read_time(daily["first"]), _read_time(daily["last"])
        except ValueError as error:
            raise _bad(text) from error
        backwards = self._dates is not None and self._dates[0] > self._dates[1]
        if not (daily or dates) or backwards or self._minutes[0] in (self._minutes[1], MIDNIGHT):
            raise _bad(text)

    def covers(self, moment: datetime, zone: ZoneInfo) -> bool:
        """Whether a moment lies in the window."""
        wall = wall_at(moment, zone)
        if self._dates is not None:
            return self._dates[0] <= wall.date() <= self._dates[1]
        first, last = self._minutes
        minute, today = wall.hour * 60 + wall.minute, wall.weekday() in self._days
        if first < last:
            return today and first <= minute < last
        yesterday = (wall - DAY).weekday() in self._days
        return (today and minute >= first) or (yesterday and minute < last)


def _read_days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        ends = [DAYS.index(day) for day in part.split("-")]
        if len(ends) > 2:
            raise ValueError(part)
        length = (ends[-1] - ends[0]) % 7
        found |= {(ends[0] + step) % 7 for step in range(length + 1)}
    return frozenset(found)


def _read_time(text: str) -> int:
    hour, minute = (int(part) for part in text.split(":"))
    if minute > 59 or hour * 60 + minute > MIDNIGHT:
        raise ValueError(text)
    return hour * 60 + minute


def _bad(text: str) -> InvalidRequest:
    return InvalidRequest(
        f"{text[:100]!r} is no window of time",
        code="bad_blackout",
        remedy="write '22:00-06:00', 'Mon-Fri 08:00-18:00', 'Sat,Sun 00:00-24:00' or '2026-12-24..2026-12-26'",
    )
