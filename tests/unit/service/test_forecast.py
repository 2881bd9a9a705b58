"""Which way a migration goes, how long it will stand still, and when it is refused before its freeze."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from migrator.errors import PreconditionFailed
from migrator.models.phase import JobKind, Phase
from migrator.models.values import Facts, Job, JobRequest, Mode, StepStatus
from migrator.service.plans import steps_for
from migrator.service.preflight.forecast import FORECAST, LAZY_REFUSED, WORTH_MS, check_limit, model_ms, predict

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GIB = 1 << 30


def migration(
    size_bytes: int,
    *,
    mode: Mode = Mode.AUTO,
    limit_s: float | None = None,
    rounds: tuple[int, int] | None = None,
    apart_s: float = 10.0,
    **facts: object,
) -> Job:
    """A migration before its freeze; `rounds` is what each of the two has sent."""
    request = JobRequest(
        JobKind.MIGRATION,
        source_host="alpha",
        container="web",
        target_host="beta",
        mode=mode,
        max_downtime_s=limit_s,
    )
    begins = {"precopy": NOW, "precopy-again": NOW + timedelta(seconds=apart_s)}
    told: dict[str, Facts] = {"inspect-source": {"estimate_bytes": size_bytes, "memory_bytes": size_bytes, **facts}}
    if rounds:
        told |= {"precopy": {"sent_ahead_bytes": rounds[0]}, "precopy-again": {"sent_ahead_bytes": sum(rounds)}}
    steps = [
        replace(
            step,
            status=StepStatus.DONE,
            started_at=begins.get(step.name, NOW + timedelta(seconds=apart_s)),
            finished_at=begins.get(step.name, NOW + timedelta(seconds=apart_s)) + timedelta(seconds=1),
            duration_s=8.0,
            facts=told.get(step.name, {}),
        )
        for step in steps_for(request)
    ]
    return Job("mig-1", request, Phase.COPYING, 1, NOW, NOW, steps=tuple(steps))


def frozen(job: Job, freeze_ms: float, how: str) -> Job:
    """The job when it was over: how long it really stood still, and how it was restored."""
    told = predict(job, []).to_facts() | {"mode": how}
    ends = {"freeze": NOW, "restore": NOW + timedelta(milliseconds=freeze_ms)}
    facts = {"predict": {FORECAST: told}, "restore": {"restored": how}}
    steps = tuple(
        replace(
            step, finished_at=ends.get(step.name, step.finished_at), facts={**step.facts, **facts.get(step.name, {})}
        )
        for step in job.steps
    )
    return replace(job, steps=steps)


def test_a_large_memory_comes_lazily_and_a_small_one_at_once() -> None:
    large, small = predict(migration(2 * GIB), []), predict(migration(64 << 20), [])
    assert (large.mode, small.mode) == ("lazy", "eager")
    assert large.other_ms - large.freeze_ms >= WORTH_MS > small.freeze_ms - small.other_ms
    assert f"{large.freeze_ms:.0f} ms" in large.why


@pytest.mark.parametrize("mode", [Mode.EAGER, Mode.LAZY])
def test_who_asks_for_a_way_gets_it(mode: Mode) -> None:
    told = predict(migration(2 * GIB, mode=mode), [])
    assert (told.mode, told.why) == (mode, "it was asked for")


@pytest.mark.parametrize("mode", [Mode.AUTO, Mode.LAZY])
def test_a_target_that_cannot_is_no_reason_to_fail(mode: Mode) -> None:
    told = predict(migration(2 * GIB, mode=mode, **{LAZY_REFUSED: "no userfaultfd"}), [])
    assert told.mode == "eager"
    assert told.why.endswith("no userfaultfd")


def test_what_was_measured_before_the_freeze_counts() -> None:
    idle = predict(migration(GIB, rounds=(800 << 20, 0)), [])
    busy = predict(migration(GIB, rounds=(800 << 20, 500 << 20)), [])
    assert idle.change_bytes_s == 0
    assert busy.change_bytes_s == pytest.approx(50 << 20)
    assert idle.store_bytes_s == pytest.approx(100 << 20)
    assert idle.moving_bytes == 0
    assert busy.moving_bytes == pytest.approx(75 << 20), "a second until all of it was there, and half of one"
    assert busy.freeze_ms - idle.freeze_ms == pytest.approx(2 * 75 / 100 * 1000, rel=0.01)


def test_a_round_that_was_not_worth_it_tells_that_all_will_move() -> None:
    job = migration(GIB, rounds=(800 << 20, 0))
    steps = [replace(step, facts={"ahead": ["a", "a"]}) if step.name == "precopy-again" else step for step in job.steps]
    told = predict(replace(job, steps=tuple(steps)), [])
    assert told.moving_bytes == GIB
    assert told.store_bytes_s == pytest.approx(100 << 20)


def test_nothing_changes_more_than_there_is() -> None:
    told = predict(migration(64 << 20, rounds=(64 << 20, 64 << 20), apart_s=0.1), [])
    assert told.moving_bytes == 64 << 20


def test_each_way_is_corrected_by_what_it_really_took() -> None:
    job = migration(GIB, mode=Mode.LAZY)
    lazy_ms = predict(job, []).freeze_ms
    past = [frozen(job, factor * lazy_ms, "lazy") for factor in (0.5, 0.5, 3.0)]
    past.append(frozen(migration(GIB, mode=Mode.EAGER), 2 * model_ms(GIB), "eager"))
    told = predict(migration(GIB), past)
    assert told.freeze_ms == pytest.approx(0.5 * lazy_ms, rel=0.01)
    assert told.other_ms == pytest.approx(2 * model_ms(GIB), rel=0.01)
    assert told.basis == "the last 3 migrations of this fleet"


def test_a_limit_chooses_what_is_within_it() -> None:
    free = predict(migration(2 * GIB), [])
    eager_ms, lazy_ms = free.other_ms, free.freeze_ms
    assert predict(migration(2 * GIB, limit_s=eager_ms / 1000 + 1), []).mode == "eager"
    assert predict(migration(2 * GIB, limit_s=(eager_ms + lazy_ms) / 2000), []).mode == "lazy"


def test_a_freeze_over_the_limit_is_refused_with_what_can_be_done() -> None:
    job = migration(2 * GIB, limit_s=0.5)
    prediction = predict(job, [])
    with pytest.raises(PreconditionFailed) as caught:
        check_limit(job.request, prediction)
    assert caught.value.code == "freeze_too_long"
    assert f"{prediction.freeze_ms:.0f} ms" in caught.value.message
    assert "500 ms" in caught.value.message
    assert "--force" in caught.value.remedy
    assert "--lazy" not in caught.value.remedy, "it would not help"
    check_limit(replace(job.request, force=True), prediction)
    check_limit(replace(job.request, max_downtime_s=60.0), prediction)


def test_who_insists_on_eager_is_told_of_lazy() -> None:
    limit_s = (model_ms(2 * GIB) + model_ms(2 * GIB, Mode.LAZY)) / 2000
    job = migration(2 * GIB, mode=Mode.EAGER, limit_s=limit_s)
    with pytest.raises(PreconditionFailed) as caught:
        check_limit(job.request, predict(job, []))
    assert "--lazy" in caught.value.remedy
