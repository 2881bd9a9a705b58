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

from migrator.errors import InternalError, MigratorError, ResourceBusy, Unavailable
from migrator.models.session import Database, Transaction
from migrator.models.values import ContainerView, Facts, Host, Job, Outcome, Step, StepAction, StepCommand, StepStatus
from migrator.service import engine
from migrator.service.control_steps import ControlStep
from migrator.service.engine import Verb

log = structlog.get_logger()

RESEND_S = 4.0
"""A command without an answer is sent again after this long; the host drops it if it still works on it."""


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
        control_steps: The acts that the controller performs itself, by step name.
        host_silent_s: A host without a heartbeat for this long counts as without a live worker.
        now: The clock.
    """

    def __init__(
        self,
        database: Database,
        sender: Sender,
        control_steps: Mapping[str, ControlStep],
        *,
        host_silent_s: float,
        now: Callable[[], datetime] = utc_now,
    ):
        self._database = database
        self._sender = sender
        self._control_steps = control_steps
        self._silence = timedelta(seconds=host_silent_s)
        self._now = now

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

    def record_heartbeat(self, name: str, facts: Facts) -> None:
        """Note that a worker lives; a new `boot_id` means that it has started anew."""
        now = self._now()
        with self._database.transaction() as tx:
            known = next((host for host in tx.hosts.list() if host.name == name), None)
            same = known is not None and known.facts.get("boot_id") == facts.get("boot_id")
            started_at = known.started_at if known and same else now
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
            if job.phase.terminal:
                continue
            try:
                self._look_after(job, hosts)
            except MigratorError as error:
                log.warning("cannot move job now", job=job.id, error=str(error))

    def _look_after(self, job: Job, hosts: Mapping[str, Host]) -> None:
        step = next((s for s in job.steps if _is_out(s)), None)
        if step is None or job.cancel_requested:
            self.advance(job.id)
        if step is not None and step.host is not None:
            self._chase(job, step, hosts.get(step.host))
        elif step is not None and engine.overdue(job, step, self._now()):
            self._move(job.id, lambda now_job: self._lost(now_job, step, "the controller was interrupted"))

    def _chase(self, job: Job, step: Step, host: Host | None) -> None:
        """See to a step that is out on its host."""
        now = self._now()
        silent = host is None or now - host.seen_at > self._silence
        restarted = host is not None and host.started_at is not None and _before(step.started_at, host.started_at)
        if silent and not engine.observes_first(job, step):
            self._move(job.id, lambda j: self._lost(j, step, "it has no live worker"))
        elif not silent and (restarted or engine.overdue(job, step, now)):
            if engine.observes_first(job, step) and step.status is StepStatus.STARTED:
                self._send(job, step, StepAction.OBSERVE)
            else:
                reason = "its worker was restarted" if restarted else "it did not answer in time"
                self._move(job.id, lambda j: self._lost(j, step, reason))
        elif not silent and _before(step.dispatched_at, now - timedelta(seconds=RESEND_S)):
            self._resend(job, step)

    def _lost(self, job: Job, step: Step, reason: str) -> Job | None:
        """The job after a step's answer was given up; None when it has come meanwhile."""
        current = job.steps[step.position]
        if current.attempt != step.attempt or current.status is not step.status:
            return None
        error = Unavailable(
            f"step {step.name} got no answer: {reason}",
            code="no_live_worker",
            host=step.host,
            remedy=f"see that `migrator worker --host {step.host}` runs there, then try again",
        )
        if step.status is StepStatus.UNDOING:
            failed = _outcome(job, current, StepAction.UNDO, failure=error)
            return engine.conclude(job, failed, self._now())
        return engine.fail_step(job, current, error, self._now())

    def _move(self, job_id: str, change: Callable[[Job], Job | None]) -> None:
        """Apply a change and everything that follows from it; each round is one transaction."""
        pending: Callable[[Job], Job | None] | None = change
        while pending is not None:
            try:
                with self._database.transaction() as tx:
                    job, step, action = self._round(tx, job_id, pending)
            except ResourceBusy as error:
                if error.code != "workload_busy":
                    return  # somebody else moved it; they go on
                pending = partial(self._refuse, error)
                continue
            pending = self._act(job, step, action) if step is not None else None

    def _refuse(self, error: MigratorError, job: Job) -> Job | None:
        """The job after the database refused to give it the workload."""
        step = next((s for s in job.steps if s.status is StepStatus.STARTED), None)
        return engine.fail_step(job, step, error, self._now()) if step else None

    def _round(
        self, tx: Transaction, job_id: str, change: Callable[[Job], Job | None]
    ) -> tuple[Job, Step | None, StepAction]:
        before = tx.jobs.get(job_id)
        after = change(before)
        if after is None:
            return before, None, StepAction.RUN
        now = self._now()
        after = engine.cancel(after, now) or after
        decision = engine.decide(after, now)
        if decision.verb is Verb.FINISH and decision.phase is not None:
            after = engine.finish(after, decision.phase, now)
            log.info("job ended", job=job_id, phase=decision.phase.value)
        step = None
        if decision.verb is Verb.ACT and decision.step is not None:
            after = engine.begin(after, decision.step, decision.action, now)
            step = after.steps[decision.step.position]
        saved = tx.jobs.save(before, after) if after != before else before
        return saved, step, decision.action

    def _act(self, job: Job, step: Step, action: StepAction) -> Callable[[Job], Job | None] | None:
        """Send a step to its host, or perform it here; here, the change that follows is returned."""
        if not engine.is_control(job, step):
            self._send(job, step, action)
            return None
        outcome = self._perform(job, step, action)

        def conclude(current: Job) -> Job | None:
            after = engine.conclude(current, outcome, self._now())
            return _with_identity(after, outcome.facts) if after is not None and outcome.ok else after

        return conclude

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

    def _resend(self, job: Job, step: Step) -> None:
        action = StepAction.UNDO if step.status is StepStatus.UNDOING else StepAction.RUN

        def stamp(current: Job) -> Job | None:
            mine = current.steps[step.position]
            if mine.attempt != step.attempt or mine.status is not step.status:
                return None
            changed = replace(mine, dispatched_at=self._now())
            return replace(
                current, steps=(*current.steps[: step.position], changed, *current.steps[step.position + 1 :])
            )

        self._move(job.id, stamp)
        self._send(job, step, action)

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


def _with_identity(job: Job, facts: Facts) -> Job:
    """Take over what a control step decided about the workload."""
    return replace(
        job,
        workload_id=facts.get("workload_id", job.workload_id),
        epoch=int(facts.get("epoch", job.epoch)),
    )


def _is_out(step: Step) -> bool:
    undoing = step.status is StepStatus.UNDOING and step.failure is None
    return step.status is StepStatus.STARTED or undoing


def _before(first: datetime | None, second: datetime) -> bool:
    return first is not None and first < second
