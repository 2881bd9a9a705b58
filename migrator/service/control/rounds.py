"""Change a job, round by round: one transaction each, and what follows from it is sent after it is written.

*Started* is in SQL before a command is sent and *done* after its answer. Two controllers do no harm: the loser of a
compare-and-set begins anew, with the job as it is now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import structlog

from migrator.errors import InternalError, MigratorError, OutcomeUnknown, ResourceBusy, Unavailable
from migrator.models.phase import Phase
from migrator.models.session import Database, Transaction
from migrator.models.values import Facts, Following, Job, Outcome, Step, StepAction, StepCommand
from migrator.service.control import engine
from migrator.service.control.control_steps import ControlStep, LongStep
from migrator.service.control.decisions import OWNERSHIP, Decision, NotYet, shut_out
from migrator.service.control.endings import conclude
from migrator.service.control.engine import Verb
from migrator.service.control.pulse import Pulse, start_thread
from migrator.service.control.queueing import MOVING, hosts_of
from migrator.service.control.stand_ins import NoAct

log = structlog.get_logger()

TRIES = 20
"""How often a change is applied anew to a job that somebody else keeps changing."""

Change = Callable[[Job], Job | None]
"""What happened to a job: the job after it, or None if it does not concern the job any more."""


class _Refused(Exception):
    """A decision that cannot be made; leaves the transaction, which is rolled back."""

    def __init__(self, job: Job, step: Step, action: StepAction, error: MigratorError):
        super().__init__(str(error))
        self.version = job.version
        self.step = step
        self.action = action
        self.error = error


class Sender(Protocol):
    """The way to the hosts. Sending may fail; `tick` sends again."""

    def send_command(self, host: str, command: StepCommand) -> None:
        """Hand a command to a host's queue.

        Raises:
            Unavailable: `broker_unavailable`.
        """


def utc_now() -> datetime:
    """The controller's clock."""
    return datetime.now(UTC)


