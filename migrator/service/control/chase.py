"""Look after steps that owe an answer: lost commands, dead workers, hosts that came back or never will.

What has no way back is never given up, and about a restore nobody guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import structlog

from migrator.errors import MigratorError, Unavailable
from migrator.models.phase import Phase
from migrator.models.values import Host, Job, Step, StepAction, StepStatus
from migrator.service.control import engine
from migrator.service.control.queueing import Room
from migrator.service.control.rounds import Rounds, outcome_of

log = structlog.get_logger()

RESEND_S = 4.0
"""A command without an answer is sent again after this long; the host drops it if it still works on it."""


class Chase:
    """Sees to it that every step that is out comes to an end.

    Args:
        rounds: Changes jobs and sends commands.
        host_silent_s: A host without a heartbeat for this long counts as without a live worker.
        heard_until: Up to when everybody who spoke was heard; messages may wait.
        let_run: Says to the guard of a dead worker that the source of a job may run again; may raise `MigratorError`.
        now: The clock.
    """

    def __init__(
        self,
        rounds: Rounds,
        *,
        host_silent_s: float,
        heard_until: Callable[[], datetime],
        let_run: Callable[[str], None],
        now: Callable[[], datetime],
    ):
        self._rounds = rounds
        self._silence = timedelta(seconds=host_silent_s)
        self._heard_until = heard_until
        self._let_run = let_run
        self._now = now
        self._began = now()
        """Before this nobody could have been heard."""

    def look_after(self, job: Job, hosts: Mapping[str, Host], room: Room) -> None:
        """See to one unfinished job.

        Args:
            job: The job.
            hosts: All hosts by name.
            room: Where there is room, as far as this round of looking knows.
        """
        step = next((s for s in job.steps if _is_out(job, s)), None)
        if step is None and not job.cancel_requested and not room.take(job, self._now()):
            return
        waits = step is not None and engine.polled(job, step)
        if step is None or job.cancel_requested or waits:
            self._rounds.move(job.id, lambda j: j)
        if step is not None and step.host is not None:
            self._chase(job, step, hosts.get(step.host))
        elif step is not None and not waits and engine.overdue(job, step, self._now()):
            self._rounds.move(job.id, lambda j: self._lost(j, step, "the controller was interrupted"))

    def _chase(self, job: Job, step: Step, host: Host | None) -> None:
        """See to a step that is out on its host."""
        if host is None:
            self._speak_for(job, step)
            return
        now = self._now()
        silent = self._heard_until() - max(host.seen_at, self._began) > self._silence
        due = _before(step.dispatched_at, now - timedelta(seconds=RESEND_S))
        if engine.must_answer(job, step):
            if not silent and (due or _restarted_since(host, step.dispatched_at)):
                self._ask(job, step, self._question(job, step, host))
            elif due and engine.lets_source_run(step):
                self._tell_guard(job, step)
        elif silent:
            self._rounds.move(job.id, lambda j: self._lost(j, step, "it has no live worker"))
        elif engine.overdue(job, step, now):
            self._rounds.move(job.id, lambda j: self._lost(j, step, "it did not answer in time"))
        elif _restarted_since(host, step.dispatched_at) and not engine.is_harmless(step):
            self._rounds.move(job.id, lambda j: self._lost(j, step, "its worker was restarted"))
        elif due or _restarted_since(host, step.dispatched_at):
            self._rounds.resend(job, step, StepAction.RUN)

    def _speak_for(self, job: Job, step: Step) -> None:
        """Nobody will answer for a host that was removed: whatever was there is gone with it."""
        if not engine.must_answer(job, step):
            self._rounds.move(job.id, lambda j: self._lost(j, step, "it was removed"))
        elif step.status is StepStatus.UNDOING:
            self._rounds.stand_in(job, step, StepAction.UNDO)
        elif not engine.observes_first(job, step):
            self._rounds.stand_in(job, step, StepAction.RUN)
        elif step.failure is None:
            self._rounds.move(job.id, lambda j: engine.doubt(j, step, self._now()))
        else:
            nothing = outcome_of(job, step, StepAction.OBSERVE, facts={"seen": "absent"})
            self._rounds.move(job.id, lambda j: engine.conclude(j, nothing, self._now()))

    def _question(self, job: Job, step: Step, host: Host) -> StepAction:
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
            self._rounds.move(job.id, lambda j: engine.doubt(j, step, self._now()))
        else:
            self._rounds.resend(job, step, question)

    def _tell_guard(self, job: Job, step: Step) -> None:
        """The source may run again and its worker is dead: its guard, which asks, can let it."""
        if self._rounds.stamp(job, step):
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


def _is_out(job: Job, step: Step) -> bool:
    """Whether an answer about a step is owed. What had begun when its job turned back is undone, never sent again."""
    undoing = step.status is StepStatus.UNDOING and step.failure is None
    return undoing or (step.status is StepStatus.STARTED and job.phase is not Phase.ROLLING_BACK)


def _before(first: datetime | None, second: datetime) -> bool:
    return first is not None and first < second


def _restarted_since(host: Host, moment: datetime | None) -> bool:
    """Whether a host's worker began after a moment: it knows nothing of what was sent before."""
    return host.started_at is not None and _before(moment, host.started_at)
