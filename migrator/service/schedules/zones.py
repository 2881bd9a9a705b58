"""Wall clocks and moments: what a clock shows, and when it shows that. No I/O but the tables of time zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from migrator.errors import InvalidRequest

SECOND = timedelta(seconds=1)


def find_zone(name: str) -> ZoneInfo:
    """Return a time zone of the IANA database.

    Raises:
        InvalidRequest: `unknown_zone`.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidRequest(
            f"time zone {name[:60]!r} is unknown",
            code="unknown_zone",
            remedy="name one of the IANA database, such as Europe/Berlin or UTC",
        ) from error


def wall_at(moment: datetime, zone: ZoneInfo) -> datetime:
    """What the clock shows, without a zone, at a moment."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def offset_at(moment: datetime, zone: ZoneInfo) -> timedelta:
    """How far the clock is ahead of UTC at a moment."""
    return moment.astimezone(zone).utcoffset() or timedelta()


def moment_of(wall: datetime, zone: ZoneInfo) -> datetime:
    """When a clock shows this; the first time if it does so twice, and if it never does, when it jumps over it."""
    moment = wall.replace(tzinfo=zone).astimezone(UTC)
    if wall_at(moment, zone) == wall:
        return moment
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)  # by the offset after the jump, so it lies before it
    return change_between(before, moment, zone) or moment


def exists(wall: datetime, zone: ZoneInfo) -> bool:
    """Whether a clock ever shows this."""
    return wall_at(wall.replace(tzinfo=zone).astimezone(UTC), zone) == wall


def change_between(first: datetime, last: datetime, zone: ZoneInfo) -> datetime | None:
    """The first second after `first`, up to `last`, at which the clock is put; None if both have the same offset.

    Clocks are not put twice within the days that callers ask about.
    """
    offset = offset_at(first, zone)
    if offset_at(last, zone) == offset:
        return None
    while last - first > SECOND:
        middle = first + SECOND * ((last - first) // SECOND // 2)
        if offset_at(middle, zone) == offset:
            first = middle
        else:
            last = middle
    return last
