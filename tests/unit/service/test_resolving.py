"""What an operator may decide, and where a job goes from there."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from migrator.errors import InternalError, PreconditionFailed, WorkloadFailed
from migrator.models.phase import JobKind, Phase
from migrator.models.values import Job, Keep, Resolution, StepAction
from migrator.service.control import engine
from migrator.service.control.resolving import resolve
from tests.unit.service.test_engine import LATER, NOW, answer, new_job, walk

SOURCE = Resolution(datetime(2026, 2, 1, tzinfo=UTC), Keep.SOURCE, "ann@control", "seen that it ended")
TARGET = replace(SOURCE, keep=Keep.TARGET)


def stopped_at(name: str, kind: JobKind = JobKind.MIGRATION) -> Job:
    """A job whose step of that name failed for good where no way led back."""
    job, _ = walk(new_job(kind), until=name, error=WorkloadFailed("ended"))
    assert job.phase is Phase.NEEDS_OPERATOR
    return job


def stopped_in_undo(name: str) -> Job:
    """A migration whose rollback stopped at the undo of that step."""
    job, _ = walk(new_job(), until="restore", error=WorkloadFailed("no"))
    job, _ = walk(new_job(), until="restore")
    job = engine.turn_back(job, WorkloadFailed("no"), NOW)
    while True:
        decision = engine.decide(job, LATER)
        assert decision.step is not None
        job = engine.begin(job, decision.step, StepAction.UNDO, NOW)
        step = job.steps[decision.step.position]
        error = InternalError("bug") if step.name == name else None
        job = engine.conclude(job, answer(job, step, error=error), NOW) or job
        if job.phase is Phase.NEEDS_OPERATOR:
            return job


def test_keeping_the_source_takes_everything_back() -> None:
    job = resolve(stopped_at("prove"), SOURCE)
    ended, trail = walk(job)
    assert ended.phase is Phase.FAILED
    assert trail[:3] == ["undo restore", "undo commit", "undo freeze"]
    assert ended.resolutions == (SOURCE,)


def test_keeping_the_target_goes_forward_without_another_proof() -> None:
    job = resolve(stopped_at("prove"), TARGET)
    ended, trail = walk(job)
    assert ended.phase is Phase.SUCCEEDED
    assert trail == ["run after-hook", "run fill", "run remove", "run release-target", "run settle"]


def test_an_undo_that_stopped_is_tried_again() -> None:
    stopped = stopped_in_undo("freeze")
    attempt = next(step.attempt for step in stopped.steps if step.name == "freeze")
    ended, trail = walk(resolve(stopped, SOURCE))
    assert ended.phase is Phase.FAILED
    assert trail[0] == "undo freeze"
    freeze = next(step for step in ended.steps if step.name == "freeze")
    assert freeze.attempt > attempt, "an answer to the former attempt must not count"


def test_a_source_that_may_be_gone_cannot_be_kept() -> None:
    with pytest.raises(PreconditionFailed) as caught:
        resolve(stopped_at("remove"), SOURCE)
    assert caught.value.code == "source_gone"
    ended, _ = walk(resolve(stopped_at("remove"), TARGET))
    assert ended.phase is Phase.SUCCEEDED


def test_a_target_that_was_taken_back_cannot_be_kept() -> None:
    with pytest.raises(PreconditionFailed) as caught:
        resolve(stopped_in_undo("freeze"), TARGET)
    assert caught.value.code == "target_gone"


@pytest.mark.parametrize(
    ("kind", "step", "wrong", "right"),
    [(JobKind.CHECKPOINT, "settle", TARGET, SOURCE), (JobKind.RESTORE, "prove", SOURCE, TARGET)],
)
def test_a_job_of_one_host_has_one_copy(kind: JobKind, step: str, wrong: Resolution, right: Resolution) -> None:
    with pytest.raises(PreconditionFailed) as caught:
        resolve(stopped_at(step, kind), wrong)
    assert caught.value.code == "no_such_copy"
    assert walk(resolve(stopped_at(step, kind), right))[0].phase.terminal


def test_a_job_that_goes_on_by_itself_needs_no_decision() -> None:
    with pytest.raises(PreconditionFailed) as caught:
        resolve(new_job(), SOURCE)
    assert caught.value.code == "job_goes_on"
