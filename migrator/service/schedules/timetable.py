"""All fire times of a schedule. Pure: the same question has the same answer on every controller."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from migrator.models.schedule_values import Schedule, ScheduleSpec
from migrator.service.schedules.blackouts import Blackout
from migrator.service.schedules.cron import Cron
from migrator.service.schedules.zones import find_zone

INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Fire:
    """One fire time."""

    time: datetime
    """What the trigger says; the identity of the firing."""
    due: datetime
    """The same with the jitter."""


class Timetable:
    """The fire times of a schedule.

    Args:
        schedule_id: Decides the jitter.
        spec: Trigger, zone, start, end, jitter, blackouts.
        anchor: What an interval without a start is counted from.
    """

    def __init__(self, schedule_id: str, spec: ScheduleSpec, anchor: datetime):
        self._id = schedule_id
        self._spec = spec
        self._anchor = spec.start or anchor
        self._zone = find_zone(spec.time_zone)
        self._cron = Cron(spec.trigger.cron) if spec.trigger.cron is not None else None
        self._blackouts = tuple(Blackout(text) for text in spec.blackouts)

    def next_after(self, moment: datetime) -> Fire | None:
        """Return the first firing after a moment, None if there is none any more."""
        if self._spec.start is not None and moment < self._spec.start:
            moment = self._spec.start - INSTANT
        time = self._next_time(moment)
        if time is None or (self._spec.end is not None and time > self._spec.end):
            return None
        return Fire(time, time + self._delay(time))

    def after(self, moment: datetime) -> Iterator[Fire]:
        """Go through all firings after a moment."""
        fire = self.next_after(moment)
        while fire is not None:
            yield fire
            fire = self.next_after(fire.time)

    def blacked_out(self, moment: datetime) -> str | None:
        """Return the blackout in which nothing may begin at this moment."""
        return next((window.text for window in self._blackouts if window.covers(moment, self._zone)), None)

    def count(self, first: datetime, last: datetime, limit: int) -> int:
        """Count the fire times after `first`, up to `last`; `limit` when there are as many or more."""
        every = self._spec.trigger.every_s
        last = min(last, self._spec.end or last)
        if every is not None:
            first, length = max(first, self._anchor - INSTANT), timedelta(seconds=every)
            return min(max((last - self._anchor) // length - (first - self._anchor) // length, 0), limit)
        found = 0
        for fire in self.after(first):
            if fire.time > last or found >= limit:
                break
            found += 1
        return found

    def _next_time(self, moment: datetime) -> datetime | None:
        trigger = self._spec.trigger
        if self._cron is not None:
            return self._cron.next_after(moment, self._zone)
        if trigger.every_s is not None:
            length = timedelta(seconds=trigger.every_s)
            return self._anchor + length * ((moment - self._anchor) // length + 1)
        return trigger.at if trigger.at is not None and trigger.at > moment else None

    def _delay(self, time: datetime) -> timedelta:
        if not self._spec.jitter_s:
            return timedelta()
        sign = hashlib.sha256(f"{self._id} {time.isoformat()}".encode()).digest()
        return timedelta(milliseconds=int.from_bytes(sign[:8]) % (self._spec.jitter_s * 1000))


def timetable_of(schedule: Schedule) -> Timetable:
    """The fire times of a schedule as it stands."""
    return Timetable(schedule.id, schedule.spec, schedule.anchor)
