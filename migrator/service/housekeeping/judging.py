"""Whether a leftover may go: what was seen here, held against what the controller said. No I/O."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from migrator.models.housekeeping import Clearance, Fate, Finding
from migrator.models.phase import Phase
from migrator.service.housekeeping.leftovers import Leftover, Need

Opinion = tuple[Fate, str]
FENCED = timedelta(seconds=60)
"""So long after its last rise an epoch may still refuse a command from before: those expire after 30 s."""


def judge(left: Leftover, clearance: Clearance, *, old: timedelta, now: datetime) -> Finding:
    """Say what becomes of a leftover, and why.

    Args:
        left: What was found, just now.
        clearance: What the controller said; things that it did not name are kept.
        old: What has no job must have lain about for so long.
        now: The host's clock.
    """
    opinion = _OPINIONS.get(left.need)
    fate, reason = opinion(left, clearance) if opinion else _by_age(left, old, now)
    if left.need is Need.WORKLOAD_GONE and fate is Fate.DUE and _is_younger(left, FENCED, now):
        fate, reason = Fate.KEPT, f"{reason}, but a command about it may still be on its way"
    return Finding(
        kind=left.kind,
        name=left.name,
        fate=fate,
        reason=f"{left.what}; {reason}",
        namespace=left.namespace,
        job_id=left.job_id,
        since=left.since,
    )


def _job_over(left: Leftover, clearance: Clearance) -> Opinion:
    if left.job_id in clearance.over:
        return Fate.DUE, f"its job is over ({clearance.over[left.job_id]})"
    if left.job_id in clearance.under_way:
        return Fate.KEPT, "its job is under way, waits for an operator, or has only just ended"
    return Fate.KEPT, "the controller knows no such job"


def _taken_back(left: Leftover, clearance: Clearance) -> Opinion:
    fate, reason = _job_over(left, clearance)
    if fate is Fate.DUE and clearance.over[left.job_id] == Phase.SUCCEEDED:
        return Fate.FOREIGN, "its job succeeded, so it belongs to whoever owns the container"
    if fate is Fate.DUE and left.container in clearance.owned:
        return Fate.KEPT, "the container is a workload of this host"
    return fate, reason


def _no_twin(left: Leftover, clearance: Clearance) -> Opinion:
    fate, reason = _taken_back(left, clearance)
    if fate is Fate.DUE:
        return Fate.FAILED, f"{reason}, and yet its task lives: see where else it runs, then end one of the two by hand"
    return fate, reason


def _ours_frozen(left: Leftover, clearance: Clearance) -> Opinion:
    fate, reason = _job_over(left, clearance)
    if fate is not Fate.DUE:
        return fate, reason
    if left.container not in clearance.owned:
        return Fate.FAILED, f"{reason}, and another host owns it: look where it runs, then remove it here"
    if left.container in clearance.held:
        return Fate.KEPT, "another job works on it"
    return Fate.DUE, f"{reason}, and it belongs here: it may run again"


def _workload_gone(left: Leftover, clearance: Clearance) -> Opinion:
    if left.workload_id in clearance.gone:
        return Fate.DUE, "that workload no longer exists"
    return Fate.KEPT, "that workload exists"


def _never(left: Leftover, clearance: Clearance) -> Opinion:
    del left, clearance
    return Fate.FOREIGN, "it stays as it is"


def _nothing(left: Leftover, clearance: Clearance) -> Opinion:
    del left, clearance
    return Fate.DUE, "nobody needs it any more"


def _by_age(left: Leftover, old: timedelta, now: datetime) -> Opinion:
    if left.leased:
        return Fate.KEPT, "a lease holds it"
    if _is_younger(left, old, now):
        return Fate.KEPT, f"it may be in use: it is younger than {old.total_seconds():.0f} s"
    return Fate.DUE, f"older than {old.total_seconds():.0f} s, and no lease holds it"


def _is_younger(left: Leftover, age: timedelta, now: datetime) -> bool:
    return left.since is None or now - left.since < age


_OPINIONS: dict[Need, Callable[[Leftover, Clearance], Opinion]] = {
    Need.JOB_OVER: _job_over,
    Need.TAKEN_BACK: _taken_back,
    Need.NO_TWIN: _no_twin,
    Need.OURS_FROZEN: _ours_frozen,
    Need.WORKLOAD_GONE: _workload_gone,
    Need.NOTHING: _nothing,
    Need.NEVER: _never,
}
