"""The controller's side: keep every job moving, one compare-and-set at a time.

*Started* is in SQL before a command is sent and *done* after its answer. Messages are hints: a command that got lost is
sent again by `tick`, an answer that comes twice is dropped by `engine.conclude`. Two controllers do no harm: the loser
of a compare-and-set lets the winner go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

import structlog

from migrator.errors import InternalError, MigratorError, OutcomeUnknown, ResourceBusy, Unavailable
from migrator.models.phase import Phase
from migrator.models.session import Database, Transaction
from migrator.models.values import ContainerView, Facts, Host, Job, Outcome, Step, StepAction, StepCommand, StepStatus
from migrator.service import engine
from migrator.service.catalogue import keep_last_copy
from migrator.service.control_steps import ControlStep
from migrator.service.decisions import DECISIONS, shut_out
from migrator.service.engine import Verb

log = structlog.get_logger()

RESEND_S = 4.0
"""A command without an answer is sent again after this long; the host drops it if it still works on it."""
MOVING = frozenset(
    {
        Phase.FREEZING,
        Phase.DUMPING,
        Phase.UPLOADING,
        Phase.FETCHING,
        Phase.PROMISED,
        Phase.COMMITTED,
        Phase.RESTORING,
    }
)
"""Phases in which a job works on a host's memory, disk and network while, for the most part, a program stands still."""
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


