"""Read a moment as people write it: a date and a time, in the zone that they mean."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from migrator.errors import InvalidRequest

HOW = "write it as '2026-11-20 03:00', or with an offset: '2026-11-20T03:00+01:00'"


def read_moment(text: str, zone: str | None) -> datetime:
    """Read a moment.

    Args:
        text: A date, or a date and a time, in ISO 8601; an offset in it needs no zone.
        zone: The zone of a time without an offset; that of this machine if not said.

    Raises:
        InvalidRequest: `bad_time`, it is none, or its clock showed it twice or never; `unknown_zone`.
    """
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidRequest(f"'{text[:100]}' is no time", code="bad_time", remedy=HOW) from error
    known = _zone(zone) if zone else None
    if moment.tzinfo is not None:
        if known is not None:
            raise InvalidRequest(f"'{text}' has a zone already", code="bad_time", remedy="leave --zone out")
        return moment.astimezone(UTC)
    return _in_zone(moment, known, zone or "this machine's zone")


def _in_zone(moment: datetime, zone: tzinfo | None, name: str) -> datetime:
    """Take a wall clock's word, unless the clock was put forward over it or back before it."""
    first, second = (_utc(moment.replace(fold=fold), zone) for fold in (0, 1))
    if first == second:
        return first
    shown = _wall(first, zone) == moment
    raise InvalidRequest(
        f"clocks in {name} showed {moment:%Y-%m-%d %H:%M} {'twice' if shown else 'never'}",
        code="bad_time",
        remedy=f"say it with an offset, such as '{first.isoformat(timespec='minutes')}'",
    )


def _utc(moment: datetime, zone: tzinfo | None) -> datetime:
    return (moment.replace(tzinfo=zone) if zone else moment).astimezone(UTC)


def _wall(moment: datetime, zone: tzinfo | None) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidRequest(
            f"'{name[:100]}' is no time zone", code="unknown_zone", remedy="such as Europe/Berlin or UTC"
        ) from error
