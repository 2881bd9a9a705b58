"""The host's side: perform commands, one at a time for each job, and answer every one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import structlog

from migrator.errors import InternalError, MigratorError, OutcomeUnknown
from migrator.models.values import Facts, Outcome, StepAction, StepCommand
from migrator.service.host import Act, Host, HostStep

REMEMBERED = 4096
"""Outcomes kept for commands that are asked for twice."""
PROGRESS_S = 0.2
log = structlog.get_logger()

Key = tuple[str, int, StepAction, int]


@dataclass(slots=True)
class _JobRoom:
    """What this host does for one job right now."""

    turn: threading.Lock = field(default_factory=threading.Lock)
    running: dict[Key, Act] = field(default_factory=dict)
    undone: set[int] = field(default_factory=set)


class HostAgent:
    """Performs commands on this host.

    Args:
        host: What steps work with.
        steps: The acts by step name.
        report: Sends an outcome to the controller.
        report_progress: Sends `(command, done_bytes, total_bytes)`; called at most every `PROGRESS_S`.
    """

    def __init__(
        self,
        host: Host,
        steps: Mapping[str, HostStep],
        report: Callable[[Outcome], None],
        report_progress: Callable[[StepCommand, int, int], None],
    ):
        self._host = host
        self._steps = steps
        self._report = report
        self._report_progress = report_progress
        self._lock = threading.Lock()
        self._rooms: defaultdict[str, _JobRoom] = defaultdict(_JobRoom)
        self._finished: OrderedDict[Key, Outcome] = OrderedDict()

    def perform(self, command: StepCommand) -> None:
        """Perform a command and report; a command that runs already is dropped, a finished one is answered again."""
        key = (command.job_id, command.position, command.action, command.attempt)
        act = Act(command, self._throttled(command))
        with self._lock:
            room = self._rooms[command.job_id]
            if key in room.running:
                return
            known = self._finished.get(key)
            if known is None:
                room.running[key] = act
                self._note_undo(room, command)
        if known is not None:
            self._report(known)
            return
        with self._taking_turn(room, key):
            outcome = self._outcome(room, act)
        if command.action is not StepAction.OBSERVE:  # what was seen once may look otherwise now
            self._remember(key, outcome)
        self._report(outcome)

    def _note_undo(self, room: _JobRoom, command: StepCommand) -> None:
        """An undo stops the same step if it is under way, and keeps a late copy of it from running afterwards."""
        if command.action is not StepAction.UNDO:
            return
        room.undone.add(command.position)
        for act in room.running.values():
            if act.command.action is StepAction.RUN:
                act.aborted.set()

    @contextmanager
    def _taking_turn(self, room: _JobRoom, key: Key) -> Iterator[None]:
        with room.turn:
            try:
                yield
            finally:
                with self._lock:
                    room.running.pop(key, None)

    def _outcome(self, room: _JobRoom, act: Act) -> Outcome:
        command, begun = act.command, time.monotonic()
        facts: Facts = {}
        failure: Facts | None = None
        try:
            facts = self._do(room, act)
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

    def _do(self, room: _JobRoom, act: Act) -> Facts:
        command = act.command
        if command.action is StepAction.RUN and command.position in room.undone:
            raise InternalError(f"step {command.step} of job {command.job_id} was undone before it began")
        step = self._steps.get(command.step)
        if step is None:
            raise InternalError(
                f"this worker knows no step '{command.step}'", remedy="install the same version everywhere"
            )
        if command.workload_id:
            self._host.fence.admit(command.workload_id, command.epoch)
        if command.action is StepAction.RUN:
            return step.run(self._host, act)
        if command.action is StepAction.UNDO:
            step.undo(self._host, act)
            return {}
        seen = step.observe(self._host, act)
        if seen == "unknown":
            raise OutcomeUnknown(f"step {command.step} of job {command.job_id} cannot be observed")
        return {"seen": seen}

    def _remember(self, key: Key, outcome: Outcome) -> None:
        with self._lock:
            self._finished[key] = outcome
            while len(self._finished) > REMEMBERED:
                job_id = self._finished.popitem(last=False)[0][0]
                if not self._rooms[job_id].running:
                    self._rooms.pop(job_id)

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