class Conductor:
    """Moves jobs through their plans.

    Args:
        database: Where jobs live.
        sender: The way to the hosts.
        control_steps: The acts that the controller performs itself with the object store, by step name.
        host_silent_s: A host without a heartbeat for this long counts as without a live worker.
        let_run: Says to the guard of a dead worker that the source of a job may run again; may raise `MigratorError`.
        freezes_per_host: How many jobs may dump, move or restore memory on one host at once; the others queue.
        now: The clock.
    """

    def __init__(
        self,
        database: Database,
        sender: Sender,
        control_steps: Mapping[str, ControlStep],
        *,
        host_silent_s: float,
        let_run: Callable[[str], None],
        freezes_per_host: int = 2,
        now: Callable[[], datetime] = utc_now,
    ):
        self._database = database
        self._sender = sender
        self._control_steps = control_steps
        self._silence = timedelta(seconds=host_silent_s)
        self._let_run = let_run
        self._freezes_per_host = freezes_per_host
        self._now = now
        self._began = now()
        """Before this nobody could have been heard."""

    def advance(self, job_id: str) -> None:
        """Do what is next for a job, until it waits for a host."""
        self._move(job_id, lambda job: job)

    def receive(self, outcome: Outcome) -> None:
        """Take a host's answer and go on."""
        self._move(outcome.job_id, lambda job: engine.conclude(job, outcome, self._now()))

    def record_progress(self, job_id: str, position: int, attempt: int, done_bytes: int, total_bytes: int) -> None:
        """Note how far a step is."""
        with self._database.transaction() as tx:
            tx.jobs.record_progress(job_id, position, attempt, done_bytes, total_bytes)

    def record_heartbeat(self, name: str, facts: Facts, up_s: float) -> None:
        """Note that a worker lives; a new `boot_id` means that it has started anew.

        Args:
            name: The host.
            facts: What the worker tells of it.
            up_s: How long the worker has been listening.
        """
        now = self._now()
        with self._database.transaction() as tx:
            known = next((host for host in tx.hosts.list() if host.name == name), None)
            same = known is not None and known.facts.get("boot_id") == facts.get("boot_id")
            started_at = known.started_at if known and same else now - timedelta(seconds=up_s)
            tx.hosts.record(Host(name=name, seen_at=now, started_at=started_at, facts=facts))

    def record_containers(self, host: str, views: list[ContainerView]) -> None:
        """Note what a host has just seen."""
        with self._database.transaction() as tx:
            tx.hosts.replace_containers(host, views, self._now())

    def tick(self) -> None:
        """Look after every unfinished job: lost commands, dead workers, pauses that are over."""
        with self._database.transaction(write=False) as tx:
            jobs, hosts = tx.jobs.unfinished(), {host.name: host for host in tx.hosts.list()}
        for job in jobs:
            try:
                self._look_after(job, hosts)
            except MigratorError as error:
                log.warning("cannot move job now", job=job.id, error=str(error))
            except Exception:  # one bad row must not keep the others waiting
                log.exception("looking after a job crashed", job=job.id)

    def _look_after(self, job: Job, hosts: Mapping[str, Host]) -> None:
        step = next((s for s in job.steps if _is_out(s)), None)
        if step is None or job.cancel_requested:
            self.advance(job.id)
        if step is not None and step.host is not None:
            self._chase(job, step, hosts.get(step.host))
        elif step is not None and engine.overdue(job, step, self._now()):
            self._move(job.id, lambda j: self._lost(j, step, "the controller was interrupted"))

    def _chase(self, job: Job, step: Step, host: Host | None) -> None:
        """See to a step that is out on its host.

        What has no way back is never given up, and about a restore nobody guesses.
        """
        now = self._now()
        silent = host is None or now - max(host.seen_at, self._began) > self._silence
        due = _before(step.dispatched_at, now - timedelta(seconds=RESEND_S))
        if engine.must_answer(job, step):
            if not silent and (due or _restarted_since(host, step.dispatched_at)):
                self._ask(job, step, self._question(job, step, host))
            elif due and engine.lets_source_run(step):
                self._tell_guard(job, step)
        elif silent:
            self._move(job.id, lambda j: self._lost(j, step, "it has no live worker"))
        elif engine.overdue(job, step, now):
            self._move(job.id, lambda j: self._lost(j, step, "it did not answer in time"))
        elif _restarted_since(host, step.dispatched_at) and not engine.is_harmless(step):
            self._move(job.id, lambda j: self._lost(j, step, "its worker was restarted"))
        elif due or _restarted_since(host, step.dispatched_at):
            self._resend(job, step, StepAction.RUN)

    def _question(self, job: Job, step: Step, host: Host | None) -> StepAction:
        """What to ask a host about a step of which it owes an answer."""
        if step.status is StepStatus.UNDOING:
            return StepAction.UNDO
        if not engine.observes_first(job, step):
            return StepAction.RUN
        forgotten = _restarted_since(host, step.started_at) or engine.overdue(job, step, self._now())
        return StepAction.OBSERVE if forgotten or step.failure else StepAction.RUN

    def _ask(self, job: Job, step: Step, question: StepAction) -> None:
        """Ask again; the first look goes by way of a doubt, which raises the epoch."""
        if question is StepAction.OBSERVE and step.failure is None:
            self._move(job.id, lambda j: engine.doubt(j, step, self._now()))
        else:
            self._resend(job, step, question)

    def _tell_guard(self, job: Job, step: Step) -> None:
        """The source may run again and its worker is dead: its guard, which asks, can let it."""
        if self._stamp(job, step):
            try:
                self._let_run(job.id)
            except MigratorError as error:
                log.warning("guard not told", job=job.id, error=str(error))

    def _lost(self, job: Job, step: Step, reason: str) -> Job | None:
        """The job after a step's answer was given up; None when it has come meanwhile."""
        current = job.steps[step.position]
        if current.attempt != step.attempt or current.status is not step.status:
            return None
        place = f"host '{step.host}'" if step.host else "the controller"
        error = Unavailable(
            f"{place} gave no answer about step {step.name}: {reason}",
            code="no_live_worker",
            host=step.host,
            remedy=f"see that `migrator worker --host {step.host}` runs there, then try again"
            if step.host
            else "try again",
        )
        return engine.fail_step(job, current, error, self._now())

    def _move(self, job_id: str, change: Change) -> None:
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
                return keep_last_copy(tx, engine.finish(job, decision.phase, now)), None, StepAction.RUN
            if decision.verb is not Verb.ACT or decision.step is None:
                return job, None, StepAction.RUN
            if decision.action is StepAction.RUN and self._must_wait(tx, job, decision.step):
                return job, None, StepAction.RUN
            if decision.action is StepAction.OBSERVE or engine.leaves_last_way_back(job, decision.step):
                job = shut_out(tx, job)  # what is seen must stay true: no late copy of the step may change it
            job = engine.begin(job, decision.step, decision.action, now)
            step = job.steps[decision.step.position]
            if step.name not in DECISIONS:
                return job, step, decision.action
            job = self._settle(tx, job, step, decision.action)

    def _must_wait(self, tx: Transaction, job: Job, step: Step) -> bool:
        """Whether a host of this job is busy with as many others as it may be; `tick` asks again."""
        if not engine.queues(job, step):
            return False
        hosts = {host for host in (job.request.source_host, job.request.target_host) if host}
        return any(self._busy(tx, host, job.id) >= self._freezes_per_host for host in hosts)

    @staticmethod
    def _busy(tx: Transaction, host: str, but: str) -> int:
        return sum(other.id != but for other in tx.jobs.list(phases=MOVING, host=host))

    def _settle(self, tx: Transaction, job: Job, step: Step, action: StepAction) -> Job:
        """Decide a step that is SQL alone, in the transaction that also writes the job."""
        begun = time.monotonic()
        decision = DECISIONS[step.name]
        try:
            facts = decision.run(tx, job) if action is StepAction.RUN else decision.undo(tx, job)
        except MigratorError as error:
            if _is_undecided(error):
                raise
            raise _Refused(job, step, action, error) from error
        outcome = _outcome(job, step, action, facts=facts, duration_s=time.monotonic() - begun)
        after = engine.conclude(job, outcome, self._now()) or job
        return replace(
            after,
            workload_id=facts.get("workload_id", after.workload_id),
            epoch=int(facts.get("epoch", after.epoch)),
        )

    def _save(self, tx: Transaction, before: Job, after: Job) -> Job:
        try:
            return tx.jobs.save(before, after)
        except ResourceBusy as error:
            if error.code != "workload_busy":
                raise
            claim = next(step for step in after.steps if step.name in DECISIONS)
            raise _Refused(before, claim, StepAction.RUN, error) from error

    def _refuse(self, refusal: _Refused, change: Change, job: Job) -> Job | None:
        """The job after a decision was refused; all that its transaction had done is undone.

        If another controller moved the job meanwhile, it may be its decision that ours collided with: begin anew.
        """
        if job.version != refusal.version:
            return change(job)
        now = self._now()
        job = engine.begin(job, job.steps[refusal.step.position], refusal.action, now)
        step = job.steps[refusal.step.position]
        return engine.conclude(job, _outcome(job, step, refusal.action, failure=refusal.error), now)

    def _act(self, job: Job, step: Step, action: StepAction) -> Change | None:
        """Send a step to its host, or perform it here; here, the change that follows is returned."""
        if not engine.is_control(job, step):
            self._send(job, step, action)
            return None
        outcome = self._perform(job, step, action)
        return lambda current: engine.conclude(current, outcome, self._now())

    def _perform(self, job: Job, step: Step, action: StepAction) -> Outcome:
        begun = time.monotonic()
        try:
            control = self._control_steps[step.name]
            facts = control.run(job) if action is StepAction.RUN else control.undo(job)
        except MigratorError as error:
            return _outcome(job, step, action, failure=error, duration_s=time.monotonic() - begun)
        except Exception:
            log.exception("control step crashed", job=job.id, step=step.name)
            crash = InternalError(f"step {step.name} crashed on the controller", remedy="see the controller's log")
            return _outcome(job, step, action, failure=crash, duration_s=time.monotonic() - begun)
        return _outcome(job, step, action, facts=facts, duration_s=time.monotonic() - begun)

    def _resend(self, job: Job, step: Step, action: StepAction) -> None:
        """Send a command again, once it is on record that we do."""
        if self._stamp(job, step):
            self._send(job, step, action)

    def _stamp(self, job: Job, step: Step) -> bool:
        """Put on record that a step is asked for again; False when nobody waits for its answer any more."""
        stamped = False

        def stamp(current: Job) -> Job | None:
            nonlocal stamped
            mine = current.steps[step.position]
            stamped = mine.attempt == step.attempt and mine.status is step.status
            return engine.with_step(current, replace(mine, dispatched_at=self._now())) if stamped else None

        self._move(job.id, stamp)
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
        )
        try:
            self._sender.send_command(str(step.host), command)
        except Unavailable as error:
            log.warning("command not sent, will be sent again", job=job.id, step=step.name, error=str(error))


def _outcome(
    job: Job,
    step: Step,
    action: StepAction,
    *,
    facts: Facts | None = None,
    failure: MigratorError | None = None,
    duration_s: float = 0.0,
) -> Outcome:
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


def _is_out(step: Step) -> bool:
    undoing = step.status is StepStatus.UNDOING and step.failure is None
    return step.status is StepStatus.STARTED or undoing


def _before(first: datetime | None, second: datetime) -> bool:
    return first is not None and first < second


def _restarted_since(host: Host | None, moment: datetime | None) -> bool:
    """Whether a host's worker began after a moment: it knows nothing of what was sent before."""
    return host is not None and host.started_at is not None and _before(moment, host.started_at)
