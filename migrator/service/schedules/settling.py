"""What becomes of the fire times that have come: run, or left out for a reason. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from migrator.models.schedule_values import Schedule
from migrator.service.schedules.timetable import Fire, Timetable

AT_ONCE = 1000
"""Fire times that are settled in one go; the rest follows with the next tick."""
COUNTED = 100_000
"""So many missed fire times are counted; more are told as so many."""
LOOK_AGAIN = timedelta(days=1)
"""A schedule is looked at once a day at least: the rules of its time zone may have changed."""
MISSED = "missed: the controller was away for longer than the catch-up window"
FINE = timedelta(microseconds=1)


@dataclass(slots=True)
class Skip:
    """Fire times in a row that are left out for one reason."""

    reason: str
    first: Fire
    last: datetime
    count: int = 1


@dataclass(slots=True)
class Settled:
    """What is to be done, and how far the schedule has come then."""

    cursor: datetime
    look_at: datetime | None
    fires: list[Fire] = field(default_factory=list)
    skips: list[Skip] = field(default_factory=list)

    def leave_out(self, fire: Fire, reason: str) -> None:
        """Note a fire time that is left out, together with those before it that were so for the same reason."""
        note(self.skips, fire, reason)


def note(skips: list[Skip], fire: Fire, reason: str) -> None:
    """Add a fire time to those that were left out."""
    if skips and skips[-1].reason == reason:
        skips[-1].last, skips[-1].count = fire.time, skips[-1].count + 1
    else:
        skips.append(Skip(reason, fire, fire.time))


def settle(schedule: Schedule, timetable: Timetable, now: datetime) -> Settled:
    """Say what becomes of every fire time that is due by now and not settled yet."""
    found = Settled(schedule.cursor, None)
    horizon = now - timedelta(seconds=schedule.spec.catchup_s)
    _leave_out_missed(found, timetable, horizon - timedelta(seconds=schedule.spec.jitter_s))
    for number, fire in enumerate(timetable.after(found.cursor)):
        if fire.due > now or number == AT_ONCE:
            found.look_at = min(fire.due, now + LOOK_AGAIN)
            break
        found.cursor = fire.time
        window = timetable.blacked_out(fire.due) or timetable.blacked_out(now)
        if fire.due < horizon:
            found.leave_out(fire, MISSED)
        elif window:
            found.leave_out(fire, f"blackout {window}")
        else:
            found.fires.append(fire)
    return found


def _leave_out_missed(found: Settled, timetable: Timetable, horizon: datetime) -> None:
    """Pass over the fire times that nobody will run any more, without going through each of them."""
    first = timetable.next_after(found.cursor)
    if first is None or first.time > horizon:
        return
    count = timetable.count(found.cursor, horizon - FINE, COUNTED)
    if count:
        found.skips.append(Skip(MISSED, first, horizon - FINE, count))
        found.cursor = horizon - FINE
