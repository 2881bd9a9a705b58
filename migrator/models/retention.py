"""What may be asked of the catalogue as a whole: forget by rules, prune, verify. No I/O here."""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from migrator.errors import InvalidRequest

UNLIMITED = -1
"""As a number to keep: all of them."""
COUNT_LIMIT = 1_000_000
_DURATION = re.compile(r"(?:(\d{1,4})y)?(?:(\d{1,4})m)?(?:(\d{1,5})w)?(?:(\d{1,6})d)?(?:(\d{1,7})h)?")
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,4})?)%")
_PARTS = re.compile(r"(\d{1,6})/(\d{1,6})")
RULES = ("last", "hourly", "daily", "weekly", "monthly", "yearly")


@dataclass(frozen=True, slots=True)
class Within:
    """A duration by the calendar, such as two years, five months and seven days."""

    years: int = 0
    months: int = 0
    weeks: int = 0
    days: int = 0
    hours: int = 0

    def before(self, moment: datetime) -> datetime:
        """The moment that lies so far back; of a month that is too short, its last day."""
        months = moment.year * 12 + moment.month - 1 - self.years * 12 - self.months
        year, month = divmod(max(months, 12), 12)
        day = min(moment.day, monthrange(year, month + 1)[1])
        back = moment.replace(year=year, month=month + 1, day=day)
        try:
            return back - timedelta(weeks=self.weeks, days=self.days, hours=self.hours)
        except OverflowError:
            return datetime.min.replace(tzinfo=moment.tzinfo)


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """Which checkpoints of a workload are kept; a checkpoint that one rule keeps stays.

    A count of 0 is no rule, `UNLIMITED` keeps one of every hour, day, … there is.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: str = ""
    """All that are younger than this, counted from the newest: `14d`, `1y6m`, `36h`."""
    minimum: int = 0
    """So many stay at least, the newest ones, whatever the rules say."""
    time_zone: str = "UTC"
    """Where days, weeks, … begin."""

    def keeps_something(self) -> bool:
        """Whether there is any rule at all."""
        return bool(self.within or self.minimum or any(getattr(self, rule) for rule in RULES))


@dataclass(frozen=True, slots=True)
class ForgetRequest:
    """Which checkpoints are to be forgotten: those named, or those of some workloads that a policy does not keep."""

    workload_id: str | None = None
    host: str | None = None
    container: str | None = None
    everything: bool = False
    """All workloads."""
    checkpoint_ids: tuple[str, ...] = ()
    policy: RetentionPolicy | None = None
    dry_run: bool = False
    force: bool = False
    """Let a policy leave nothing of a workload."""
    prune: bool = False
    """Prune afterwards, with the default grace time."""


GRACE_S = 86400.0
"""How long what no checkpoint needs is left alone: no upload takes so long."""
GRACE_LIMIT_S = 366 * 86400.0


@dataclass(frozen=True, slots=True)
class PruneRequest:
    """How what no checkpoint needs is to be freed."""

    grace_s: float = GRACE_S
    """Between mark and deletion. 0: the next prune deletes what this one marks."""
    dry_run: bool = False


def parse_within(text: str) -> Within | None:
    """Read a duration; None for the empty one.

    Raises:
        InvalidRequest: `bad_duration`.
    """
    if not text:
        return None
    found = _DURATION.fullmatch(text)
    numbers = [int(word or 0) for word in found.groups()] if found else []
    if not any(numbers):
        raise InvalidRequest(
            f"'{text[:50]}' is no duration", code="bad_duration", remedy="write it like 14d, 36h, 2w or 1y6m (months)"
        )
    return Within(*numbers)


def check_policy(policy: RetentionPolicy) -> None:
    """Refuse a policy that makes no sense.

    Raises:
        InvalidRequest: `bad_retention`, `bad_duration` or `bad_time_zone`.
    """
    for rule in (*RULES, "minimum"):
        count = getattr(policy, rule)
        if not (0 if rule == "minimum" else UNLIMITED) <= count <= COUNT_LIMIT:
            raise InvalidRequest(
                f"{count} is no number of {rule} checkpoints to keep",
                code="bad_retention",
                remedy=f"give 0 to {COUNT_LIMIT}" + ("" if rule == "minimum" else f", or {UNLIMITED} for all"),
            )
    parse_within(policy.within)
    read_zone(policy.time_zone)


def read_zone(name: str) -> ZoneInfo:
    """Find a time zone by its name.

    Raises:
        InvalidRequest: `bad_time_zone`.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise InvalidRequest(
            f"'{name[:60]}' is no time zone that this machine knows",
            code="bad_time_zone",
            remedy="use a name such as UTC or Europe/Berlin",
        ) from error


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """How much of the store is to be looked at."""

    read_data: str = ""
    """Which objects are read to their last byte: `all`, `5%`, `2/7` (the second of seven parts), or none."""
    repair: bool = False
    """Mend what can be mended."""
    rebuild: bool = False
    """Only bring checkpoints of the store that the catalogue lacks back into it."""


def parse_share(text: str) -> tuple[float, int, int]:
    """Read which objects are to be read: a share, or number and count of parts.

    Raises:
        InvalidRequest: `bad_subset`.
    """
    if text in ("", "all"):
        return (1.0 if text else 0.0), 0, 0
    percent, parts = _PERCENT.fullmatch(text), _PARTS.fullmatch(text)
    if percent and 0 < float(percent[1]) <= 100:
        return float(percent[1]) / 100, 0, 0
    if parts and 1 <= int(parts[1]) <= int(parts[2]):
        return 0.0, int(parts[1]), int(parts[2])
    raise InvalidRequest(
        f"'{text[:50]}' is no part of the data", code="bad_subset", remedy="write it like 5% or 2/7, or all"
    )


def verify_from(told: dict[str, Any] | None) -> VerifyRequest | None:
    """Read what `dataclasses.asdict` wrote."""
    return None if told is None else VerifyRequest(**told)


def prune_from(told: dict[str, Any] | None) -> PruneRequest | None:
    """Read what `dataclasses.asdict` wrote."""
    return None if told is None else PruneRequest(**told)


def forget_from(told: dict[str, Any] | None) -> ForgetRequest | None:
    """Read what `dataclasses.asdict` wrote."""
    if told is None:
        return None
    policy = told.get("policy")
    words = {
        "checkpoint_ids": tuple(told.get("checkpoint_ids", ())),
        "policy": None if policy is None else RetentionPolicy(**policy),
    }
    known = {field.name for field in fields(ForgetRequest)}
    return ForgetRequest(**({name: value for name, value in told.items() if name in known} | words))
