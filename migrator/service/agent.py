"""The host's side: perform commands, one at a time for each job, and answer every one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import structlog

from migrator.errors import InternalError, MigratorError, OutcomeUnknown
from migrator.models.values import Facts, Outcome, StepAction, StepCommand
from migrator.service.host import Act, Host, HostStep
from migrator.service.ledger import Ledger, in_a_row
from migrator.service.rewinding import as_seen, as_told

PROGRESS_S = 0.2
log = structlog.get_logger()


class HostAgent:
    """Performs commands on this host.

    Args:
        host: What steps work with.
        steps: The acts by step name.
        report: Sends an outcome to the controller.
        report_progress: Sends `(command, done_bytes, total_bytes)`; called at most every `PROGRESS_S`.
        limited: Gives the host as an act may use it; see `bandwidth`.
    """

    def __init__(
        self,
        host: Host,
        steps: Mapping[str, HostStep],
        report: Callable[[Outcome], None],
        report_progress: Callable[[StepCommand, int, int], None],
        limited: Callable[[Host, Act], Host] = lambda host, _: host,
    ):
        self._host = host
        self._steps = steps
        self._report = report
        self._report_progress = report_progress
        self._lock = threading.Lock()
        self._ledger = Ledger()
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="report")
        self._limited = limited

    def perform(self, command: StepCommand) -> None:
        """Perform a command, then those that follow it, and report each; after a failure nothing follows.

        One that runs already is dropped, with what follows it; a finished one is answered again.
        """
        acts = [Act(single, self._throttled(single)) for single in in_a_row(command)]
        with self._lock:
            taken = [self._ledger.take(act) for act in acts]
        try:
            self._perform_row(acts, taken)
        finally:
            with self._lock:
                self._ledger.give_up(act for act, mine in zip(acts, taken, strict=True) if mine is True)

    def _perform_row(self, acts: list[Act], taken: list[Outcome | bool]) -> None:
        facts: Facts = acts[0].facts
        for act, known in zip(acts, taken, strict=True):
            act.command = replace(act.command, facts=facts)
            outcome = self._perform_one(act) if known is True else known
            if not isinstance(outcome, Outcome):
                return  # whoever performs it goes on with what follows
            if act is acts[-1] or not outcome.ok:
                self._report(outcome)
                return
            self._beside.submit(self._report_on_the_way, outcome)
            facts = {**facts, **outcome.facts}

    def _perform_one(self, act: Act) -> Outcome:
        with self._lock:
            room = self._ledger.room(act.command.job_id)
        with room.turn:
            outcome = self._outcome(act)
            with self._lock:
                self._ledger.conclude(act.command, outcome)
        return outcome

    def _report_on_the_way(self, outcome: Outcome) -> None:
        """Report while the next act is under way already; if that fails the controller asks again."""
        try:
            self._report(outcome)
        except MigratorError as error:
            log.warning("an answer was not sent", job=outcome.job_id, step=outcome.step, error=str(error))

    def _outcome(self, act: Act) -> Outcome:
        command, begun = act.command, time.monotonic()
        facts: Facts = {}
        failure: Facts | None = None
        try:
            facts = self._do(act)
        except MigratorError as error:
            failure = error.on(self._host.name).to_dict()
        except Exception as error:  # the border: whatever happens, the controller gets an answer
            log.exception("step crashed", job=command.job_id, step=command.step, action=command.action.value)
            failure = InternalError(
                f"step {command.step} crashed: {type(error).__name__}",
                host=self._host.name,
                remedy="see the worker's log",
            ).to_dict()
        duration_s = time.monotonic() - begun
        log.info(
            "step",
            job=command.job_id,
            step=command.step,
            action=command.action.value,
            ok=failure is None,
            s=round(duration_s, 4),
        )
        return Outcome(
            job_id=command.job_id,
            step=command.step,
            position=command.position,
            action=command.action,
            attempt=command.attempt,
            host=self._host.name,
            ok=failure is None,
            duration_s=duration_s,
            facts=facts,
            failure=failure,
        )

    def _do(self, act: Act) -> Facts:
        command = act.command
        with self._lock:
            self._ledger.check(command)
        step = self._steps.get(command.step)
        if step is None:
            raise InternalError(
                f"this worker knows no step '{command.step}'", remedy="install the same version everywhere"
            )
        self._host.fence.check(command)
        its = as_seen(act)
        if command.action is StepAction.RUN:
            act.check_aborted()  # it may have waited for the one before it
            return as_told(command, step.run(self._limited(self._host, its), its))
        if command.action is StepAction.UNDO:
            return as_told(command, step.undo(self._host, its))
        seen = step.observe(self._host, its)
        if seen == "unknown":
            raise OutcomeUnknown(f"step {command.step} of job {command.job_id} cannot be observed")
        return {"seen": seen}

    def _throttled(self, command: StepCommand) -> Callable[[int, int], None]:
        last_s = 0.0

        def tell(done_bytes: int, total_bytes: int) -> None:
            nonlocal last_s
            now_s = time.monotonic()
            if now_s - last_s >= PROGRESS_S or done_bytes == total_bytes:
                last_s = now_s
                with suppress(MigratorError):  # nobody to tell it to: no reason to stop
                    self._report_progress(command, done_bytes, total_bytes)

        return tell
