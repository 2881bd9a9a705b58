"""What a schedule must say before anything is written down."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import islice, pairwise

from migrator.errors import InvalidRequest
from migrator.models.phase import JobKind
from migrator.models.retention import ForgetRequest
from migrator.models.schedule_values import ScheduleSpec
from migrator.models.values import JobRequest
from migrator.service.requests import NAME, NAME_LIMIT
from migrator.service.retention.selection import check_work
from migrator.service.schedules.kinds import BACKUPS, Scope, scope_of
from migrator.service.schedules.timetable import Fire, Timetable
from migrator.service.selectors import parse_selector

LEAST_EVERY_S = 2
LONGEST_S = 366 * 86400
LEAST_CATCHUP_S = 10
LOOKED_AT = 200
"""Fire times that are looked at for what they have in common."""
MOST_BLACKOUTS = 50


def check_name(name: str) -> None:
    """Refuse what cannot be a schedule's name.

    Raises:
        InvalidRequest: `bad_name`.
    """
    if len(name) > NAME_LIMIT or not NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name[:100]!r} cannot be the name of a schedule",
            code="bad_name",
            remedy=f"use up to {NAME_LIMIT} letters and digits, with single dots, dashes or underscores between them",
        )


def check_spec(spec: ScheduleSpec, now: datetime, timetable: Callable[[], Timetable]) -> None:
    """Refuse a schedule that makes no sense.

    Args:
        spec: What is wanted.
        now: The clock.
        timetable: Makes its fire times; refuses expressions, zones and windows that it cannot read.

    Raises:
        InvalidRequest: See each check.
    """
    _check_trigger(spec)
    _check_numbers(spec)
    _check_target(spec)
    _check_policy(spec)
    table = timetable()
    _check_bounds(spec, now)
    fires = list(islice(table.after(now), LOOKED_AT))
    _check_fires(spec, table, fires)


def _check_trigger(spec: ScheduleSpec) -> None:
    trigger = spec.trigger
    if sum(given is not None for given in (trigger.cron, trigger.every_s, trigger.at)) != 1:
        raise InvalidRequest(
            "a schedule needs one trigger", code="bad_trigger", remedy="give a cron expression, an interval, or a time"
        )
    if trigger.every_s is not None and not LEAST_EVERY_S <= trigger.every_s <= LONGEST_S:
        raise InvalidRequest(
            f"an interval of {trigger.every_s} s is too {'short' if trigger.every_s < LEAST_EVERY_S else 'long'}",
            code="bad_interval",
            remedy=f"give {LEAST_EVERY_S} s to {LONGEST_S // 86400} days",
        )


def _check_numbers(spec: ScheduleSpec) -> None:
    if not LEAST_CATCHUP_S <= spec.catchup_s <= LONGEST_S:
        raise InvalidRequest(
            f"a catch-up window of {spec.catchup_s} s is of no use: a controller may take some seconds to start",
            code="bad_catchup",
            remedy=f"give {LEAST_CATCHUP_S} s to {LONGEST_S // 86400} days",
        )
    if not 0 <= spec.jitter_s <= LONGEST_S:
        raise InvalidRequest(f"{spec.jitter_s} s is no jitter", code="bad_jitter", remedy="give a number of seconds")
    if spec.pause_after < 0:
        raise InvalidRequest(
            f"{spec.pause_after} is no number of failures", code="bad_pause_after", remedy="give 0 for never, or more"
        )
    if len(spec.blackouts) > MOST_BLACKOUTS:
        raise InvalidRequest(
            f"{len(spec.blackouts)} blackouts are too many", code="bad_blackout", remedy=f"give up to {MOST_BLACKOUTS}"
        )


def _check_target(spec: ScheduleSpec) -> None:
    target, scope = spec.target, scope_of(spec.job.kind)
    one = target.container is not None or target.workload_id is not None
    selects = bool(target.selector) or (target.host is not None and target.container is None)
    if scope in (Scope.CONTAINERS, Scope.CHECKPOINTS) and one == selects:
        raise _bad_target(spec, "one container, a selector, or all on a host")
    if scope is Scope.CHECKPOINTS and spec.job.target_host is None:
        raise InvalidRequest(
            f"a {spec.job.kind} needs a host to happen on", code="incomplete_request", remedy="name it by --to HOST"
        )
    if scope is Scope.HOST and (target.host is None or one or target.selector):
        raise _bad_target(spec, "one host")
    if scope is Scope.ONE and (target.host or one or target.selector):
        raise _bad_target(spec, "no target: its own options say what it is about")
    if spec.job.drain is not None and spec.job.drain.plan_id is not None:
        raise InvalidRequest(
            "a plan is for one drain, and a schedule makes many", code="contradictory_request", remedy="leave it out"
        )
    parse_selector(target.selector)


def _bad_target(spec: ScheduleSpec, wanted: str) -> InvalidRequest:
    return InvalidRequest(
        f"a schedule of kind {spec.job.kind} takes {wanted}",
        code="bad_target",
        remedy="name HOST/CONTAINER or a workload's id, or select with -l SELECTOR or --all-on HOST",
    )


def _check_policy(spec: ScheduleSpec) -> None:
    if spec.keep is None:
        return
    if spec.job.kind not in BACKUPS:
        raise InvalidRequest(
            f"a {spec.job.kind} makes nothing that could be thinned out",
            code="contradictory_request",
            remedy="leave the rules for keeping out, or schedule a forget",
        )
    check_work(JobRequest(JobKind.FORGET, forget=ForgetRequest(everything=True, policy=spec.keep)))


def _check_bounds(spec: ScheduleSpec, now: datetime) -> None:
    if spec.start is not None and spec.end is not None and spec.end <= spec.start:
        raise InvalidRequest(
            f"it would end ({spec.end.isoformat()}) before it starts ({spec.start.isoformat()})",
            code="end_before_start",
            remedy="give an end after the start",
        )
    for what, moment in (("time", spec.trigger.at), ("end", spec.end)):
        if moment is not None and moment <= now:
            raise InvalidRequest(
                f"its {what} ({moment.isoformat()}) lies in the past",
                code="in_the_past",
                remedy=f"it is {now.isoformat(timespec='seconds')} now; give a later {what}",
            )


def _check_fires(spec: ScheduleSpec, timetable: Timetable, fires: list[Fire]) -> None:
    if not fires:
        raise InvalidRequest(
            "it would never fire: there is no fire time between its start and its end",
            code="never_fires",
            remedy="widen start and end, or change the trigger",
        )
    shortest = min((b.time - a.time for a, b in pairwise(fires)), default=None)
    if shortest is not None and timedelta(seconds=spec.jitter_s) >= shortest:
        raise InvalidRequest(
            f"a jitter of {spec.jitter_s} s is longer than the shortest interval between two fire times "
            f"({shortest.total_seconds():.0f} s)",
            code="bad_jitter",
            remedy="give less jitter",
        )
    if all(timetable.blacked_out(fire.due) for fire in fires):
        raise InvalidRequest(
            f"its next {len(fires)} fire times all lie in blackouts" if len(fires) > 1 else "it lies in a blackout",
            code="never_fires",
            remedy="narrow the blackouts, or change the trigger",
        )