class Rounds:
    """Moves jobs through their plans.

    Args:
        database: Where jobs live.
        sender: The way to the hosts.
        control_steps: The acts that the controller performs itself with the object store, by step name.
        stand_ins: What it answers for hosts that were removed, by step name.
        decisions: The acts that are SQL alone, by step name, beside those about ownership.
        freezes_per_host: How many jobs may dump, move or restore memory on one host at once; the others queue.
        now: The clock.
        spawn: Runs what may take long.
    """

    def __init__(
        self,
        database: Database,
        sender: Sender,
        control_steps: Mapping[str, ControlStep],
        stand_ins: Mapping[str, ControlStep],
        decisions: Mapping[str, Decision],
        *,
        freezes_per_host: int,
        now: Callable[[], datetime],
        spawn: Callable[[Callable[[], None]], None] = start_thread,
    ):
        self._database = database
        self._sender = sender
        self._control_steps = control_steps
        self._stand_ins = stand_ins
        self._decisions = {**OWNERSHIP, **decisions}
        self._freezes_per_host = freezes_per_host
        self._now = now
        self._spawn = spawn

    def move(self, job_id: str, change: Change) -> None:
        """Apply a change and everything that follows from it; each round is one transaction."""
        pending: Change | None = change
        tries = TRIES
        while pending is not None:
            try:
                with self._database.transaction() as tx:
                    job, step, action = self._round(tx, job_id, pending)
            except _Refused as refusal:
                pending = partial(self._refuse, refusal, pending)
                continue
            except ResourceBusy as error:
                tries -= 1
                if error.code != "job_changed" or not tries:
                    raise
                continue  # somebody else moved it: the same change, to the job as it is now
            pending = self._act(job, step, action) if step is not None else None

    def _round(self, tx: Transaction, job_id: str, change: Change) -> tuple[Job, Step | None, StepAction]:
        """Apply one change, make the decisions that follow, and put on record the step that is to be sent."""
        before = tx.jobs.get(job_id)
        changed = change(before)
        if changed is None:
            return before, None, StepAction.RUN
        after, step, action = self._decide(tx, before, changed)
        if after.phase.terminal and not before.phase.terminal:
            log.info("job ended", job=job_id, phase=after.phase.value)
        saved = self._save(tx, before, after) if after != before else before
        return saved, step, action

    def _decide(self, tx: Transaction, before: Job, job: Job) -> tuple[Job, Step | None, StepAction]:
        turned = before.phase is Phase.ROLLING_BACK
        while True:
            now = self._now()
            job = engine.cancel(job, now) or job
            if job.phase is Phase.ROLLING_BACK and not turned:
                job, turned = shut_out(tx, job), True
            decision = engine.decide(job, now)
            if decision.verb is Verb.FINISH and decision.phase is not None:
                return conclude(tx, engine.finish(job, decision.phase, now)), None, StepAction.RUN
            if decision.verb is not Verb.ACT or decision.step is None:
                return job, None, StepAction.RUN
            if decision.action is StepAction.RUN and self._must_wait(tx, job, decision.step):
                return job, None, StepAction.RUN
            if decision.action is StepAction.OBSERVE or engine.leaves_last_way_back(job, decision.step):
                job = shut_out(tx, job)  # what is seen must stay true: no late copy of the step may change it
            asked, job = job, engine.begin(job, decision.step, decision.action, now)
            step = job.steps[decision.step.position]
            if step.name not in self._decisions:
                return job, step, decision.action
            job, waits = self._settle(tx, job, step, decision.action)
            if waits:  # nothing new is nothing to write
                return (asked if job.steps == asked.steps else job), None, StepAction.RUN
            if step.name not in OWNERSHIP:  # a refusal of the next one must not take this one back
                return job, step, decision.action

    def _must_wait(self, tx: Transaction, job: Job, step: Step) -> bool:
        """Whether a host of this job is busy with as many others as it may be; `tick` asks again."""
        if not engine.queues(job, step):
            return False
        return any(tx.jobs.count(MOVING, host, but=job.id) >= self._freezes_per_host for host in hosts_of(job))

    def _settle(self, tx: Transaction, job: Job, step: Step, action: StepAction) -> tuple[Job, bool]:
        """Decide a step that is SQL alone, in the transaction that also writes the job; tell whether it must wait."""
        begun = time.monotonic()
        decision = self._decisions[step.name]
        try:
            facts = decision.run(tx, job) if action is StepAction.RUN else decision.undo(tx, job)
        except MigratorError as error:
            if _is_undecided(error):
                raise
            raise _Refused(job, step, action, error) from error
        if isinstance(facts, NotYet):
            return engine.hold(job, step, facts.facts, self._now()), True
        outcome = outcome_of(job, step, action, facts=facts, duration_s=time.monotonic() - begun)
        after = engine.conclude(job, outcome, self._now()) or job
        owned = {"workload_id": facts.get("workload_id", after.workload_id), "epoch": facts.get("epoch", after.epoch)}
        return replace(after, workload_id=owned["workload_id"], epoch=int(owned["epoch"])), False

    def _save(self, tx: Transaction, before: Job, after: Job) -> Job:
        try:
            return tx.jobs.save(before, after)
        except ResourceBusy as error:
            if error.code != "workload_busy":
                raise
            claim = next(step for step in after.steps if step.name in self._decisions)
            raise _Refused(before, claim, StepAction.RUN, error) from error

    def _refuse(self, refusal: _Refused, change: Change, job: Job) -> Job | None:
        """The job after a change, and after the decision that followed from it was refused.

        If another controller moved the job meanwhile, it may be its decision that ours collided with: begin anew.
        """
        changed = change(job)
        if changed is None or job.version != refusal.version:
            return changed
        now = self._now()
        job = engine.begin(changed, job.steps[refusal.step.position], refusal.action, now)
        step = job.steps[refusal.step.position]
        return engine.conclude(job, outcome_of(job, step, refusal.action, failure=refusal.error), now)

    def _act(self, job: Job, step: Step, action: StepAction) -> Change | None:
        """Send a step to its host, or perform it here; here, the change that follows is returned."""
        if step.name in self._decisions:  # it has been performed
            return lambda current: current
        if not engine.is_control(job, step):
            self._send(job, step, action)
            return None
        control = self._control_steps[step.name]
        if isinstance(control, LongStep) and action is StepAction.RUN:
            self._spawn(partial(self._perform_long, job, step, control))
            return None
        outcome = self._perform(job, step, action, control)
        return lambda current: engine.conclude(current, outcome, self._now())

    def _perform_long(self, job: Job, step: Step, control: LongStep) -> None:
        """Perform what may take long, and go on with the job; if that is not possible now, `tick` finds out."""
        beat = Pulse(partial(self.stamp, job, step))
        outcome = self._perform(job, step, StepAction.RUN, control, partial(control.work, job, beat))
        try:
            self.move(job.id, lambda current: engine.conclude(current, outcome, self._now()))
        except MigratorError as error:
            log.warning("the end of a long step was not noted", job=job.id, step=step.name, error=str(error))

    def _perform(
        self,
        job: Job,
        step: Step,
        action: StepAction,
        control: ControlStep,
        work: Callable[[], Facts] | None = None,
    ) -> Outcome:
        begun = time.monotonic()
        run = work or partial(control.run, job)
        try:
            facts = run() if action is StepAction.RUN else control.undo(job)
        except MigratorError as error:
            return outcome_of(job, step, action, failure=error, duration_s=time.monotonic() - begun)
        except Exception:
            log.exception("control step crashed", job=job.id, step=step.name)
            crash = InternalError(f"step {step.name} crashed on the controller", remedy="see the controller's log")
            return outcome_of(job, step, action, failure=crash, duration_s=time.monotonic() - begun)
        return outcome_of(job, step, action, facts=facts, duration_s=time.monotonic() - begun)

    def stand_in(self, job: Job, step: Step, action: StepAction) -> None:
        """Answer for a host that will never answer again."""
        outcome = self._perform(job, step, action, self._stand_ins.get(step.name, NoAct()))
        self.move(job.id, lambda current: engine.conclude(current, outcome, self._now()))

    def resend(self, job: Job, step: Step, action: StepAction) -> None:
        """Send a command again, once it is on record that we do."""
        if self.stamp(job, step):
            self._send(job, step, action)

    def stamp(self, job: Job, step: Step) -> bool:
        """Put on record that a step is asked for again; False when nobody waits for its answer any more."""
        stamped = False

        def note(current: Job) -> Job | None:
            nonlocal stamped
            mine = current.steps[step.position]
            stamped = mine.attempt == step.attempt and mine.status is step.status
            return engine.with_step(current, replace(mine, dispatched_at=self._now())) if stamped else None

        self.move(job.id, note)
        return stamped

    def _send(self, job: Job, step: Step, action: StepAction) -> None:
        command = StepCommand(
            job_id=job.id,
            step=step.name,
            position=step.position,
            action=action,
            attempt=step.attempt,
            epoch=job.epoch,
            workload_id=job.workload_id or "",
            request=job.request,
            checkpoint_id=job.checkpoint_id,
            facts=job.facts,
            then=_following(job, step) if action is StepAction.RUN else (),
        )
        try:
            self._sender.send_command(str(step.host), command)
        except Unavailable as error:
            log.warning("command not sent, will be sent again", job=job.id, step=step.name, error=str(error))


def _following(job: Job, step: Step) -> tuple[Following, ...]:
    return tuple(Following(later.name, later.position, later.attempt) for later in engine.followers(job, step))


def outcome_of(
    job: Job,
    step: Step,
    action: StepAction,
    *,
    facts: Facts | None = None,
    failure: MigratorError | None = None,
    duration_s: float = 0.0,
) -> Outcome:
    """How an act went that no host has performed."""
    return Outcome(
        job_id=job.id,
        step=step.name,
        position=step.position,
        action=action,
        attempt=step.attempt,
        host="",
        ok=failure is None,
        duration_s=duration_s,
        facts=facts or {},
        failure=failure.to_dict() if failure else None,
    )


def _is_undecided(error: MigratorError) -> bool:
    """Whether it was the database that failed: nothing was decided, and `tick` tries again."""
    return isinstance(error, Unavailable | OutcomeUnknown) or error.code == "database_busy"
