"""Moments as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from migrator.errors import InvalidRequest
from migrator.service.schedules.zones import exists, moment_of


def read_moment(text: str, zone: ZoneInfo) -> datetime:
    """Read a date and time; without an offset from UTC it is what the zone's clocks show, the first time if twice.

    Raises:
        InvalidRequest: `bad_moment`, or `no_such_time` when the clocks jump over it.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
        there = exists(moment, zone)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"{text[:60]!r} is no date and time",
            code="bad_moment",
            remedy="write '2026-12-24 03:00', or '2026-12-24T03:00+01:00'",
        ) from error
    if not there:
        raise InvalidRequest(
            f"{text} does not exist in {zone.key}: the clocks jump over it",
            code="no_such_time",
            remedy="name a time before or after, or give the offset from UTC",
        )
    return moment_of(moment, zone)
