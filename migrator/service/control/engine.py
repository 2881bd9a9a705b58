"""Walk a plan: given a job as it stands, say what to do next. No I/O, no clock of its own.

`decide` looks at a job and answers with one `Decision`. `begin`, `conclude` and `turn_back` return the job as it is
after something happened. Whoever calls writes the result by compare-and-set before it acts on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from itertools import takewhile

from migrator.errors import (
    Cancelled,
    InternalError,
    MigratorError,
    OutcomeUnknown,
    ResourceExhausted,
    TransientError,
    Unavailable,
)
from migrator.models.phase import JobKind, Phase
from migrator.models.values import Facts, Job, Outcome, Step, StepAction, StepStatus
from migrator.service.plans import CONTROL, Line, Rollback, line_for, time_limit_s

ATTEMPTS = 30
"""An undo, or a step after the point of no return, that fails this often in passing ways stops for an operator.

Only answers count: a host that is silent is waited for.
"""
PREPARING_ATTEMPTS = 4
"""How often a preparation is tried before the job gives up: the program runs meanwhile."""
LONGEST_PAUSE_S = 15.0


class Verb(Enum):
    """What the conductor should do with a job."""

    ACT = "act"
    FINISH = "finish"
    WAIT = "wait"


@dataclass(frozen=True, slots=True)
class Decision:
    """The next thing to do for a job."""

    verb: Verb
    step: Step | None = None
    action: StepAction = StepAction.RUN
    phase: Phase | None = None


WAIT = Decision(Verb.WAIT)


def decide(job: Job, now: datetime) -> Decision:
    """Say what to do next.

    Args:
        job: The job as last read.
        now: The controller's time; only used to honour a pause between attempts.
    """
    if job.phase.terminal:
        return WAIT
    if job.phase is Phase.ROLLING_BACK:
        return _decide_backward(job, now)
    running = _first(job, lambda step: step.status is StepStatus.STARTED)
    if running and polled(job, running):
        return Decision(Verb.ACT, running)
    if running:
        return Decision(Verb.ACT, running, StepAction.OBSERVE) if _is_doubted(running) else WAIT
    failed = _first(job, lambda step: step.status is StepStatus.FAILED)
    if failed:
        return Decision(Verb.ACT, failed) if _rested(failed, now) else WAIT
    pending = _first(job, lambda step: step.status is StepStatus.PENDING)
    if pending:
        return Decision(Verb.ACT, pending)
    return Decision(Verb.FINISH, phase=Phase.SUCCEEDED)


def _decide_backward(job: Job, now: datetime) -> Decision:
    undoing = _first(job, lambda step: step.status is StepStatus.UNDOING)
    if undoing:
        # An undo whose failure is recorded waits its pause; one without is out on its host, or waits for other jobs.
        out = undoing.failure is None
        retry = polled(job, undoing) if out else _rested(undoing, now)
        return Decision(Verb.ACT, undoing, StepAction.UNDO) if retry else WAIT
    due = undo_order(job)
    if due:
        return Decision(Verb.ACT, due[0], StepAction.UNDO)
    cancelled = (job.failure or {}).get("kind") == Cancelled.__name__
    return Decision(Verb.FINISH, phase=Phase.CANCELLED if cancelled else Phase.FAILED)


def undo_order(job: Job) -> list[Step]:
    """List the steps still to undo: first those that decide who runs, then leftovers; each newest first."""
    touched = (StepStatus.STARTED, StepStatus.DONE, StepStatus.FAILED)
    due = [step for step in reversed(job.steps) if step.status in touched]
    by_kind = {kind: [s for s in due if _line(job, s).rollback is kind] for kind in Rollback}
    return by_kind[Rollback.OWNERSHIP] + by_kind[Rollback.LEFTOVERS]


def begin(job: Job, step: Step, action: StepAction, now: datetime) -> Job:
    """The job right before a step is sent: *started* is on record before the act."""
    if _is_asked_again(job, step, action):
        return replace(job, updated_at=now)
    if action is StepAction.UNDO:
        changed = replace(
            step,
            status=StepStatus.UNDOING,
            attempt=step.attempt + 1,
            started_at=now,
            dispatched_at=now,
            failure=None,
        )
        return with_step(job, changed, now)
    if action is StepAction.OBSERVE:
        return with_step(job, replace(step, dispatched_at=now, finished_at=None), now)
    for begun in (step, *_pending_followers(job, step)):
        job = with_step(job, _started(begun, now), now)
    return replace(job, phase=step.phase)


def _started(step: Step, now: datetime) -> Step:
    return replace(
        step,
        status=StepStatus.STARTED,
        attempt=step.attempt + 1,
        started_at=now,
        dispatched_at=now,
        finished_at=None,
        failure=None,
    )


def _pending_followers(job: Job, step: Step) -> list[Step]:
    """The steps that go to the host together with one that is about to be sent."""
    return [follower for follower in _in_its_row(job, step) if follower.status is StepStatus.PENDING]


def followers(job: Job, step: Step) -> list[Step]:
    """The steps that are out together with one that is sent, in the order in which its host performs them."""
    return [follower for follower in _in_its_row(job, step) if follower.status is StepStatus.STARTED]


def _without_followers(job: Job, step: Step, now: datetime) -> Job:
    """The job after a step that will be sent again failed: what follows it has not begun, and waits for it."""
    for follower in followers(job, step):
        job = with_step(job, replace(follower, status=StepStatus.PENDING), now)
    return job


def _in_its_row(job: Job, step: Step) -> Iterator[Step]:
    return takewhile(lambda later: _line(job, later).follows, job.steps[step.position + 1 :])


def _is_asked_again(job: Job, step: Step, action: StepAction) -> bool:
    under_way = StepStatus.UNDOING if action is StepAction.UNDO else StepStatus.STARTED
    return polled(job, step) and step.status is under_way and step.failure is None


def hold(job: Job, step: Step, facts: Facts, now: datetime) -> Job:
    """The job after a polled step said "not yet", and what it knows so far."""
    return with_step(job, replace(step, facts={**step.facts, **facts}), now)


def conclude(job: Job, outcome: Outcome, now: datetime) -> Job | None:
    """The job after a host answered; None when the answer is late, doubled or about nothing we asked."""
    step = job.steps[outcome.position] if outcome.position < len(job.steps) else None
    if job.phase.terminal or step is None or step.name != outcome.step or step.attempt != outcome.attempt:
        return None
    if outcome.action is StepAction.UNDO:
        return _conclude_undo(job, step, outcome, now) if step.status is StepStatus.UNDOING else None
    if step.status is not StepStatus.STARTED:
        return None
    if outcome.action is StepAction.OBSERVE:
        return _conclude_look(job, step, outcome, now)
    if outcome.ok:
        done = replace(
            step,
            status=StepStatus.DONE,
            finished_at=now,
            duration_s=outcome.duration_s,
            facts=outcome.facts,
            failure=None,
        )
        return _go_on_with_follower(with_step(job, done, now), now)
    if observes_first(job, step):
        if step.failure is not None:
            return None
        # It may have happened all the same: look before anything else.
        return with_step(job, replace(step, finished_at=now, failure=outcome.failure), now)
    return fail_step(job, step, MigratorError.from_dict(outcome.failure or {}), now, outcome.duration_s)


def _go_on_with_follower(job: Job, now: datetime) -> Job:
    """The job after a step went well whose follower is under way on the same host: its time begins now."""
    out = _first(job, lambda step: step.status is StepStatus.STARTED)
    if out is None or not _line(job, out).follows or job.phase is Phase.ROLLING_BACK:
        return job
    return replace(with_step(job, replace(out, started_at=now, dispatched_at=now), now), phase=out.phase)


def doubt(job: Job, step: Step, now: datetime) -> Job | None:
    """The job when no answer about a step can be expected any more; None when it has come meanwhile."""
    current = job.steps[step.position]
    if current.attempt != step.attempt or current.status is not StepStatus.STARTED or current.failure is not None:
        return None
    return with_step(job, replace(current, finished_at=now, failure=_lost(step).to_dict()), now)


def _lost(step: Step) -> Unavailable:
    return Unavailable(
        f"step {step.name} was lost with its worker and has had no effect", code="worker_lost", host=step.host
    )


def fail_step(job: Job, step: Step, error: MigratorError, now: datetime, duration_s: float | None = None) -> Job:
    """The job after a step failed: again where nobody waits or there is no way back, otherwise back."""
    failed = replace(step, status=StepStatus.FAILED, finished_at=now, duration_s=duration_s, failure=error.to_dict())
    job = with_step(job, failed, now)
    if _line(job, step).forward_only:
        job = _without_followers(job, step, now)
        return job if _passes(error) and failed.attempt % ATTEMPTS else _stop(job, error, now)
    passing = isinstance(error, TransientError | OutcomeUnknown)
    patient = step.phase is Phase.PREPARING or _line(job, step).patient
    if passing and patient and failed.attempt % PREPARING_ATTEMPTS:
        return job
    return turn_back(job, error, now)


def turn_back(job: Job, error: MigratorError, now: datetime) -> Job:
    """Begin the rollback and remember the first cause."""
    return replace(job, phase=Phase.ROLLING_BACK, failure=job.failure or error.to_dict(), updated_at=now)


def cancel(job: Job, now: datetime) -> Job | None:
    """Turn back because somebody asked; None when it is too late for that (see `may_cancel`)."""
    if not job.cancel_requested or job.phase is Phase.ROLLING_BACK or not may_cancel(job):
        return None
    return turn_back(job, Cancelled(f"job {job.id} was cancelled", remedy="the container runs where it was"), now)


def may_cancel(job: Job) -> bool:
    """Whether a cancel still ends with the source running: before the ownership was moved."""
    if job.request.kind is JobKind.DRILL:  # nothing was handed over to anybody
        return not job.phase.terminal and job.phase is not Phase.FINISHING
    order = [Phase.COMMITTED, Phase.RESTORING, Phase.REMOVING, Phase.FINISHING]
    return not job.phase.terminal and job.phase not in order


def finish(job: Job, phase: Phase, now: datetime) -> Job:
    """End the job."""
    return replace(job, phase=phase, updated_at=now, finished_at=now)


def overdue(job: Job, step: Step, now: datetime) -> bool:
    """Whether a step that is out on its host has had its time."""
    size_bytes = int(job.facts.get("estimate_bytes", 0))
    limit = timedelta(seconds=time_limit_s(_line(job, step), size_bytes))
    # What the controller does itself may take as long as it likes while it shows that it lives.
    since = step.dispatched_at if step.host is None else step.started_at
    return since is not None and now - since > limit


def is_control(job: Job, step: Step) -> bool:
    """Whether the controller performs this step itself."""
    return _line(job, step).where is CONTROL


def queues(job: Job, step: Step) -> bool:
    """Whether a step waits until its hosts have room."""
    return _line(job, step).queues


def polled(job: Job, step: Step) -> bool:
    """Whether a step is asked again and again until it is done."""
    return _line(job, step).polled


def lets_source_run(step: Step) -> bool:
    """Whether a rollback has come to the point where the source may run again."""
    return step.name == "freeze" and step.status is StepStatus.UNDOING


def observes_first(job: Job, step: Step) -> bool:
    """Whether silence about this step, or its failure, must be answered by a look at the host."""
    return _line(job, step).observe_first


def must_answer(job: Job, step: Step) -> bool:
    """Whether a silent host is waited for, as long as it takes: giving up would help nobody or be a guess."""
    line = _line(job, step)
    return step.status is StepStatus.UNDOING or line.observe_first or line.forward_only


def leaves_last_way_back(job: Job, step: Step) -> bool:
    """Whether this step is the first from which there is no way back, and has not begun."""
    if step.status is not StepStatus.PENDING:
        return False
    before = job.steps[step.position - 1] if step.position else None
    return _line(job, step).forward_only and not (before and _line(job, before).forward_only)


def is_harmless(step: Step) -> bool:
    """Whether a step that a worker forgot may simply be sent again: before the freeze nobody waits for it."""
    return step.phase in (Phase.PREFLIGHT, Phase.PREPARING)


def with_step(job: Job, step: Step, now: datetime | None = None) -> Job:
    """The job with one of its steps changed."""
    if job.steps[step.position].name != step.name:
        raise InternalError(f"job {job.id} has no step {step.name} at {step.position}")
    steps = (*job.steps[: step.position], step, *job.steps[step.position + 1 :])
    return replace(job, steps=steps, updated_at=now or job.updated_at)


def _conclude_look(job: Job, step: Step, outcome: Outcome, now: datetime) -> Job | None:
    """What a look at the host told about a step that gave no answer."""
    seen = outcome.facts.get("seen") if outcome.ok else None
    if seen == "done":
        return with_step(job, replace(step, status=StepStatus.DONE, finished_at=now, failure=None), now)
    if seen == "absent":
        return fail_step(job, step, MigratorError.from_dict(step.failure) if step.failure else _lost(step), now)
    return None


def _conclude_undo(job: Job, step: Step, outcome: Outcome, now: datetime) -> Job:
    if outcome.ok:
        undone = replace(step, status=StepStatus.UNDONE, failure=None, facts={**step.facts, **outcome.facts})
        return with_step(job, undone, now)
    error = MigratorError.from_dict(outcome.failure or {})
    held = with_step(job, replace(step, finished_at=now, failure=error.to_dict()), now)
    if _passes(error) and step.attempt % ATTEMPTS:
        return held
    return _stop(held, error, now)


def _stop(job: Job, error: MigratorError, now: datetime) -> Job:
    """Leave the job to an operator: going on could lose the workload."""
    first = (job.failure or {}).get("message")
    failure = error.to_dict() | {
        "message": f"{error.message}, after: {first}" if first else error.message,
        "remedy": f"look, then decide which copy goes on: migrator jobs resolve {job.id} --keep source|target"
        + (f"; source is what ran before (sealed: {job.checkpoint_id})" if _rewinds(job) else ""),
    }
    return replace(job, phase=Phase.NEEDS_OPERATOR, failure=failure, updated_at=now, finished_at=now)


def _rewinds(job: Job) -> bool:
    return job.request.kind is JobKind.REWIND


def _passes(error: MigratorError) -> bool:
    """Whether what must be done in the end may succeed later; also a full disk does not stay full."""
    return isinstance(error, TransientError | OutcomeUnknown | ResourceExhausted)


def _is_doubted(step: Step) -> bool:
    """Whether a step is said to have failed and nobody has looked yet."""
    return step.failure is not None and step.finished_at is not None


def _rested(step: Step, now: datetime) -> bool:
    pause = timedelta(seconds=min(LONGEST_PAUSE_S, 0.25 * 2 ** min(step.attempt, 8)))
    return step.finished_at is None or now - step.finished_at >= pause


def _first(job: Job, wanted: Callable[[Step], bool]) -> Step | None:
    return next((step for step in job.steps if wanted(step)), None)


def _line(job: Job, step: Step) -> Line:
    return line_for(job.request.kind, step)
