"""Which checkpoints a policy keeps, and why: restic's rules, workload by workload. No I/O, no clock.

From the newest to the oldest, each rule keeps a checkpoint of an hour (day, week, …) that has none yet, until
its number is used up. A rule with something left keeps the oldest one, too: it is as far back as there is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from migrator.models.retention import UNLIMITED, RetentionPolicy, parse_within, read_zone
from migrator.models.values import Checkpoint

NO_RULE = "no rule keeps it"
Bucket = Callable[[datetime, int], object]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of one checkpoint, and all reasons for it."""

    checkpoint: Checkpoint
    keep: bool
    reasons: tuple[str, ...]


BUCKETS: Mapping[str, Bucket] = {
    "last": lambda _, position: position,
    # The hour that a change of the clock repeats is two hours.
    "hourly": lambda at, _: (at.year, at.month, at.day, at.hour, at.utcoffset()),
    "daily": lambda at, _: (at.year, at.month, at.day),
    "weekly": lambda at, _: at.isocalendar()[:2],
    "monthly": lambda at, _: (at.year, at.month),
    "yearly": lambda at, _: at.year,
}
"""What two checkpoints have in common of which a rule keeps one."""


def judge(
    checkpoints: Iterable[Checkpoint], policy: RetentionPolicy, in_use: Mapping[str, str] | None = None
) -> list[Judgement]:
    """Say of each checkpoint whether it is kept; by workload, the newest first.

    A damaged checkpoint uses up no rule, so that it takes no good one's place, and is left for somebody to look at.

    Args:
        checkpoints: Of one or more workloads, in any order.
        policy: The rules; they are applied to each workload by itself.
        in_use: Checkpoints that jobs work with, and the ids of these.
    """
    in_order = sorted(checkpoints, key=lambda c: (c.workload_id, c.created_at, c.id), reverse=True)
    groups = groupby(in_order, key=lambda c: c.workload_id)
    return [found for _, group in groups for found in _judge_workload(list(group), policy, in_use or {})]


def _judge_workload(group: list[Checkpoint], policy: RetentionPolicy, in_use: Mapping[str, str]) -> list[Judgement]:
    sound = [checkpoint for checkpoint in group if not checkpoint.damage]
    reasons = {checkpoint.id: _own_reasons(checkpoint, in_use) for checkpoint in group}
    for rule in BUCKETS:
        _apply(rule, sound, policy, reasons)
    _apply_within(sound, policy, reasons)
    _apply_minimum(sound, policy, reasons)
    return [Judgement(c, bool(reasons[c.id]), tuple(reasons[c.id]) or (NO_RULE,)) for c in group]


def _own_reasons(checkpoint: Checkpoint, in_use: Mapping[str, str]) -> list[str]:
    """Why it stays whatever the rules say."""
    found = []
    if checkpoint.pinned_at is not None:
        found.append(f"pinned: {checkpoint.pin_reason}" if checkpoint.pin_reason else "pinned")
    if checkpoint.id in in_use:
        found.append(f"in use by job {in_use[checkpoint.id]}")
    if checkpoint.damage:
        found.append("damaged: remove it by hand")
    return found


def _apply(rule: str, group: Sequence[Checkpoint], policy: RetentionPolicy, reasons: dict[str, list[str]]) -> None:
    left, kept, zone = getattr(policy, rule), None, read_zone(policy.time_zone)
    for position, checkpoint in enumerate(group):
        if left == 0:
            return
        bucket = BUCKETS[rule](checkpoint.created_at.astimezone(zone), position)
        if bucket == kept and position < len(group) - 1:
            continue
        reasons[checkpoint.id].append(f"oldest {rule}" if bucket == kept else rule)
        kept = bucket
        left -= left != UNLIMITED


def _apply_within(group: Sequence[Checkpoint], policy: RetentionPolicy, reasons: dict[str, list[str]]) -> None:
    within = parse_within(policy.within)
    if within is None or not group:
        return
    begin = within.before(group[0].created_at.astimezone(read_zone(policy.time_zone)))
    for checkpoint in group:
        if checkpoint.created_at > begin:
            reasons[checkpoint.id].append(f"within {policy.within}")


def _apply_minimum(group: Sequence[Checkpoint], policy: RetentionPolicy, reasons: dict[str, list[str]]) -> None:
    """Keep the newest of those that no rule keeps until there are enough."""
    missing = policy.minimum - sum(bool(reasons[checkpoint.id]) for checkpoint in group)
    for checkpoint in [c for c in group if not reasons[c.id]][: max(missing, 0)]:
        reasons[checkpoint.id].append(f"minimum {policy.minimum}")
