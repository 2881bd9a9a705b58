"""What a policy keeps, against a plain model that counts out every rule by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from migrator.errors import InvalidRequest
from migrator.models.retention import RULES, RetentionPolicy, Within, check_policy, parse_within
from migrator.models.values import Checkpoint
from migrator.service.retention.policy import NO_RULE, judge

NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin", "America/St_Johns", "Pacific/Apia")


def taken(at: datetime, name: str = "c", workload: str = "w", **more: object) -> Checkpoint:
    base = Checkpoint(name, workload, None, "alpha", "default", "web", "i", "sha256:0", 1, at)
    return Checkpoint(**({field: getattr(base, field) for field in base.__slots__} | more))


def ago(*hours: float) -> list[Checkpoint]:
    return [taken(NOON - timedelta(hours=back), f"c{number}") for number, back in enumerate(hours)]


def kept(checkpoints: list[Checkpoint], **rules: object) -> set[str]:
    return {j.checkpoint.id for j in judge(checkpoints, RetentionPolicy(**rules)) if j.keep}  # type: ignore[arg-type]


def reasons(checkpoints: list[Checkpoint], **rules: object) -> dict[str, tuple[str, ...]]:
    return {j.checkpoint.id: j.reasons for j in judge(checkpoints, RetentionPolicy(**rules))}  # type: ignore[arg-type]


# ---- a plain model


def period(rule: str, at: datetime, zone: str) -> object:
    local = at.astimezone(ZoneInfo(zone))
    monday = local.date() - timedelta(days=local.weekday())
    return {
        "last": at,
        "hourly": (local.date(), local.hour, local.utcoffset()),
        "daily": local.date(),
        "weekly": monday,
        "monthly": (local.year, local.month),
        "yearly": local.year,
    }[rule]


def plainly_kept(group: list[Checkpoint], policy: RetentionPolicy) -> set[str]:
    """Rule by rule: the newest of each period, as many periods as wanted, and the oldest of all if there are fewer."""
    ordered = sorted(group, key=lambda c: (c.created_at, c.id), reverse=True)
    sound = [c for c in ordered if not c.damage]
    found = {c.id for c in group if c.pinned_at or c.damage}
    for rule in RULES:
        newest: dict[object, str] = {}
        for c in sound:
            key = (c.created_at, c.id) if rule == "last" else period(rule, c.created_at, policy.time_zone)
            newest.setdefault(key, c.id)
        wanted = getattr(policy, rule)
        chosen = [*newest.values()] if wanted < 0 else [*newest.values()][:wanted]
        if sound and wanted and (wanted < 0 or len(chosen) < wanted):
            chosen.append(sound[-1].id)
        found |= set(chosen)
    if policy.within and sound:
        days = int(policy.within.rstrip("d"))
        begin = sound[0].created_at.astimezone(ZoneInfo(policy.time_zone)) - timedelta(days=days)  # by the calendar
        found |= {c.id for c in sound if c.created_at > begin}
    for c in sound:
        if len(found & {c.id for c in sound}) < policy.minimum:
            found.add(c.id)
    return found


moments = st.integers(0, 4 * 366 * 24 * 60).map(lambda minutes: NOON - timedelta(minutes=minutes))
few = st.integers(-1, 4)


@st.composite
def groups(draw: st.DrawFn) -> list[Checkpoint]:
    found = []
    for number, at in enumerate(draw(st.lists(moments, max_size=25))):
        pinned_at = NOON if draw(st.integers(0, 9)) == 0 else None
        damage = "a blob is gone" if draw(st.integers(0, 9)) == 0 else ""
        found.append(taken(at, f"c{number}", pinned_at=pinned_at, damage=damage))
    return found


policies = st.builds(
    RetentionPolicy,
    last=few,
    hourly=few,
    daily=few,
    weekly=few,
    monthly=few,
    yearly=few,
    within=st.sampled_from(["", "1d", "10d", "400d"]),
    minimum=st.integers(0, 5),
    time_zone=st.sampled_from(ZONES),
)


def test_a_day_is_one_of_the_calendar_also_when_it_has_23_hours() -> None:
    newest, before = taken(NOON, "newest"), taken(NOON - timedelta(hours=23), "before")  # clocks are put that night
    kept = [
        j.checkpoint.id
        for j in judge([newest, before], RetentionPolicy(within="1d", time_zone="Europe/Berlin"))
        if j.keep
    ]
    assert kept == ["newest"]


@settings(deadline=None, max_examples=300)
@given(groups(), policies)
def test_it_keeps_what_the_plain_model_keeps(group: list[Checkpoint], policy: RetentionPolicy) -> None:
    judged = judge(group, policy)
    assert sorted(j.checkpoint.id for j in judged) == sorted(c.id for c in group)
    assert {j.checkpoint.id for j in judged if j.keep} == plainly_kept(group, policy)
    assert all((j.reasons == (NO_RULE,)) is not j.keep for j in judged)


@settings(deadline=None, max_examples=100)
@given(groups(), groups(), policies)
def test_workloads_do_not_take_each_others_place(
    one: list[Checkpoint], two: list[Checkpoint], policy: RetentionPolicy
) -> None:
    others = [taken(c.created_at, f"x{c.id}", "x", damage=c.damage, pinned_at=c.pinned_at) for c in two]
    together = {j.checkpoint.id for j in judge([*one, *others], policy) if j.keep}
    assert together == plainly_kept(one, policy) | plainly_kept(others, policy)


@settings(deadline=None, max_examples=100)
@given(groups(), policies)
def test_what_is_kept_is_kept_again(group: list[Checkpoint], policy: RetentionPolicy) -> None:
    """Nothing new came: a second run removes nothing more, but for `within`-less oldest ones that moved up."""
    first = [j.checkpoint for j in judge(group, policy) if j.keep]
    again = {j.checkpoint.id for j in judge(first, policy) if j.keep}
    assert again == {c.id for c in first}


# ---- by hand


def test_every_reason_is_told() -> None:
    found = reasons(ago(0, 1, 30), last=1, daily=2, within="1d")
    assert found == {
        "c0": ("last", "daily", "within 1d"),
        "c1": ("within 1d",),
        "c2": ("daily",),
    }


def test_the_oldest_stands_for_days_that_are_not_there_yet() -> None:
    assert reasons(ago(0, 1, 2), daily=7) == {"c0": ("daily",), "c1": (NO_RULE,), "c2": ("oldest daily",)}
    assert kept(ago(0, 1, 2), daily=1) == {"c0"}


def test_days_begin_where_the_zone_says() -> None:
    midnight = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)
    pair = [taken(midnight, "before"), taken(midnight + timedelta(hours=1), "after")]
    assert kept(pair, daily=1) == {"after"}
    assert reasons(pair, daily=2)["before"] == ("oldest daily",)
    assert reasons(pair, daily=2, time_zone="Europe/Berlin")["before"] == ("daily",)


def test_the_hour_that_comes_twice_is_two_hours() -> None:
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in Berlin, and an hour later again
    pair = [
        taken(first, "summer"),
        taken(first + timedelta(hours=1), "winter"),
        taken(first - timedelta(days=9), "old"),
    ]
    assert kept(pair, hourly=2, time_zone="Europe/Berlin") == {"summer", "winter"}


def test_pinned_and_used_ones_stay() -> None:
    pinned = taken(NOON - timedelta(days=900), "p", pinned_at=NOON, pin_reason="before the upgrade")
    judged = judge([*ago(0, 1), pinned], RetentionPolicy(last=1), {"c1": "res-1"})
    assert {j.checkpoint.id: j.reasons for j in judged} == {
        "c0": ("last",),
        "c1": ("in use by job res-1",),
        "p": ("pinned: before the upgrade",),
    }


def test_a_damaged_one_takes_no_good_ones_place() -> None:
    bad = taken(NOON + timedelta(hours=1), "bad", damage="a blob is gone")
    assert reasons([bad, *ago(0, 1)], last=1) == {
        "bad": ("damaged: remove it by hand",),
        "c0": ("last",),
        "c1": (NO_RULE,),
    }


def test_a_minimum_keeps_the_newest() -> None:
    assert kept(ago(0, 1, 2, 3), last=1, minimum=3) == {"c0", "c1", "c2"}
    assert kept(ago(0, 1), minimum=3) == {"c0", "c1"}


@pytest.mark.parametrize(
    ("text", "begin"),
    [
        ("36h", "2026-03-28 00:00"),
        ("14d", "2026-03-15 12:00"),
        ("2w", "2026-03-15 12:00"),
        ("1m", "2026-02-28 12:00"),
        ("1y1m1d", "2025-02-27 12:00"),
        ("9999y", "0001-01-29 12:00"),
    ],
)
def test_durations_follow_the_calendar(text: str, begin: str) -> None:
    within = parse_within(text)
    assert within is not None
    assert within.before(NOON) == datetime.fromisoformat(begin).replace(tzinfo=UTC)


def test_a_duration_never_leaves_the_calendar() -> None:
    assert Within(9999, 9999, 99999, 999999, 9999999).before(NOON).year == 1


@pytest.mark.parametrize("text", ["14", "d", "0d", "-1d", "1d1y", "14 d", "1.5d", "tomorrow", "99999999999h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_within(text)
    assert refused.value.code == "bad_duration"


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        (RetentionPolicy(last=-2), "bad_retention"),
        (RetentionPolicy(minimum=-1), "bad_retention"),
        (RetentionPolicy(daily=10**9), "bad_retention"),
        (RetentionPolicy(within="soon"), "bad_duration"),
        (RetentionPolicy(time_zone="Mars/Olympus"), "bad_time_zone"),
        (RetentionPolicy(time_zone="../../etc/passwd"), "bad_time_zone"),
    ],
)
def test_impossible_policies_are_refused(policy: RetentionPolicy, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_policy(policy)
    assert refused.value.code == code
