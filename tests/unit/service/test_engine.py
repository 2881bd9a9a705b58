"""The engine: what comes next, what a failure leads to, in which order a rollback goes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from migrator.errors import InternalError, Unavailable, WorkloadFailed
from migrator.models.phase import JobKind, Phase
from migrator.models.values import Job, JobRequest, Outcome, Step, StepAction, StepStatus
from migrator.service.control import engine
from migrator.service.control.engine import Verb
from migrator.service.plans import PLANS, steps_for

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


def new_job(kind: JobKind = JobKind.MIGRATION) -> Job:
    request = JobRequest(kind=kind, source_host="alpha", container="c", target_host="beta", checkpoint_id="ck")
    return Job(
        id="j",
        request=request,
        phase=Phase.ACCEPTED,
        version=1,
        created_at=NOW,
        updated_at=NOW,
        steps=steps_for(request),
    )


def answer(job: Job, step: Step, *, ok: bool = True, error: Exception | None = None) -> Outcome:
    action = StepAction.UNDO if step.status is StepStatus.UNDOING else StepAction.RUN
    failure = error.to_dict() if error else None  # type: ignore[attr-defined]
    return Outcome(
        job_id=job.id,
        step=step.name,
        position=step.position,
        action=action,
        attempt=step.attempt,
        host=step.host or "",
        ok=ok and error is None,
        duration_s=0.1,
        failure=failure,
    )


def walk(job: Job, *, until: str | None = None, error: Exception | None = None) -> tuple[Job, list[str]]:
    """Let every step succeed; the step `until` fails with `error`, or is left started without one."""
    trail: list[str] = []
    for _ in range(200):
        decision = engine.decide(job, LATER)
        if decision.verb is Verb.FINISH:
            assert decision.phase is not None
            return engine.finish(job, decision.phase, NOW), trail
        if decision.verb is Verb.WAIT:
            return job, trail
        assert decision.step is not None
        job = engine.begin(job, decision.step, decision.action, NOW)
        step = job.steps[decision.step.position]
        if decision.action is StepAction.OBSERVE:
            look = replace(answer(job, step), action=StepAction.OBSERVE, facts={"seen": "absent"})
            job = engine.conclude(job, look, NOW) or job
            continue
        row = [step, *engine.followers(job, step)] if decision.action is StepAction.RUN else [step]
        for step in row:
            trail.append(f"{decision.action.value} {step.name}")
            if step.name == until and decision.action is StepAction.RUN:
                if error is None:
                    return job, trail
                job = engine.conclude(job, answer(job, step, error=error), NOW) or job
                break
            job = engine.conclude(job, answer(job, step), NOW) or job
    raise AssertionError("the walk does not end")


@pytest.mark.parametrize("kind", list(JobKind))
def test_a_job_without_faults_does_its_plan_in_order_and_succeeds(kind: JobKind) -> None:
    job, trail = walk(new_job(kind))
    assert job.phase is Phase.SUCCEEDED
    assert trail == [f"run {line.step}" for line in PLANS[kind]]


@pytest.mark.parametrize("kind", list(JobKind))
def test_every_failure_before_the_point_of_no_return_ends_failed_with_everything_undone(kind: JobKind) -> None:
    for line in PLANS[kind]:
        if line.forward_only:
            continue
        job, trail = walk(new_job(kind), until=line.step, error=WorkloadFailed("no"))
        assert job.phase is Phase.FAILED, line.step
        assert job.failure is not None
        assert job.failure["message"] == "no"
        undone = [name.removeprefix("undo ") for name in trail if name.startswith("undo")]
        sent = {name.removeprefix("run ") for name in trail if name.startswith("run")}
        for entry, before in zip(PLANS[kind][1:], PLANS[kind], strict=False):
            sent |= {entry.step} if entry.follows and before.step in sent else set()
        expected = [entry.step for entry in PLANS[kind] if entry.step in sent and entry.rollback.value != "nothing"]
        assert sorted(undone) == sorted(expected)


def test_steps_in_a_row_are_sent_together_and_each_has_its_own_time() -> None:
    job, _ = walk(new_job(), until="freeze")
    freeze, dump, upload = job.steps[11:14]
    assert [step.name for step in engine.followers(job, freeze)] == ["dump", "upload"]
    assert job.phase is Phase.FREEZING
    assert {step.status for step in (freeze, dump, upload)} == {StepStatus.STARTED}
    job = engine.conclude(job, answer(job, freeze), LATER) or job
    assert job.phase is Phase.DUMPING
    assert [step.started_at for step in job.steps[12:14]] == [LATER, NOW]
    assert engine.decide(job, LATER).verb is Verb.WAIT


def test_an_answer_that_overtakes_the_one_before_it_waits_for_it() -> None:
    job, _ = walk(new_job(), until="freeze")
    freeze, dump, upload = job.steps[11:14]
    for step in (upload, dump):
        job = engine.conclude(job, answer(job, step), LATER) or job
        assert engine.decide(job, LATER).verb is Verb.WAIT
    job = engine.conclude(job, answer(job, freeze), LATER) or job
    after = engine.decide(job, LATER)
    assert after.step is not None
    assert after.step.name == "fetch"


def test_what_follows_a_step_that_is_tried_again_waits_for_it() -> None:
    job, _ = walk(new_job(), until="prove")
    prove = next(step for step in job.steps if step.name == "prove")
    assert [step.name for step in engine.followers(job, prove)] == ["after-hook", "fill"]
    job = engine.conclude(job, answer(job, prove, error=Unavailable("later")), NOW) or job
    after = {step.name: step.status for step in job.steps}
    assert (after["prove"], after["after-hook"], after["fill"]) == (StepStatus.FAILED, *[StepStatus.PENDING] * 2)
    assert engine.decide(job, NOW).verb is Verb.WAIT
    again = engine.decide(job, LATER)
    assert again.step is not None
    assert again.step.name == "prove"


def test_rollback_settles_who_runs_before_it_sweeps() -> None:
    _, trail = walk(new_job(), until="restore", error=WorkloadFailed("no"))
    undone = [name.removeprefix("undo ") for name in trail if name.startswith("undo")]
    owned, left = ["restore", "commit", "freeze", "before-hook"], ["fetch", "upload", "dump", "prefetch", "precopy"]
    assert undone == [*owned, *left, "prepare"]


def test_a_passing_failure_after_the_proof_is_repeated() -> None:
    job, _ = walk(new_job(), until="remove")
    step = next(s for s in job.steps if s.name == "remove")
    job = engine.conclude(job, answer(job, step, error=Unavailable("gone")), NOW) or job
    assert job.phase is Phase.REMOVING
    assert engine.decide(job, NOW).verb is Verb.WAIT
    again = engine.decide(job, LATER)
    assert again.step is not None
    assert (again.verb, again.step.name, again.action) == (Verb.ACT, "remove", StepAction.RUN)


def test_a_lasting_failure_after_the_proof_stops_for_an_operator() -> None:
    job, _ = walk(new_job(), until="prove", error=WorkloadFailed("ended"))
    assert job.phase is Phase.NEEDS_OPERATOR
    assert all(step.status is not StepStatus.UNDONE for step in job.steps)


def test_an_undo_that_fails_for_good_stops_the_rollback() -> None:
    job, _ = walk(new_job(), until="dump")
    job = engine.turn_back(job, WorkloadFailed("no"), NOW)
    decision = engine.decide(job, NOW)
    assert decision.step is not None
    assert decision.step.name == "freeze"
    job = engine.begin(job, decision.step, StepAction.UNDO, NOW)
    job = engine.conclude(job, answer(job, job.steps[decision.step.position], error=InternalError("bug")), NOW) or job
    assert job.phase is Phase.NEEDS_OPERATOR
    assert job.failure is not None
    assert job.failure["message"] == "bug, after: no"
    assert "migrator jobs resolve j" in job.failure["remedy"]


def test_a_passing_undo_failure_is_repeated_a_bounded_number_of_times() -> None:
    job, _ = walk(new_job(), until="freeze")
    job = engine.turn_back(job, WorkloadFailed("no"), NOW)
    while job.phase is Phase.ROLLING_BACK:
        decision = engine.decide(job, LATER)
        assert decision.step is not None
        assert decision.step.attempt < engine.ATTEMPTS
        job = engine.begin(job, decision.step, StepAction.UNDO, NOW)
        step = job.steps[decision.step.position]
        job = engine.conclude(job, answer(job, step, error=Unavailable("silent")), NOW) or job
    assert job.phase is Phase.NEEDS_OPERATOR


@pytest.mark.parametrize(
    "spoil", [{"attempt": 7}, {"step": "dump"}, {"position": 99}, {"action": StepAction.UNDO}], ids=str
)
def test_answers_nobody_waits_for_are_dropped(spoil: dict[str, object]) -> None:
    job, _ = walk(new_job(), until="freeze")
    step = next(s for s in job.steps if s.name == "freeze")
    assert engine.conclude(job, replace(answer(job, step), **spoil), NOW) is None


def test_the_same_answer_twice_counts_once() -> None:
    job, _ = walk(new_job(), until="freeze")
    step = next(s for s in job.steps if s.name == "freeze")
    once = engine.conclude(job, answer(job, step), NOW)
    assert once is not None
    assert engine.conclude(once, answer(job, step), NOW) is None


@pytest.mark.parametrize("line", PLANS[JobKind.MIGRATION], ids=lambda line: line.step)
def test_cancel_turns_back_before_the_commit_and_never_after(line: object) -> None:
    name = line.step  # type: ignore[attr-defined]
    job, _ = walk(new_job(), until=name)
    cancelled = engine.cancel(replace(job, cancel_requested=True), NOW)
    names = [entry.step for entry in PLANS[JobKind.MIGRATION]]
    if names.index(name) >= names.index("commit"):
        assert cancelled is None
        return
    assert cancelled is not None
    ended, _ = walk(cancelled)
    assert ended.phase is Phase.CANCELLED


def test_a_look_decides_about_a_restore_without_an_answer() -> None:
    job, _ = walk(new_job(), until="restore")
    step = next(s for s in job.steps if s.name == "restore")
    look = replace(answer(job, step), action=StepAction.OBSERVE)
    seen = engine.conclude(job, replace(look, facts={"seen": "done"}), NOW)
    assert seen is not None
    assert seen.steps[step.position].status is StepStatus.DONE
    gone = engine.conclude(job, replace(look, facts={"seen": "absent"}), NOW)
    assert gone is not None
    assert gone.phase is Phase.ROLLING_BACK
    assert engine.conclude(job, replace(look, ok=False, facts={}), NOW) is None


def test_a_restore_that_is_said_to_have_failed_is_looked_at() -> None:
    job, _ = walk(new_job(), until="restore")
    step = next(s for s in job.steps if s.name == "restore")
    failed = answer(job, step, error=WorkloadFailed("no"))
    doubted = engine.conclude(job, failed, NOW)
    assert doubted is not None
    assert doubted.phase is Phase.RESTORING
    assert engine.decide(doubted, NOW).action is StepAction.OBSERVE
    asked = engine.begin(doubted, doubted.steps[step.position], StepAction.OBSERVE, NOW)
    assert engine.decide(asked, LATER).verb is Verb.WAIT
    assert engine.conclude(asked, failed, NOW) is None, "the same answer again tells nothing new"
    look = replace(answer(job, step), action=StepAction.OBSERVE)
    seen = engine.conclude(asked, replace(look, facts={"seen": "done"}), NOW)
    assert seen is not None
    assert seen.steps[step.position].status is StepStatus.DONE
    gone = engine.conclude(asked, replace(look, facts={"seen": "absent"}), NOW)
    assert gone is not None
    assert (gone.phase, (gone.failure or {})["message"]) == (Phase.ROLLING_BACK, "no")


def test_time_limits_grow_with_the_memory() -> None:
    job, _ = walk(new_job(), until="dump")
    step = next(s for s in job.steps if s.name == "dump")
    soon = NOW + timedelta(seconds=45)
    assert engine.overdue(job, step, soon)
    first = replace(job.steps[0], facts={"estimate_bytes": 2**30})
    assert not engine.overdue(replace(job, steps=(first, *job.steps[1:])), step, soon)
